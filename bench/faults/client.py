"""One request as an SDK would send it, and everything its caller saw of the answer.

Never judges: `scenarios.py` does. A caller has a deadline, and may leave earlier on purpose.
"""

import http.client
import json
import socket
import time
from dataclasses import dataclass, field

PROMPT = "Tell how the river came to the turbine, in sixty words."
MAX_TOKENS = 200


@dataclass
class Seen:
    """What the caller saw. `ended`: clean, broken (the connection, without a word), late (deadline) or left (on purpose)."""

    status: int | None = None
    text: str = ""
    finish: str | None = None
    usage: dict | None = None
    error: str | None = None  # the message of an error body or of an error event
    body_error: bool = False  # the error came as a body, not as an event of a stream
    done: bool = False  # [DONE] or message_stop
    garbage: str | None = None  # an event or body that is no JSON
    ended: str = "clean"
    first: float | None = None  # seconds until the first text
    seconds: float = 0.0
    raw: str = ""  # an error's body, shortened
    headers: dict = field(default_factory=dict)


def body(surface, model, streaming):
    asked = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": MAX_TOKENS}
    if streaming:
        asked["stream"] = True
        if surface == "openai":
            asked["stream_options"] = {"include_usage": True}
    return json.dumps(asked)


def ask(port, path, surface, model, streaming, headers, deadline, leave_after=None):
    """Sends the request and reads the answer until its end, the deadline, or the moment the caller leaves."""
    seen, started = Seen(), time.monotonic()
    until = started + (deadline if leave_after is None else leave_after)
    headers = {"content-type": "application/json", **headers}
    if surface == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=max(0.001, until - started))
    response = plug = None
    try:
        connection.connect()
        plug = connection.sock
        connection.request("POST", path, body(surface, model, streaming), headers)
        response = connection.getresponse()
        seen.status = response.status
        seen.headers = {k.lower(): v for k, v in response.getheaders()}
        if "event-stream" in seen.headers.get("content-type", ""):
            reader = Events(seen, surface, started)
        else:
            reader = Whole(seen, surface, started)
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            plug.settimeout(left)
            piece = response.read1(65536)
            if not piece:
                break
            reader.feed(piece)
            if seen.error is not None and not seen.body_error:
                break  # an SDK raises at an error event and reads no further
        if response.length and seen.error is None:  # what Content-Length promised and nobody sent
            seen.ended = "broken"
        reader.end()
    except (TimeoutError, socket.timeout):
        seen.ended = "late" if leave_after is None else "left"
    except (OSError, http.client.HTTPException) as e:
        seen.ended = "broken"
        seen.raw = seen.raw or f"{type(e).__name__}: {e}"
    finally:
        seen.seconds = time.monotonic() - started
        if plug is not None:
            try:
                plug.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if response is not None:
            response.close()
        connection.close()
    return seen


def message_of(value):
    """The message of an error in any of the shapes in use, or nothing."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):
        for key in ("error", "message", "detail"):
            found = message_of(value.get(key))
            if found:
                return found
    return ""


class Whole:
    """An answer in one body."""

    def __init__(self, seen, surface, started):
        self.seen, self.surface, self.started, self.bytes = seen, surface, started, b""

    def feed(self, piece):
        self.bytes += piece

    def end(self):
        seen, text = self.seen, self.bytes.decode("utf-8", "replace")
        if seen.ended == "broken":
            return
        try:
            value = json.loads(text)
        except ValueError:
            seen.garbage, seen.raw = text[:200], text[:200]
            return
        if seen.status != 200 or not isinstance(value, dict) or value.get("error"):
            seen.error, seen.body_error, seen.raw = message_of(value), True, text[:400]
            return
        try:
            if self.surface == "openai":
                choice = value["choices"][0]
                seen.text, seen.finish = choice["message"]["content"] or "", choice["finish_reason"]
            else:
                seen.text = "".join(b.get("text", "") for b in value["content"])
                seen.finish = value["stop_reason"]
            seen.usage = value.get("usage")
            seen.done = True
            seen.first = time.monotonic() - self.started
        except (KeyError, IndexError, TypeError) as e:
            seen.garbage, seen.raw = f"no answer in it ({type(e).__name__})", text[:200]


class Events:
    """An answer as server-sent events."""

    def __init__(self, seen, surface, started):
        self.seen, self.surface, self.started, self.rest = seen, surface, started, b""

    def feed(self, piece):
        self.rest += piece.replace(b"\r\n", b"\n")
        while b"\n\n" in self.rest and self.seen.error is None:
            event, self.rest = self.rest.split(b"\n\n", 1)
            self.event(event.decode("utf-8", "replace"))

    def end(self):
        if self.rest.strip() and self.seen.error is None:  # an SDK takes the last event also when its empty line is missing
            self.event(self.rest.decode("utf-8", "replace"))

    def event(self, event):
        lines = event.split("\n")
        data = "\n".join(l[5:].removeprefix(" ") for l in lines if l.startswith("data:"))
        name = next((l[6:].strip() for l in lines if l.startswith("event:")), "")
        if not data:
            return
        if data.strip() == "[DONE]":
            self.seen.done = True
            return
        try:
            value = json.loads(data)
        except ValueError:
            self.seen.garbage = self.seen.garbage or data[:120]
            return
        if not isinstance(value, dict):
            return
        if value.get("error") or name == "error" or value.get("type") == "error":
            self.seen.error = self.seen.error or message_of(value) or "error"
            self.seen.raw = data[:400]
            return
        (self.openai if self.surface == "openai" else self.anthropic)(value)

    def said(self, text, finish):
        seen = self.seen
        if text:
            seen.text += text
            seen.first = seen.first or time.monotonic() - self.started
        seen.finish = finish or seen.finish

    def openai(self, value):
        for choice in value.get("choices") or []:
            self.said((choice.get("delta") or {}).get("content"), choice.get("finish_reason"))
        self.seen.usage = value.get("usage") or self.seen.usage

    def anthropic(self, value):
        kind, delta = value.get("type"), value.get("delta") or {}
        if kind == "message_start":
            self.seen.usage = value["message"].get("usage") or self.seen.usage
        elif kind == "content_block_delta":
            self.said(delta.get("text"), None)
        elif kind == "message_delta":
            self.said(None, delta.get("stop_reason"))
            if value.get("usage"):
                self.seen.usage = {**(self.seen.usage or {}), **value["usage"]}
        elif kind == "message_stop":
            self.seen.done = True
