"""The processes of a run: a fake upstream with a capacity, the server in front of it, and how much memory that takes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

# What sets the capacity: so many answers at once, and how long one takes (the first token, then the others), in milliseconds.
PLACES, FIRST, TOKENS, INTERVAL, JITTER = 16, 250, 11, 10, 0.4
HOLD = (FIRST + (TOKENS - 1) * INTERVAL) / 1000
CAPACITY = PLACES / HOLD


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def script(beyond="refuse", **more):
    return {
        "first_token": FIRST,
        "token_interval": INTERVAL,
        "tokens": TOKENS,
        "jitter": JITTER,
        "log": "off",
        "places": {"count": PLACES, "beyond": beyond, "retry_after": 1000},
        **more,
    }


class Upstream:
    """One fake provider on a port of its own."""

    def __init__(self, forebay, folder, name, script):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(script))
        words = [str(forebay), "--json", "fake-upstream", "--listen", "127.0.0.1:0", "--script", str(file)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said = ""
        while not said.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the fake upstream {name} did not start: is {forebay} there?")
            said += line
        self.url = json.loads(said)["base_url"]

    def stop(self):
        stop(self.process)


class Server:
    """`forebay up` with models (name: lines of YAML), keys for tenants a and b, and its memory over time."""

    def __init__(self, forebay, folder, models, more=""):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        lines = [f'server: {{listen: "127.0.0.1:{self.port}"}}', "auth: {required: true}", "models:"]
        lines += [f"  {name}: {{openai: fake, api_key: none, {settings}}}" for name, settings in models.items()]
        (folder / "forebay.yaml").write_text("\n".join(lines) + "\n" + more)
        self.keys = {}
        for tenant in "ab":
            words = [forebay, "--json", "key", "create", "--project", folder, "--name", tenant, "--tenant", tenant]
            said = json.loads(subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True).stdout)
            self.keys[tenant] = said["key"]
        self.log = open(folder / "log", "w")
        self.process = subprocess.Popen([str(forebay), "up"], cwd=folder, stdout=self.log, stderr=self.log)
        until = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=1).read()
                break
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError(f"the server did not start: see {folder}/log") from None
                time.sleep(0.05)
        self.rss, self.watching = [], True
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        page, began = os.sysconf("SC_PAGE_SIZE"), time.monotonic()
        while self.watching:
            try:
                pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            except OSError:
                return
            self.rss.append((time.monotonic() - began, pages * page / 1e6))
            time.sleep(0.25)

    def stop(self):
        self.watching = False
        stop(self.process)
        self.log.close()


def slope(samples):
    """Least squares, in the samples' units a minute."""
    n = len(samples)
    if n < 3:
        return 0.0
    mean_t, mean_v = sum(t for t, _ in samples) / n, sum(v for _, v in samples) / n
    under = sum((t - mean_t) ** 2 for t, _ in samples)
    return 60 * sum((t - mean_t) * (v - mean_v) for t, v in samples) / under


def bench(forebay, server, key, *words):
    """The report of `forebay bench`."""
    words = [forebay, "--json", "bench", "--url", server.url, *words]
    env = {**os.environ, "FOREBAY_API_KEY": key}
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, env=env)
    if not done.stdout:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)
