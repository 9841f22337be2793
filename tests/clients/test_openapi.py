"""The document that the server gives is sound, and what the server answers is what the document says."""

import json

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

import document

HELLO = [{"role": "user", "content": "one two three"}]
CHAT = {"model": "gpt", "messages": HELLO}
MESSAGES = {"model": "claude", "messages": HELLO, "max_tokens": 50}
PROMPT = {"model": "gpt", "prompt": "one two three"}
RESPONSE = {"model": "gpt", "input": "one two three"}
CALL = {"tool_call": {"arguments": '{"at": 1}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture
def described(server):
    status, headers, body = server.ask("GET", "/openapi.json", authorization="")
    assert (status, headers["content-type"]) == (200, "application/json")
    return json.loads(body)


def fits(described, schema, value):
    Draft202012Validator({**schema, "components": described["components"]}).validate(value)


def named(name):
    return {"$ref": f"#/components/schemas/{name}"}


def answer_fits(described, path, method, answered, request=None):
    """Status, headers and body of an answer against its operation; and the body of the request, when it was a right one."""
    status, headers, body = answered
    operation = described["paths"][path][method]
    if request is not None:
        fits(described, operation["requestBody"]["content"]["application/json"]["schema"], request)
    response = operation["responses"][str(status)]
    if "$ref" in response:
        response = described["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    kind = headers["content-type"].split(";")[0]
    assert kind in response["content"], (path, status)
    if kind == "application/json":
        fits(described, response["content"][kind]["schema"], json.loads(body))
    ours = [h.lower() for h in headers if h.lower().startswith(("forebay-", "x-", "anthropic-", "retry-", "request-id"))]
    told = set(response.get("headers", {})) | {"x-accel-buffering"}
    assert set(ours) <= told, (path, status, set(ours) - told)


def data(body):
    lines = [l[6:] for l in body.decode().splitlines() if l.startswith("data: ")]
    return [json.loads(l) for l in lines if l != "[DONE]"]


def test_the_document_is_valid_and_has_every_path_of_the_project(described):
    validate(described)
    assert described["openapi"].startswith("3.1.")
    assert "post" in described["paths"]["/summarize"], "a pipeline's own path"
    assert {} not in described["paths"]["/v1/models"]["get"]["security"], "keys are required here"


@pytest.mark.parametrize("extra", [{}, {"tools": [TOOL]}, {"tools": [TOOL], "stream": True}, {"stream": True}])
def test_chat_completions_are_as_described(described, server, upstream, extra):
    upstream["gpt"].script(**CALL if "tools" in extra else {"text": "four five"})
    asked = {**CHAT, **extra, "stream_options": {"include_usage": True}} if "stream" in extra else {**CHAT, **extra}
    answered = server.ask("POST", "/v1/chat/completions", asked, tenant="counted")
    assert answered[0] == 200, answered[2]
    answer_fits(described, "/v1/chat/completions", "post", answered, asked)
    if "stream" in extra:
        found = data(answered[2])
        assert len(found) > 3
        for chunk in found:
            fits(described, named("ChatChunk"), chunk)


@pytest.mark.parametrize("stream", [False, True])
def test_completions_are_as_described(described, server, upstream, stream):
    upstream["gpt"].script(text="four five")
    asked = {**PROMPT, "stream": stream, "stream_options": {"include_usage": True}}
    answered = server.ask("POST", "/v1/completions", asked, tenant="counted")
    assert answered[0] == 200, answered[2]
    answer_fits(described, "/v1/completions", "post", answered, asked)
    for chunk in data(answered[2]) if stream else []:
        fits(described, named("TextChunk"), chunk)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("extra", [{}, {"tools": [{"type": "function", **TOOL["function"]}]}])
def test_responses_are_as_described(described, server, upstream, stream, extra):
    upstream["gpt"].script(**CALL if extra else {"text": "four five"})
    items = [{"role": "user", "content": [{"type": "input_text", "text": "one two three"}]}]
    asked = {**RESPONSE, **extra, "input": items, "stream": stream, "metadata": {"a": "b"}, "store": False}
    answered = server.ask("POST", "/v1/responses", asked, tenant="counted")
    assert answered[0] == 200, answered[2]
    answer_fits(described, "/v1/responses", "post", answered, asked)
    if stream:
        found = data(answered[2])
        assert found[-1]["type"] == "response.completed"
        for event in found:
            fits(described, named("ResponseEvent"), event)


@pytest.mark.parametrize("stream", [False, True])
def test_messages_are_as_described(described, server, upstream, stream):
    upstream["claude"].script(text="four five")
    asked = {**MESSAGES, "stream": stream}
    answered = server.ask("POST", "/v1/messages", asked, tenant="counted")
    assert answered[0] == 200, answered[2]
    answer_fits(described, "/v1/messages", "post", answered, asked)
    if stream:
        found = data(answered[2])
        assert found[-1]["type"] == "message_stop"
        for event in found:
            fits(described, named("MessageEvent"), event)


def test_streams_that_break_are_as_described(described, server, upstream):
    for path, body, name in [
        ("/v1/chat/completions", CHAT, "ChatChunk"), ("/v1/completions", PROMPT, "TextChunk"),
        ("/v1/responses", RESPONSE, "ResponseEvent"), ("/v1/messages", MESSAGES, "MessageEvent"),
    ]:
        upstream["broken"].script(tokens=60, faults=[{"fault": {"cut": {"after_tokens": 10, "how": "close"}}}])
        answered = server.ask("POST", path, {**body, "model": "cut", "stream": True})
        assert answered[0] == 200
        answer_fits(described, path, "post", answered)
        found = data(answered[2])
        last = found[-1].get("response", found[-1])
        assert last["error"]["code"] == "upstream_truncated"
        for event in found:
            fits(described, named(name), event)


@pytest.mark.parametrize("stream", [False, True])
def test_pipelines_and_their_records_are_as_described(described, server, upstream, stream):
    upstream["gpt"].script(text=f"{document.TRUE} {document.INVENTED}")
    asked = {"input": document.long(40), "stream": stream}
    for path, at in [("/v1/pipelines/{name}", "/v1/pipelines/summarize"), ("/summarize", "/summarize")]:
        answered = server.ask("POST", at, asked)
        assert answered[0] == 200, answered[2]
        answer_fits(described, path, "post", answered, asked)
        for event in data(answered[2]) if stream else []:
            fits(described, named("RunEvent"), event)
    request = answered[1]["x-request-id"]
    server.record(request)
    answer_fits(described, "/v1/requests/{id}", "get", server.ask("GET", f"/v1/requests/{request}"))


def test_the_rest_is_as_described(described, server):
    asked = {k: MESSAGES[k] for k in ["model", "messages"]}
    answered = server.ask("POST", "/v1/messages/count_tokens", asked)
    assert answered[0] == 200
    answer_fits(described, "/v1/messages/count_tokens", "post", answered, asked)
    for version in [{}, {"anthropic_version": "2023-06-01"}]:
        for at, path in [("", ""), ("/gpt", "/{id}"), ("/shout", "/{id}"), ("/nobody", "/{id}")]:
            answer_fits(described, f"/v1/models{path}", "get", server.ask("GET", f"/v1/models{at}", **version))
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"]:
        answer_fits(described, path, "get", server.ask("GET", path, authorization=""))
    accept = "application/openmetrics-text; version=1.0.0"
    answer_fits(described, "/metrics", "get", server.ask("GET", "/metrics", accept=accept))


def test_refusals_are_as_described(described, server, upstream):
    upstream["claude"].script(text="four")
    for path, body in [
        ("/v1/chat/completions", CHAT), ("/v1/completions", PROMPT), ("/v1/responses", RESPONSE), ("/v1/messages", MESSAGES)
    ]:
        for status, asked, tenant, more in [
            (400, {**body, "max_tokens": 0}, "default", {}),
            (401, body, "default", {"authorization": "Bearer nothing"}),
            (404, {**body, "model": "nobody"}, "default", {}),
            (403, {**body, "max_output_tokens" if body is RESPONSE else "max_tokens": 1000}, "spent", {}),
        ]:
            answered = server.ask("POST", path, asked, tenant=tenant, **more)
            assert answered[0] == status, (path, answered[2])
            answer_fits(described, path, "post", answered)
        for _ in range(2):
            answered = server.ask("POST", path, body, tenant="slow")
            answer_fits(described, path, "post", answered)
        assert answered[0] == 429
    for path, at, method, status in [
        ("/v1/pipelines/{name}", "/v1/pipelines/nobody", "post", 404),
        ("/v1/pipelines/{name}", "/v1/pipelines/summarize", "get", 400),
        ("/v1/pipelines/{name}", "/v1/pipelines/doomed", "post", 503),
        ("/v1/requests/{id}", "/v1/requests/nothing", "get", 400),
    ]:
        answered = server.ask(method.upper(), at, {"input": "hello"} if method == "post" else None)
        assert answered[0] == status, answered[2]
        answer_fits(described, path, method, answered)
    for path in ["/v1/admin/keys", "/v1/admin/models"]:
        for status, more in [(403, {}), (401, {"authorization": ""})]:
            answered = server.ask("GET", path, **more)
            assert answered[0] == status, answered[2]
            answer_fits(described, path, "get", answered)
