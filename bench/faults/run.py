#!/usr/bin/env python3
"""The fault wall: sixteen ways an upstream fails, and what a gateway's callers see of them. Forebay beside its peers.

    cargo build --release -p forebay
    bench/faults/run.py --true-time                          # for the record: all gateways, some minutes each
    bench/faults/run.py --only forebay --time-scale 10       # for a test: exits with 1 when anything fails

For each gateway, surface (OpenAI chat, Anthropic messages), way (streaming or not) and scenario there is a pair of fake upstreams
(`forebay fake-upstream`): a primary with the fault and a healthy fallback. A caller with a deadline asks the gateway; then the
oracle of the scenario (`scenarios.py`) looks at what the caller saw and at what the upstreams logged. `peers.py` and `forebay.py` say how each is
installed and set up, `client.py` is the caller, `report.py` writes bench/results/faults.{md,json}, where gateways that were not
run keep their last result. Peers are installed under --peers on first use (pip, npm; node comes from the system).
Python's standard library only.
"""

import argparse
import concurrent.futures
import itertools
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True

import client
import gateways
import report
import scenarios
import upstream


LONG = {"S15": 0, "S09": 1, "S06": 2, "S07": 3}


@dataclass
class Cell:
    """One scenario on one surface, streaming or not, with its own upstreams."""

    code: str
    surface: str
    streaming: bool
    primary: upstream.Upstream
    fallback: upstream.Upstream

    @property
    def name(self):
        return f"{self.code}-{self.surface}-{'stream' if self.streaming else 'whole'}".lower()

    @property
    def way(self):
        return f"{self.surface}, {'streaming' if self.streaming else 'not streaming'}"

    def both(self):
        return {"primary": self.primary, "fallback": self.fallback}


def probe(gateway, cell, scale, leave_after=None, requests=1, every=0.0, watch=scenarios.WATCHED):
    """Asks, waits until what was under way must have ended, and reads the logs. Several requests share one set of logs."""
    port, path = gateway.address(cell)
    deadline = scenarios.CALLER_DEADLINE / scale
    before = {name: up.now() for name, up in cell.both().items()}
    marks = {}

    def one(n):
        time.sleep(n * every)
        seen = client.ask(
            port, path, cell.surface, gateway.model(cell), cell.streaming, gateway.headers(cell), deadline, leave_after
        )
        marks[n] = {name: up.now() for name, up in cell.both().items()}
        return seen

    with concurrent.futures.ThreadPoolExecutor(max_workers=requests) as pool:
        seen = list(pool.map(one, range(requests)))
    time.sleep(watch)
    logs = {
        name: [r for r in up.log()["requests"] if r["arrived_us"] >= before[name]] for name, up in cell.both().items()
    }
    last = {name: max(mark[name] for mark in marks.values()) for name in logs}
    return [scenarios.Probe(s, logs, last) for s in seen]


def run_cell(gateway, cell, scale):
    scenario = scenarios.BY_CODE[cell.code]
    gateway.open(cell)
    try:
        leaver = None
        if scenario.leaves:
            watch = max(scenarios.LEAVER_WATCHED / scale, scenarios.WATCHED)
            leaver = probe(gateway, cell, scale, leave_after=scenarios.LEAVES_AFTER / scale, watch=watch)[0]
        if cell.code == "S15":
            probes = probe(gateway, cell, scale, None, scenarios.FLAPPING_REQUESTS, scenarios.FLAPPING_EVERY / scale)
        else:
            probes = probe(gateway, cell, scale)
        account = gateway.account(cell, probes[0])
    finally:
        gateway.close(cell)
    reasons, seen, logs = scenarios.judge(scenario, cell.streaming, scale, probes, leaver, account)
    return {
        "pass": not reasons,
        "whole": scenarios.shape(probes[0].seen, logs["fallback"])[0] == "whole",
        "caller": all(kind != "caller" for kind, _ in reasons),
        "why": [text for _, text in reasons],
        "seen": seen,
        "seconds": round(probes[0].seen.seconds * scale, 1),
        "attempts": [len(logs["primary"]), len(logs["fallback"])],
        "raw": probes[0].seen.raw,
        "log": probes[0].logs,
    }


