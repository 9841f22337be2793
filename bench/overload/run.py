#!/usr/bin/env python3
"""Overload and isolation on the running server, in front of an upstream whose capacity is known.

    cargo build --release -p forebay
    bench/overload/run.py                          # all of it, about a quarter of an hour; writes bench/results/overload.md
    bench/overload/run.py --only steps --short     # a look

The upstream (`forebay fake-upstream`) has sixteen places; an answer takes one for about 350 ms, and what comes beyond them is answered
429. So it bears some 45 answers a second, whatever the machine is. The parts:

  steps      forebay bench at 0.5, 0.9, 1, 2 and 10 times that: goodput, latency of what is let in, memory
  returns    10 times that, and everybody who is refused comes again once, when it was told: how many are answered then
  isolation  tenant b's steady traffic alone and beside tenant a that retries each failure at once, 50 ways: at the same model, at
             one whose endpoint is gone, and at one that is silent
Python's standard library only.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

sys.dont_write_bytecode = True

import callers
import report
from world import CAPACITY, PLACES, Server, Upstream, bench, free_port, script, slope

SLO = "total=2s"


def model(url, more=f", max_concurrency: {PLACES}"):
    return f'base_url: "{url}/v1"{more}'


def steps(args, folder, settings, factors, seconds):
    """One server, one step after the other."""
    up = Upstream(args.forebay, folder, "steps", script())
    server = Server(args.server, folder / "steps", {"m": model(up.url, settings)}, args.more)
    try:
        out, mark = [], 0
        for factor in factors:
            said = bench(
                args.forebay, server, server.keys["a"], "--model", "m", "--rate", f"{CAPACITY:.3f}", "--steps", f"{factor:g}x",
                "--for", f"{seconds}s", "--warm-up", "3s", "--slo", SLO, "--stream", "mix", "--seed", args.seed,
            )
            step = said["steps"][0]
            rss = server.rss[mark:]
            mark = len(server.rss)
            out.append({"factor": factor, "offered": step["offered"], **step["all"], "client": step["client"], "rss_max": max(v for _, v in rss), "rss_slope": slope(rss[len(rss) // 4 :])})
            print(f"  {factor:g}x: goodput {step['all']['goodput']:.1f}/s, total p99 {report.p99(step['all'], 'total_us')} ms, {step['all']['counts']['sheds']} refused, rss {out[-1]['rss_max']:.0f} MB", flush=True)
        return out
    finally:
        server.stop()
        up.stop()


def returns(args, folder, same):
    up = Upstream(args.forebay, folder, "returns", script())
    server = Server(args.server, folder / "returns", {"m": model(up.url)}, args.more)
    try:
        # What an answer takes is known before the load, as on any server that is not new.
        bench(args.forebay, server, server.keys["a"], "--model", "m", "--rate", 10, "--steps", "1x", "--for", "2s", "--warm-up", "1s")
        mark = len(server.rss)
        went = asyncio.run(callers.come_back(server.port, server.keys["a"], "m", 10 * CAPACITY, args.overload, same, args.patience))
        rss = server.rss[mark:]
        out = {"same": same, "rss_first": rss[0][1], "rss_max": max(v for _, v in rss), "rss_slope": slope(rss[len(rss) // 4 :]), **vars(went)}
        report.say_returns(out)
        return out
    finally:
        server.stop()
        up.stop()


def behind_all_else(storm, until):
    """Those who storm sit elsewhere: here they have what the server, the upstream and b's callers leave of two cores."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    asyncio.run(storm.run(until))


