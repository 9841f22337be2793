#!/usr/bin/env python3
"""What capture costs: requests a second of boosted trees (100 × depth 4, 20 features) with and without it, by turns, on two cores.

    cargo build --release -p forebay && cargo run -p xtask -- fixtures
    bench/capture/run.py --forebay target/release/forebay [--out bench/results/capture.md]

Each measurement is a server of its own, asked one row a request over REST by 8 connections of wrk as fast as it answers; CPU time is of the server,
until what was captured is in files. Needs the model of bench/predict (made there on first use).
"""

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from wrk import wrk  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
WAYS = {"nothing": "", "a tenth": "capture: {trees: {sample: 0.1}}\n", "all": "capture: {trees: {}}\n"}


@contextlib.contextmanager
def served(args, capture):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "forebay.yaml").write_text(f"models: {{trees: {{onnx: {args.model}}}}}\n{capture}")
        env = {**os.environ, "ORT_DYLIB_PATH": str(args.library)}
        command = [args.forebay, "--project", folder, "up", "--listen", "127.0.0.1:9311"]
        with open(Path(folder, "log"), "w") as log:
            child = subprocess.Popen([str(c) for c in command], env=env, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 30
            while True:
                try:
                    urllib.request.urlopen("http://127.0.0.1:9311/v2/models/trees/ready", timeout=1)
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)
            yield child.pid
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()


def cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def metric(name):
    text = urllib.request.urlopen("http://127.0.0.1:9311/metrics").read().decode()
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M)
    return sum(map(float, found))


def measured(args, capture):
    with served(args, capture) as pid, tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        body = json.dumps({"inputs": [{"name": "x", "shape": [1, 20], "datatype": "FP32", "data": [round(0.1 * n - 1, 1) for n in range(20)]}]})
        script.write(f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = {json.dumps(body)}\n')
        script.flush()
        url = "http://127.0.0.1:9311/v2/models/trees/infer"
        wrk(url, script.name, 2, 8)
        before = cpu(pid)
        found = wrk(url, script.name, args.seconds, 8)
        time.sleep(0.5)
        found["cpu_us"] = (cpu(pid) - before) / found["requests"] * 1e6
        found["dropped"] = metric("forebay_capture_dropped_total")
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = Path.home() / ".cache/forebay"
    parser.add_argument("--forebay", required=True)
    parser.add_argument("--model", type=Path, default=home / "predict-peers/trees.onnx")
    parser.add_argument("--library", type=Path, default=home / "fixtures/libonnxruntime.so")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.model = args.model.resolve()
    rounds = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way, capture in WAYS.items():
            rounds[way].append(measured(args, capture))
            print(way, rounds[way][-1], flush=True)
    lines = [
        "# What capture costs",
        "",
        f"{time.strftime('%Y-%m-%d')}, release build, {os.cpu_count()} cores with the client on them, boosted trees of 20 features, one row a request over REST, 8 connections as fast as they are",
        f"answered; medians of {args.rounds} servers each, by turns ({args.seconds} s), with their ranges; the last column is of the same turn.",
        "",
        "| captured | requests a second | CPU µs a request | p99 ms | dropped, of all | requests, nothing = 1 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    spread = lambda values, digits: f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
    for way, found in rounds.items():
        of = lambda key: [f[key] for f in found]
        ratios = [f["requests_per_second"] / n["requests_per_second"] for f, n in zip(found, rounds["nothing"])]
        dropped = sum(of("dropped")) / sum(of("requests"))
        lines.append(f"| {way} | {spread(of('requests_per_second'), 0)} | {spread(of('cpu_us'), 1)} | {spread(of('p99_ms'), 2)} | {dropped:.1%} | {spread(ratios, 3)} |")
    lines += ["", "    bench/capture/run.py --forebay target/release/forebay --out bench/results/capture.md", ""]
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
