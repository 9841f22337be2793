"""HTTP/1.1 over asyncio and what a caller sees of an answer on each surface. Knows nothing of what should come: `callers.py` does.

As little work for each byte as possible: an answer is collected and taken apart at its end, so that the load costs less than the server.
"""

import asyncio
import json
from dataclasses import dataclass, field


class Broken(Exception):
    """The connection ended inside an answer."""


@dataclass
class Seen:
    """`end`: whole (with its end mark), error (a body or an event that says so), cut (neither), left (on purpose)."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    text: str = ""
    end: str = "cut"
    finish: str = ""
    code: str = ""  # of the error
    message: str = ""
    last_id: str = ""  # of the last event that had one
    resets: int = 0
    body: bytes = b""


class Client:
    """Connections to one server, kept while they are good."""

    def __init__(self, port, most_idle=16):
        self.port, self.idle, self.most_idle, self.opened = port, [], most_idle, 0

    async def connect(self, fresh):
        while self.idle and not fresh:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer, True
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self.opened += 1
        return reader, writer, False

    async def ask(self, method, path, headers, body=b"", fresh=False, enough=None):
        """The answer's status, headers and bytes. `enough(bytes)` true: leave in the middle."""
        reader, writer, kept = await self.connect(fresh)
        try:
            head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-length: {len(body)}\r\n"
            head += "".join(f"{k}: {v}\r\n" for k, v in headers.items())
            writer.write(head.encode() + b"\r\n" + body)
            try:
                first = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as e:
                if kept and not getattr(e, "partial", b""):  # closed while it was idle: nobody has seen the request
                    writer.close()
                    return await self.ask(method, path, headers, body, True, enough)
                raise Broken("before the head") from e
            lines = first.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
            told = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
            pieces, left = [], False
            try:
                if "content-length" in told:
                    pieces.append(await reader.readexactly(int(told["content-length"])))
                elif told.get("transfer-encoding") == "chunked":
                    got = 0
                    while True:
                        size = int((await reader.readuntil(b"\r\n"))[:-2].split(b";")[0], 16)
                        piece = (await reader.readexactly(size + 2))[:-2]
                        if not size:
                            break
                        pieces.append(piece)
                        got += 1
                        if enough and enough(got):
                            left = True
                            break
            except (asyncio.IncompleteReadError, ConnectionError, ValueError) as e:
                raise Broken("inside the answer") from e
            if not left and told.get("connection", "").lower() != "close" and not fresh and len(self.idle) < self.most_idle:
                self.idle.append((reader, writer))
                writer = None
            return status, told, b"".join(pieces), left
        finally:
            if writer is not None:
                writer.transport.abort()

    async def talk(self, path, headers, message, leave_at=None, cancel_at=None):
        """A conversation over a WebSocket: its events as the bytes of an event stream would be, and whether the caller left."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self.opened += 1

        def frame(kind, data):
            """Masked by zeros, as a client's has to be; short ones only."""
            size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
            writer.write(bytes([0x80 | kind]) + size + bytes(4) + data)

        try:
            head = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            head += "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            writer.write((head + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode())
            first = await reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in first.split(b"\r\n")[0]:
                raise Broken(first[:200].decode("latin-1"))
            frame(1, message)
            out = []
            while True:
                kind, size = await reader.readexactly(2)
                size = int.from_bytes(await reader.readexactly({126: 2, 127: 8}[size])) if size > 125 else size
                data = await reader.readexactly(size)
                if kind & 15 == 8:
                    frame(8, data)
                    return b"".join(out), False
                if kind & 15 == 9:
                    frame(10, data)
                elif kind & 15 == 1:
                    out.append(b"data: " + data + b"\n\n")
                if leave_at and len(out) >= leave_at:
                    return b"".join(out), True
                if cancel_at and len(out) == cancel_at:
                    frame(1, b'{"type":"cancel"}')
        except (asyncio.IncompleteReadError, ConnectionError) as e:
            raise Broken("inside a conversation") from e
        finally:
            writer.transport.abort()

    def close(self):
        while self.idle:
            self.idle.pop()[1].close()


