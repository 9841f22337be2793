#!/usr/bin/env python3
"""Ten minutes in which one endpoint is dead, in each way that endpoints die: are attempts bounded, and does the fallback answer?

    cargo build --release -p forebay
    bench/outage/run.py --forebay target/release/forebay --out bench/results/outage.md

One running server. For each way and protocol there is a model whose only endpoint dies for ten minutes and whose fallback is healthy, and one
more with a second, healthy endpoint. Attempts are counted where they arrive: in the fake providers' own logs, and where nobody answers by
the network's (`syns.py`). Settings are those that come without any being given, so a silent endpoint costs its 10 s until it rests.
Exits with 1 when a bound does not hold. Linux, as root (a network of its own). Python's standard library only.
"""

import argparse
import asyncio
import collections
import datetime
import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "soak"), str(HERE.parent / "faults")]

import setting
import syns
import upstream
import wire

# What the dead endpoint does; None: there is none at all, or it does not answer to a connection.
WAYS = {
    "refused": None, "black hole": None, "reset": {"reset": {}}, "503": {"status": {"status": 503}}, "500": {"status": {"status": 500}},
    "429": {"status": {"status": 429}}, "silence": {"silence": {"lasting": 600_000}}, "pool, 503": {"status": {"status": 503}},
}
PROTOCOLS = ("openai", "anthropic")
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
CALLER_PATIENCE = 60
SHARE, FLOOR, A_MINUTE = 0.1, 10, 6  # the retry budget: of the requests, at first, and by time alone

EDGE, KEPT = 6, 64  # requests at the edge of the outage; idle connections of an endpoint


def name_of(way, protocol):
    return f"{way.replace(', ', '-').replace(' ', '-')}-{protocol}"


class Dead:
    """The endpoint of a way: healthy, then dead, then healthy again, at one address."""

    def __init__(self, args, way):
        self.args, self.way, self.fault, self.plugs = args, way, WAYS[way], []
        self.port = setting.free_port()
        self.lives()

    def lives(self):
        self.up = upstream.Upstream(self.args.forebay, self.args.work, self.way.replace(" ", "-"), setting.script(), self.port)

    def dies(self):
        if self.fault:
            return setting.renew(self.up, setting.script(always=self.fault))
        self.up.process.kill()
        self.up.process.wait()
        self.up = None
        if self.way == "black hole":
            # A queue for connections that is full, and that nobody empties: the kernel drops what comes.
            hole = socket.socket()
            hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            hole.bind(("127.0.0.1", self.port))
            hole.listen(0)
            self.plugs.append(hole)
            for _ in range(3):
                plug = socket.socket()
                plug.setblocking(False)
                plug.connect_ex(("127.0.0.1", self.port))
                self.plugs.append(plug)

    def returns(self):
        if self.fault:
            return setting.renew(self.up, setting.script())
        for plug in self.plugs:
            plug.close()
        self.lives()

    def stop(self):
        if self.up:
            self.up.stop()


class Arrivals:
    """Requests that came to a provider, though its log keeps the last of them only."""

    def __init__(self, up):
        self.up, self.all = up, {}

    def look(self):
        log = self.up.log()
        self.all.update({r["no"]: (r["arrived_us"], r["protocol"], r["model"]) for r in log["requests"]})
        return log["now_us"]


def configure(folder, port, dead, spare):
    common = {"api_key": "none", "price": {"input": 1, "output": 2}, "context_window": 8000, "max_output_tokens": 400}
    models = {}
    for way in WAYS:
        for protocol in PROTOCOLS:
            name, rest = name_of(way, protocol), "/v1" if protocol == "openai" else ""
            models[name] = {**common, protocol: "m", "base_url": dead[way].up.url + rest, "fallback": [f"{name}-spare"]}
            if way.startswith("pool"):
                models[name]["endpoints"] = [{"name": f"{name}-second", "model": f"{name}-second", "base_url": spare.url + rest}]
            models[f"{name}-spare"] = {**common, protocol: f"{name}-spare", "base_url": spare.url + rest}
    (folder / "forebay.yaml").write_text(json.dumps({"server": {"listen": f"127.0.0.1:{port}"}, "auth": {"required": False}, "models": models}, indent=1))


