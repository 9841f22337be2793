#!/usr/bin/env python3
"""What a gateway costs, Forebay beside its peers in one run: CPU, latency, throughput, memory.

    cargo build --release -p forebay -p forebay-bench-gateway
    bench/gateway/run.py --forebay target/release/forebay --bench target/release/forebay-bench-gateway

The gateway has core 0; the upstream and the client have core 1. Peers are installed under --peers on first use (pip,
npm; nginx and node come from the system). Python's standard library only. Writes bench/results/gateway.{md,json}.
Needs root for the priorities that keep other work on the machine out of the figures.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOCK = 9100
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
GATEWAY_CORE, CLIENT_CORE = "0", "1"
MIB = 1 << 20


def tree(pid):
    """A process and all below it."""
    pids, found = [pid], []
    while pids:
        p = pids.pop()
        found.append(p)
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                pids += [int(c) for c in Path(f"/proc/{p}/task/{task}/children").read_text().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    total = 0
    for p in tree(pid):
        try:
            fields = Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(int(f) for f in fields[11:15])  # utime, stime and those of children that ended
        except OSError:
            pass
    return total / TICK


def rss(pid):
    total = 0
    for p in tree(pid):
        try:
            total += int(Path(f"/proc/{p}/statm").read_text().split()[1]) * PAGE
        except OSError:
            pass
    return total


class Peak(threading.Thread):
    """The largest RSS while it runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.stop = pid, 0, threading.Event()

    def run(self):
        while not self.stop.wait(0.05):
            self.most = max(self.most, rss(self.pid))


def run(words, **more):
    return subprocess.run([str(w) for w in words], check=True, text=True, stdout=subprocess.PIPE, **more).stdout


class Gateway:
    """How one is installed and started. `note` says what it does beside forwarding."""

    name, note, path, model, key, headers = "", "", "/v1/chat/completions", "mock", "none", ""
    port = 0

    def __init__(self, args):
        self.args, self.folder = args, args.work / self.name
        self.folder.mkdir(parents=True, exist_ok=True)

    def install(self):
        pass

    def version(self):
        return ""

    def caught_up(self):
        """Whether nothing of the load is still to be done."""
        return True

    def command(self):
        raise NotImplementedError

    def env(self):
        return {}

    def start(self):
        log = open(self.folder / "log", "a")
        words = ["nice", "-n", "-15", "taskset", "-c", GATEWAY_CORE, *map(str, self.command())]
        self.process = subprocess.Popen(
            words, cwd=self.folder, stdout=log, stderr=log, env={**os.environ, **self.env()}, start_new_session=True
        )
        for _ in range(300):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: see {self.folder}/log")
            try:
                self.client("streams", streams=1, tokens=2, **{"interval-ms": 1})
                return
            except subprocess.CalledProcessError:
                time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not answer: see {self.folder}/log")

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(10)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def client(self, command, realtime=False, **options):
        url = f"http://127.0.0.1:{self.port}{self.path}"
        # First come, first served among the threads of a client, and before everything else on its core.
        priority = ["chrt", "-f", "40"] if realtime else ["nice", "-n", "-15"]
        words = [*priority, "taskset", "-c", CLIENT_CORE, self.args.bench, command]
        words += ["--url", url, "--model", self.model, "--key", self.key, "--headers", self.headers]
        for name, value in options.items():
            words += [f"--{name}", value]
        quiet = None if self.args.verbose else subprocess.DEVNULL
        return json.loads(run(words, stderr=quiet))

    def realtime(self, on):
        """The same for the upstream. Not for the gateway: its threads keep the priorities they have among each other."""
        for task in os.listdir(f"/proc/{self.args.mock}/task"):
            words = ["chrt", "-f", "-p", "50", task] if on else ["chrt", "-o", "-p", "0", task]  # keeps the nice value
            subprocess.run(words, check=True)


class Awake:
    """Keeps the cores from going to sleep: on a virtual machine each wake-up of a halted core costs some 30 to 50 µs of the host's,
    which says nothing of a gateway. What runs here has the idle priority: whatever else wants a core has it at once."""

    def __enter__(self):
        spin = ["sh", "-c", "while :; do :; done"]
        cores = (GATEWAY_CORE, CLIENT_CORE)
        self.all = [subprocess.Popen(["chrt", "-i", "0", "taskset", "-c", core, *spin]) for core in cores]

    def __exit__(self, *_):
        for p in self.all:
            p.kill()
            p.wait()


