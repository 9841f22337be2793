"""What the headers of an answer say: whose request, what is left, what it took."""

import re
import time

import pytest

HELLO = [{"role": "user", "content": "one two three"}]
GO_DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+(\.\d+)?(ms|s))$")


@pytest.mark.parametrize("stream", [False, True])
def test_openai_answers_carry_rates_and_facts(oai, server, upstream, stream):
    upstream["gpt"].script(text="four five")
    raw = oai("counted").chat.completions.with_raw_response.create(model="gpt", messages=HELLO, stream=stream)
    h = raw.headers
    assert (h["x-ratelimit-limit-requests"], h["x-ratelimit-limit-tokens"]) == ("1000", "1000000")
    assert 0 < int(h["x-ratelimit-remaining-requests"]) < 1000
    assert 0 < int(h["x-ratelimit-remaining-tokens"]) < 1_000_000
    assert GO_DURATION.match(h["x-ratelimit-reset-requests"]) and GO_DURATION.match(h["x-ratelimit-reset-tokens"])
    assert h["forebay-attempts"] == "1" and h["forebay-model-version"] == "gpt-fake"
    assert 0 < int(h["forebay-overhead-us"]) < 1_000_000
    answer = raw.parse()
    if stream:
        assert "forebay-cost-nanousd" not in h, "nobody knows it yet"
        list(answer)
    else:
        assert int(h["forebay-cost-nanousd"]) == 3 * 1000 + 2 * 2000
    record = server.record(h["x-request-id"], "counted")
    assert record["cost"] == 3 * 1000 + 2 * 2000 and record["tenant"] == "counted"


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_answers_carry_rates_and_facts(ant, upstream, stream):
    upstream["claude"].script(text="four five")
    raw = ant("counted").messages.with_raw_response.create(model="claude", messages=HELLO, max_tokens=50, stream=stream)
    h = raw.headers
    assert (h["anthropic-ratelimit-requests-limit"], h["anthropic-ratelimit-tokens-limit"]) == ("1000", "1000000")
    assert 0 < int(h["anthropic-ratelimit-requests-remaining"]) < 1000
    for kind in ["requests", "tokens"]:
        assert time.strptime(h[f"anthropic-ratelimit-{kind}-reset"], "%Y-%m-%dT%H:%M:%SZ")
    assert h["request-id"] == h["x-request-id"] and h["forebay-attempts"] == "1"
    answer = raw.parse()
    if stream:
        list(answer)


def test_a_fallback_is_counted_and_its_overhead_is_not_the_upstreams(oai, upstream):
    upstream["gpt"].script(text="four", first_token=300)
    raw = oai().chat.completions.with_raw_response.create(model="rescued", messages=HELLO)
    assert int(raw.headers["forebay-attempts"]) >= 2 and raw.headers["forebay-model-version"] == "gpt-fake"
    raw = oai().chat.completions.with_raw_response.create(model="gpt", messages=HELLO)
    assert int(raw.headers["forebay-overhead-us"]) < 250_000, "the upstream's 300 ms are not ours"