class Callers:
    def __init__(self, port, seed):
        self.client, self.rng, self.calls, self.numbers, self.wrong = wire.Client(port, 64), random.Random(seed), [], 0, []

    async def run(self, way, protocol, rate, until):
        due, tasks, loop = time.monotonic(), set(), asyncio.get_running_loop()
        while (due := due + self.rng.expovariate(rate)) < until():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = loop.create_task(self.call(way, protocol))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)

    async def call(self, way, protocol):
        self.numbers += 1
        words = [f"w{self.rng.randrange(1000)}" for _ in range(30)] + [f"n{self.numbers}"]
        stream, sent, first = self.rng.random() < 0.5, time.monotonic(), []
        body = {"model": name_of(way, protocol), "max_tokens": 64, "stream": stream, "messages": [{"role": "user", "content": " ".join(words)}]}
        headers = {"content-type": "application/json", **({"anthropic-version": "2023-06-01"} if protocol == "anthropic" else {})}

        def piece(_):
            first[:] = first or [time.monotonic() - sent]

        try:
            ask = self.client.ask("POST", PATHS[protocol], headers, json.dumps(body).encode(), False, piece if stream else None)
            seen = wire.take(protocol, *await asyncio.wait_for(ask, CALLER_PATIENCE))
        except (asyncio.TimeoutError, OSError, wire.Broken) as e:
            seen = wire.Seen(end="late" if isinstance(e, asyncio.TimeoutError) else "broken", message=repr(e))
        took, want = time.monotonic() - sent, " ".join(words[-setting.TOKENS:])
        outcome = "whole" if seen.end == "whole" and seen.text == want else f"{seen.end} {seen.code}".strip()
        if outcome == "whole" and not stream:
            first = []
        elif seen.end == "whole" and seen.text != want or seen.end == "cut" or not want.startswith(seen.text):
            self.wrong += [f"{way}, {protocol}: {seen.end}: {seen.text!r} for {want!r}, {seen.message}"] if outcome != "whole" else []
        self.calls.append((way, protocol, sent, took, outcome, first[0] if first else None))


async def outage(args, port, dead, spare, network):
    callers, start = Callers(port, args.seed), time.monotonic()
    begins = start + args.before * 60
    ends = begins + args.minutes * 60
    over = ends + args.behind * 60
    arrivals = {way: Arrivals(d.up) for way, d in dead.items() if d.fault} | {"spare": Arrivals(spare)}
    marks, wall = {}, {}

    async def mark(name):
        marks[name] = {key: await asyncio.to_thread(a.look) for key, a in arrivals.items()}
        marks[name] |= {"syns": {way: network.to(d.port) for way, d in dead.items()}}
        wall[name] = time.time() * 1000

    async def conduct():
        await asyncio.sleep(begins - time.monotonic())
        for d in dead.values():
            await asyncio.to_thread(d.dies)
        await mark("dead")
        while time.monotonic() < ends:
            await asyncio.sleep(min(60, max(0.1, ends - time.monotonic())))
            for a in arrivals.values():
                await asyncio.to_thread(a.look)
        await mark("alive")
        for d in dead.values():
            await asyncio.to_thread(d.returns)

    conductor = asyncio.create_task(conduct())
    await asyncio.gather(*(callers.run(way, p, args.rate, lambda: over) for way in WAYS for p in PROTOCOLS))
    await conductor
    for a in arrivals.values():
        await asyncio.to_thread(a.look)
    return {"callers": callers, "arrivals": arrivals, "marks": marks, "wall": wall, "span": (begins, ends)}


def percentiles(values):
    if not values:
        return "–"
    values = sorted(values)
    at = lambda q: values[min(len(values) - 1, int(q * len(values)))]
    return f"{at(0.5) * 1000:,.0f} / {at(0.99) * 1000:,.0f}"


def ledger_of(folder, wall):
    """Attempts by the endpoint asked, of requests that came in the outage, and sums of what was booked."""
    db = sqlite3.connect(f"file:{folder / '.forebay/forebay.db'}?mode=ro", uri=True)
    rows = db.execute(
        "SELECT json_extract(value, '$.endpoint'), count(*) FROM requests, json_each(record, '$.attempts') WHERE at >= ? AND at < ? GROUP BY 1", (wall["dead"], wall["alive"])
    ).fetchall()
    db.close()
    return dict(rows)


