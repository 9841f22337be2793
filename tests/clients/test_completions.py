"""The older completions through the official client: whole, streamed, by a pipeline's name, and refused by name."""

import openai
import pytest

import document

MODELS = ["gpt", "claude"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("prompt", ["one two three", ["one two three"]])
def test_whole(oai, server, upstream, model, prompt):
    upstream[model].script(text="four five")
    answer = oai().completions.create(model=model, prompt=prompt, max_tokens=9, temperature=0.5, stop=["END"], user="alice")
    assert (answer.object, answer.model) == ("text_completion", model)
    (choice,) = answer.choices
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, "four five", "stop", None)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 2, 5)
    assert answer._request_id == answer.id
    record = server.record(answer.id)
    assert (record["surface"], record["ending"], record["user"]) == ("completions", "complete", "alice")
    sent = upstream[model].body()
    if model == "gpt":
        assert sent["messages"] == [{"role": "user", "content": "one two three"}]
        assert (sent["max_tokens"], sent["temperature"], sent["stop"]) == (9, 0.5, ["END"]) and "prompt" not in sent
    else:
        assert sent["max_tokens"] == 9 and sent["stop_sequences"] == ["END"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("usage", [True, False])
def test_stream(oai, upstream, model, usage):
    upstream[model].script(text="four five six")
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(oai().completions.create(model=model, prompt="one two three", stream=True, **options))
    assert all(c.object == "text_completion" and c.id == chunks[0].id for c in chunks)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == "four five six"
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "stop" and not any(reasons[:-1])
    if usage:
        assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 6
        assert all(c.usage is None and "usage" in c.model_fields_set for c in chunks[:-1])
    else:
        assert all("usage" not in c.model_fields_set and c.choices for c in chunks)


def test_an_answer_cut_by_its_limit_says_so(oai, upstream):
    upstream["gpt"].script(text="one two three four")
    answer = oai().completions.create(model="gpt", prompt="x", max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_pipeline_is_called_by_its_name(oai, server, upstream, stream):
    upstream["gpt"].script(text=f"{document.TRUE} {document.INVENTED}")
    answer = oai().completions.create(model="summarize", prompt=document.long(50), stream=stream)
    if stream:
        chunks = list(answer)
        text, request = "".join(c.choices[0].text for c in chunks), chunks[0].id
    else:
        text, request = answer.choices[0].text, answer.id
    assert "council of Oslo" in text and "Zebulon" not in text
    record = server.record(request)
    assert (record["pipeline"], record["surface"], record["ending"]) == ("summarize", "completions", "complete")


@pytest.mark.parametrize(
    ("more", "param"),
    [({"prompt": ["a", "b"]}, "prompt"), ({"prompt": [1, 2]}, "prompt"), ({"prompt": [[1, 2]]}, "prompt"), ({"n": 2}, "n"),
     ({"best_of": 2}, "best_of"), ({"echo": True}, "echo"), ({"suffix": "z"}, "suffix"), ({"logprobs": 1}, "logprobs"),
     ({"max_tokens": 0}, "max_tokens")],
)
def test_what_cannot_be_done_is_refused_by_its_name(oai, upstream, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        oai().completions.create(**{"model": "gpt", "prompt": "x", **more})
    assert (refused.value.param, refused.value.code) == (param, "invalid_request") and upstream["gpt"].log() == []


def test_errors_are_the_clients_own(oai, upstream):
    for kind, model, key, code in [
        ("AuthenticationError", "gpt", "fb_wrong", "invalid_key"), ("NotFoundError", "nobody", None, "not_found"),
        ("InternalServerError", "gone", None, "upstream_unreachable"),
    ]:
        with pytest.raises(getattr(openai, kind)) as refused:
            oai(key=key).completions.create(model=model, prompt="x")
        assert refused.value.code == code and refused.value.request_id.startswith("req_")


def test_an_error_in_mid_stream_is_raised_and_never_an_end(oai, upstream):
    upstream["broken"].script(tokens=60, faults=[{"fault": {"cut": {"after_tokens": 10, "how": "close"}}}])
    text = ""
    with pytest.raises(openai.APIError) as broke:
        for chunk in oai().completions.create(model="cut", prompt="x", stream=True):
            text += chunk.choices[0].text
    assert broke.value.body["code"] == "upstream_truncated" and len(text.split()) == 10
