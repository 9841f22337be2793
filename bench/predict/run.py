#!/usr/bin/env python3
"""Boosted trees (100 × depth 4, 20 features) over REST: Forebay beside MLServer, LitServe and a bare loop of ONNX Runtime, in one run.

    cargo build --release -p forebay && cargo run -p xtask -- fixtures --only onnxruntime
    apt-get install wrk
    bench/predict/run.py --forebay target/release/forebay

nginx with a fixed reply of the same length is the floor: what the client and a hop cost (`apt-get install nginx-light`).

Each server answers one row a request from 8 connections for --seconds, then as many as come at --rate a second (by `hey`, when it is there:
`apt-get install hey`). All have the same model, made by engines/onnx/oracles/models.py, and every answer's status is counted. Peers are installed
under --peers on first use. MLServer runs the model by its LightGBM-free custom runtime over ONNX Runtime, without its parallel workers; LitServe
by its fast queue: their best settings for one small model. Writes bench/results/predict.{md,json}, and says which build the figures are of.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from wrk import wrk  # noqa: E402

TRAIN = ["onnxruntime==1.32.0", "onnx==1.23.2", "scikit-learn==1.9.1", "skl2onnx==1.20.0", "lightgbm==4.7.0", "onnxmltools==1.16.0"]
PINS = {
    "train": TRAIN,
    "batch": [*TRAIN, "pyarrow==25.0.1"],
    "mlserver": ["mlserver==1.7.1", "onnxruntime"],
    "litserve": ["litserve==0.2.19", "onnxruntime"],
}
TICK = os.sysconf("SC_CLK_TCK")

MLSERVER = """
import onnxruntime, mlserver
from mlserver.codecs import NumpyCodec
class Trees(mlserver.MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options, ["CPUExecutionProvider"])
        return True
    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        out = self.session.run(None, {"x": x})
        return mlserver.types.InferenceResponse(model_name=self.name, outputs=[
            NumpyCodec.encode_output(n, v) for n, v in zip(["label", "probabilities"], out)])
"""
LITSERVE = """
import sys, numpy, onnxruntime, litserve
class Trees(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, ["CPUExecutionProvider"])
    def decode_request(self, request):
        i = request["inputs"][0]
        return numpy.array(i["data"], dtype=numpy.float32).reshape(i["shape"])
    def predict(self, x): return self.session.run(None, {"x": x})
    def encode_response(self, out): return {"outputs": [v.tolist() for v in out]}
if __name__ == "__main__":
    litserve.LitServer(Trees(), accelerator="cpu", workers_per_device=1, fast_queue=True).run(port=int(sys.argv[2]), generate_client_file=False, log_level="error")
"""
NGINX = """
worker_processes 1; daemon off; pid FOLDER/nginx.pid; error_log stderr;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 10000000; client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi; uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
  server { listen 127.0.0.1:9306; location / { default_type application/json; return 200
    '{"model_name":"trees","model_version":"1","outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[1]},{"name":"probabilities","datatype":"FP32","shape":[1,2],"data":[0.25,0.75]}]}'; } } }
"""
BARE = """
import sys, time, numpy, onnxruntime
o = onnxruntime.SessionOptions(); o.intra_op_num_threads = 1
s = onnxruntime.InferenceSession(sys.argv[1], o, ["CPUExecutionProvider"])
for rows in (1, 64):
    x = numpy.random.default_rng(1).normal(size=(rows, 20)).astype(numpy.float32)
    for _ in range(2000): s.run(None, {"x": x})
    took = []
    for _ in range(5):
        t = time.perf_counter()
        for _ in range(4000): s.run(None, {"x": x})
        took.append((time.perf_counter() - t) / 4000 / rows * 1e6)
    print(rows, sorted(took)[2])
"""


def venv(peers, name):
    """The interpreter of a peer's own environment."""
    folder = peers / name
    python = folder / "bin/python"
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINS[name]], check=True)
        (folder / "done").touch()
    return python


@contextlib.contextmanager
def running(command, url, **more):
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, start_new_session=True, **more)
        try:
            until = time.monotonic() + 90
            while True:
                try:
                    urllib.request.urlopen(url, timeout=1).read()
                    break
                except OSError:
                    if child.poll() is not None or time.monotonic() > until:
                        log.seek(0)
                        raise RuntimeError(log.read().decode()[-2000:])
                    time.sleep(0.1)
            yield child.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def cpu(pid):
    """Seconds of a process and those it started."""
    total, pids = 0, [pid]
    while pids:
        p = pids.pop()
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
            for task in os.listdir(f"/proc/{p}/task"):
                pids += [int(c) for c in Path(f"/proc/{p}/task/{task}/children").read_text().split()]
    return total / TICK


