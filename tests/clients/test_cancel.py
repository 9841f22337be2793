"""A client that leaves stops the upstream, and what was used until then is in the ledger."""

import asyncio

import openai
import pytest

HELLO = [{"role": "user", "content": "one two three"}]


@pytest.mark.parametrize("model", ["gpt", "claude"])
def test_an_openai_stream_that_is_closed(oai, server, upstream, model):
    upstream[model].script(tokens=1000, token_interval=20)
    stream = oai().chat.completions.create(model=model, messages=HELLO, stream=True)
    chunks = [next(stream) for _ in range(4)]
    stream.close()
    settled(server, upstream[model], chunks[0].id, model)


@pytest.mark.parametrize("model", ["gpt", "claude"])
def test_an_anthropic_stream_that_is_left(ant, server, upstream, model):
    upstream[model].script(tokens=1000, token_interval=20)
    with ant().messages.stream(model=model, max_tokens=2000, messages=HELLO) as stream:
        for event in stream:
            if event.type == "text":
                break
        request = stream.current_message_snapshot.id
    settled(server, upstream[model], request, model)


def settled(server, upstream, request, model):
    assert upstream.ended() == "client_left"
    record = server.record(request)
    assert record["ending"] == "cancelled" and 0 < record["usage"]["output_tokens"] < 1000
    assert record["usage"]["estimated"] and record["cost"] > 0
    (attempt,) = record["attempts"]
    assert (attempt["model"], attempt["ending"]) == (model, "cancelled")


def test_an_async_call_that_is_cancelled_before_its_first_byte(oai, upstream):
    upstream["gpt"].script(first_token=60_000)

    async def leave():
        async with oai(kind=openai.AsyncOpenAI) as client:
            call = asyncio.create_task(client.chat.completions.create(model="gpt", messages=HELLO))
            while not upstream["gpt"].log():
                await asyncio.sleep(0.005)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(leave())
    assert upstream["gpt"].ended() == "client_left"


def test_a_client_that_gives_up_waiting(oai, upstream):
    upstream["gpt"].script(first_token=60_000)
    with pytest.raises(openai.APITimeoutError):
        oai(timeout=0.3).chat.completions.create(model="gpt", messages=HELLO)
    assert upstream["gpt"].ended() == "client_left"