def summarize(args, seen, folder):
    """Rows of the table, and what is bad."""
    begins, ends = seen["span"]
    calls, marks, ledger = seen["callers"].calls, seen["marks"], ledger_of(folder, seen["wall"])
    rows, bad = [], []
    within = lambda key, a: [r for r in seen["arrivals"][key].all.values() if marks["dead"][key] <= r[0] < marks["alive"][key] and a(r)]
    for way in WAYS:
        dead_both = marks["alive"]["syns"][way] - marks["dead"]["syns"][way]
        sums = collections.Counter()
        for protocol in PROTOCOLS:
            name = name_of(way, protocol)
            mine = [c for c in calls if c[:2] == (way, protocol)]
            during = [c for c in mine if c[2] < ends and c[2] + c[3] > begins]
            healthy = [c for c in mine if c[2] + c[3] <= begins]
            back = [c for c in mine if c[2] >= ends + 35]  # a rest is at most 30 s
            good = [c for c in during if c[4] == "whole"]
            at_dead = len(within(way, lambda r: r[1] == protocol)) if WAYS[way] else ledger.get(name, 0)
            at_spare = len(within("spare", lambda r: r[2].startswith(f"{name}-")))
            bound = len(during) * (1 + SHARE) + FLOOR + A_MINUTE * args.minutes
            sums.update(dead=at_dead, spare=at_spare, requests=len(during))
            share = len(good) / max(1, len(during))
            booked = ledger.get(name, 0), ledger.get(f"{name}-spare", 0) + ledger.get(f"{name}-second", 0)
            rows.append({
                "way": way, "protocol": protocol, "requests": len(during), "good": share, "dead": at_dead, "spare": at_spare, "ratio": (at_dead + at_spare) / max(1, len(during)),
                "ledger": booked, "healthy": percentiles([c[3] for c in healthy]), "outage": percentiles([c[3] for c in good]),
                "healthy_first": percentiles([c[5] for c in healthy if c[5]]), "outage_first": percentiles([c[5] for c in good if c[5]]),
                "others": dict(collections.Counter(c[4] for c in during if c[4] != "whole")), "before": dict(collections.Counter(c[4] for c in healthy if c[4] != "whole")),
                "back": dict(collections.Counter(c[4] for c in back)), "most": max((c[3] for c in during), default=0),
            })
            if share < 0.99:
                bad.append(f"{way}, {protocol}: goodput {100 * share:.2f} %")
            if at_dead + at_spare > bound:
                bad.append(f"{way}, {protocol}: {at_dead + at_spare} attempts of {len(during)} requests")
            if at_dead + at_spare > len(during) * (1 + SHARE):
                bad.append(f"{way}, {protocol}: over the share alone: {at_dead + at_spare} attempts of {len(during)} requests")
            # Requests at the edges are in one of the two windows only; a kept connection that is reset is begun anew, once.
            if abs(at_spare - booked[1]) > EDGE or not -EDGE <= at_dead - booked[0] <= EDGE + KEPT:
                bad.append(f"{way}, {protocol}: {at_dead} and {at_spare} arrived, the ledger has {booked}")
        if not WAYS[way]:
            for row in rows[-2:]:
                row["syns"] = dead_both
            if abs(dead_both - sums["dead"]) > EDGE:
                bad.append(f"{way}: {dead_both} connections were asked for, the ledger has {sums['dead']} attempts")
    if seen["callers"].wrong:
        bad.append(f"{len(seen['callers'].wrong)} answers were neither whole nor an error")
    return rows, bad