class Sessions:
    """Has priorities count among all that runs: with autogroups, the kernel's default, they count within a session alone, and a loop of idle
    priority takes half a core from the gateway of another session."""

    switch = Path("/proc/sys/kernel/sched_autogroup_enabled")

    def __enter__(self):
        self.before = self.switch.read_text() if self.switch.exists() else None
        if self.before:
            self.switch.write_text("0")

    def __exit__(self, *_):
        if self.before:
            self.switch.write_text(self.before)


class Direct(Gateway):
    name, note, port = "direct", "the client asks the upstream itself", MOCK

    def start(self):
        self.process = None

    def stop(self):
        pass


class Forebay(Gateway):
    name, port = "forebay", 9201
    note = "parses and re-renders everything; key, rates, budgets, fair queue, adaptive limit, ledger, metrics"

    def install(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "forebay.yaml").write_text(
            f"""server: {{listen: "127.0.0.1:{self.port}"}}
auth: {{required: true}}
models:
  mock:
    openai: mock-1
    base_url: http://127.0.0.1:{MOCK}/v1
    price: {{input: 0.15, output: 0.60}}
    context_window: 128000
    max_output_tokens: 4096
    max_concurrency: 4000
tenants:
  bench:
    weight: 4
    budget:
      usd_per_day: 100000
      usd_per_month: 1000000
      tokens_per_day: 900000000000
      tokens_per_minute: 100000000000
      requests_per_minute: 100000000
      concurrent_streams: 100000
"""
        )
        made = run(
            [self.args.forebay, "--json", "key", "create", "--name", "bench", "--tenant", "bench"], cwd=self.folder
        )
        self.key = json.loads(made)["key"]

    def version(self):
        return run([self.args.forebay, "--version"]).strip()

    def caught_up(self):
        """Records wait in the journal while requests come: their way to the database is part of what a request costs."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as metrics:
            lag = [line.split()[1] for line in metrics.read().decode().splitlines() if "ledger_lag_bytes " in line]
        return float(lag[-1]) == 0

    def command(self):
        return [self.args.forebay, "up"]


class Nginx(Gateway):
    name, note, port = "nginx", "forwards", 9202

    def version(self):
        return subprocess.run(["nginx", "-v"], text=True, stderr=subprocess.PIPE).stderr.strip().split("/")[-1]

    def command(self):
        (self.folder / "nginx.conf").write_text(
            f"""worker_processes 1; daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k; tcp_nodelay on;
  upstream mock {{ server 127.0.0.1:{MOCK}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
        )
        return ["nginx", "-c", self.folder / "nginx.conf", "-p", self.folder]


class Python(Gateway):
    """A peer from PyPI, in an environment of its own."""

    packages, alone = (), False

    @property
    def python(self):
        return self.args.peers / self.name / "bin" / "python"

    def install(self):
        if not self.python.exists():
            run([sys.executable, "-m", "venv", self.args.peers / self.name])
            alone = ["--no-deps"] if self.alone else []
            run([self.python, "-m", "pip", "install", "-q", *alone, *self.packages])

    def version(self):
        return self.packages[-1].split("==")[1]


class TensorZero(Python):
    name = "tensorzero"
    note = "parses and re-renders everything; no auth, no accounting (observability off)"
    packages = ("tensorzero==2026.6.0",)
    path, model = "/openai/v1/chat/completions", "tensorzero::model_name::mock"

    def env(self):
        return {"RUST_LOG": "error"}

    def command(self):
        (self.folder / "tensorzero.toml").write_text(
            f"""[gateway]
observability.enabled = false

[models.mock]
routing = ["mock"]

[models.mock.providers.mock]
type = "openai"
model_name = "mock-1"
api_base = "http://127.0.0.1:{MOCK}/v1/"
api_key_location = "none"
"""
        )
        # The client's wheel holds the gateway, which takes a free port.
        (self.folder / "start.py").write_text(
            """import pathlib, threading
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file="tensorzero.toml", clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
pathlib.Path("address").write_text(gateway.base_url)
threading.Event().wait()
"""
        )
        (self.folder / "address").unlink(missing_ok=True)
        return [self.python, "start.py"]

    @property
    def port(self):
        address = self.folder / "address"
        return int(address.read_text().split(":")[2].split("/")[0]) if address.exists() else 1


class Portkey(Gateway):
    name, note, port = "portkey", "reads and re-sends", 9204
    headers = f"x-portkey-provider: openai|x-portkey-custom-host: http://127.0.0.1:{MOCK}/v1"

    @property
    def package(self):
        return self.args.peers / self.name / "node_modules" / "@portkey-ai" / "gateway"

    def install(self):
        if not self.package.exists():
            folder = self.args.peers / self.name
            folder.mkdir(parents=True, exist_ok=True)
            # With a newer node-server every stream is a 500 ("TypeError: immutable").
            package = {"dependencies": {"@portkey-ai/gateway": "1.15.2"}, "overrides": {"@hono/node-server": "1.13.8"}}
            (folder / "package.json").write_text(json.dumps(package))
            run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder)

    def version(self):
        return json.loads((self.package / "package.json").read_text())["version"]

    def env(self):
        return {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}

    def command(self):
        return ["node", self.package / "build" / "start-server.js", f"--port={self.port}", "--headless"]


