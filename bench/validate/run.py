#!/usr/bin/env python3
"""Thirty expectations over 10 M rows of twenty columns: Forebay beside pandera on Polars and Great Expectations on pandas, in one run.

    cargo build --release -p forebay-bench-data
    bench/validate/run.py --binary target/release/forebay-bench-data --work FOLDER [--rows 10000000] [--gx-rows N] [--out FILE]

FOLDER keeps the peers' environments, the table and the dataset. All read the same Parquet files, those of the dataset. Each
measurement is a process of its own; it says how long it took from the files to the counts (imports of the peers are not in it),
the system says what CPU time and memory it used (those are of the whole process). What each finds is compared with what was planted.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

from checks import CHECKS, expectations, expected  # noqa: E402

PEERS = {"pandera": ["pandera[polars]==0.35.0", "polars==2.1.0", "pyarrow", "numpy"], "gx": ["great_expectations==1.24.1", "pyarrow"]}


def python(args, peer):
    found = args.work / peer / "bin" / "python"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", args.work / peer], check=True)
        subprocess.run([found, "-m", "pip", "install", "-q", *PEERS[peer]], check=True)
    return found


def measured(command):
    """Runs it; its last line of JSON, with CPU seconds and the peak of memory in MiB."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command}: {process.returncode}\n{err[-2000:]}")
    said = json.loads(out.strip().splitlines()[-1])
    return said | {"cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}


def check(name, said, rows):
    wanted, found = expected(rows), {k: v for k, v in said["failed"].items()}
    wrong = {k: (found.get(k), v) for k, v in wanted.items() if found.get(k) != v}
    if wrong or len(found) != len(wanted):
        sys.exit(f"{name} finds other rows (found, planted): {wrong}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--gx-rows", type=int)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prepare", action="store_true", help="make the environments and the dataset, and measure nothing")
    parser.add_argument("--only", help="forebay, pandera eager, pandera lazy or gx")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    warehouse, dataset = args.work / f"warehouse-{args.rows}", f"orders{args.rows}"
    pandera, gx = python(args, "pandera"), python(args, "gx")
    if not (warehouse / dataset).exists():
        table = args.work / f"{args.rows}.parquet"
        if not table.exists():
            subprocess.run([pandera, HERE / "make.py", table, str(args.rows)], check=True)
        subprocess.run([args.binary, "validate", "prepare", warehouse, dataset, table], check=True)
        table.unlink()
    if args.prepare:
        return
    file = args.work / "expectations.yaml"
    file.write_text(json.dumps(expectations(), indent=1))
    files = warehouse / dataset
    gx_rows = args.gx_rows or args.rows
    commands = {
        "forebay": ([args.binary, "validate", "run", warehouse, dataset, file], args.rows, args.rounds),
        "pandera eager": ([pandera, HERE / "with_pandera.py", files, "eager"], args.rows, args.rounds),
        "pandera lazy": ([pandera, HERE / "with_pandera.py", files, "lazy"], args.rows, 1),
        "gx": ([gx, HERE / "with_gx.py", files, str(gx_rows)], gx_rows, 1),
    }
    # By turns, so that all have the machine as it is at that time.
    rounds = {name: [] for name in commands if not args.only or name in args.only.split(",")}
    for turn in range(args.rounds):
        for name in rounds:
            command, rows, times = commands[name]
            if turn < times:
                said = measured(command)
                check(name, said, rows)
                rounds[name].append(said)
                print(name, {k: v for k, v in said.items() if k != "failed"}, flush=True)
    results = {}
    for name, said in rounds.items():
        ours = rounds["forebay"]
        ratios = sorted(s["seconds"] / o["seconds"] for s, o in zip(said, ours))
        said = sorted(said, key=lambda s: s["seconds"])
        seconds = [s["seconds"] for s in said]
        results[name] = said[len(said) // 2] | {"of": commands[name][1], "least": seconds[0], "most": seconds[-1], "ratios": ratios}
    if args.out:
        args.out.write_text(page(args, results, pandera, gx))


def spread(result):
    least, most = result["least"], result["most"]
    return f"{result['seconds']:.2f}" + (f" ({least:.2f} to {most:.2f})" if most > least else "")


def version(python, package):
    code = f"import importlib.metadata as m; print(m.version('{package}'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def page(args, results, pandera, gx):
    ours = results["forebay"]
    names = {
        "forebay": "Forebay",
        "pandera eager": f"pandera {version(pandera, 'pandera')} on Polars {version(pandera, 'polars')}, a DataFrame",
        "pandera lazy": f"the same, a LazyFrame",
        "gx": f"Great Expectations {version(gx, 'great_expectations')} on pandas {version(gx, 'pandas')}",
    }
    lines = [
        "# Validation beside pandera and Great Expectations",
        "",
        f"{args.rows:,} rows of 20 columns, {len(CHECKS)} expectations, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}. Time is from Parquet files to counts",
        "of every expectation (imports not in it); CPU time and peak memory are of the whole process. What each finds is what was planted,",
        f"check by check. Forebay and pandera's eager form: the median of {args.rounds} processes each, by turns, and the range; the others one.",
        "The last column is of the same turn: the median of the turns, and the range.",
        "",
        "| | rows | seconds | rows a second | CPU seconds | peak MiB | time a row, Forebay = 1 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, r in results.items():
        scale = ours["of"] / r["of"]
        ratios = [ratio * scale for ratio in r["ratios"]]
        ratio = f"{ratios[len(ratios) // 2]:.1f}" + (f" ({ratios[0]:.1f} to {ratios[-1]:.1f})" if ratios[0] < ratios[-1] else "")
        lines.append(
            f"| {names[name]} | {r['of']:,} | {spread(r)} | {r['of'] / r['seconds'] / 1e6:.2f} M | {r['cpu']:.1f} | {r['peak']:,.0f} | {ratio} |"
        )
    read = {n: r["read"] for n, r in results.items() if r.get("read")}
    lines += [
        "",
        "Of the peers' time, reading the files took " + ", ".join(f"{v:.1f} s ({names[n]})" for n, v in read.items() if v > 0.05) + ".",
        "The checks: 9 × not null, 7 × range, 5 × set, 3 × pattern, 2 × length, 2 × unique (an integer and a text, both 10 M different values),",
        "2 × a condition over two columns. The same thirty for all: `bench/validate/checks.py`; how each tool is set up: `with_pandera.py`,",
        "`with_gx.py`. Forebay's build: the profile `release` (no link-time optimisation).",
        "",
        "    bench/validate/run.py --binary BINARY --work FOLDER --out bench/results/validate.md",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
