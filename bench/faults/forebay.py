"""Forebay, and no gateway at all."""

import json
import urllib.request

from gateway import FIRST_TOKEN, SILENCE, Gateway, free_port, run, stop


class Direct(Gateway):
    """No gateway: what the faults do to a caller, and whether the oracles notice."""

    name = "direct"
    settings = "no gateway: the caller asks the primary itself."

    def start(self):
        pass

    def address(self, cell):
        return cell.primary.port, super().address(cell)[1]


class Forebay(Gateway):
    name = home = "forebay"
    settings = (
        "`fallback: [second]`, windows and prices of both models, `timeouts: {first_token: 10s, silence: 15s}`, `prefill`, and for streams the header "
        "`forebay-mid-stream: continue`; everything else as it comes. An instance for each scenario."
    )
    remarks = (
        "It asks its upstreams for a stream also when its caller wants none: what it meets then is the fault of a stream.",
    )
    PRICES = {"writer": (1.0, 2.0), "second": (3.0, 6.0)}

    @classmethod
    def version(cls, args):
        return run([args.forebay, "--version"]).split()[-1]

    def start(self):
        self.running = {}

    def open(self, cell):
        folder, port = self.folder / cell.name, free_port()
        folder.mkdir()
        base = "/v1" if cell.surface == "openai" else ""
        config = f'server: {{listen: "127.0.0.1:{port}"}}\nmodels:\n'
        for model, up, window in (("writer", cell.primary, 8000), ("second", cell.fallback, 128000)):
            price = self.PRICES[model]
            config += f"""  {model}:
    {cell.surface}: {up.name}
    base_url: {up.url}{base}
    api_key: none
    price: {{input: {price[0]}, output: {price[1]}}}
    context_window: {window}
    max_output_tokens: 4000
"""
            if not self.plain:
                prefill = "prefix" if cell.surface == "openai" else "plain"
                config += f"    timeouts: {{first_token: {self.ms(FIRST_TOKEN)}ms, silence: {self.ms(SILENCE)}ms}}\n"
                config += f"    prefill: {prefill}\n"
            if model == "writer":
                config += "    fallback: [second]\n"
        (folder / "forebay.yaml").write_text(config)
        process = self.launch([self.args.forebay, "up"], folder, lambda: port)
        self.running[cell.name] = (process, port)

    def close(self, cell):
        process, _ = self.running.pop(cell.name, (None, None))
        if process:
            stop(process)

    def stop(self):
        for process, _ in self.running.values():
            stop(process)

    def address(self, cell):
        return self.running[cell.name][1], super().address(cell)[1]

    def model(self, cell):
        return "writer"

    def headers(self, cell):
        goes_on = {"forebay-mid-stream": "continue"} if cell.streaming and not self.plain else {}
        return {**super().headers(cell), **goes_on}

    def account(self, cell, probe):
        """The ledger beside the upstreams' logs: each attempt once, its model, its tokens and its price."""
        if cell.code != "S16":
            return []
        id = probe.seen.headers.get("x-request-id")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.address(cell)[0]}/v1/requests/{id}", timeout=5) as answer:
                record = json.load(answer)
        except OSError as e:
            return [f"no record of the request in the ledger ({e})"]
        (self.folder / cell.name / "record.json").write_text(json.dumps(record, indent=1))
        attempts, wrong, total = record.get("attempts", []), [], 0
        for side, model in (("primary", "writer"), ("fallback", "second")):
            sent = [r["tokens_sent"] for r in probe.logs[side]]
            booked = [a for a in attempts if a["model"] == model]
            if len(booked) != len(sent):
                wrong.append(f"the ledger has {len(booked)} attempts under the {side}'s model, of {len(sent)} made")
                continue
            for tokens, attempt in zip(sent, booked):
                usage = attempt["usage"]
                used = usage["output_tokens"]
                room = tokens / 4 if usage.get("estimated") else 0
                if abs(used - tokens) > room:
                    wrong.append(f"the ledger has {used} output tokens for the {side}, which sent {tokens}")
                price = self.PRICES[model]
                due = round((usage["input_tokens"] * price[0] + used * price[1]) * 1000)
                total += due
                if nanos(attempt["cost"]) != due:
                    wrong.append(f"the ledger has {attempt['cost']} for an attempt at the {side}, which costs {due} n$")
        if not wrong and nanos(record.get("cost", total)) != total:
            wrong.append(f"the request costs {record['cost']}, its attempts {total} n$")
        return wrong


def nanos(cost):
    """Nanodollars of an amount as the ledger writes it."""
    return cost if isinstance(cost, int) else round(float(cost) * 1e9)