def page(args, rows, bad, seen, cpu):
    total, good = sum(r["requests"] for r in rows), sum(r["requests"] * r["good"] for r in rows)
    attempts = sum(r["dead"] + r["spare"] for r in rows)
    out = [
        f"# An endpoint that is dead for {args.minutes:g} minutes", "",
        f"    bench/outage/run.py --forebay target/release/forebay --minutes {args.minutes:g} --rate {args.rate:g} --seed {args.seed}", "",
        f"{setting.version(args.forebay)}, {args.began}. {len(rows)} models at once on one server, {args.rate:g} requests a second each, half of them streams; {args.before:g} minutes healthy, then the outage. "
        f"CPU of one core: server {100 * cpu['server'] / cpu['seconds']:.1f} %, callers {100 * cpu['callers'] / cpu['seconds']:.1f} %.", "",
        f"**In the outage: {total:,} requests, {100 * good / total:.2f} % answered whole, {attempts:,} attempts: {attempts / total:.4f} for each request (the budget allows 1.1, and of each model 10 more and 6 a minute). "
        + ("Bad: " + "; ".join(bad) if bad else "Every model is within its bounds.") + "**", "",
        "| dead by | protocol | requests | whole | attempts at the dead | at the healthy | for each request | total ms, p50 / p99: healthy | in the outage | first output ms: healthy | in the outage | slowest s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        out.append(
            f"| {r['way']} | {r['protocol']} | {r['requests']:,} | {100 * r['good']:.2f} % | {r['dead']:,} | {r['spare']:,} | {r['ratio']:.4f} | {r['healthy']} | {r['outage']} "
            f"| {r['healthy_first']} | {r['outage_first']} | {r['most']:.1f} |"
        )
    dark = {r["way"]: r["syns"] for r in rows if "syns" in r}
    both = {way: sum(r["dead"] for r in rows if r["way"] == way) for way in dark}
    out += ["", "Attempts at the dead are those in the provider's own log; where there is none (refused, black hole) those of the ledger, of both protocols "
            + ", ".join(f"{both[w]} by {w} beside {n} connections that the network saw asked for" for w, n in dark.items()) + ".",
            "In the ledger (dead, healthy): " + "; ".join(f"{r['way']}, {r['protocol']} {r['ledger'][0]}, {r['ledger'][1]}" for r in rows) + ".", ""]
    others = [f"{r['way']}, {r['protocol']}: {r['others']}" for r in rows if r["others"]]
    out += ["Not whole in the outage: " + ("; ".join(others) or "none") + ".",
            "Not whole before: " + ("; ".join(f"{r['way']}, {r['protocol']}: {r['before']}" for r in rows if r["before"]) or "none") + ".",
            "Later than 35 s behind it: " + str(dict(sum((collections.Counter(r["back"]) for r in rows), collections.Counter()))) + ".", ""]
    out += [f"- {w}" for w in seen["callers"].wrong[:20]]
    return "\n".join(out) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--forebay", type=Path, default=Path("target/release/forebay"))
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--before", type=float, default=2)
    p.add_argument("--behind", type=float, default=1.5)
    p.add_argument("--rate", type=float, default=2.0, help="requests a second of each model")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--work", type=Path, default=Path("/tmp/forebay-outage"))
    p.add_argument("--out", type=Path, help="write the report there too")
    args = p.parse_args()
    args.forebay, args.work = args.forebay.resolve(), args.work.resolve()
    shutil.rmtree(args.work, ignore_errors=True)
    folder = args.work / "project"
    folder.mkdir(parents=True)
    args.began = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    os.nice(5)
    syns.own_network()
    network, dead, spare, server = syns.Syns(), {}, None, None
    try:
        for way in WAYS:
            dead[way] = Dead(args, way)
        spare, port = upstream.Upstream(args.forebay, args.work, "spare", setting.script()), setting.free_port()
        configure(folder, port, dead, spare)
        log = (folder / "server.log").open("w")
        server = subprocess.Popen([str(args.forebay), "up", "--project", str(folder)], stdout=log, stderr=log)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        started = time.monotonic()
        seen = asyncio.run(outage(args, port, dead, spare, network))
        ticks = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        cpu = {"server": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), "callers": time.process_time(), "seconds": time.monotonic() - started}
    finally:
        if server:
            server.terminate()
            server.wait(40)
        for d in [*dead.values(), *([spare] if spare else [])]:
            d.stop()
    rows, bad = summarize(args, seen, folder)
    text = page(args, rows, bad, seen, cpu)
    setting.finish(args, {"rows": rows, "bad": bad, "calls": seen["callers"].calls, "wrong": seen["callers"].wrong}, text, bad)


if __name__ == "__main__":
    main()
