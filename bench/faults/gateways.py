"""The gateways: how each is installed, set up at its best for these scenarios, started and asked.

Limits are those of the report for all of them where a setting exists: 10 s to the first token (or for the whole answer when not
streaming), 25 s for a whole stream, no retry that a fallback makes needless. `settings` says so in the report's words.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

FIRST_TOKEN, SILENCE, STREAM_TOTAL = 10.0, 15.0, 25.0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(words, **more):
    return subprocess.run([str(w) for w in words], check=True, text=True, stdout=subprocess.PIPE, **more).stdout


class Gateway:
    """One instance for all cells, unless a subclass says otherwise."""

    name, home, surfaces, settings, health = "", "", ("openai", "anthropic"), "", "/health"
    remarks = ()
    plain = False  # the fallback configured, and everything else as it comes
    patience = 30.0
    at_once = 64  # scenarios in parallel: no more than it bears without being late for want of CPU

    def __init__(self, args, cells):
        self.args, self.cells, self.scale = args, cells, args.time_scale
        self.folder = args.work / self.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.process = None

    @classmethod
    def install(cls, args):
        pass

    @classmethod
    def version(cls, args):
        return ""

    def ms(self, seconds):
        return int(seconds * 1000 / self.scale)

    def env(self):
        return {}

    def launch(self, words, folder, port):
        log = open(folder / "log", "a")
        process = subprocess.Popen(
            [str(w) for w in words],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, **self.env()},
            start_new_session=True,
        )
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: see {folder}/log")
            try:
                port_now = port()
                if port_now:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port_now}{self.health}", timeout=2):
                        return process
            except urllib.error.HTTPError:
                return process
            except OSError:
                pass
            time.sleep(0.1)
        stop(process)
        raise RuntimeError(f"{self.name} does not answer: see {folder}/log")

    def start(self):
        self.process = self.launch(self.command(), self.folder, lambda: self.port)

    def stop(self):
        if self.process:
            stop(self.process)

    def open(self, cell):
        """Makes ready for a cell."""

    def close(self, cell):
        pass

    def address(self, cell):
        path = "/v1/chat/completions" if cell.surface == "openai" else "/v1/messages"
        return self.port, path

    def model(self, cell):
        return cell.name

    def headers(self, cell):
        return {"authorization": "Bearer none"} if cell.surface == "openai" else {"x-api-key": "none"}

    def account(self, cell, probe):
        """What is wrong in its books about a request, where it keeps any."""
        return []


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


class Python(Gateway):
    """A peer from PyPI, in an environment of its own."""

    packages = ()

    @classmethod
    def python(cls, args):
        return args.peers / cls.home / "bin" / "python"

    @classmethod
    def install(cls, args):
        if not cls.python(args).exists():
            run([sys.executable, "-m", "venv", args.peers / cls.home])
            run([cls.python(args), "-m", "pip", "install", "-q", *cls.packages])

    @classmethod
    def version(cls, args):
        package = cls.packages[-1].split("=")[0].split("[")[0]
        code = f"import importlib.metadata as m; print(m.version('{package}'))"
        return run([cls.python(args), "-c", code]).strip()


class TensorZero(Python):
    name = home = "tensorzero"
    surfaces = ("openai",)
    packages = ("tensorzero==2026.6.0",)
    settings = (
        "model `routing` over both providers, `timeouts = {non_streaming.total_ms = 10000, streaming.ttft_ms = 10000, streaming.total_ms = "
        "25000}` at each; no variant retries, as the fallback answers; observability off. It has no Anthropic surface."
    )
    remarks = ("It has no breaker: one attempt for each request is the least it can do in S15.",)

    def env(self):
        return {"RUST_LOG": "error"}

    def command(self):
        config = "[gateway]\nobservability.enabled = false\n"
        first, total = self.ms(FIRST_TOKEN), self.ms(STREAM_TOTAL)
        for cell in self.cells:
            config += f'\n[models.{cell.name}]\nrouting = ["primary", "fallback"]\n'
            for side in ("primary", "fallback"):
                up = getattr(cell, side)
                config += f"""
