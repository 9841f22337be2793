#!/usr/bin/env python3
"""Tracking beside `mlflow server` with its best settings (two workers, no job runner, SQLite): the same requests, one run.

Usage: run.py FOREBAY [--runs N] [--seconds S] [--only forebay|mlflow]

Run it by a Python that has tests/mlflow/requirements.txt, with `wrk` (`apt-get install wrk`). The load is a closed loop over eight
connections, in a process of its own; `log-metric` is asked by wrk, which takes less of the cores that both share than a loop in Python.
Every answer is checked. Both servers start over an empty folder. Writes bench/results/mlflow.md.

What is durable differs: `mlflow server` syncs each commit; Forebay answers when a commit is with the operating system (a kill -9 of
the process cannot undo it, a power cut can), and syncs with the next run that is made or ended.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from wrk import wrk  # noqa: E402

sys.path.insert(0, str(HERE.parents[1] / "tests" / "mlflow"))
A = "/api/2.0/mlflow/"


class Forebay:
    name = "Forebay"

    def __init__(self, folder, binary):
        (folder / "forebay.yaml").write_text("auth: {required: false}\n")
        began = time.monotonic()
        self.child = subprocess.Popen(
            [binary, "--json", "--project", str(folder), "up", "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(folder / "log", "ab"), text=True)
        self.port = int(json.loads(self.child.stdout.readline())["listening"].rsplit(":", 1)[1])
        wait(self.port)
        self.start = time.monotonic() - began


class Mlflow:
    name = "mlflow server 3.17.2"

    def __init__(self, folder, _):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        began = time.monotonic()
        self.child = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "2",
             "--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "./artifacts"],
            cwd=folder, env={**os.environ, **quiet}, stdin=subprocess.DEVNULL, stdout=open(folder / "log", "ab"),
            stderr=subprocess.STDOUT, start_new_session=True)
        wait(self.port)
        self.start = time.monotonic() - began


def wait(port):
    until = time.monotonic() + 120
    while True:
        try:
            if ask(socket.create_connection(("127.0.0.1", port), 5), b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")[0] == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < until, "it did not start"
        time.sleep(0.005)


def request(path, body):
    data = json.dumps(body).encode()
    head = f"POST {A}{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def answer(said):
    """Status and body, once they are whole."""
    end = said.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = said[:end].lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15:].split(b"\r\n", 1)[0])
    if len(said) < end + 4 + length:
        return None
    return int(head.split(b" ", 2)[1]), said[end + 4:]


def ask(sock, data):
    sock.sendall(data)
    said = b""
    while (got := answer(said)) is None:
        piece = sock.recv(1 << 20)
        assert piece, "it hung up"
        said += piece
    return got


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def closed(port, seconds, connections, make, out):
    """So many connections, each with the next request as soon as the last was answered. How many a second, and the latencies."""
    selector, began = selectors.DefaultSelector(), time.monotonic()
    count, took, number, until = 0, [], 0, began + seconds
    for _ in range(connections):
        sock = connect(port)
        number += 1
        sock.sendall(make(number))
        selector.register(sock, selectors.EVENT_READ, [b"", time.monotonic()])
    while time.monotonic() < until:
        for key, _ in selector.select(1):
            said, sent = key.data
            said += key.fileobj.recv(1 << 16)
            got = answer(said)
            if got is None:
                key.data[0] = said
                continue
            assert got[0] == 200, got
            now = time.monotonic()
            took.append(now - sent)
            count += 1
            number += 1
            key.data[0], key.data[1] = b"", now
            key.fileobj.sendall(make(number))
    elapsed = time.monotonic() - began
    took.sort()
    out.put((count / elapsed, took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3))


LUA = """local n = 0
function request()
  n = n + 1
  local body = string.format('{"run_id":"%s","key":"m%%d","value":%%.1f,"timestamp":%%d,"step":%%d}', n %% 8, n * 0.5, n, n)
  return wrk.format("POST", "%sruns/log-metric", {["Content-Type"] = "application/json"}, body)
end"""


def log_metric(port, seconds, connections, run):
    """Metrics of a run one by one. How many a second, and the latencies."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % (run, A))
        script.flush()
        said = wrk(f"http://127.0.0.1:{port}", script.name, seconds, connections)
    last = json.loads(ask(connect(port), request("runs/search", {"experiment_ids": ["0"], "max_results": 1}))[1])["runs"][0]
    newest = max(m["step"] for m in last["data"]["metrics"])
    assert int(newest) >= said["requests"], "what was answered is not there"
    return said["requests_per_second"], said["p50_ms"], said["p99_ms"]


def load(port, seconds, connections, make):
    out = multiprocessing.Queue()
    child = multiprocessing.get_context("fork").Process(target=closed, args=(port, seconds, connections, make, out))
    child.start()
    got = out.get(timeout=seconds + 60)
    child.join()
    return got


def tree(pid):
    pids = [pid]
    for p in pids:
        for task in pathlib.Path(f"/proc/{p}/task").glob("*/children"):
            pids += [int(c) for c in task.read_text().split()]
    return pids


