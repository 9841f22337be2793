"""Responses that are made in the background, through the official client: polled to their end, cancelled, removed."""

import openai
import pytest

import stack


def ended(client, response):
    def look():
        now = client.responses.retrieve(response.id)
        return now.status not in ("queued", "in_progress") and now

    return stack.eventually(look)


def test_a_response_is_acknowledged_at_once_and_polled_to_its_end(oai, upstream):
    upstream["gpt"].script(text="four five", first_token=200)
    client = oai()
    first = client.responses.create(
        model="gpt", input="one two three", instructions="Be brief.", background=True, metadata={"a": "b"})
    assert first.status in ("queued", "in_progress") and first.id.startswith("resp_")
    assert (first.background, first.output, first.usage, first.instructions, first.metadata) == (
        True, [], None, "Be brief.", {"a": "b"})
    last = ended(client, first)
    assert (last.status, last.output_text, last.id, last.model) == ("completed", "four five", first.id, "gpt")
    assert last.usage.output_tokens == 2 and last.created_at == first.created_at
    assert (last.background, last.metadata, last.instructions) == (True, {"a": "b"}, "Be brief.")
    # The model was asked as it would have been, and cancelling what has ended changes nothing.
    assert not {"background", "store"} & set(upstream["gpt"].body())
    assert client.responses.cancel(first.id).status == "completed"
    with pytest.raises(openai.NotFoundError):
        oai("counted").responses.retrieve(first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_what_was_cut_short_is_incomplete_and_what_failed_says_why(oai, upstream):
    upstream["gpt"].script(tokens=9)
    upstream["broken"].script(faults=[{"fault": {"status": {"status": 400}}}])
    client = oai()
    cut = ended(client, client.responses.create(model="gpt", input="x", max_output_tokens=2, background=True))
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    wrong = ended(client, client.responses.create(model="refused", input="x", background=True, metadata={"a": "b"}))
    assert (wrong.status, wrong.error.code, wrong.output, wrong.metadata) == (
        "failed", "invalid_request", [], {"a": "b"})
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="nobody", input="x", background=True)
    assert unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.retrieve(cut.id, stream=True)
    assert refused.value.param == "stream"


def test_a_response_is_cancelled_and_its_call_stopped(oai, upstream):
    upstream["gpt"].script(text="late", first_token=60_000)
    client = oai()
    response = client.responses.create(model="gpt", input="x", background=True)
    stack.eventually(lambda: upstream["gpt"].log())
    assert client.responses.retrieve(response.id).status == "in_progress"
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"
    assert upstream["gpt"].ended() == "client_left"


def test_a_pipeline_answers_in_the_background_and_one_key_makes_one(oai, upstream):
    upstream["gpt"].script(text="LOUD")
    client = oai()
    again = {"idempotency-key": "background-1"}
    make = lambda: client.responses.create(model="shout", input="x", background=True, extra_headers=again)
    one, two = make(), make()
    assert one.id == two.id and ended(client, one).output_text == "LOUD"
    assert len(upstream["gpt"].log()) == 1