def measured(url, pid, body, args):
    script = Path(args.scratch) / "post.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = {json.dumps(body)}\n')
    wrk(url, script, 2, args.connections)
    before = cpu(pid)
    found = wrk(url, script, args.seconds, args.connections)
    found["cpu_us"] = (cpu(pid) - before) / found.pop("requests") * 1e6
    if shutil.which("hey"):
        each = args.rate // args.connections
        count = args.rate * args.seconds
        command = ["hey", "-n", count, "-c", args.connections, "-q", each, "-m", "POST", "-T", "application/json", "-d", body, url]
        said = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout
        p99 = re.search(r"99%\D+in ([\d.]+) secs", said)
        reached = float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))
        found |= {"at_rate": reached, "at_rate_p99_ms": float(p99.group(1)) * 1e3 if p99 else None}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forebay", required=True, help="the binary")
    parser.add_argument("--peers", default=str(Path.home() / ".cache/forebay/predict-peers"))
    parser.add_argument("--library", default=str(Path.home() / ".cache/forebay/fixtures/libonnxruntime.so"))
    parser.add_argument("--only", action="append", choices=["forebay", "mlserver", "litserve", "bare", "nginx"])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    peers = Path(args.peers)
    peers.mkdir(parents=True, exist_ok=True)
    wanted = args.only or ["bare", "forebay", "mlserver", "litserve", "nginx"]
    with tempfile.TemporaryDirectory() as scratch:
        args.scratch = scratch
        folder = Path(scratch)
        model = peers / "trees.onnx"
        if not model.exists():
            subprocess.run([venv(peers, "train"), ROOT / "engines/onnx/oracles/models.py", "bench", model], check=True)
        row = [round(0.1 * n - 1, 1) for n in range(20)]
        body = json.dumps({"inputs": [{"name": "x", "shape": [1, 20], "datatype": "FP32", "data": row}]})
        (folder / "forebay.yaml").write_text(f"models:\n  trees: {{onnx: {model}}}\n")
        (folder / "ml").mkdir()
        (folder / "ml/trees.py").write_text(textwrap.dedent(MLSERVER))
        settings = {"name": "trees", "implementation": "trees.Trees", "parallel_workers": 0, "parameters": {"uri": str(model)}}
        (folder / "ml/model-settings.json").write_text(json.dumps(settings))
        (folder / "ml/settings.json").write_text(json.dumps({"parallel_workers": 0, "http_port": 9302, "grpc_port": 9303, "metrics_port": 9304, "debug": False}))
        (folder / "lit.py").write_text(textwrap.dedent(LITSERVE))
        (folder / "nginx.conf").write_text(NGINX.replace("FOLDER", str(folder)))
        servers = {
            "forebay": lambda: (
                [args.forebay, "--project", folder, "up", "--listen", "127.0.0.1:9301"],
                "http://127.0.0.1:9301/v2/models/trees/ready", "http://127.0.0.1:9301/v2/models/trees/infer",
                {"env": {**os.environ, "ORT_DYLIB_PATH": args.library}},
            ),
            "mlserver": lambda: (
                [venv(peers, "mlserver").parent / "mlserver", "start", folder / "ml"],
                "http://127.0.0.1:9302/v2/models/trees/ready", "http://127.0.0.1:9302/v2/models/trees/infer", {"cwd": folder / "ml"},
            ),
            "litserve": lambda: (
                [venv(peers, "litserve"), folder / "lit.py", model, 9305],
                "http://127.0.0.1:9305/health", "http://127.0.0.1:9305/predict", {},
            ),
            "nginx": lambda: (["nginx", "-c", folder / "nginx.conf"], "http://127.0.0.1:9306/", "http://127.0.0.1:9306/", {}),
        }
        results = {}
        if "bare" in wanted:
            said = subprocess.run([venv(peers, "train"), "-c", BARE, model], capture_output=True, text=True, check=True).stdout
            results["bare"] = {f"us_a_row_in_{line.split()[0]}": float(line.split()[1]) for line in said.splitlines()}
        if not shutil.which("nginx"):
            wanted = [n for n in wanted if n != "nginx"]
        for name in [n for n in servers if n in wanted]:
            rounds = []
            for _ in range(args.rounds):
                command, ready, url, more = servers[name]()
                with running(command, ready, **more) as pid:
                    rounds.append(measured(url, pid, body, args))
            median = lambda key: statistics.median(r[key] for r in rounds if r.get(key) is not None)
            results[name] = {key: round(median(key), 3) for key in rounds[0] if any(r.get(key) is not None for r in rounds)}
            print(name, results[name], flush=True)
    build = "optimised" if "/release/" in args.forebay else "unoptimised"
    print(json.dumps(results, indent=1))
    out = ROOT / "bench/results"
    (out / "predict.json").write_text(json.dumps({"build": build, "results": results}, indent=1) + "\n")
    lines = [f"# Boosted trees over REST\n\nMedians of {args.rounds} rounds of {args.seconds} s, {args.connections} connections; the client is on the same two cores. Forebay's build: {build}.\n"]
    lines.append("| server | req/s | p50 ms | p99 ms | CPU µs a request | p99 ms at the rate |\n|---|---|---|---|---|---|")
    for name, r in results.items():
        if name != "bare":
            lines.append(f"| {name} | {r['requests_per_second']:.0f} | {r['p50_ms']:.2f} | {r['p99_ms']:.2f} | {r['cpu_us']:.0f} | {r.get('at_rate_p99_ms', '—')} |")
    if "bare" in results:
        lines.append("\nA bare loop of ONNX Runtime: " + ", ".join(f"{k.replace('_', ' ')} {v:.2f}" for k, v in results["bare"].items()) + ".")
    (out / "predict.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
