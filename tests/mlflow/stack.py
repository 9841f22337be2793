"""The two servers: `forebay up` over a temporary folder, and `mlflow server`, which the answers are recorded of."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

FOREBAY = os.environ.get("FOREBAY", "forebay")
CONFIG = "auth:\n  required: true\ntenants:\n  default: {weight: 1}\n  other: {weight: 1}\n"
# Webhooks may go to this machine, also without TLS.
NEAR = "jobs:\n  webhook: {allow_private: true}\n"


def http(method, url, body=None, headers=None):
    """Status, headers and body of one plain request, whatever the status."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read()


class Server:
    """A server with a key, or without."""

    token = None
    child = None

    def ask(self, method, path, body=None, query=None, headers=None, token=None):
        """A plain request; JSON where the body is no bytes."""
        names = dict(headers or {})
        token = self.token if token is None else token
        if token:
            names.setdefault("authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            names.setdefault("content-type", "application/json")
        if query:
            path += "?" + urllib.parse.urlencode(query, doseq=True)
        return http(method, self.url + path, body, names)

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Forebay(Server):
    """A `forebay up` with a key for each of two tenants."""

    def __init__(self, folder, near=False):
        self.folder = pathlib.Path(folder)
        (self.folder / "forebay.yaml").write_text(CONFIG + (NEAR if near else ""))
        self.token = self.key("default")
        self.other = self.key("other")
        self.start()

    def key(self, tenant):
        command = [FOREBAY, "--json", "--project", str(self.folder), "key", "create", "--name", tenant, "--tenant", tenant]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["key"]

    def start(self):
        self.log = open(self.folder / "server.log", "ab")
        self.child = subprocess.Popen(
            [FOREBAY, "--json", "--project", str(self.folder), "up", "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )
        said = self.child.stdout.readline()
        assert said, (self.folder / "server.log").read_text()
        self.url = json.loads(said)["listening"]

    def kill(self):
        self.child.kill()
        self.child.wait()


class Mlflow(Server):
    """The real one, with a SQLite file and a folder of artifacts."""

    def __init__(self, folder, near=False):
        self.folder = pathlib.Path(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
                 # Base64 of 32 bytes; and who is listed is looked up each time.
                 "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "MLFLOW_WEBHOOK_CACHE_TTL": "0"}
        if near:
            quiet |= {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
        self.log = open(self.folder / "server.log", "ab")
        self.child = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                "--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "./artifacts",
            ],
            cwd=self.folder, env={**os.environ, **quiet}, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        until = time.monotonic() + 120
        while True:
            try:
                if http("GET", f"{self.url}/health")[0] == 200:
                    return
            except OSError:
                pass
            assert time.monotonic() < until, (self.folder / "server.log").read_text()
            time.sleep(0.2)
