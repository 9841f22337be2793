"""Requests that are sent twice under a key, and streams whose events have ids: the clients need not know of either."""

import uuid

import pytest

HELLO = [{"role": "user", "content": "one two three"}]


def headers(**more):
    return {"Idempotency-Key": str(uuid.uuid4()), **more}


@pytest.mark.parametrize("stream", [False, True])
def test_openai_gets_the_answer_of_the_first_request_again(oai, server, upstream, stream):
    upstream["gpt"].script(tokens=20)
    same = headers(**{"Forebay-Resume": "5s"})

    def ask():
        raw = oai().chat.completions.with_raw_response.create(
            model="gpt", messages=HELLO, stream=stream, extra_headers=same
        )
        answer = raw.parse()
        if stream:
            text = "".join(c.choices[0].delta.content or "" for c in answer if c.choices)
        else:
            text = answer.choices[0].message.content
        return text, raw.headers

    (first, h), (again, replayed) = ask(), ask()
    assert len(first.split()) == 20 and again == first
    assert "idempotent-replayed" not in h and replayed["idempotent-replayed"] == "true"
    assert replayed["x-request-id"] == h["x-request-id"]
    assert len(upstream["gpt"].log()) == 1


def test_anthropic_reads_over_the_ids_of_a_stream(ant, upstream):
    upstream["claude"].script(tokens=20)
    same = headers(**{"Forebay-Resume": "5s"})
    texts = []
    for _ in range(2):
        with ant().messages.stream(model="claude", messages=HELLO, max_tokens=50, extra_headers=same) as stream:
            texts.append(stream.get_final_text())
    assert len(texts[0].split()) == 20 and texts[0] == texts[1]
    assert len(upstream["claude"].log()) == 1


def test_another_request_under_a_key_is_the_class_for_what_cannot_be_processed(oai, ant, upstream):
    import anthropic
    import openai

    for client, kind, more in [
        (oai().chat.completions, openai.UnprocessableEntityError, {"model": "gpt"}),
        (ant().messages, anthropic.UnprocessableEntityError, {"model": "claude", "max_tokens": 5}),
    ]:
        same = headers()
        client.create(messages=HELLO, extra_headers=same, **more)
        with pytest.raises(kind) as refused:
            client.create(messages=[{"role": "user", "content": "other"}], extra_headers=same, **more)
        assert "idempotency_key_reused" in str(refused.value.body)
