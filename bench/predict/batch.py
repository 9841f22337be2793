#!/usr/bin/env python3
"""Every row of a table asked of boosted trees (100 × depth 4, 20 features): the stage `batch_predict` beside a bare loop of ONNX Runtime.

    cargo build --release -p forebay && cargo run -p xtask -- fixtures --only onnxruntime
    bench/predict/batch.py --forebay target/release/forebay

Both read the same Parquet file and write the answers of all rows with their ids to Parquet. The loop reads with pyarrow, a batch at a time, puts the
columns side by side with numpy, asks the session and writes; it has as many threads of ONNX Runtime as the stage, and batches of the size that
was fastest of some. Without reading and writing it is shown too. Forebay's figure is of the stage alone, from its lease to its end, as its run says:
in it the new version is also named by its content, and noted with its lineage. Writes bench/results/batch.{md,json}.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from run import ROOT, venv

MAKE = """
import sys, numpy, pyarrow, pyarrow.parquet
rows, out = int(sys.argv[1]), sys.argv[2]
draw = numpy.random.default_rng(7)
columns = {"id": numpy.arange(rows)}
columns |= {f"f{n}": draw.normal(size=rows) for n in range(20)}
pyarrow.parquet.write_table(pyarrow.table(columns), out, row_group_size=131072, compression="zstd")
"""
LOOP = """
import json, resource, sys, time, numpy, onnxruntime, pyarrow, pyarrow.parquet
model, table, out, threads, size, whole = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "whole"
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
names = [f"f{n}" for n in range(20)]
def pieces():
    for batch in pyarrow.parquet.ParquetFile(table).iter_batches(size, columns=["id", *names]):
        yield batch.column("id"), numpy.column_stack([batch.column(n).to_numpy() for n in names]).astype(numpy.float32)
def used():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime
ready = None if whole else list(pieces())
began, cpu, rows = time.perf_counter(), used(), 0
writer = None
for ids, x in (pieces() if whole else ready):
    label, odds = session.run(None, {"x": x})
    rows += len(x)
    if whole:
        made = pyarrow.table({"id": ids, "label": label, "probabilities_0": odds[:, 0].astype(numpy.float64), "probabilities_1": odds[:, 1].astype(numpy.float64)})
        writer = writer or pyarrow.parquet.ParquetWriter(out, made.schema, compression="zstd")
        writer.write_table(made)
if writer: writer.close()
print(json.dumps({"rows": rows, "seconds": time.perf_counter() - began, "cpu": used() - cpu}))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forebay", required=True, help="the binary")
    parser.add_argument("--peers", default=str(Path.home() / ".cache/forebay/predict-peers"))
    parser.add_argument("--library", default=str(Path.home() / ".cache/forebay/fixtures/libonnxruntime.so"))
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build", default="release", help="how the binary was built, for the page")
    args = parser.parse_args()
    peers = Path(args.peers)
    peers.mkdir(parents=True, exist_ok=True)
    loop = venv(peers, "batch")
    model = peers / "trees.onnx"
    if not model.exists():
        subprocess.run([loop, ROOT / "engines/onnx/oracles/models.py", "bench", model], check=True)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = folder / "rows.parquet"
        subprocess.run([loop, "-c", MAKE, str(args.rows), table], check=True)
        env = {**os.environ, "ORT_DYLIB_PATH": args.library}
        run = lambda *command: subprocess.run([args.forebay, "--project", folder, *command], env=env, capture_output=True, text=True)
        said = lambda done: json.loads(done.stdout) if done.returncode == 0 else sys.exit(done.stdout + done.stderr)
        asked = lambda size, threads, whole: json.loads(
            subprocess.run([loop, "-c", LOOP, model, table, folder / "out.parquet", str(threads), str(size), whole], check=True, capture_output=True, text=True).stdout
        )
        for threads in args.threads or [1, 2]:
            features = ", ".join(f"f{n}" for n in range(20))
            (folder / "forebay.yaml").write_text(
                f"models:\n  trees: {{onnx: {model}}}\npipelines:\n  score:\n    params: {{round: {{type: integer}}}}\n    stages:\n"
                f"      - rows: {{ingest: {{files: [rows.parquet]}}}}\n"
                f"      - answers: {{batch_predict: {{model: trees, keep: [id], features: [{features}], threads: {threads}}}, from: rows}}\n"
            )
            sizes = {size: asked(size, threads, "whole")["seconds"] for size in (8192, 65536, 262144)}
            size = min(sizes, key=sizes.get)
            rounds = {"forebay": [], "loop": [], "session": []}
            for number in range(args.rounds):
                done = said(run("run", "score", "--json", "--param", f"round={number}"))
                shown = said(run("runs", "show", done["id"], "--json"))
                stage = next(s for s in shown["stages"] if s["name"] == "answers")
                rounds["forebay"].append((stage["ended_at"] - stage["started_at"]) / 1e3)
                rounds["loop"].append(asked(size, threads, "whole")["seconds"])
                rounds["session"].append(asked(size, threads, "only")["seconds"])
                print(threads, {k: v[-1] for k, v in rounds.items()}, flush=True)
            results.append({"threads": threads, "batch": size, **{k: {"median": statistics.median(v), "all": v} for k, v in rounds.items()}})
    out = ROOT / "bench/results"
    (out / "batch.json").write_text(json.dumps({"build": args.build, "rows": args.rows, "results": results}, indent=1) + "\n")
    lines = [
        f"# {args.rows:,} rows of boosted trees\n",
        f"Medians of {args.rounds} rounds with the range, in seconds. Forebay built as `{args.build}`. Again: `bench/predict/batch.py` (see its head).\n",
        "| threads | `batch_predict` | the loop, reading and writing | the loop, the session alone | of the loop's rows a second |",
        "|---|---|---|---|---|",
    ]
    for r in results:
        cell = lambda k: f"{r[k]['median']:.2f} ({min(r[k]['all']):.2f}–{max(r[k]['all']):.2f})"
        share = r["loop"]["median"] / r["forebay"]["median"]
        lines.append(f"| {r['threads']} | {cell('forebay')} | {cell('loop')} | {cell('session')} | {share:.0%} |")
    (out / "batch.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