def rss(pid):
    """Of a process and all below it, in MiB."""
    total = 0
    for p in tree(pid):
        lines = pathlib.Path(f"/proc/{p}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return total / 1024


def fill(port, runs):
    """An experiment of so many runs with five metrics, five parameters and three tags each."""
    sock = connect(port)
    experiment = json.loads(ask(sock, request("experiments/create", {"name": "many"}))[1])["experiment_id"]

    def some(of):
        sock = connect(port)
        for n in range(of, runs, 8):
            run = json.loads(ask(sock, request("runs/create", {"experiment_id": experiment, "start_time": n}))[1])["run"]["info"]["run_id"]
            body = {
                "run_id": run,
                "metrics": [{"key": f"m{k}", "value": n * (k + 7) % 1000 / 1000, "timestamp": 1, "step": 0} for k in range(5)],
                "params": [{"key": f"p{k}", "value": str(n * (k + 1) % 97)} for k in range(5)],
                "tags": [{"key": f"t{k}", "value": "x"} for k in range(3)],
            }
            assert ask(sock, request("runs/log-batch", body))[0] == 200

    threads = [threading.Thread(target=some, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return experiment


SEARCHES = [
    ("filter and order, 100 of them", {"filter": "metrics.m0 > 0.5 AND params.p1 != '4'", "order_by": ["metrics.m1 DESC"], "max_results": 100}),
    ("filter and order, 1000 of them", {"filter": "metrics.m0 > 0.5 AND params.p1 != '4'", "order_by": ["metrics.m1 DESC"], "max_results": 1000}),
    ("the newest 100", {"max_results": 100}),
]


def measure(server, options):
    port, pid = server.port, server.child.pid
    rows = {"start until /health": f"{server.start * 1e3:,.0f} ms", "RSS after the start": f"{rss(pid):,.0f} MiB"}
    sock = connect(port)
    run = json.loads(ask(sock, request("runs/create", {"experiment_id": "0", "start_time": 1}))[1])["run"]["info"]["run_id"]
    rate, p50, p99 = log_metric(port, options.seconds, 8, run)
    rows["log-metric, 8 connections"] = f"{rate:,.0f}/s (p50 {p50:.2f} ms, p99 {p99:.2f} ms)"
    bodies = [request("runs/log-batch", {"run_id": run, "metrics": [
        {"key": f"b{n % 10}", "value": n * 0.25, "timestamp": of * 1000 + n, "step": of * 1000 + n} for n in range(1000)]}) for of in range(200)]
    rate, p50, p99 = load(port, options.seconds, 4, lambda n: bodies[n % len(bodies)] if n < len(bodies) else request("runs/log-batch", {
        "run_id": run, "metrics": [{"key": f"b{k % 10}", "value": k * 0.25, "timestamp": n * 1000 + k, "step": n * 1000 + k} for k in range(1000)]}))
    rows["log-batch of 1000, 4 connections"] = f"{rate * 1000:,.0f} metrics/s (p50 {p50:.1f} ms)"
    experiment = fill(port, options.runs)
    # The first connection was idle meanwhile, and may be closed.
    sock = connect(port)
    for what, search in SEARCHES:
        data, took = request("runs/search", {"experiment_ids": [experiment], **search}), []
        for _ in range(12):
            began = time.monotonic()
            status, said = ask(sock, data)
            took.append(time.monotonic() - began)
            assert status == 200 and len(json.loads(said)["runs"]) == min(search["max_results"], options.runs)
        rows[f"runs/search over {options.runs:,} runs: {what}"] = f"{sorted(took)[6] * 1e3:,.1f} ms"
    rows["RSS at the end"] = f"{rss(pid):,.0f} MiB"
    return rows


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("forebay")
    arguments.add_argument("--runs", type=int, default=10_000)
    arguments.add_argument("--seconds", type=float, default=8)
    arguments.add_argument("--only", choices=["forebay", "mlflow"])
    arguments.add_argument("--build", default="release", help="how the binary was built, for the page")
    options = arguments.parse_args()
    found = {}
    for kind in (Forebay, Mlflow):
        if options.only not in (None, kind.__name__.lower()):
            continue
        with tempfile.TemporaryDirectory(prefix="bench-mlflow-", ignore_cleanup_errors=True) as folder:
            server = kind(pathlib.Path(folder), options.forebay)
            try:
                found[kind.name] = measure(server, options)
            finally:
                server.child.send_signal(signal.SIGTERM)
                try:
                    server.child.wait(20)
                except subprocess.TimeoutExpired:
                    server.child.kill()
                    server.child.wait()
        print(kind.name, json.dumps(found[kind.name], indent=1, ensure_ascii=False), flush=True)
    lines = ["# Tracking beside `mlflow server`", "", f"`bench/mlflow/run.py`, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, "
             f"{platform.machine()}, Forebay built as `{options.build}`. Eight connections in a closed loop, both servers on the same machine as the load.", "",
             "| | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for row in next(iter(found.values())):
        lines.append(f"| {row} | " + " | ".join(of[row] for of in found.values()) + " |")
    lines += ["", "`mlflow server` syncs each commit to the disk. Forebay answers `log-metric` and `log-batch` when the commit is with the operating "
              "system, as it does with its ledger: a `kill -9` of the process undoes nothing, a power cut may take the last of them."]
    if options.only is None:
        (HERE.parent / "results" / "mlflow.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
