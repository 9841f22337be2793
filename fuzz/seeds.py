#!/usr/bin/env python3
"""Writes the seeds of every fuzz target to fuzz/seeds, and the PDF bomb of the end-to-end tests. Standard library only.

Inputs of more than one part are laid out as the `arbitrary` crate takes them: fixed-size values from the front; the last
slice or string is what remains; the length of one before it is read from the end.
"""

import json
import pathlib
import struct
import zlib

ROOT = pathlib.Path(__file__).resolve().parent
SEEDS = ROOT / "seeds"


def write(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def pdf(content, filters="", extra=""):
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 1/Kids[4 0 R]>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 5 0 R/Resources<</Font<</F1 3 0 R>>>>>>",
        f"<</Length {len(content)}{filters}>>\nstream\n".encode() + content + b"\nendstream",
    ]
    out, offsets = b"%PDF-1.4\n" + extra.encode(), []
    for number, o in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + o + b"\nendobj\n"
    xref = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(b"%010d 00000 n \n" % o for o in offsets)
    return out + f"trailer\n<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{xref}\n%%EOF\n".encode()


def bomb():
    """A gigabyte of one letter, deflated three times: under two kilobytes."""
    deflate = zlib.compressobj(9)
    piece = b" " * (1 << 20)
    data = b"".join(deflate.compress(piece) for _ in range(1024)) + deflate.flush()
    data = zlib.compress(zlib.compress(data, 9), 9)
    return pdf(data, "/Filter[/FlateDecode/FlateDecode/FlateDecode]")