def error_of(value):
    """Code and message of an error body or event in any of the surfaces' shapes."""
    e = value.get("error") if isinstance(value.get("error"), dict) else value
    if isinstance(value.get("response"), dict):
        e = value["response"].get("error") or e
    return str(e.get("code") or e.get("type") or ""), str(e.get("message") or "")


def whole(surface, status, body, seen):
    """An answer in one body."""
    value = json.loads(body)
    if status != 200:
        seen.end = "error"
        seen.code, seen.message = error_of(value)
        return
    if surface == "openai":
        choice = value["choices"][0]
        seen.text, seen.finish = choice["message"]["content"] or "", choice["finish_reason"] or ""
    elif surface == "completions":
        seen.text, seen.finish = value["choices"][0]["text"], value["choices"][0]["finish_reason"] or ""
    elif surface == "anthropic":
        seen.text, seen.finish = "".join(b.get("text", "") for b in value["content"]), value["stop_reason"] or ""
    elif surface == "responses":
        seen.text = "".join(c.get("text", "") for o in value["output"] for c in o.get("content", []))
        seen.finish = value["status"]
    elif not value["complete"]:
        # What was shown before the model failed, and why: a draft is no answer.
        seen.end, (seen.code, seen.message) = "error", error_of(value)
        return
    else:
        seen.text, seen.finish = value["output"] or "", "done"
    seen.end = "whole" if seen.finish else "cut"


def events(surface, body, seen):
    """An answer as events; what is torn at the end is left out."""
    done = False
    for block in body.split(b"\n\n")[:-1]:
        data, name = [], b""
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                data.append(line[6:])
            elif line.startswith(b"id: "):
                seen.last_id = line[4:].decode()
            elif line.startswith(b"event: "):
                name = line[7:]
        if not data:
            continue
        if done:
            seen.end, seen.message = "cut", "an event behind the end"
            return
        data = b"\n".join(data)
        if data == b"[DONE]":
            done = True
            continue
        value = json.loads(data)
        kind = value.get("type", "")
        if kind in ("error", "response.failed") or value.get("error"):
            seen.end = "error"
            seen.code, seen.message = error_of(value)
            return
        if surface in ("openai", "completions"):
            if (value.get("forebay") or {}).get("reset"):
                seen.text, seen.resets = "", seen.resets + 1
            for choice in value.get("choices") or []:
                seen.text += (choice.get("delta") or {}).get("content") or choice.get("text") or ""
                seen.finish = choice.get("finish_reason") or seen.finish
        elif surface == "anthropic":
            if kind == "content_block_delta":
                seen.text += value["delta"].get("text", "")
            elif kind == "message_delta":
                seen.finish = value["delta"].get("stop_reason") or seen.finish
            elif name == b"forebay_reset" or kind == "forebay_reset":
                seen.text, seen.resets = "", seen.resets + 1
            done = done or kind == "message_stop"
        elif surface == "responses":
            if kind == "response.output_text.delta":
                seen.text += value["delta"]
            elif kind == "response.forebay_reset":
                seen.text, seen.resets = "", seen.resets + 1
            elif kind in ("response.completed", "response.incomplete"):
                seen.finish, done = value["response"]["status"], True
        else:
            if kind == "delta":
                seen.text += value["text"]
            elif kind == "reset":
                seen.text, seen.resets = "", seen.resets + 1
            elif kind == "done":
                seen.finish, done = "done" if value.get("complete", True) else "partial", True
    seen.end = "whole" if done and seen.finish else "cut"


def take(surface, status, headers, body, left):
    """What was seen of an answer."""
    seen = Seen(status=status, headers=headers, body=body)
    try:
        if "event-stream" in headers.get("content-type", ""):
            events(surface, body, seen)
        elif body:
            whole(surface, status, body, seen)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as e:
        seen.end, seen.message = "cut", f"unreadable: {e!r}"
    if left and seen.end == "cut":
        seen.end = "left"
    return seen