def isolation(args, folder, what, rounds, seconds):
    """`rounds` times: b alone, and b beside a."""
    ups = [Upstream(args.forebay, folder, "b", script())]
    models = {"m": model(ups[0].url)}
    if what == "outage":
        models["sick"] = model(f"http://127.0.0.1:{free_port()}")
    elif what == "silence":
        ups.append(Upstream(args.forebay, folder, "sick", {"faults": [{"fault": {"silence": {"lasting": 60000}}}], "log": "off"}))
        models["sick"] = model(ups[1].url) + ", timeouts: {first_token: 2s}"
    server = Server(args.server, folder / f"isolation-{what}", models, args.more)
    hurt = "m" if what == "storm" else "sick"
    asks = ["--model", "m", "--rate", f"{CAPACITY / 4:.3f}", "--steps", "1x", "--for", f"{seconds}s", "--warm-up", "2s", "--stream", "mix"]
    try:
        out = []
        for n in range(rounds):
            for beside in (False, True):
                until, counts = threading.Event(), {}
                storm = callers.Storm(server.port, server.keys["a"], hurt, 50)
                thread = threading.Thread(target=behind_all_else, args=(storm, until))
                if beside:
                    thread.start()
                try:
                    said = bench(args.forebay, server, server.keys["b"], *asks, "--seed", args.seed + n)["steps"][0]
                finally:
                    until.set()
                    if beside:
                        thread.join()
                        counts = storm.counts
                all_ = said["all"]
                out.append({"round": n, "beside": beside, "storm": counts, **all_, "late_p99_us": said["client"]["late_p99_us"]})
                print(f"  {what}, round {n + 1}, {'beside' if beside else 'alone '}: first p99 {report.p99(all_, 'first_us')}, total p99 {report.p99(all_, 'total_us')} ms, {all_['counts']['sheds']} refused; a: {counts}", flush=True)
        return out
    finally:
        server.stop()
        for up in ups:
            up.stop()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--forebay", type=Path, default=Path("target/release/forebay"), help="puts on the load, and is the upstream")
    p.add_argument("--server", type=Path, help="the server that is measured [default: as --forebay]")
    p.add_argument("--work", type=Path, default=Path("/tmp/forebay-bench-overload"))
    p.add_argument("--only", default="steps,adaptive,returns,isolation")
    p.add_argument("--isolation", default="storm,outage,silence")
    p.add_argument("--factors", default="0.5,0.9,1,2,10")
    p.add_argument("--overload", type=float, default=10, help="seconds of 10x in `returns`: as many more for each of the nine refused follow")
    p.add_argument("--seconds", type=float, default=20, help="how long each step and each round is measured")
    p.add_argument("--same", action="store_true", help="in `returns` all ask the same, and nobody is known again")
    p.add_argument("--patience", type=float, default=3600, help="who is told to wait longer does not come back, and counts as not answered")
    p.add_argument("--more", default="", help="more lines of the configuration")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--short", action="store_true", help="a third of the time")
    p.add_argument("--out", type=Path, help="where to write [default: bench/results/overload.md, when nothing is left out]")
    args = p.parse_args()
    args.forebay, args.work = args.forebay.resolve(), args.work.resolve()
    args.server = (args.server or args.forebay).resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    only = set(args.only.split(","))
    if args.short:
        args.seconds, args.overload = args.seconds / 3, args.overload / 3
    seconds = f"{args.seconds:g}"
    factors = [float(f) for f in args.factors.split(",")]
    version = subprocess.run([args.server, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    words = [a for a in sys.argv[1:] if "/" not in a and a not in ("--forebay", "--server", "--work", "--out")]
    got = {"version": version, "capacity": CAPACITY, "command": " ".join(["bench/overload/run.py", *words])}
    if "steps" in only:
        print(f"steps, max_concurrency {PLACES}:")
        got["steps"] = steps(args, args.work, f", max_concurrency: {PLACES}", factors, seconds)
    if "adaptive" in only:
        print("steps, the limit is found:")
        got["adaptive"] = steps(args, args.work, "", factors, seconds)
    if "returns" in only:
        got["returns"] = [returns(args, args.work, args.same)]
    if "isolation" in only:
        got["isolation"] = {w: isolation(args, args.work, w, 3, seconds) for w in args.isolation.split(",")}
    (args.work / "overload.json").write_text(json.dumps(got))
    text, failed = report.render(got)
    print(text)
    whole = only >= {"steps", "adaptive", "returns", "isolation"} and not args.short
    out = args.out or (Path(__file__).resolve().parent.parent / "results" / "overload.md" if whole else None)
    if out:
        out.write_text(text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
