"""Parameters and content reach the provider: as they are over the same protocol, translated over the other."""

import openai
import pytest

IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HELLO = [{"role": "user", "content": "one two three"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
SAMPLING = {"temperature": 0.5, "top_p": 0.9}


def test_openai_parameters_pass_to_an_openai_upstream(oai, upstream):
    form = {"type": "json_schema", "json_schema": {"name": "count", "schema": SCHEMA, "strict": True}}
    asked = {
        **SAMPLING, "seed": 7, "stop": ["END", "STOP"], "user": "alice", "max_completion_tokens": 99,
        "frequency_penalty": 0.1, "presence_penalty": 0.2, "logit_bias": {"42": -1}, "response_format": form,
        "parallel_tool_calls": False, "service_tier": "flex", "metadata": {"a": "b"}, "reasoning_effort": "low",
    }
    own = {"guided_regex": "[0-9]+", "top_k": 4}
    oai().chat.completions.create(model="gpt", messages=HELLO, n=1, extra_body=own, **asked)
    sent = upstream["gpt"].body()
    # The limit goes by the older name to upstreams that are not OpenAI's own, which all know it.
    wanted = {**asked, **own, "max_tokens": asked.pop("max_completion_tokens")}
    wanted.pop("max_completion_tokens")
    assert {k: sent.get(k) for k in wanted} == wanted
    assert sent["model"] == "gpt-fake" and "n" not in sent


def test_openai_parameters_are_translated_for_an_anthropic_upstream(oai, upstream):
    form = {"type": "json_schema", "json_schema": {"name": "count", "schema": SCHEMA}}
    oai().chat.completions.create(
        model="claude", messages=[{"role": "developer", "content": "Be brief."}, *HELLO], **SAMPLING, stop="END",
        user="alice", seed=7, max_tokens=99, response_format=form, parallel_tool_calls=False,
        tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="required", extra_body={"top_k": 4},
    )
    sent = upstream["claude"].body()
    assert sent["system"] == "Be brief." and sent["stop_sequences"] == ["END"] and sent["max_tokens"] == 99
    assert sent["metadata"] == {"user_id": "alice"} and sent["top_k"] == 4
    assert sent["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert sent["tools"][0]["input_schema"]["type"] == "object"
    # What the protocol does not have stays here.
    assert not {"seed", "stop", "user", "response_format", "n"} & set(sent)


@pytest.mark.parametrize("model", ["claude", "gpt"])
def test_anthropic_parameters(ant, upstream, model):
    ant().messages.create(
        model=model, max_tokens=99, messages=HELLO, stop_sequences=["END"], metadata={"user_id": "alice"},
        system=[{"type": "text", "text": "Be brief."}], extra_body={**SAMPLING, "top_k": 4},
    )
    sent = upstream[model].body()
    if model == "claude":
        assert sent["stop_sequences"] == ["END"] and sent["metadata"] == {"user_id": "alice"} and sent["top_k"] == 4
        assert (sent["temperature"], sent["top_p"], sent["system"]) == (0.5, 0.9, "Be brief.")
    else:
        assert sent["stop"] == ["END"] and sent["user"] == "alice" and sent["max_tokens"] == 99
        assert sent["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("url", [f"data:image/png;base64,{IMAGE}", "https://example.com/cat.png"])
def test_an_image_from_an_openai_client(oai, upstream, url):
    part = {"type": "image_url", "image_url": {"url": url}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    for model in ["gpt", "claude"]:
        oai().chat.completions.create(model=model, messages=messages)
    assert upstream["gpt"].body()["messages"][0]["content"][1] == part
    text, image = upstream["claude"].body()["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this?"} and image["type"] == "image"
    if url.startswith("data:"):
        assert image["source"] == {"type": "base64", "media_type": "image/png", "data": IMAGE}
    else:
        assert image["source"] == {"type": "url", "url": url}


def test_an_image_from_an_anthropic_client(ant, upstream):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    for model in ["gpt", "claude"]:
        ant().messages.create(model=model, max_tokens=9, messages=messages)
    assert upstream["claude"].body()["messages"][0]["content"][1] == image
    part = upstream["gpt"].body()["messages"][0]["content"][1]
    assert part == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}


def test_other_content_parts_pass_to_an_upstream_of_the_same_protocol(oai, ant, upstream):
    audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    oai().chat.completions.create(model="gpt", messages=[{"role": "user", "content": [audio]}])
    assert upstream["gpt"].body()["messages"][0]["content"] == [audio]
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    ant().messages.create(model="claude", max_tokens=9, messages=[{"role": "user", "content": [pdf]}])
    assert upstream["claude"].body()["messages"][0]["content"] == [pdf]


def test_the_end_user_is_in_the_ledger(oai, ant, server):
    answer = oai().chat.completions.create(model="gpt", messages=HELLO, user="alice")
    assert server.record(answer.id)["user"] == "alice"
    answer = ant().messages.create(model="gpt", max_tokens=9, messages=HELLO, metadata={"user_id": "bob"})
    assert server.record(answer.id)["user"] == "bob"


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_come_back(oai, upstream, stream):
    upstream["gpt"].script(text="four five six")
    answer = oai().chat.completions.create(model="gpt", messages=HELLO, logprobs=True, top_logprobs=2, stream=stream)
    if stream:
        pieces = [(c.choices[0].delta.content, c.choices[0].logprobs) for c in answer if c.choices]
        assert all((probs is not None) == bool(text) for text, probs in pieces)
        probs = [p for _, some in pieces if some for p in some.content]
    else:
        probs = answer.choices[0].logprobs.content
    assert "".join(p.token for p in probs) == "four five six" and probs[0].logprob == -0.5
    sent = upstream["gpt"].body()
    assert sent["logprobs"] is True and sent["top_logprobs"] == 2


def test_several_answers_at_once_are_refused_by_name(oai, upstream):
    with pytest.raises(openai.BadRequestError) as refused:
        oai().chat.completions.create(model="gpt", messages=HELLO, n=2)
    assert refused.value.param == "n" and upstream["gpt"].log() == []


def test_cache_marks_reach_an_anthropic_upstream_and_no_other(ant, upstream):
    mark = {"type": "ephemeral"}
    ask = dict(
        max_tokens=9,
        system=[{"type": "text", "text": "Long instructions.", "cache_control": mark}],
        tools=[{"name": "f", "input_schema": {"type": "object"}, "cache_control": mark}],
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hi.", "cache_control": mark}]}],
    )
    ant().messages.create(model="claude", **ask)
    sent = upstream["claude"].body()
    assert (sent["system"], sent["tools"], sent["messages"]) == (ask["system"], ask["tools"], ask["messages"])
    ant().messages.create(model="gpt", **ask)
    assert "cache_control" not in str(upstream["gpt"].body())
