"""What the soak runs on: fake providers whose faults change every minute, a project with tenants, keys and budgets, and the server.

Every provider answers with the last words of the prompt, so that an answer that belongs to somebody else, or misses a word, shows.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "faults"))
import upstream

TOKENS = 24
FIRST_MS, INTERVAL_MS = 120, 20
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

# The sixteen faults of the wall, with times that fit the timeouts below.
FAULTS = {
    "S01": {"status": {"status": 429, "retry_after": 1000}},
    "S02": {"status": {"status": 429}},
    "S03": {"status": {"status": 500}},
    "S04": {"status": {"status": 503}},
    "S05": {"reset": {}},
    "S06": {"silence": {"lasting": 20000}},
    "S07": {"slow_first_token": {"after": 4000}},
    "S08": {"cut": {"after_tokens": 12}},
    "S08r": {"cut": {"after_tokens": 5, "how": "reset"}},
    "S08c": {"cut": {"after_tokens": 8, "how": "clean_end"}},
    "S08e": {"cut": {"after_tokens": 9, "how": "error_event"}},
    "S09": {"stall": {"after_tokens": 8, "lasting": 5000}},
    "S10": {"malformed_chunk": {"after_tokens": 5}},
    "S11": {"no_done": {}},
    "S12": {"context_length": {}},
    "S13": {"content_filter": {}},
    "S13m": {"content_filter": {"after_tokens": 10}},
    "S16": {"billed_then_cut": {"after_tokens": 10}},
}
FLAPPING = {"down": 4000, "up": 8000, "lasting": 86_000_000}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def script(rng=None, share=0.0, always=None, **more):
    """A script whose next 3000 requests fail by chance: `share` of them, each by one of the faults."""
    faults = [{"fault": always}] if always else []
    for number in range(1, 3001):
        if rng and rng.random() < share:
            faults.append({"fault": FAULTS[rng.choice(list(FAULTS))], "from": number, "times": 1})
    return {"echo": True, "tokens": TOKENS, "first_token": FIRST_MS, "token_interval": INTERVAL_MS, "jitter": 0.3, "faults": faults, **more}


def renew(up, made):
    """Puts another script in force; its request numbers begin at 1 again."""
    asked = urllib.request.Request(f"{up.url}/_fake/script", json.dumps(made).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        answer.read()


def asked_of(up):
    """How many requests came to a provider, by its own count."""
    log = up.log()["requests"]
    return max((r["no"] for r in log), default=0)


class Providers:
    """`primary` and `claude` fail by chance, `flapping` is up and down in turns, the spares are healthy."""

    def __init__(self, forebay, folder, seed, share, flaps):
        self.flaps, self.rng, self.share = flaps, random.Random(seed), share
        self.all = {}
        for name in ("primary", "flapping", "spare", "claude", "spareclaude"):
            self.all[name] = upstream.Upstream(forebay, folder, name, self.script_of(name))

    def script_of(self, name):
        if name == "flapping":
            return script(always={"flapping": {**FLAPPING, "status": self.flaps}})
        return script(self.rng, 0.0 if name.startswith("spare") else self.share)

    def renew(self):
        for name in ("primary", "claude"):
            renew(self.all[name], self.script_of(name))

    def counts(self):
        return {name: asked_of(up) for name, up in self.all.items()}

    def pids(self):
        return [up.process.pid for up in self.all.values()]

    def stop(self):
        for up in self.all.values():
            up.stop()


# Tenant, keys of it, and what they may.
TENANTS = {
    "gold": {"weight": 4, "budget": {"usd_per_day": 1000, "tokens_per_minute": 4_000_000, "concurrent_streams": 400}},
    "silver": {"weight": 2, "budget": {"tokens_per_day": 2_000_000_000}},
    "bronze": {"priority": "batch", "budget": {"requests_per_minute": 40}},
    "poor": {"budget": {"tokens_per_minute": 2500}},
}
KEYS = ("gold", "gold", "silver", "silver", "bronze", "poor")


class Project:
    """The folder, its keys and its configuration, of which there are variants to be reloaded."""

    def __init__(self, forebay, folder, providers, hook):
        self.forebay, self.folder, self.providers, self.hook = forebay, folder, providers, hook
        self.port, self.keys = free_port(), []
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "prompts").mkdir(parents=True)
        (folder / "prompts/say.md").write_text("--- system ---\nSay it again.\n--- user ---\n{{ input }}\n")
        self.write(0)
        for n, tenant in enumerate(KEYS):
            self.keys.append((tenant, *self.key(f"k{n}", tenant)))
        self.admin = self.key("operator", "ops", "--admin")[1]
        self.write(0)

    def key(self, name, tenant, *more):
        words = [str(self.forebay), "--json", "key", "create", "--project", str(self.folder), "--name", name, "--tenant", tenant, *more]
        made = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout)
        return made["id"], made["key"]

    def write(self, variant):
        """Variant 0 is the plain one; the others change what a reload has to take: prices, addresses, models, limits. -1 is not sound."""
        at = {name: up.url for name, up in self.providers.all.items()}
        if variant % 3 == 1:  # the same provider at another address: its model begins anew
            at["spare"] = at["spare"].replace("127.0.0.1", "localhost")
            at["claude"] = at["claude"].replace("127.0.0.1", "localhost")
        price = {"input": 1 + variant % 5, "output": 2}
        common = {"api_key": "none", "price": price, "context_window": 8000, "max_output_tokens": 400}
        impatient = {"timeouts": {"connect": "2s", "first_token": "1500ms", "silence": "1500ms"}}
        pooled = {
            **common, **impatient, "openai": "m", "base_url": at["primary"] + "/v1", "fallback": ["spare"],
            "endpoints": [{"name": "flapping", "base_url": at["flapping"] + "/v1"}], "hedge": {"after": "400ms", "share": 0.1},
        }
        config = {
            "server": {"listen": f"127.0.0.1:{self.port}", "replay": {"memory": "16mb", "keep": "3m", "resume": "30s"}, "drain": "10s"},
            "auth": {"required": True},
            "models": {
                "pooled": pooled,
                "alone": {**common, **impatient, "openai": "m", "base_url": at["primary"] + "/v1"},
                "cached": {**common, **impatient, "openai": "m", "base_url": at["primary"] + "/v1", "fallback": ["spare"], "cache": {"ttl": "90s", "max_bytes": "200kb"}},
                "spare": {**common, "openai": "s", "base_url": at["spare"] + "/v1"},
                "claude": {**common, **impatient, "anthropic": "c", "base_url": at["claude"], "fallback": ["spareclaude"], "prefill": "off"},
                "spareclaude": {**common, "anthropic": "s", "base_url": at["spareclaude"]},
            },
            "tenants": TENANTS,
            "keys": {id: {"usd_per_day": 500 + variant, "requests_per_minute": 100_000} for tenant, id, _ in self.keys if tenant == "gold"},
            "each_user": {"tokens_per_day": 10_000_000},
            "jobs": {"keep": "5m", "parallel": 4, "within": "10m", "webhook": {"url": self.hook, "secret": SECRET, "allow_private": True}},
            "pipelines": {
                "say": {
                    "input": "document", "output": "text", "budget": {"total": "30s", "tokens": 4000 + variant},
                    "stages": [
                        {"draft": {"extractive": {"sentences": 2}}},
                        {"said": {"generate": {"model": "pooled", "prompt": "prompts/say.md", "max_output_tokens": 60}, "from": "input"}},
                    ],
                }
            },
        }
        if variant % 4 == 2:
            config["models"][f"extra{variant}"] = {**common, "openai": "x", "base_url": at["spare"] + "/v1"}
        if variant < 0:
            config["models"]["pooled"]["fallback"] = ["nobody"]
        new = self.folder / "forebay.yaml.new"
        new.write_text(json.dumps(config, indent=1))  # JSON is YAML
        os.replace(new, self.folder / "forebay.yaml")

    def up(self):
        self.log = (self.folder / "server.log").open("w")
        env = {**os.environ, "RUST_BACKTRACE": "1"}
        self.process = subprocess.Popen([str(self.forebay), "up", "--project", str(self.folder)], stdout=self.log, stderr=self.log, env=env)
        return self.process

    def sighup(self):
        os.kill(self.process.pid, signal.SIGHUP)

    def stop(self):
        """Its exit code; -1 when it had to be killed."""
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -1


def version(forebay):
    return subprocess.run([str(forebay), "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def finish(args, result, text, bad):
    """Leaves what a run gave, says it, and ends the program: with 1 when something was bad."""
    (args.work / "result.json").write_text(json.dumps(result, indent=1))
    print(text)
    if args.out:
        args.out.write_text(text)
    sys.exit(1 if bad else 0)
