#!/usr/bin/env python3
"""Forebay's worker beside llama.cpp's own server (PyPI `xllamacpp`) on the same GGUF file, in one run.

    bench/llama/run.py MODEL.gguf [--worker PATH] [--rounds 3] [--out bench/results/llama.md]

Each round starts one server, warms it, measures, and stops it; the two alternate, so that a change of the machine's pace
hits both. Prefill: prompts of about 1,500 tokens that share nothing, one token of output. Decode: 128 tokens after a
short prompt, temperature 0; with eight streams all together. Rates are of wall-clock time; ratios are of medians.
"""

import argparse
import concurrent.futures
import datetime
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

STREAMS = 8
CONTEXT = 2048


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(600)
        self.sock.connect(self.path)


class Forebay:
    name = "forebay-llama"

    def __init__(self, model, args):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self.folder.name, "w")
        command = [args.worker, "--model", model, "--socket", self.socket, "--alias", "m",
                   "--context", str(CONTEXT * STREAMS), "--parallel", str(STREAMS), "--threads", str(args.threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.process.stdout.readline()

    def connect(self):
        return Unix(self.socket)

    def stop(self):
        self.process.kill()
        self.process.wait()


PEER = """
import sys, time, xllamacpp as x
p = x.CommonParams()
p.model.path, p.port, p.n_parallel, p.n_ctx, p.cont_batching = sys.argv[1], int(sys.argv[2]), %d, %d, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = int(sys.argv[3])
p.verbosity = 0
server = x.Server(p)
print(getattr(server, "listening_address", ""), flush=True)
while True:
    time.sleep(3600)
"""


class Peer:
    name = "xllamacpp"

    def __init__(self, model, args):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        script = PEER % (STREAMS, CONTEXT * STREAMS)
        command = [args.peer_python, "-c", script, model, str(self.port), str(args.threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while True:
            try:
                c = self.connect()
                c.request("GET", "/health")
                if c.getresponse().status == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit("the peer did not start")
            time.sleep(0.2)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def stop(self):
        self.process.kill()
        self.process.wait()


def ask(server, prompt, tokens):
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True}}
    if isinstance(server, Peer):
        body |= {"cache_prompt": False}
    connection = server.connect()
    begin = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer, first, usage = connection.getresponse(), None, None
    if answer.status != 200:
        raise SystemExit(f"{server.name}: {answer.status} {answer.read()[:300]}")
    for line in answer:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if first is None and event["choices"] and event["choices"][0]["delta"].get("content"):
            first = time.perf_counter()
        usage = event.get("usage") or usage
    end = time.perf_counter()
    return usage["prompt_tokens"], usage["completion_tokens"], begin, first or end, end


def words(rng, count):
    pool = "river stone market engine letter garden winter signal copper harbour ladder meadow".split()
    return " ".join(f"{rng.choice(pool)}{rng.randrange(100)}" for _ in range(count))


def measure(server, rng):
    ask(server, "Say hello.", 8)
    prefill = []
    for _ in range(2):
        tokens, _, begin, first, _ = ask(server, words(rng, 430), 1)
        prefill.append(tokens / (first - begin))
    story = "Write a long story about a lighthouse keeper. Topic: " + words(rng, 4)
    _, out, _, first, end = ask(server, story, 128)
    decode = (out - 1) / (end - first)
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        prompts = ["Write a long story about a lighthouse keeper. Topic: " + words(rng, 4) for _ in range(STREAMS)]
        answers = list(pool.map(lambda p: ask(server, p, 128), prompts))
    wall = max(a[4] for a in answers) - max(a[3] for a in answers)
    # Tokens that came once all eight had started, at each stream's own even pace.
    together = sum((a[1] - 1) * min(1.0, wall / (a[4] - a[3])) for a in answers) / wall
    whole = sum(a[1] for a in answers) / (max(a[4] for a in answers) - min(a[2] for a in answers))
    return {"prefill, 1 stream": statistics.mean(prefill), "decode, 1 stream": decode,
            f"decode, {STREAMS} streams": together, f"{STREAMS} streams, prefill and decode": whole}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--worker", default="forebay-llama")
    p.add_argument("--peer-python", default=sys.executable, help="a python that can import xllamacpp")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--out")
    args = p.parse_args()
    figures = {Forebay: [], Peer: []}
    for n in range(args.rounds):
        for kind in (Forebay, Peer) if n % 2 == 0 else (Peer, Forebay):
            server = kind(args.model, args)
            try:
                figures[kind].append(measure(server, random.Random(n)))
            finally:
                server.stop()
            print(kind.name, {k: round(v, 1) for k, v in figures[kind][-1].items()}, flush=True)
    lines = [f"{os.path.basename(args.model)}, {args.threads} threads, {args.rounds} rounds, "
             f"{datetime.date.today()}: tokens a second, median (lowest–highest)", "",
             "| | forebay-llama | xllamacpp | ratio |", "|---|---|---|---|"]
    for what in figures[Forebay][0]:
        cells, medians = [], []
        for kind in (Forebay, Peer):
            values = [f[what] for f in figures[kind]]
            medians.append(statistics.median(values))
            cells.append(f"{medians[-1]:.0f} ({min(values):.0f}–{max(values):.0f})")
        lines.append(f"| {what} | {cells[0]} | {cells[1]} | {medians[0] / medians[1]:.2f} |")
    print("\n".join(lines))
    if args.out:
        with open(args.out, "a", encoding="utf8") as f:
            f.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
