"""The pipeline `summarize` called as a model by both clients, over a document far longer than a model's window."""

import pytest

import document
import openai

TEXT = document.long()
MESSAGES = [{"role": "system", "content": "Ignored: the prompts are the pipeline's."}, {"role": "user", "content": TEXT}]


@pytest.fixture(autouse=True)
def answering(upstream):
    upstream["gpt"].script(text=f"{document.TRUE} {document.INVENTED}")


def true_to_the_document(text):
    """The pipeline's last stage has left out what the document does not say."""
    assert "council of Oslo" in text and "Zebulon" not in text, text


@pytest.mark.parametrize("stream", [False, True])
def test_openai_calls_it_as_a_model(oai, server, upstream, stream):
    client = oai()
    if stream:
        chunks = list(client.chat.completions.create(
            model="summarize", messages=MESSAGES, stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        usage, request = chunks[-1].usage, chunks[0].id
        assert chunks[-1].choices == []
    else:
        answer = client.chat.completions.create(model="summarize", messages=MESSAGES)
        text, usage, request = answer.choices[0].message.content, answer.usage, answer.id
        assert (answer.model, answer.choices[0].finish_reason) == ("summarize", "stop")
    true_to_the_document(text)
    record = server.record(request)
    assert (record["pipeline"], record["ending"], record["surface"]) == ("summarize", "complete", "openai")
    assert record["usage"]["output_tokens"] == usage.completion_tokens > 0
    assert {"draft", "picked", "notes", "summary", "checked"} == {s["name"] for s in record["stages"]}
    # Notes that are in the cache are not asked for again; the summary is.
    assert len(upstream["gpt"].log()) >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_calls_it_as_a_model(ant, server, stream):
    client, ask = ant(), dict(model="summarize", max_tokens=1000, messages=MESSAGES[1:], system="Ignored.")
    if stream:
        with client.messages.stream(**ask) as events:
            text = "".join(events.text_stream)
            answer = events.get_final_message()
    else:
        answer = client.messages.create(**ask)
        (block,) = answer.content
        text = block.text
    true_to_the_document(text)
    assert (answer.model, answer.stop_reason) == ("summarize", "end_turn")
    record = server.record(answer.id)
    assert (record["pipeline"], record["surface"], record["ending"]) == ("summarize", "anthropic", "complete")
    assert record["usage"]["output_tokens"] == answer.usage.output_tokens > 0


def test_a_stage_that_fails_leaves_the_draft(oai, server, upstream):
    messages = [{"role": "user", "content": document.long(50)}]
    oai().chat.completions.create(model="summarize", messages=messages)
    # The notes are in the cache now, and the summary alone fails: its contract falls back to the draft.
    upstream["gpt"].script(faults=[{"fault": {"content_filter": {}}}])
    answer = oai().chat.completions.create(model="summarize", messages=messages)
    assert "Margrethe Holm" in answer.choices[0].message.content
    assert len(upstream["gpt"].log()) == 1
    states = {s["name"]: s for s in server.record(answer.id)["stages"]}
    assert "content_filtered" in str(states["summary"])


def test_a_pipeline_that_fails_raises_as_a_model_does(oai):
    with pytest.raises(openai.InternalServerError) as refused:
        oai().chat.completions.create(model="doomed", messages=[{"role": "user", "content": "hello"}])
    assert (refused.value.status_code, refused.value.code) == (503, "upstream_unreachable")


def test_an_empty_input_is_refused(oai):
    with pytest.raises(openai.BadRequestError) as refused:
        oai().chat.completions.create(model="summarize", messages=[{"role": "user", "content": "  "}])
    assert refused.value.param == "messages"
