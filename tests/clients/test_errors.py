"""Errors are the clients' own exception classes, with the status, the body and the wait that a user of them relies on."""

import json
import time

import anthropic
import openai
import pytest

import stack

HELLO = [{"role": "user", "content": "one two three"}]


def ask_openai(client, model="gpt", messages=HELLO, **more):
    return client.chat.completions.create(model=model, messages=messages, **more)


def ask_anthropic(client, model="gpt", messages=HELLO, **more):
    return client.messages.create(model=model, messages=messages, **{"max_tokens": 50, **more})


def both(oai, ant, kind, **more):
    """The same mistake through both clients: their exceptions."""
    tenant = more.pop("tenant", "default")
    caught = []
    for library, ask, client in [(openai, ask_openai, oai), (anthropic, ask_anthropic, ant)]:
        with pytest.raises(getattr(library, kind)) as refused:
            ask(client(tenant, key=more.get("key")), **{k: v for k, v in more.items() if k != "key"})
        caught.append(refused.value)
    return caught


def check_bodies(o, a, status, code, kind, anthropic_kind=None):
    assert (o.status_code, a.status_code) == (status, status)
    assert set(o.body) >= {"message", "type", "param", "code"}
    assert (o.code, o.type) == (code, kind), o.body
    assert a.body["type"] == "error" and a.body["error"]["type"] == (anthropic_kind or kind), a.body
    assert a.body["error"]["code"] == code
    # What to quote when asking for help.
    assert o.request_id.startswith("req_") and a.request_id == a.body["request_id"]


def test_a_wrong_key(oai, ant):
    o, a = both(oai, ant, "AuthenticationError", key="fb_wrong")
    check_bodies(o, a, 401, "invalid_key", "authentication_error")


def test_an_unknown_model(oai, ant):
    o, a = both(oai, ant, "NotFoundError", model="nobody")
    check_bodies(o, a, 404, "not_found", "not_found_error")
    assert o.param == "model"


