"""The processes under test: fake upstreams and one `forebay up`, each on a port of its own, over a temporary folder.

Everything that is started is stopped, however the run ends. Nothing here knows a client library.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
FOREBAY = os.environ.get("FOREBAY", "forebay")


def eventually(read, seconds=10.0):
    """The first true thing `read` gives; fails when none comes in time."""
    until = time.monotonic() + seconds
    while True:
        found = read()
        if found:
            return found
        assert time.monotonic() < until, f"it never came to hold: {found!r}"
        time.sleep(0.005)


def http(method, url, body=None, headers=None):
    """Status, headers and body of one plain request, whatever the status."""
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read()


class Process:
    """A `forebay` command that says first, in JSON, where it listens."""

    def __init__(self, *arguments, log):
        self.stderr = open(log, "ab")
        self.child = subprocess.Popen(
            [FOREBAY, "--json", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.stderr
        )
        said = b""
        while not self.parsed(said):
            line = self.child.stdout.readline()
            if not line:
                self.stop()
                raise RuntimeError(f"forebay {' '.join(arguments)} did not start:\n{pathlib.Path(log).read_text()}")
            said += line
        self.told = json.loads(said)

    @staticmethod
    def parsed(said):
        try:
            return bool(json.loads(said))
        except ValueError:
            return False

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child.stdout.close()
        self.stderr.close()


class Fake(Process):
    """A fake provider. Its script is changed while it runs."""

    ALWAYS = {"log": "bodies"}

    def __init__(self, log):
        super().__init__("fake-upstream", "--listen", "127.0.0.1:0", log=log)
        self.url = self.told["base_url"]

    def script(self, **fields):
        """Does this from now on, and forgets what was asked before."""
        http("DELETE", f"{self.url}/_fake/log")
        status, _, body = http("POST", f"{self.url}/_fake/script", json.dumps({**self.ALWAYS, **fields}))
        assert status == 200, body

    def log(self):
        return json.loads(http("GET", f"{self.url}/_fake/log")[2])["requests"]

    def last(self):
        """What was asked last, and how it went."""
        return self.log()[-1]

    def body(self):
        """The body of what was asked last."""
        return self.last()["body"]

    def ended(self):
        """How the last request ended, once it has."""
        return eventually(lambda: self.log() and self.last()["end"])["how"]


class Server(Process):
    """A `forebay up` over a folder with the configuration of these tests and a key for each tenant."""

    def __init__(self, folder, fakes, dead):
        shutil.copytree(HERE.parents[1] / "examples" / "summarize" / "prompts", folder / "prompts")
        text = (HERE / "forebay.yaml").read_text()
        for name, url in {**fakes, "dead": dead}.items():
            text = text.replace(f"@{name}@", url)
        (folder / "forebay.yaml").write_text(text)
        self.folder = folder
        tenants = ["default", "counted", "slow", "spent", "filling", "single"]
        self.keys = {t: self.command("key", "create", "--name", t, "--tenant", t)["key"] for t in tenants}
        super().__init__("--project", str(folder), "up", "--listen", "127.0.0.1:0", log=folder / "server.log")
        self.url = self.told["listening"]

    def command(self, *arguments):
        done = subprocess.run(
            [FOREBAY, "--json", "--project", str(self.folder), *arguments], capture_output=True, check=True
        )
        return json.loads(done.stdout)

    def ask(self, method, path, body=None, tenant="default", **headers):
        """A plain request with the tenant's key."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        names.setdefault("authorization", f"Bearer {self.keys[tenant]}")
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            names.setdefault("content-type", "application/json")
        return http(method, self.url + path, body, names)

    def record(self, request, tenant="default"):
        """The ledger's record of a request."""
        def read():
            status, _, body = self.ask("GET", f"/v1/requests/{request}", tenant=tenant)
            return status == 200 and json.loads(body)
        return eventually(read)

    def metric(self, name):
        """The sum of a metric over its labels."""
        text = http("GET", f"{self.url}/metrics")[2].decode()
        lines = [l for l in text.splitlines() if l.startswith((name + " ", name + "{"))]
        return sum(float(l.rsplit(" ", 1)[1]) for l in lines)


def temporary():
    return pathlib.Path(tempfile.mkdtemp(prefix="forebay-clients-"))
