"""One `forebay up` over a temporary folder with datasets, and a Feast repository whose online store it is."""

import datetime
import json
import os
import pathlib
import shutil
import subprocess
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
FOREBAY = os.environ.get("FOREBAY", "forebay")
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def ago(**amount):
    return NOW - datetime.timedelta(**amount)


def post(url, body):
    """Status and JSON of one plain request, whatever the status."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


class Forebay:
    """The server, and commands over its folder."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copy(HERE / "forebay.yaml", folder / "forebay.yaml")
        self.child = None

    def run(self, *arguments, codes=(0,)):
        command = [FOREBAY, "--json", "--project", str(self.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode in codes, (arguments, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

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
        self.ended()

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
        self.ended()

    def ended(self):
        self.child.wait(30)
        self.child.stdout.close()
        self.log.close()