@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request(oai, ant, stream):
    o, a = both(oai, ant, "BadRequestError", messages=[], stream=stream)
    check_bodies(o, a, 400, "invalid_request", "invalid_request_error")
    assert o.param == "messages"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"tools": "weather"}, "tools"),
        ({"n": 2}, "n"),
        ({"response_format": {"schema": {}}}, "response_format"),
        ({"stream_options": 3, "stream": True}, "stream_options"),
    ],
)
def test_a_bad_parameter_is_named(oai, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask_openai(oai(), **more)
    assert refused.value.param == param


def test_a_body_that_is_too_large(oai, ant):
    large = [{"role": "user", "content": "x" * 33_000_000}]
    with pytest.raises(openai.APIStatusError) as refused:
        ask_openai(oai(), messages=large)
    assert (refused.value.status_code, refused.value.code) == (413, "too_large")
    with pytest.raises(anthropic.APIStatusError) as refused:
        ask_anthropic(ant(), messages=large)
    assert (refused.value.status_code, refused.value.body["error"]["type"]) == (413, "request_too_large")


def test_a_prompt_over_the_window(oai, ant, upstream):
    o, a = both(oai, ant, "BadRequestError", model="narrow", messages=[{"role": "user", "content": "word " * 500}])
    check_bodies(o, a, 400, "context_length_exceeded", "invalid_request_error")
    assert upstream["gpt"].log() == [], "it is not sent where it cannot fit"


def test_our_own_rate_limit_and_the_wait_the_clients_read(oai, ant):
    ask_openai(oai("slow"))
    o, a = both(oai, ant, "RateLimitError", tenant="slow")
    check_bodies(o, a, 429, "rate_limited", "rate_limit_error")
    assert o.body["limit_source"] == "tenant:slow" and a.body["error"]["limit_source"] == "tenant:slow"
    for e in [o, a]:
        seconds, ms = int(e.response.headers["retry-after"]), int(e.response.headers["retry-after-ms"])
        assert 50 < seconds <= 60 and (seconds - 1) * 1000 <= ms <= seconds * 1000
    assert o.response.headers["x-ratelimit-limit-requests"] == "1"
    assert o.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert o.response.headers["x-ratelimit-reset-requests"].endswith("s")
    assert a.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert "x-ratelimit-limit-requests" not in a.response.headers
    # The clients wait as long as they are told before they try again.
    client = oai("slow")
    assert 50 < client._parse_retry_after_header(o.response.headers) <= 60


def test_a_stream_too_many_is_tried_again_by_the_client_itself(oai, upstream):
    upstream["gpt"].script(tokens=50, token_interval=20)
    open_one = ask_openai(oai("single"), stream=True)
    next(open_one)
    with pytest.raises(openai.RateLimitError):
        ask_openai(oai("single"), stream=True)
    open_one.close()
    upstream["gpt"].script(text="at last")
    chunks = ask_openai(oai("single", max_retries=5), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "at last"


def test_a_spent_period_names_its_limit_what_is_spent_and_when_it_ends(oai, ant):
    o, a = both(oai, ant, "PermissionDeniedError", tenant="spent")
    check_bodies(o, a, 403, "budget_exhausted", "permission_error")
    for e in [o.body, a.body["error"]]:
        assert (e["limit_source"], e["limit_usd"], e["spend_usd"]) == ("tenant:spent", 0.000001, 0)
        until = time.strptime(e["resets_at"], "%Y-%m-%dT%H:%M:%SZ")
        assert until[3:6] == (0, 0, 0), "a UTC day ends at midnight"


def test_a_budget_held_by_requests_in_flight_is_402_and_comes_back(oai, ant, upstream):
    upstream["gpt"].script(tokens=200, token_interval=20)
    held = ask_openai(oai("filling"), stream=True, max_tokens=900)
    next(held)
    with pytest.raises(openai.APIStatusError) as refused:
        ask_openai(oai("filling"), max_tokens=900)
    o = refused.value
    with pytest.raises(anthropic.APIStatusError) as refused:
        ask_anthropic(ant("filling"), max_tokens=900)
    a = refused.value
    check_bodies(o, a, 402, "budget_exhausted", "permission_error", "billing_error")
    assert (o.body["limit_tokens"], o.body["spend_tokens"]) == (1000, 0) and int(o.response.headers["retry-after"]) >= 1
    held.close()
    upstream["gpt"].script(text="room again")
    answer = stack.eventually(lambda: retried(oai("filling")))
    assert answer.choices[0].message.content == "room again"


def retried(client):
    try:
        return ask_openai(client, max_tokens=900)
    except openai.APIStatusError as e:
        assert e.status_code == 402
        return None


def fault(**kind):
    return [{"fault": kind}]


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_is_down_is_503(oai, ant, stream):
    o, a = both(oai, ant, "InternalServerError", model="gone", stream=stream)
    check_bodies(o, a, 503, "upstream_unreachable", "server_error", "api_error")


@pytest.mark.parametrize(
    ("model", "upstream_status", "status", "code", "kind"),
    [
        ("status", 500, 502, "upstream_error", "api_error"),
        ("overfull", 503, 503, "upstream_error", "overloaded_error"),
        ("credless", 401, 502, "upstream_credentials", "api_error"),
    ],
)
def test_an_upstream_that_fails(oai, ant, upstream, model, upstream_status, status, code, kind):
    upstream["broken"].script(faults=fault(status={"status": upstream_status}))
    o, a = both(oai, ant, "InternalServerError", model=model)
    check_bodies(o, a, status, code, "server_error", kind)
    assert "sk-" not in json.dumps(o.body)


@pytest.mark.parametrize(
    ("upstream_status", "kind", "code"),
    [(400, "BadRequestError", "invalid_request"), (404, "NotFoundError", "not_found"),
     (409, "ConflictError", "invalid_request"), (422, "UnprocessableEntityError", "invalid_request")],
)
def test_what_the_upstream_finds_wrong_with_a_request_stays_that(oai, ant, upstream, upstream_status, kind, code):
    upstream["broken"].script(faults=fault(status={"status": upstream_status}))
    o, a = both(oai, ant, kind, model="refused")
    assert (o.status_code, o.code, a.body["error"]["code"]) == (upstream_status, code, code)
    assert len(upstream["broken"].log()) == 2, "a wrong request is asked once"


def test_the_upstreams_own_rate_limit_says_that_it_is_the_upstreams(oai, ant, upstream):
    upstream["broken"].script(faults=fault(status={"status": 429, "retry_after": 30_000}))
    o, a = both(oai, ant, "RateLimitError", model="limited")
    check_bodies(o, a, 429, "rate_limited", "rate_limit_error")
    assert o.body["limit_source"] == "upstream" and o.response.headers["retry-after"] == "30"


def test_a_silent_upstream_is_504(oai, ant, upstream):
    upstream["broken"].script(first_token=60_000)
    o, a = both(oai, ant, "InternalServerError", model="silent")
    check_bodies(o, a, 504, "upstream_timeout", "server_error", "timeout_error")


def test_filtered_content_is_403_and_not_routed_around(oai, ant, upstream):
    upstream["broken"].script(faults=fault(content_filter={}))
    o, a = both(oai, ant, "PermissionDeniedError", model="filtered")
    check_bodies(o, a, 403, "content_filtered", "permission_error")


def test_an_error_in_mid_stream_is_raised_and_never_an_end(oai, ant, upstream):
    upstream["broken"].script(tokens=60, faults=fault(cut={"after_tokens": 10, "how": "close"}))
    text, last = "", None
    with pytest.raises(openai.APIError) as broke:
        for chunk in ask_openai(oai(), model="cut", stream=True):
            text += chunk.choices[0].delta.content or ""
            last = chunk
    assert broke.value.body["code"] == "upstream_truncated" and broke.value.message
    assert len(text.split()) == 10 and last.choices[0].finish_reason is None
    assert broke.value.__class__ is openai.APIError, "the status was 200"

    text = ""
    with pytest.raises(anthropic.APIStatusError) as broke:
        for event in ask_anthropic(ant(), model="cut", stream=True):
            assert event.type != "message_stop"
            if event.type == "content_block_delta":
                text += event.delta.text
    assert len(text.split()) == 10
    assert broke.value.body["error"]["code"] == "upstream_truncated"


def test_a_whole_answer_that_was_cut_is_an_error_and_not_half_an_answer(oai, upstream):
    upstream["broken"].script(tokens=60, faults=fault(cut={"after_tokens": 10, "how": "clean_end"}))
    with pytest.raises(openai.InternalServerError) as broke:
        ask_openai(oai(), model="cut")
    assert (broke.value.status_code, broke.value.code) == (502, "upstream_truncated")


def test_an_unknown_address_and_a_wrong_method_have_their_clients_shape(server):
    for version, shape in [({}, lambda b: b["error"]["code"]), ({"anthropic_version": "2023-06-01"}, lambda b: b["error"]["type"])]:
        status, _, body = server.ask("POST", "/v1/engines", {}, **version)
        assert status == 404 and shape(json.loads(body)).startswith("not_found")
        status, _, body = server.ask("GET", "/v1/chat/completions", **version)
        assert status == 405 and shape(json.loads(body)).startswith("invalid_request")