class SglRouter(Python):
    name, note, port = "sglang-router", "parses the request, forwards", 9205
    packages, alone = ("setproctitle", "sglang-router==0.3.2"), True

    def command(self):
        words = "-m sglang_router.launch_router --host 127.0.0.1 --policy round_robin --log-level error"
        return [self.python, *words.split(), "--port", self.port, "--worker-urls", f"http://127.0.0.1:{MOCK}"]


class LiteLlm(Python):
    name, note, port = "litellm", "parses and re-renders, key check", 9206
    packages = ("litellm[proxy]==1.109.1",)
    key = "sk-bench"

    def command(self):
        (self.folder / "config.yaml").write_text(
            f"""model_list:
  - model_name: mock
    litellm_params: {{model: openai/mock-1, api_base: "http://127.0.0.1:{MOCK}/v1", api_key: none}}
general_settings: {{master_key: {self.key}}}
litellm_settings: {{telemetry: false, set_verbose: false}}
"""
        )
        litellm = self.args.peers / self.name / "bin" / "litellm"
        return [litellm, "--config", "config.yaml", "--host", "127.0.0.1", "--port", self.port, "--num_workers", "1"]


ALL = [Direct, Nginx, Forebay, TensorZero, SglRouter, Portkey, LiteLlm]


def measure(g, args):
    """All figures of one gateway, freshly started."""
    out = {}
    pid = g.process.pid if g.process else None
    slow = g.name in ("portkey", "litellm")

    def cpu(work):
        """CPU seconds of the gateway, the client's result, and the wall-clock seconds that the gateway needed to catch up."""
        before = cpu_seconds(pid) if pid else 0.0
        result, ended = work(), time.monotonic()
        while not g.caught_up():
            time.sleep(0.01)
        behind = time.monotonic() - ended
        return (cpu_seconds(pid) if pid else 0.0) - before, result, 0.0 if behind < 0.05 else behind

    # Memory first: later the allocator holds what the load has left behind.
    if pid:
        g.client("streams", streams=20, tokens=5, **{"interval-ms": 20})
        before, peak = rss(pid), Peak(pid)
        peak.start()
        n = 300 if slow else 1000
        g.client("streams", streams=n, tokens=20, **{"interval-ms": 200})
        peak.stop.set()
        peak.join()
        out["rss_mib"] = before / MIB
        out["stream_kb"] = max(0, peak.most - before) / n / 1000
    cpu(lambda: g.client("closed", seconds=2 if args.quick else 3))
    seconds = 3 if args.quick else 6
    sustained = lambda r, behind: r["requests"] / (r["seconds"] + behind)
    used, r, behind = cpu(lambda: g.client("closed", seconds=seconds))
    out["rps"], out["request_us"] = sustained(r, behind), used * 1e6 / r["requests"]
    used, r, behind = cpu(lambda: g.client("closed", seconds=3, size=16384))
    out["rps_16k"], out["request_16k_us"] = sustained(r, behind), used * 1e6 / r["requests"]
    if out["rps"] > 1200:
        g.realtime(True)
        used, r, _ = cpu(lambda: g.client("open", realtime=True, rate=1000, seconds=5 if args.quick else 10, warmup=1))
        g.realtime(False)
        out["mean_us"], out["p50_us"], out["p99_us"] = r["mean_us"], r["p50_us"], r["p99_us"]
        out["request_1k_us"] = used * 1e6 / (r["requests"] + 1000)
    streams, tokens = (100, 40) if slow else (500, 100 if args.quick else 200)
    used, r, _ = cpu(lambda: g.client("streams", streams=streams, tokens=tokens, **{"interval-ms": 50}))
    out["event_us"] = used * 1e6 / r["pieces"]
    out["events_per_second"] = r["pieces"] / r["seconds"]
    return out


def middle(values, digits):
    """The median, and the range behind it."""
    text = lambda v: f"{v:,.{digits}f}"
    m = statistics.median(values)
    return text(m) if len(values) == 1 else f"{text(m)} ({text(min(values))}–{text(max(values))})"