def run_gateway(kind, args):
    """All cells of one gateway: `{way: {code: result}}`."""
    folder = args.work / "upstreams" / kind.name
    folder.mkdir(parents=True, exist_ok=True)
    codes = ["S00"] + [s.code for s in scenarios.ALL if not args.scenarios or s.code in args.scenarios]
    surfaces = [s for s in kind.surfaces if s in args.surfaces]
    cells, out, lock = [], {}, threading.Lock()
    try:
        for surface, streaming, code in itertools.product(surfaces, args.ways, codes):
            name = f"{code}-{surface}-{'stream' if streaming else 'whole'}".lower()
            sides = []
            for side, text in (("primary", upstream.PRIMARY), ("fallback", upstream.FALLBACK)):
                fault = None if code == "S00" else code
                script = upstream.script(fault, args.time_scale, text, side == "primary")
                sides.append(upstream.Upstream(args.forebay, folder, f"{name}-{side}", script))
            cells.append(Cell(code, surface, streaming, *sides))
        gateway = kind(args, cells)
        try:
            gateway.start()
            for cell in [c for c in cells if c.code == "S00"]:
                for attempt in range(3):  # a first request may find things half loaded
                    healthy = run_cell(gateway, cell, args.time_scale)
                    if healthy["pass"]:
                        break
                else:
                    raise RuntimeError(f"{kind.name}: {cell.way}: a healthy upstream's answer fails: {healthy}")

            def one(cell):
                try:
                    result = run_cell(gateway, cell, args.time_scale)
                except Exception as e:
                    result = {"pass": False, "whole": False, "caller": False, "why": [f"not run: {e!r}"], "seen": "", "seconds": 0, "attempts": []}
                details = args.work / kind.name / f"{cell.name}.json"
                details.write_text(json.dumps({k: result.pop(k) for k in ("raw", "log") if k in result} | result, indent=1))
                with lock:
                    out.setdefault(cell.way, {})[cell.code] = result
                    verdict = "ok  " if result["pass"] else "FAIL"
                    print(f"{kind.name}: {cell.way}: {cell.code} {verdict} {result['seconds']:5.1f} s {result['attempts']} {result['seen']}")
                    for why in result["why"]:
                        print(f"        {why}")
                    sys.stdout.flush()

            with concurrent.futures.ThreadPoolExecutor(max_workers=min(args.parallel, kind.at_once)) as pool:
                # The long ones first.
                list(pool.map(one, sorted((c for c in cells if c.code != "S00"), key=lambda c: LONG.get(c.code, 9))))
        finally:
            gateway.stop()
    finally:
        for cell in cells:
            cell.primary.stop()
            cell.fallback.stop()
    return {way: dict(sorted(results.items())) for way, results in sorted(out.items(), key=lambda kv: (kv[0].split(",")[0] != "openai", "not" in kv[0]))}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--forebay", type=Path, default=Path("target/release/forebay"))
    p.add_argument("--peers", type=Path, default=Path.home() / ".cache/forebay/bench-peers")
    p.add_argument("--work", type=Path, default=Path("/tmp/forebay-bench-faults"))
    p.add_argument("--only", default=",".join(g.name for g in gateways.ALL))
    p.add_argument("--scenarios", default="", help="such as S06,S09 [default: all]")
    p.add_argument("--surfaces", default="openai,anthropic")
    p.add_argument("--ways", default="streaming,whole")
    p.add_argument("--parallel", type=int, help="scenarios at once [default: 64 in true time, else 16]")
    p.add_argument("--time-scale", type=float, default=10.0, help="how many times faster than in the catalogue")
    p.add_argument("--true-time", action="store_true", help="time scale 1, and the result is written")
    p.add_argument("--out", type=Path, help="where to write, without ending [default: bench/results/faults with --true-time]")
    args = p.parse_args()
    for name in ("forebay", "peers", "work"):
        setattr(args, name, getattr(args, name).resolve())
    args.scenarios = {s for s in args.scenarios.upper().split(",") if s}
    args.surfaces = args.surfaces.split(",")
    args.ways = [way == "streaming" for way in args.ways.split(",")]
    if args.true_time:
        args.time_scale = 1.0
    args.parallel = args.parallel or (64 if args.time_scale == 1 else 16)
    out = args.out or (Path(__file__).resolve().parent.parent / "results" / "faults" if args.true_time else None)
    how = "--true-time" if args.time_scale == 1 else f"--time-scale {args.time_scale:g}"
    failed = 0
    for kind in [g for g in gateways.ALL if g.name in args.only.split(",")]:
        command = f"bench/faults/run.py {how} --only {kind.name}"
        kind.install(args)
        started = time.monotonic()
        ways = run_gateway(kind, args)
        failed += sum(not r["pass"] for results in ways.values() for r in results.values())
        for way, results in ways.items():
            passed = sum(r["pass"] for r in results.values())
            print(f"{kind.name}: {way}: {passed} of {len(results)}")
        print(f"{kind.name} {kind.version(args)}: {time.monotonic() - started:.0f} s", flush=True)
        if out:
            report.record(out, kind, kind.version(args), args.time_scale, ways, command)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
