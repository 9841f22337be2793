#!/usr/bin/env python3
"""Models that work for milliseconds, ResNet-50-thin and MiniLM, asked over REST beside a bare loop of ONNX Runtime.

    apt-get install wrk
    cargo build --release -p forebay && cargo run -p xtask -- fixtures --tier extended
    bench/predict/large.py --forebay target/release/forebay

A request is one picture of 224 × 224, or one text of 128 tokens, as binary tensors; every answer comes back whole, and one is compared with the loop's.
The loop has the tensors in memory and runs the session, nothing else: on all cores for one run, or on each core a session with one thread,
whichever is faster; the server is configured in the same way. The client is on the same cores and takes its part of them, so what the server's
own process used for a request is beside what the loop's used for a row. Writes bench/results/large.{md,json}.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from run import ROOT, cpu, running, venv
from wrk import wrk

MODELS = {"resnet50-thin": "open-nsfw.onnx", "minilm-int8": "minilm-int8.onnx"}
LOOP = """
import json, resource, sys, threading, time, numpy, onnxruntime
model, folder, sessions, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
def opened():
    options = onnxruntime.SessionOptions(); options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
all_of = [opened() for _ in range(sessions)]
types = {"tensor(float)": ("FP32", numpy.float32), "tensor(int64)": ("INT64", numpy.int64)}
draw, feed, said = numpy.random.default_rng(7), {}, []
for port in all_of[0].get_inputs():
    shape = [1, 224, 224, 3] if "float" in port.type else [1, 128]
    name, kind = types[port.type]
    value = draw.random(shape) * 255 - 104 if name == "FP32" else draw.integers(1000, 20000, shape) if port.name == "input_ids" else numpy.full(shape, port.name == "attention_mask")
    feed[port.name] = value.astype(kind)
    said.append({"name": port.name, "shape": shape, "datatype": name, "parameters": {"binary_data_size": feed[port.name].nbytes}})
out = all_of[0].run(None, feed)[0]
json.dump({"inputs": said, "parameters": {"binary_data_output": True}}, open(folder + "/head.json", "w"))
open(folder + "/body.bin", "wb").write(b"".join(feed[i["name"]].tobytes() for i in said))
open(folder + "/answer.bin", "wb").write(out.tobytes())
for session in all_of: session.run(None, feed)
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
counts, cpu, began = [0] * sessions, used(), time.perf_counter()
def loop(n):
    while time.perf_counter() < began + seconds:
        all_of[n].run(None, feed); counts[n] += 1
threads = [threading.Thread(target=loop, args=(n,)) for n in range(sessions)]
for t in threads: t.start()
for t in threads: t.join()
print(sum(counts) / (time.perf_counter() - began), (used() - cpu) / sum(counts) * 1e3)
"""


def post(folder, head):
    """A script for wrk that sends the tensors, and their bytes."""
    text = (folder / "head.json").read_bytes()
    (folder / "whole.bin").write_bytes(text + (folder / "body.bin").read_bytes())
    script = folder / "post.lua"
    script.write_text(
        f'local file = io.open("{folder}/whole.bin", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\nfile:close()\n'
        + "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in head(text).items())
    )
    return script, (folder / "whole.bin").read_bytes()


def answered(url, body, head):
    """The bytes of the one tensor of an answer."""
    with urllib.request.urlopen(urllib.request.Request(url, body, head), timeout=30) as answer:
        said = answer.read()
        return said[int(answer.headers["Inference-Header-Content-Length"]) :]


def close(a, b):
    pairs = zip(struct.unpack(f"<{len(a) // 4}f", a), struct.unpack(f"<{len(b) // 4}f", b))
    return len(a) == len(b) and all(abs(x - y) <= 1e-3 * max(1, abs(y)) for x, y in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forebay", required=True, help="the binary")
    parser.add_argument("--peers", default=str(Path.home() / ".cache/forebay/predict-peers"))
    parser.add_argument("--fixtures", type=Path, default=Path.home() / ".cache/forebay/fixtures")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cores = os.cpu_count()
    ways = {"all cores a run": (1, cores), "a session a core": (cores, 1)}
    loop = venv(Path(args.peers), "batch")
    head = lambda text: {"content-type": "application/octet-stream", "inference-header-content-length": str(len(text))}
    results = []
    for model, file in MODELS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            asked = lambda way: [loop, "-c", LOOP, args.fixtures / file, folder, *map(str, ways[way]), str(args.seconds)]
            bare = lambda way: [float(x) for x in subprocess.run(asked(way), check=True, capture_output=True, text=True).stdout.split()]
            best = max(ways, key=bare)
            sessions, threads = ways[best]
            (folder / "forebay.yaml").write_text(f"models:\n  it: {{onnx: {args.fixtures / file}, threads: {threads}, instances: {sessions}}}\n")
            env = {**os.environ, "ORT_DYLIB_PATH": str(args.fixtures / "libonnxruntime.so")}
            rounds = {"loop": [], "loop_cpu_ms": [], "forebay": [], "p50_ms": [], "p99_ms": [], "cpu_ms": []}
            for _ in range(args.rounds):
                rate, used = bare(best)
                rounds["loop"].append(rate)
                rounds["loop_cpu_ms"].append(used)
                script, body = post(folder, head)
                command = [args.forebay, "--project", folder, "up", "--listen", "127.0.0.1:9301"]
                with running(command, "http://127.0.0.1:9301/v2/models/it/ready", env=env) as pid:
                    url = "http://127.0.0.1:9301/v2/models/it/infer"
                    same = answered(url, body, head((folder / "head.json").read_bytes()))
                    assert close(same, (folder / "answer.bin").read_bytes()), "another answer than the loop's"
                    # One more connection than runs at once, so that the next request is there when one is answered.
                    wrk(url, script, 2, sessions + 1)
                    before = cpu(pid)
                    found = wrk(url, script, args.seconds, sessions + 1)
                    rounds["cpu_ms"].append((cpu(pid) - before) / found["requests"] * 1e3)
                rounds["forebay"].append(found["requests_per_second"])
                rounds["p50_ms"].append(found["p50_ms"])
                rounds["p99_ms"].append(found["p99_ms"])
                print(model, best, {k: round(v[-1], 2) for k, v in rounds.items()}, flush=True)
            results.append({"model": model, "way": best, **{k: {"median": statistics.median(v), "all": v} for k, v in rounds.items()}})
    out = ROOT / "bench/results"
    (out / "large.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [
        "# Models that work for milliseconds, over REST\n",
        f"Medians of {args.rounds} rounds of {args.seconds} s with the range; one row a request, binary tensors. Again: `bench/predict/large.py` (see its head).\n",
        "| model | how both run it | a bare loop, rows a second | Forebay | of the loop | CPU ms a row in the loop | a request | the loop's share of it | p50, p99 ms |\n|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        cell = lambda k: f"{r[k]['median']:.4g} ({min(r[k]['all']):.4g}–{max(r[k]['all']):.4g})"
        share = r["forebay"]["median"] / r["loop"]["median"]
        lines.append(f"| {r['model']} | {r['way']} | {cell('loop')} | {cell('forebay')} | {share:.1%} | {cell('loop_cpu_ms')} | {cell('cpu_ms')} | {r['loop_cpu_ms']['median'] / r['cpu_ms']['median']:.1%} | {r['p50_ms']['median']:.1f}, {r['p99_ms']['median']:.1f} |")
    (out / "large.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
