"""The fake providers: `forebay fake-upstream` processes, their scripts and their logs.

A primary and a fallback answer with texts of different words, so that any mixture, loss or repetition shows.
"""

import json
import subprocess
import urllib.request

TOKENS = 60
# Sixty common words each, none of them twice, so that a word is a token or nearly one to every tokenizer.
PRIMARY = (
    "the river came down from high hills and ran past old stone farms until men built a wall across its bed then water "
    "rose behind very slowly over many years making one deep lake where fish could live while far below big "
    "wheels turned day after night giving light to towns whose people never saw how it all began again"
)
FALLBACK = (
    "some rain fell on green fields each spring so small streams grew into wide ones which went south through woods by "
    "roads under bridges near houses with red roofs before reaching an open gate there engineers kept watch at their "
    "desks every hour they noted new numbers about flow or pressure because power must stay even when storms bring floods"
)
FIRST_TOKEN_MS, INTERVAL_MS = 200, 20


class Upstream:
    """One fake provider on a port of its own."""

    def __init__(self, forebay, folder, name, script, port=0):
        self.name = name
        file = folder / f"{name}.json"
        file.write_text(json.dumps(script))
        words = [str(forebay), "--json", "fake-upstream", "--listen", f"127.0.0.1:{port}", "--script", str(file)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said = ""
        while not said.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the fake upstream {name} did not start: is {forebay} there?")
            said += line
        self.url = json.loads(said)["base_url"]
        self.port = int(self.url.rsplit(":", 1)[1])

    def log(self):
        """`now_us` and the requests so far, oldest first."""
        with urllib.request.urlopen(f"{self.url}/_fake/log", timeout=10) as answer:
            return json.load(answer)

    def now(self):
        return self.log()["now_us"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def script(code, scale, text, primary):
    """The script of one side of a scenario."""
    made = {
        "text": text,
        "first_token": FIRST_TOKEN_MS,
        "token_interval": INTERVAL_MS,
        "time_scale": scale,
        "log": "bodies",
    }
    if primary and code:
        made["scenario"] = code
    elif code == "S14":
        made["faults"] = [{"fault": {"refuse_prefill": {}}}]
    return made


assert all(len(set(t.split())) == len(t.split()) == TOKENS for t in (PRIMARY, FALLBACK))
assert not set(PRIMARY.split()) & set(FALLBACK.split())
