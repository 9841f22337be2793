"""Callers: ones that come back when they were told, and ones that come back at once."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field


@dataclass
class Answer:
    status: int
    headers: dict
    seconds: float
    whole: bool

    @property
    def ok(self):
        return self.status == 200 and self.whole


class Connections:
    """HTTP/1.1 to one server, connections kept."""

    def __init__(self, port, key):
        self.port, self.key, self.idle = port, key, []

    async def chat(self, model, text, stream=False):
        body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode()
        began = time.monotonic()
        for fresh in (False, True):
            if self.idle and not fresh:
                reader, writer = self.idle.pop()
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(head + body)
                status, headers, whole = await self._read(reader)
            except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
                writer.close()
                if fresh:
                    return Answer(0, {}, time.monotonic() - began, False)
                continue  # a kept connection may have been closed meanwhile
            except asyncio.CancelledError:
                writer.close()
                raise
            self.idle.append((reader, writer))
            return Answer(status, headers, time.monotonic() - began, whole)

    async def _read(self, reader):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(lines[0].split()[1])
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if line)}
        if headers.get("transfer-encoding") == "chunked":
            last = b""
            while True:
                size = int((await reader.readline()).split(b";")[0], 16)
                chunk = await reader.readexactly(size + 2)
                if size == 0:
                    return status, headers, b"[DONE]" in last
                last = chunk
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return status, headers, bool(body)

    def close(self):
        for _, writer in self.idle:
            writer.close()


def told(headers, precise):
    """How long a refused caller was told to wait: by `retry-after-ms`, as SDKs do, or by the standard header alone."""
    if precise and "retry-after-ms" in headers:
        return float(headers["retry-after-ms"]) / 1000
    return float(headers["retry-after"]) if "retry-after" in headers else None


@dataclass
class Returns:
    """What came of those who were refused, and came back once, when they were told."""

    offered: int = 0
    at_once: list = field(default_factory=list)
    refused: int = 0
    without: int = 0
    waits: list = field(default_factory=list)
    # (told in ms, told wait, ok, status, seconds the answer took)
    second: list = field(default_factory=list)
    refusal_seconds: list = field(default_factory=list)
    failed: int = 0


async def come_back(port, key, model, rate, lasting, same, most):
    """Poisson arrivals at `rate`; who is refused comes again once. `same`: all ask the same, as load tools do."""
    draws, out, to = random.Random(7), Returns(), Connections(port, key)
    words = [f"w{n}" for n in range(5000)]

    async def caller(n):
        text = "the same for everybody" if same else " ".join(draws.choices(words, k=30)) + f" {n}"
        out.offered += 1
        first = await to.chat(model, text, stream=n % 2 == 0)
        if first.ok:
            out.at_once.append(first.seconds)
            return
        wait = told(first.headers, precise=n % 4 < 2)
        if first.status not in (429, 503):
            out.failed += 1
            return
        out.refused += 1
        out.refusal_seconds.append(first.seconds)
        if wait is None:
            out.without += 1
            return
        out.waits.append(wait)
        if wait > most:
            out.second.append((n % 4 < 2, wait, None, 0, 0.0))
            return
        await asyncio.sleep(wait)
        again = await to.chat(model, text, stream=n % 2 == 0)
        out.second.append((n % 4 < 2, wait, again.ok, again.status, again.seconds))

    tasks, began, due, n = [], time.monotonic(), 0.0, 0
    while (due := due + draws.expovariate(rate)) < lasting:
        await asyncio.sleep(max(0.0, began + due - time.monotonic()))
        tasks.append(asyncio.create_task(caller(n)))
        n += 1
    await asyncio.gather(*tasks)
    to.close()
    return out


class Storm:
    """`ways` callers of one tenant that begin again the moment an answer, or none, has come."""

    def __init__(self, port, key, model, ways):
        self.to, self.model, self.ways = Connections(port, key), model, ways
        self.counts = {}

    async def run(self, until):
        async def one(way):
            n = 0
            while not until.is_set():
                # A failure is tried again as it was; behind an answer comes the next.
                answer = await self.to.chat(self.model, f"way {way} asks {n} with some more words around it", stream=way % 2 == 0)
                self.counts[answer.status] = self.counts.get(answer.status, 0) + 1
                n += answer.ok
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(one(way)) for way in range(self.ways)]
        while not until.is_set():
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.to.close()
