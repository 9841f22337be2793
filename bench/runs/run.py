#!/usr/bin/env python3
"""What a stage that does nothing costs in a durable run: Forebay beside Prefect and Dagster, in one run.

    cargo bench --no-run -p forebay-pipeline --bench durable
    bench/runs/run.py --bench target/release/deps/durable-HASH --work FOLDER [--out bench/results/runs.md]

FOLDER keeps the peers' environments (made by pip on first use). Every measurement is a process of its own. Forebay: wall clock
from asking for the run until it has ended, by a process that works on runs already, on a SQLite file. Prefect: a flow of 100
tasks that do nothing, one after the other, the second of two runs in a process, against its own server on SQLite that was
started before. Dagster: a job of 50 ops that do nothing, one after the other, by `execute_in_process` on an instance in a
folder (SQLite), the second of two runs: its way with the least around it.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

PEERS = {
    "prefect": ["prefect==3.8.0", "fastapi>=0.135,<0.150"],
    "dagster": ["dagster==1.13.29"],
}
RUNS = 3

PREFECT = """
import json, time
from prefect import flow, task

@task
def nothing(x):
    return x

@flow(log_prints=False)
def line():
    x = 0
    for _ in range(100):
        x = nothing(x)

line()
begun = time.perf_counter()
line()
print(json.dumps({"ms": (time.perf_counter() - begun) * 1e3 / 100}))
"""

DAGSTER = """
import json, tempfile, time
from dagster import DagsterInstance, job, op

@op
def first():
    return 0

@op
def nothing(x):
    return x

@job
def line():
    x = first()
    for _ in range(49):
        x = nothing(x)

with tempfile.TemporaryDirectory() as folder:
    instance = DagsterInstance.local_temp(folder)
    line.execute_in_process(instance=instance)
    begun = time.perf_counter()
    assert line.execute_in_process(instance=instance).success
    print(json.dumps({"ms": (time.perf_counter() - begun) * 1e3 / 50}))
"""


def python(work, peer):
    found = work / peer / "bin" / "python"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", work / peer], check=True)
        subprocess.run([found, "-m", "pip", "install", "-q", *PEERS[peer]], check=True)
    return found


@contextlib.contextmanager
def prefect_server(found, home):
    """Prefect's own server, and how long it took until it answered."""
    port = 4299
    env = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    begun = time.perf_counter()
    server = subprocess.Popen(
        [found, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=1)
                break
            if server.poll() is not None or time.perf_counter() - begun > 120:
                sys.exit("prefect's server does not start")
            time.sleep(0.05)
        yield env, time.perf_counter() - begun
    finally:
        server.terminate()
        server.wait()


def said(command, **options):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=True, **options)
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    lines = []

    prefect = python(args.work, "prefect")
    with tempfile.TemporaryDirectory() as home, prefect_server(prefect, home) as (env, start):
        of = [json.loads(said([prefect, "-c", PREFECT], env=env).splitlines()[-1])["ms"] for _ in range(RUNS)]
    lines.append((f"Prefect 3.8.0, 100 tasks in a line (its server started in {start:.1f} s)", of))
    dagster = python(args.work, "dagster")
    of = [json.loads(said([dagster, "-c", DAGSTER], stderr=subprocess.DEVNULL).splitlines()[-1])["ms"] for _ in range(RUNS)]
    lines.append(("Dagster 1.13.29, 50 ops in a line, in its own process", of))

    table = []
    for text in said([args.bench]).splitlines():
        found = re.fullmatch(r"(.+): ([\d.]+) ms a stage \(([\d.]+) to ([\d.]+)\)", text)
        if found:
            table.append((f"Forebay, {found[1]}", *map(float, found.groups()[1:])))
        else:
            print(text)
            table.append((f"Forebay, {text}",))
    table += [(name, statistics.median(of), min(of), max(of)) for name, of in lines]
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    text = [
        "# What a durable stage that does nothing costs",
        "",
        f"{datetime.date.today()}, {cpu}, {os.cpu_count()} cores, Linux {platform.release()}; medians of {RUNS} with the range. Again: `bench/runs/run.py` (see its head).",
        "",
        "| | ms of wall clock a stage |",
        "|---|---|",
    ]
    for name, *values in table:
        text.append(f"| {name} | {values[0]:.3f} ({values[1]:.3f}–{values[2]:.3f}) |" if values else f"| {name} | |")
    print("\n".join(text))
    if args.out:
        args.out.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
