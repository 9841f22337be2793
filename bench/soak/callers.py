"""Who calls, and what each must get: the whole answer, or one error of a kind that is allowed for that call. All else is a finding."""

import asyncio
import base64
import collections
import hashlib
import hmac
import json
import random

import setting
import wire

PATHS = {
    "openai": "/v1/chat/completions", "completions": "/v1/completions", "responses": "/v1/responses",
    "anthropic": "/v1/messages", "native": "/v1/pipelines/say",
}
# Of every hundred calls.
MIX = {
    "openai stream": 18, "openai whole": 11, "anthropic stream": 11, "anthropic whole": 6, "responses stream": 5, "responses whole": 3,
    "completions stream": 2, "completions whole": 2, "native stream": 7, "native whole": 4, "restart": 3, "alone": 3, "leave": 7,
    "resume": 4, "twice": 3, "cached": 7, "job": 3, "look": 1, "socket": 3, "file": 1,
}
# A caller's tenant, by weight; an index of setting.KEYS.
WHO = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 5]
# What no gateway can mend, and what a stream may say once it has begun.
FILTERED = {"content_filtered", "context_length_exceeded"}
BROKEN = {"upstream_error", "upstream_timeout", "upstream_truncated", "upstream_unreachable"}
LIMITED = {"rate_limited", "budget_exhausted"}
WORDS = [a + b for a in "ba co di fu ga ho ji ku la me no pi".split() for b in "ran tel mis lor ven dax pum sk".split()]