def table(results):
    columns = [
        ("CPU µs a request, 32 connections", "request_us", 0),
        ("max RPS, one core", "rps", 0),
        ("16 KiB max RPS", "rps_16k", 0),
        ("CPU µs a request at 1k RPS", "request_1k_us", 0),
        ("added mean / ms", "added_mean", 3),
        ("added p50 / ms", "added_p50", 3),
        ("added p99 / ms", "added_p99", 3),
        ("CPU µs a streamed event, 500 streams", "event_us", 1),
        ("kB a stream, 1,000 streams", "stream_kb", 1),
        ("RSS idle, MiB", "rss_mib", 0),
    ]
    lines = ["| | " + " | ".join(c[0] for c in columns) + " | work done |", "|---" * (len(columns) + 2) + "|"]
    for name, r in results.items():
        cells = []
        for _, key, digits in columns:
            values = [run[key] for run in r["runs"] if run.get(key) is not None]
            cells.append(middle(values, digits) if values and (name != "direct" or key.startswith("rps")) else "–")
        title = f"{name} {r['version'].split()[-1] if r['version'] else ''}".strip()
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {r['note']} |")
    return "\n".join(lines)


def ratios(results):
    """Forebay against TensorZero, run by run: what the machine does to both falls out."""
    if not {"forebay", "tensorzero"} <= results.keys():
        return ""
    pairs = list(zip(results["forebay"]["runs"], results["tensorzero"]["runs"]))
    lines = []
    for title, key in [
        ("CPU a request, 32 connections", "request_us"),
        ("CPU a request at 1k RPS", "request_1k_us"),
        ("CPU a streamed event", "event_us"),
        ("added mean latency", "added_mean"),
        ("added p99 latency", "added_p99"),
        ("memory a stream", "stream_kb"),
    ]:
        values = [a[key] / b[key] for a, b in pairs if a.get(key) and b.get(key)]
        if values:
            lines.append(f"- {title}: {middle(values, 2)} of TensorZero's")
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--forebay", type=Path, default=Path("target/release/forebay"))
    p.add_argument("--bench", type=Path, default=Path("target/release/forebay-bench-gateway"))
    p.add_argument("--peers", type=Path, default=Path.home() / ".cache/forebay/bench-peers")
    p.add_argument("--work", type=Path, default=Path("/tmp/forebay-bench-gateway"))
    p.add_argument("--only", default="direct,nginx,forebay,tensorzero,sglang-router,portkey")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--quick", action="store_true", help="shorter phases, for a look while working")
    p.add_argument("--sleep", action="store_true", help="let idle cores sleep, as they would in production")
    p.add_argument("--out", type=Path, help="without ending [default: bench/results/gateway]")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    for name in ("forebay", "bench", "peers", "work"):
        setattr(args, name, getattr(args, name).resolve())
    names = args.only.split(",")
    gateways = [g(args) for g in ALL if g.name in names]
    results = {}
    for g in gateways:
        g.install()
        results[g.name] = {"version": g.version(), "note": g.note, "runs": []}
    words = ["nice", "-n", "-15", "taskset", "-c", CLIENT_CORE, str(args.bench), "mock", "--listen", f"127.0.0.1:{MOCK}"]
    mock = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    args.mock = mock.pid
    time.sleep(0.3)
    try:
        for n in range(args.runs):
            base = None
            for g in gateways:
                try:
                    g.start()
                    with Sessions(), contextlib.nullcontext() if args.sleep else Awake():
                        out = measure(g, args)
                except (subprocess.CalledProcessError, RuntimeError) as e:
                    print(f"run {n + 1}: {g.name}: {e}", file=sys.stderr)
                    continue
                finally:
                    if g.process:
                        g.stop()
                if g.name == "direct":
                    base = out
                elif base and "mean_us" in out:
                    for k in ("mean", "p50", "p99"):
                        out[f"added_{k}"] = (out[f"{k}_us"] - base[f"{k}_us"]) / 1000
                results[g.name]["runs"].append(out)
                print(f"run {n + 1}: {g.name}: " + json.dumps({k: round(v, 3) for k, v in out.items()}), flush=True)
            # After every run: what is stopped in the middle leaves what it has.
            counts = json.load(urllib.request.urlopen(f"http://127.0.0.1:{MOCK}/counts"))
            write(args, results, counts, n + 1)
    finally:
        mock.terminate()
        mock.wait()


def write(args, results, counts, runs):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    machine = f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}"
    date = datetime.date.today().isoformat()
    out = args.out or HERE.parent / "results" / "gateway"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"date": date, "machine": machine, "runs": runs, "upstream": counts, "gateways": results}
    out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    text = (HERE / "preamble.md").read_text().format(date=date, machine=machine, runs=runs, wrong=counts["wrong"])
    out.with_suffix(".md").write_text(f"{text}\n{table(results)}\n\n{ratios(results)}\n")


if __name__ == "__main__":
    main()