OPENAI_STREAM = (
    'data: {"id":"x","model":"m-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\r\n\r\n'
    ': keep-alive\n\ndata: {"choices":[{"index":0,"delta":{"content":"Grü\\u00df"}}]}\n\n'
    'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\ndata: {broken\n\n'
    'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{"}}]}}]}\n\n'
    'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],\n'
    'data: "usage":{"prompt_tokens":7,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":2}}}\n\ndata: [DONE]\n\n'
)
ANTHROPIC_STREAM = "".join(
    f"event: {e['type']}\ndata: {json.dumps(e)}\n\n"
    for e in [
        {"type": "message_start", "message": {"model": "c", "usage": {"input_tokens": 5, "cache_read_input_tokens": 2}}},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hé"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
)
ERROR = '{"error":{"type":"overloaded_error","code":"rate_limit_exceeded","message":"m","param":null}}'
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
OPENAI_BODY = {
    "model": "m", "max_tokens": 9, "temperature": 0.5, "top_p": 1, "stop": ["a"], "seed": 1, "user": "u", "n": 1,
    "stream": True, "stream_options": {"include_usage": True}, "tools": TOOLS, "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "messages": [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    ],
}
ANTHROPIC_BODY = {
    "model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "be brief"}], "stop_sequences": ["a"],
    "metadata": {"user_id": "u"}, "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]},
    ],
}
COMPLETIONS_BODY = {
    "model": "m", "prompt": ["Once"], "max_tokens": 9, "temperature": 0.5, "top_p": 1, "stop": ["a"], "seed": 1, "user": "u",
    "n": 1, "best_of": 1, "echo": False, "suffix": None, "logprobs": None, "stream": True, "stream_options": {"include_usage": True},
}
RESPONSES_BODY = {
    "model": "m", "instructions": "be brief", "max_output_tokens": 9, "temperature": 0.5, "top_p": 1, "stream": True, "user": "u",
    "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low"}, "include": ["message.output_text.logprobs"], "top_logprobs": 1, "metadata": {"a": "b"},
    "store": False, "background": False, "truncation": "disabled", "parallel_tool_calls": False,
    "input": [
        {"role": "user", "content": [
            {"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            {"type": "input_file", "filename": "f", "file_data": "AA=="}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "s"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "so", "annotations": []}, {"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
    ],
}
CONFIG = """\
server: {listen: '127.0.0.1:0', drain: 5s, limits: {body: 32mb, header: 64kib}}
auth: {required: true}
models:
  m: {openai: gpt, base_url: 'http://x/v1', api_key: '${KEY}', fallback: [n], price: {input: 0.15, output: 0.6}}
  n: {anthropic: claude, api_key: '${KEY:-none}', context_window: 200k, max_concurrency: ${N}, timeouts: {connect: 1s}}
tenants:
  gold: {weight: 2, budget: {usd_per_day: 5, tokens_per_minute: 100k}}
pipelines:
  p:
    input: document
    output: text
    budget: {total: 30s, tokens: 50k}
    stages:
      - draft: {extractive: {sentences: 3}}
      - parts: {chunk: {tokens: 400, overlap: 20}}
      - notes: {generate: {model: m, prompt_text: 'Note: {{ item }}'}, each: parts, on_failure: skip}
      - answer: {generate: {model: m, prompt_text: '{{ notes }}'}, on_failure: {fallback: draft}}
"""
PLAIN = "Title\n=====\n\nDr. Smith paid $3.5 million on 1 May 2020. \"It works,\" he said.\n\n2.1 Results\n\nGrowth was 12 %. 数字が増えた。終わり。\n"
MARKDOWN = "---\ntitle: T\n---\nIntro [link](http://x) *em*.\n\n# One\n\ntext `code`\n\n## Two\n\n```sh\nls\n```\n\n- a\n  - b\n\n|x|y|\n|-|-|\n|1|2|\n"
HTML = "<!doctype html><html><head><title>T</title><script>no</script></head><body><h1>One</h1><p>text &amp; more<br>x</p><table><tr><td>1<td>2</table><ul><li>a</ul><pre> x </pre></body></html>"


def gguf(version=3):
    """The head of a small model: texts, numbers, lists of texts and of lists, and a tensor of two dimensions."""

    def text(t):
        return struct.pack("<Q", len(t)) + t.encode()

    entries = [text(key) + struct.pack("<I", 8) + text(value) for key, value in [("general.architecture", "qwen2"), ("general.name", "Tiny")]]
    entries += [text(key) + struct.pack("<II", 4, value) for key, value in [("general.file_type", 15), ("qwen2.context_length", 32768)]]
    entries += [text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")]
    entries += [text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 5, 2) + bytes(8)]
    entries += [text("flag") + struct.pack("<IB", 7, 1), text("wide") + struct.pack("<IQ", 10, 1 << 40)]
    tensor = text("blk.0.weight") + struct.pack("<IQQIQ", 2, 2, 3, 12, 0)
    return b"GGUF" + struct.pack("<IQQ", version, 1, len(entries)) + b"".join(entries) + tensor


def main():
    for n, text in enumerate(["data: a\n\n", "\ufeffevent: e\ndata: a\r\ndata: b\rid: 1\n\n", ": c\n\ndata\n\nretry: 5\n\n"]):
        write("sse", f"s{n}", b"\x05" + text.encode())
    write("openai_stream", "whole", b"\x07" + OPENAI_STREAM.encode())
    write("openai_stream", "error", b"\x07data: " + ERROR.encode() + b"\n\n")
    write("anthropic_stream", "whole", b"\x07" + ANTHROPIC_STREAM.encode())
    write("anthropic_stream", "error", b"\x07event: error\ndata: {\"type\":\"error\"," + ERROR[1:].encode() + b"\n\n")
    openai = {"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    anthropic = {"type": "message", "model": "m", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2}}
    for name, body in [("openai", json.dumps(openai)), ("anthropic", json.dumps(anthropic)), ("error", ERROR), ("date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("seconds", "1.5")]:
        write("upstream_body", name, struct.pack("<H", 429) + body.encode())
    write("openai_body", "whole", json.dumps(OPENAI_BODY))
    write("openai_body", "small", '{"model":"m","messages":[{"role":"user","content":"x"}]}')
    write("completions_body", "whole", json.dumps(COMPLETIONS_BODY))
    write("completions_body", "small", '{"model":"m","prompt":"x"}')
    write("responses_body", "whole", json.dumps(RESPONSES_BODY))
    write("responses_body", "small", '{"model":"m","input":"x"}')
    write("anthropic_body", "whole", json.dumps(ANTHROPIC_BODY))
    write("anthropic_body", "small", '{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}')
    write("config", "whole", CONFIG)
    write("config", "anchors", "a: &a [1, 2]\nb: {<<: {c: *a}, d: *a}\ne: |\n  text\nf: 'q'\n")
    for path in sorted((ROOT.parent / "bin/forebay/tests/configs").glob("*.yaml")):
        data = path.read_bytes()
        if len(data) < 1500:
            write("config", path.stem, data)
    for n, text in enumerate(["300ms", "1.5s", "7d", "32mb", "1GiB", "200k", "1.5m", "$0.02", "0.000000001", "999999999d", "999999999.000000001s", "17179869183.5gib", "99999999999.9m"]):
        write("units", f"u{n}", text)
    trace = "-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
    for n, text in enumerate([f"00{trace}1", f"00{trace}0", f"cc{trace}3-more"]):
        write("traceparent", f"t{n}", text)
    for version in (2, 3):
        write("gguf", f"v{version}", b"\x05" + gguf(version))
    for n, text in enumerate(["${A}", "$${A} ${B} ${C:-d}", "${", "${1}", "x${A}${A:-}y"]):
        write("placeholders", f"p{n}", text)
    for n, text in enumerate([PLAIN, MARKDOWN, HTML]):
        write("documents", f"d{n}", bytes([n]) + text.encode())
    write("documents", "utf16", b"\x00\xff\xfe" + "é 𝄞".encode("utf-16-le"))
    text = b"BT /F1 12 Tf 10 700 Td (Hello) Tj T* [(wor) -20 (ld)] TJ <48> Tj ET"
    write("pdf", "plain", pdf(text))
    write("pdf", "flate", pdf(zlib.compress(text), "/Filter/FlateDecode"))
    write("pdf", "bomb", bomb())
    for n, text in enumerate([PLAIN, MARKDOWN]):
        write("chunks", f"c{n}", bytes([30, 5, n]) + text.encode())
    answer = "Dr. Smith paid $3.5 million. Growth was 12 % [1]. \"It works,\" he said. It was 99 %."
    write("ground", "g0", b"\x02" + answer.encode() + PLAIN.encode() + struct.pack("<H", len(answer.encode())))
    write("ground", "g1", b"\x02" + PLAIN.encode() + answer.encode() + struct.pack("<H", len(PLAIN.encode())))
    write("journal", "magic", b"\xffFJ\x03\x05\x00\x00\x00abcdhello")
    write("journal", "entry", b'A{"id":"req_01900000000070008000000000000000","at":0,"tenant":"t"}')
    for n, text in enumerate(["--- system ---\nBe {{ tone }}.\n--- user ---\n{% for x in items %}{{ x }} {{ loop.index }},{% endfor %}", "{{ x | upper }}{% if y %}a{% else %}b{% endif %}", "{% set a = 1 %}{{ a + 2 }}{% macro m(x) %}{{ x }}{% endmacro %}{{ m(1) }}"]):
        write("prompt", f"p{n}", text)
    form = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\nContent-Type: text/markdown\r\n\r\n# hi\r\n--X\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--X--\r\n'
    write("multipart", "form", b"X" + form + struct.pack("<B", 1))
    write("multipart", "whole", form)
    row = {"input_cost_per_token": 1.5e-07, "output_cost_per_token": "6e-07", "max_input_tokens": 128000, "max_tokens": 4096}
    write("prices", "table", json.dumps({"gpt": row, "sample_spec": {}, "image": {"mode": "image"}}))
    folder = ROOT.parent / "bin/forebay/tests/hostile"
    folder.mkdir(exist_ok=True)
    (folder / "bomb.pdf").write_bytes(bomb())


if __name__ == "__main__":
    main()