class Callers:
    """The load: calls at random times, each with a prompt of its own."""

    def __init__(self, project, rate, seed):
        self.project, self.rate, self.rng = project, rate, random.Random(seed)
        self.client = wire.Client(project.port)
        self.counts = collections.Counter()  # (kind, outcome)
        self.findings, self.found = [], 0
        self.sent = self.numbers = self.under_way = self.most = 0
        self.jobs, self.told, self.badly_told = {}, collections.Counter(), 0
        self.attempts_seen = 0

    # -- the load

    async def run(self, seconds):
        loop = asyncio.get_running_loop()
        due, until, tasks = loop.time(), loop.time() + seconds, set()
        kinds, weights = list(MIX), list(MIX.values())
        per_call = 1.0
        while due < until:
            due += self.rng.expovariate(self.rate / per_call)
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self.under_way > 500:
                self.finding("load", "more than 500 calls under way: not sent")
                continue
            task = asyncio.create_task(self.call(self.rng.choices(kinds, weights)[0]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=90)
        for _ in tasks:
            self.finding("load", "a call has not ended 90 s behind the last")

    async def call(self, kind):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        name, _, way = kind.partition(" ")
        try:
            await asyncio.wait_for(getattr(self, name, self.plain)(kind, name, way), 150)
        except asyncio.TimeoutError:
            self.finding(kind, "no end within 150 s")
        except (wire.Broken, OSError) as e:
            self.finding(kind, f"the connection broke: {e!r}")
        except Exception as e:  # a defect of the script must not pass for an answer
            self.finding(kind, f"{e!r}")
        finally:
            self.under_way -= 1

    def finding(self, kind, what, seen=None):
        self.found += 1
        self.counts[kind, "WRONG"] += 1
        if len(self.findings) < 300:
            said = {} if seen is None else {"status": seen.status, "headers": seen.headers, "body": seen.body[-1500:].decode("utf-8", "replace")}
            self.findings.append({"kind": kind, "what": what, **said})

    # -- one request

    def prompt(self, number=None):
        if number is None:
            self.numbers += 1
            number = f"n{self.numbers}"
        rng = random.Random(number)
        words = rng.choices(WORDS, k=40) + [number]
        return " ".join(words), " ".join(words[-setting.TOKENS:])

    def who(self):
        return self.project.keys[self.rng.choice(WHO)]

    def body(self, surface, model, prompt, stream):
        user = f"u{self.rng.randrange(300)}"
        if surface == "native":
            return prompt.encode()
        asked = {"model": model}
        if surface == "responses":
            asked |= {"input": prompt, "max_output_tokens": 64, "user": user}
        elif surface == "completions":
            asked |= {"prompt": prompt, "max_tokens": 64, "user": user}
        else:
            asked |= {"messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
            asked |= {"metadata": {"user_id": user}} if surface == "anthropic" else {"user": user}
        if stream:
            asked["stream"] = True
        return json.dumps(asked).encode()

    def headers(self, surface, key, stream, **more):
        made = {"authorization": f"Bearer {key}", "content-type": "text/plain" if surface == "native" else "application/json"}
        if surface == "anthropic":
            made["anthropic-version"] = "2023-06-01"
        if surface == "native" and stream:
            made["accept"] = "text/event-stream"
        return made | more

    async def send(self, surface, headers, body, enough=None, method="POST", path=None):
        self.sent += 1
        fresh = enough is not None or self.rng.random() < 0.3
        answer = await self.client.ask(method, path or PATHS[surface], headers, body, fresh, enough)
        return wire.take(surface, *answer)

    def judge(self, kind, seen, want, tenant, stream, alone=False):
        """The outcome's name; what is not allowed becomes a finding."""
        if seen.end == "whole":
            if seen.text == want and seen.finish in ("stop", "end_turn", "completed", "done"):
                return "whole"
            if seen.finish in ("content_filter", "refusal", "incomplete") and want.startswith(seen.text):
                return "filtered on the way"
            self.finding(kind, f"not the answer: {seen.text!r} ({seen.finish}) for {want!r}", seen)
            return ""
        if seen.end == "error":
            began = bool(seen.text) or seen.resets
            limited = tenant in ("bronze", "poor") and seen.code in LIMITED and not began
            late = stream and began and want.startswith(seen.text) and seen.code in BROKEN
            if seen.code in FILTERED or limited or late or (alone and seen.code in BROKEN):
                return seen.code
            self.finding(kind, f"the error {seen.code} ({seen.message}) behind {len(seen.text)} characters, to {tenant}", seen)
            return ""
        if seen.end == "left" and want.startswith(seen.text):
            return "left"
        self.finding(kind, f"{seen.end}: {seen.message}", seen)
        return ""

    def count(self, kind, outcome):
        if outcome:
            self.counts[kind, outcome] += 1

    # -- the kinds of calls

    async def plain(self, kind, surface, way, model=None, alone=False, **more):
        stream, (tenant, _, key), (prompt, want) = way == "stream", self.who(), self.prompt()
        model = model or ("claude" if surface == "anthropic" else self.rng.choice(["pooled", "pooled", "claude"]))
        seen = await self.send(surface, self.headers(surface, key, stream, **more), self.body(surface, model, prompt, stream))
        self.count(kind, self.judge(kind, seen, want, tenant, stream, alone))

    async def restart(self, kind, *_):
        surface = self.rng.choice(["openai", "anthropic", "responses", "native"])
        await self.plain(kind, surface, "stream", "pooled", **{"forebay-mid-stream": "restart"})

    async def alone(self, kind, *_):
        await self.plain(kind, self.rng.choice(["openai", "anthropic"]), self.rng.choice(["stream", "whole"]), "alone", True)

    async def cached(self, kind, *_):
        surface, stream, (tenant, _, key) = self.rng.choice(["openai", "anthropic"]), self.rng.random() < 0.5, self.who()
        epoch = int(asyncio.get_running_loop().time() / 60)
        prompt, want = self.prompt(f"c{epoch}x{self.rng.randrange(60)}")
        seen = await self.send(surface, self.headers(surface, key, stream), self.body(surface, "cached", prompt, stream))
        outcome = self.judge(kind, seen, want, tenant, stream)
        self.count(kind, f"{outcome}, {seen.headers.get('forebay-cache')}" if outcome == "whole" else outcome)

    async def leave(self, kind, *_):
        surface, (tenant, _, key), (prompt, want) = self.rng.choice(list(PATHS)), self.who(), self.prompt()
        model, most = "claude" if surface == "anthropic" else "pooled", self.rng.randrange(1, 20)
        if self.rng.random() < 0.3:  # before the first byte
            call = self.send(surface, self.headers(surface, key, True), self.body(surface, model, prompt, True), lambda _: False)
            try:
                await asyncio.wait_for(call, self.rng.uniform(0.001, 0.12))
                self.count(kind, "ended first")
            except asyncio.TimeoutError:
                self.count(kind, "left before the answer")
            return
        body = self.body(surface, model, prompt, True)
        seen = await self.send(surface, self.headers(surface, key, True), body, lambda pieces: pieces >= most)
        self.count(kind, self.judge(kind, seen, want, tenant, True))

    async def resume(self, kind, *_):
        surface, (tenant, _, key), (prompt, want) = self.rng.choice(["openai", "anthropic", "native"]), self.who(), self.prompt()
        headers = self.headers(surface, key, True, **{"forebay-resume": "20s"})
        most = self.rng.randrange(3, 18)
        first = await self.send(surface, headers, self.body(surface, "pooled", prompt, True), lambda pieces: pieces >= most)
        if first.end != "left" or not first.last_id:
            return self.count(kind, self.judge(kind, first, want, tenant, True))
        await asyncio.sleep(self.rng.uniform(0.0, 1.0))
        headers = {"authorization": f"Bearer {key}", "last-event-id": first.last_id}
        path = f"/v1/requests/{first.headers['x-request-id']}/events"
        rest = await self.send(surface, headers, b"", method="GET", path=path)
        if rest.status == 200:
            rest.text = first.text + rest.text
        outcome = self.judge(kind, rest, want, tenant, True)
        self.count(kind, outcome and f"{outcome}, read on")

    async def twice(self, kind, *_):
        surface, stream = self.rng.choice(list(PATHS)), self.rng.random() < 0.5
        (tenant, _, key), (prompt, want) = self.who(), self.prompt()
        headers = self.headers(surface, key, stream, **{"idempotency-key": f"k-{prompt.rsplit(' ', 1)[1]}"})
        body = self.body(surface, "claude" if surface == "anthropic" else "pooled", prompt, stream)
        some = [self.send(surface, headers, body) for _ in range(self.rng.randrange(2, 5))]
        all_seen = await asyncio.gather(*some, return_exceptions=True)
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.uniform(0, 2))
            all_seen.append(await self.send(surface, headers, body))
        ids, failed = set(), False
        for seen in all_seen:
            if isinstance(seen, BaseException):
                self.finding(kind, f"{seen!r}")
                return
            outcome = self.judge(kind, seen, want, tenant, stream)
            failed = failed or outcome != "whole"
            if outcome == "whole":
                ids.add(seen.headers.get("x-request-id") or seen.headers.get("request-id"))
            replayed = seen.headers.get("idempotent-replayed") == "true"
            self.count(kind, outcome and outcome + (", replayed" if replayed else ""))
        if len(ids) > 1 and not failed:
            self.finding(kind, f"{len(ids)} different answers to one request: {ids}")

    async def socket(self, kind, *_):
        (tenant, _, key), (prompt, want), way = self.who(), self.prompt(), self.rng.choice(["stay", "stay", "leave", "cancel"])
        at = {f"{way}_at": self.rng.randrange(2, 20)} if way != "stay" else {}
        self.sent += 1
        body, left = await self.client.talk(PATHS["native"], {"authorization": f"Bearer {key}"}, prompt.encode(), **at)
        seen = wire.take("native", 101, {"content-type": "text/event-stream"}, body, left)
        if way == "cancel" and seen.code == "cancelled" and want.startswith(seen.text):
            return self.count(kind, "cancelled")
        self.count(kind, self.judge(kind, seen, want, tenant, True))

    async def file(self, kind, *_):
        """Brought, read and removed: equal contents are kept once, so some are equal."""
        _, _, key = self.who()
        content = self.prompt(f"f{self.rng.randrange(50)}")[0] * self.rng.randrange(1, 30)
        parts = [("purpose", "", b"user_data"), ("file", '; filename="a.txt"', content.encode())]
        body = b"".join(f'--cut\r\ncontent-disposition: form-data; name="{n}"{more}\r\n\r\n'.encode() + v + b"\r\n" for n, more, v in parts) + b"--cut--\r\n"
        headers = {"authorization": f"Bearer {key}"}
        status, _, said, _ = await self.client.ask("POST", "/v1/files", {**headers, "content-type": "multipart/form-data; boundary=cut"}, body)
        if status != 200:
            return self.finding(kind, f"{status} {said[:300]}")
        path = f"/v1/files/{json.loads(said)['id']}"
        got = await self.client.ask("GET", f"{path}/content", headers)
        gone = await self.client.ask("DELETE", path, headers)
        if got[2] != content.encode() or gone[0] != 200:
            return self.finding(kind, f"{got[0]} {got[2][:100]}, {gone[0]} {gone[2][:100]}")
        self.count(kind, "whole")

    async def look(self, kind, *_):
        """What dashboards and people ask."""
        _, _, key = self.who()
        for path in ("/v1/models", "/v1/jobs?limit=5", "/readyz", "/healthz"):
            status, _, body, _ = await self.client.ask("GET", path, {"authorization": f"Bearer {key}"})
            if status != 200:
                self.finding(kind, f"{path}: {status} {body[:200]}")
            else:
                self.counts[kind, "whole"] += 1

    async def job(self, kind, *_):
        surface, (tenant, _, key), (prompt, want) = self.rng.choice(["openai", "anthropic", "native"]), self.who(), self.prompt()
        headers = self.headers(surface, key, False, prefer="respond-async")
        if self.rng.random() < 0.3:
            headers["idempotency-key"] = f"j-{prompt.rsplit(' ', 1)[1]}"
        body = self.body(surface, "claude" if surface == "anthropic" else "pooled", prompt, False)
        self.sent += 1
        status, _, said, _ = await self.client.ask("POST", PATHS[surface], headers, body)
        if "idempotency-key" in headers and status == 202:
            again = json.loads((await self.client.ask("POST", PATHS[surface], headers, body))[2])
            if again.get("id") != json.loads(said)["id"]:
                self.finding(kind, f"two jobs of one key: {said} {again}")
        if status != 202:
            code = wire.error_of(json.loads(said))[0]
            if code in LIMITED and tenant in ("bronze", "poor"):
                return self.count(kind, code)
            return self.finding(kind, f"refused: {status} {said[:300]}")
        id = json.loads(said)["id"]
        if self.rng.random() < 0.08:
            await asyncio.sleep(self.rng.uniform(0, 0.5))
            status, _, said, _ = await self.client.ask("POST", f"/v1/jobs/{id}/cancel", {"authorization": f"Bearer {key}"})
            if status != 200:
                self.finding(kind, f"cancel: {status} {said[:300]}")
        for _ in range(60):
            await asyncio.sleep(2)
            status, _, said, _ = await self.client.ask("GET", f"/v1/jobs/{id}", {"authorization": f"Bearer {key}"})
            job = json.loads(said)
            if job.get("status") in ("succeeded", "failed", "cancelled"):
                break
        else:
            if tenant in ("gold", "silver"):
                self.finding(kind, f"not ended after two minutes: {said[:500]}")
            return self.count(kind, "waits for its limit")
        self.jobs[id] = job["status"]
        if job["status"] == "succeeded":
            seen = wire.Seen(status=200, body=said)
            wire.whole(surface, 200, json.dumps(job["result"]), seen)
            if seen.end == "error" and seen.code in FILTERED:
                return self.count(kind, seen.code)
            return self.count(kind, self.judge(kind, seen, want, tenant, False))
        if job["status"] == "failed" and job["error"].get("code") not in FILTERED:
            return self.finding(kind, f"failed: {said[:600]}")
        self.count(kind, job["status"])

    # -- the receiver of webhooks

    async def hook(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                told = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:])}
                body = await reader.readexactly(int(told.get("content-length", 0)))
                signed = f"{told['webhook-id']}.{told['webhook-timestamp']}.".encode() + body
                mac = hmac.new(base64.b64decode(setting.SECRET[6:]), signed, hashlib.sha256).digest()
                if "v1," + base64.b64encode(mac).decode() not in told["webhook-signature"].split(" "):
                    self.badly_told += 1
                self.told[json.loads(body)["data"]["id"], told["webhook-id"]] += 1
                status = "503 No" if self.rng.random() < 0.02 else "204 No Content"
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
