"""What all gateways have in common: how they are started, found and asked.

Limits are those of the report for all of them where a setting exists: 10 s to the first token (or for the whole answer when not
streaming), 25 s for a whole stream, no retry that a fallback makes needless. `settings` says so in the report's words.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

FIRST_TOKEN, SILENCE, STREAM_TOTAL = 10.0, 15.0, 25.0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(words, **more):
    return subprocess.run([str(w) for w in words], check=True, text=True, stdout=subprocess.PIPE, **more).stdout


class Gateway:
    """One instance for all cells, unless a subclass says otherwise."""

    name, home, surfaces, settings, health = "", "", ("openai", "anthropic"), "", "/health"
    remarks = ()
    plain = False  # the fallback configured, and everything else as it comes
    patience = 30.0
    at_once = 64  # scenarios in parallel: no more than it bears without being late for want of CPU

    def __init__(self, args, cells):
        self.args, self.cells, self.scale = args, cells, args.time_scale
        self.folder = args.work / self.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.process = None

    @classmethod
    def install(cls, args):
        pass

    @classmethod
    def version(cls, args):
        return ""

    def ms(self, seconds):
        return int(seconds * 1000 / self.scale)

    def env(self):
        return {}

    def launch(self, words, folder, port):
        log = open(folder / "log", "a")
        process = subprocess.Popen(
            [str(w) for w in words],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, **self.env()},
            start_new_session=True,
        )
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: see {folder}/log")
            try:
                port_now = port()
                if port_now:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port_now}{self.health}", timeout=2):
                        return process
            except urllib.error.HTTPError:
                return process
            except OSError:
                pass
            time.sleep(0.1)
        stop(process)
        raise RuntimeError(f"{self.name} does not answer: see {folder}/log")

    def start(self):
        self.process = self.launch(self.command(), self.folder, lambda: self.port)

    def stop(self):
        if self.process:
            stop(self.process)

    def open(self, cell):
        """Makes ready for a cell."""

    def close(self, cell):
        pass

    def address(self, cell):
        path = "/v1/chat/completions" if cell.surface == "openai" else "/v1/messages"
        return self.port, path

    def model(self, cell):
        return cell.name

    def headers(self, cell):
        return {"authorization": "Bearer none"} if cell.surface == "openai" else {"x-api-key": "none"}

    def account(self, cell, probe):
        """What is wrong in its books about a request, where it keeps any."""
        return []