[models.{cell.name}.providers.{side}]
type = "openai"
model_name = "{up.name}"
api_base = "{up.url}/v1/"
api_key_location = "none"
"""
                if not self.plain:
                    config += f"timeouts = {{ non_streaming.total_ms = {first}, streaming.ttft_ms = {first}, streaming.total_ms = {total} }}\n"
        (self.folder / "tensorzero.toml").write_text(config)
        # The client's wheel holds the gateway, which takes a free port.
        (self.folder / "start.py").write_text(
            """import pathlib, threading
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file="tensorzero.toml", clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
pathlib.Path("address").write_text(gateway.base_url)
threading.Event().wait()
"""
        )
        return [self.python(self.args), "start.py"]

    def start(self):
        address = self.folder / "address"

        def port():
            return int(address.read_text().split(":")[2].split("/")[0]) if address.exists() else None

        self.process = self.launch(self.command(), self.folder, port)
        self.port = port()

    def address(self, cell):
        return self.port, "/openai/v1/chat/completions"

    def model(self, cell):
        return f"tensorzero::model_name::{cell.name}"


class Portkey(Gateway):
    name = home = "portkey"
    health, at_once = "/", 32
    settings = (
        "`x-portkey-config` with `strategy: {mode: fallback}` and `request_timeout: 10000` at each target; no retries, as the fallback answers."
    )
    remarks = (
        "S12 and S13 are both a 400, and `on_status_codes` can take it for both or for none: with 400 left out S13 passes and S12 fails.",
        "`request_timeout` ends with the headers of an answer, so that nothing bounds a stall (S09).",
        "The circuit breaker of its documentation is part of the hosted service: the open-source gateway has only the hook for it.",
    )

    @classmethod
    def package(cls, args):
        return args.peers / cls.home / "node_modules" / "@portkey-ai" / "gateway"

    @classmethod
    def install(cls, args):
        if not cls.package(args).exists():
            folder = args.peers / cls.home
            folder.mkdir(parents=True, exist_ok=True)
            # With a newer node-server every stream is a 500 ("TypeError: immutable").
            package = {"dependencies": {"@portkey-ai/gateway": "1.15.2"}, "overrides": {"@hono/node-server": "1.13.8"}}
            (folder / "package.json").write_text(json.dumps(package))
            run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder)

    @classmethod
    def version(cls, args):
        return json.loads((cls.package(args) / "package.json").read_text())["version"]

    def env(self):
        return {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}

    def command(self):
        return ["node", self.package(self.args) / "build" / "start-server.js", f"--port={self.port}", "--headless"]

    def headers(self, cell):
        def target(up):
            limits = {} if self.plain else {"request_timeout": self.ms(FIRST_TOKEN)}
            override = {"model": up.name}
            return {
                "provider": cell.surface,
                "api_key": "none",
                "custom_host": f"{up.url}/v1",
                "override_params": override,
                **limits,
            }

        strategy = {"mode": "fallback"}
        config = {"strategy": strategy, "targets": [target(cell.primary), target(cell.fallback)]}
        return {**super().headers(cell), "x-portkey-config": json.dumps(config)}


class LiteLlm(Python):
    name = home = "litellm"
    health, patience, at_once = "/health/liveliness", 180.0, 8
    packages = ("litellm[proxy]==1.109.1",)
    settings = (
        "one worker; `timeout` and `stream_timeout` 10 s at each deployment, which support assistant prefill; `cancel_on_disconnect`; `router_settings`: "
        "`fallbacks` and `context_window_fallbacks` to the second model, `content_policy_fallbacks` that name no model for these (so that a filter is not "
        "routed around), `enable_mid_stream_fallback_continuation`, `num_retries: 0`, as the fallback answers, `allowed_fails: 1`, `cooldown_time: 15`. "
        "Eight scenarios at once, so that its speed plays no part."
    )

    @classmethod
    def install(cls, args):
        """Three of its pins name versions that a mirror may not have yet: no scenario touches what they hold."""
        if not cls.python(args).exists():
            home = args.peers / cls.home
            run([sys.executable, "-m", "venv", home])
            run([cls.python(args), "-m", "pip", "install", "-q", "uv"])
            (home / "override.txt").write_text("certifi\nlitellm-proxy-extras\nlitellm-enterprise\n")
            uv = [home / "bin" / "uv", "pip", "install", "-q", "--python", cls.python(args)]
            run([*uv, "--override", home / "override.txt", *cls.packages])

    def __init__(self, args, cells):
        super().__init__(args, cells)
        self.key = "sk-" + secrets.token_hex(16)  # it does not start without one

    def headers(self, cell):
        return {"authorization": f"Bearer {self.key}"}

    def env(self):
        return {"LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def command(self):
        def seconds(s):
            return s / self.scale

        models, fallbacks = [], []
        for cell in self.cells:
            for side, name in (("primary", cell.name), ("fallback", f"{cell.name}-second")):
                up = getattr(cell, side)
                base = f"{up.url}/v1" if cell.surface == "openai" else up.url
                params = {"model": f"{cell.surface}/{up.name}", "api_base": base, "api_key": "none"}
                if not self.plain:
                    params |= {"timeout": seconds(FIRST_TOKEN), "stream_timeout": seconds(FIRST_TOKEN)}
                info = {} if self.plain else {"supports_assistant_prefill": True}
                models.append({"model_name": name, "litellm_params": params, "model_info": info})
            fallbacks.append({cell.name: [f"{cell.name}-second"]})
        router = {"fallbacks": fallbacks, "context_window_fallbacks": fallbacks}
        general = {"master_key": self.key}
        if not self.plain:
            general["cancel_on_disconnect"] = True
            router |= {
                # Named for another group: a content filter of these groups is then not routed around.
                "content_policy_fallbacks": [{"none": [self.cells[0].name]}],
                "enable_mid_stream_fallback_continuation": True,
                "num_retries": 0,
                "allowed_fails": 1,
                "cooldown_time": seconds(15),
            }
        config = {
            "model_list": models,
            "general_settings": general,
            "litellm_settings": {"telemetry": False, "set_verbose": False},
            "router_settings": router,
        }
        (self.folder / "config.yaml").write_text(json.dumps(config, indent=1))  # JSON is YAML
        litellm = self.args.peers / self.home / "bin" / "litellm"
        return [litellm, "--config", "config.yaml", "--host", "127.0.0.1", "--port", self.port, "--num_workers", "1"]


class Plain:
    """A gateway with its fallback configured, and nothing else: what a user has who reads no further."""

    plain = True
    settings = "the fallback, and everything else as it comes."
    remarks = ()


class ForebayPlain(Plain, Forebay):
    name = "forebay-plain"
    settings = "the fallback, windows and prices, and everything else as it comes."


class TensorZeroPlain(Plain, TensorZero):
    name = "tensorzero-plain"


class PortkeyPlain(Plain, Portkey):
    name = "portkey-plain"


class LiteLlmPlain(Plain, LiteLlm):
    name = "litellm-plain"
    settings = "`fallbacks` and `context_window_fallbacks`, and everything else as it comes."


ALL = [Direct, Forebay, TensorZero, Portkey, LiteLlm, ForebayPlain, TensorZeroPlain, PortkeyPlain, LiteLlmPlain]
