"""Chat through both clients, each over both providers: whole, streamed, with usage, with tools, asynchronously."""

import asyncio
import json

import anthropic
import openai
import pytest

MODELS = ["gpt", "claude"]
HELLO = [{"role": "user", "content": "one two three"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
OPENAI_TOOL = {"type": "function", "function": {"name": "weather", "description": "Now.", "parameters": WEATHER}}
ANTHROPIC_TOOL = {"name": "weather", "description": "Now.", "input_schema": WEATHER}
CALL = {"tool_call": {"arguments": '{"city": "Oslo"}'}, "echo": True}


@pytest.mark.parametrize("model", MODELS)
def test_openai_whole(oai, upstream, model):
    upstream[model].script(text="four five")
    answer = oai().chat.completions.create(model=model, messages=HELLO)
    assert answer.object == "chat.completion" and answer.model == model
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "four five", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 2, 5)
    assert answer._request_id == answer.id


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("usage", [True, False])
def test_openai_stream(oai, upstream, model, usage):
    upstream[model].script(text="four five six")
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(oai().chat.completions.create(model=model, messages=HELLO, stream=True, **options))
    assert all(c.object == "chat.completion.chunk" and c.id == chunks[0].id for c in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "four five six"
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "stop" and not any(reasons[:-1])
    if usage:
        assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 6
        # `null` in every chunk but the extra one, as OpenAI sends it, and not left out.
        assert all(c.usage is None and "usage" in c.model_fields_set for c in chunks[:-1])
    else:
        assert all("usage" not in c.model_fields_set and c.choices for c in chunks)
    # The upstream was asked for its usage all the same: the ledger needs it.
    if model == "gpt":
        assert upstream[model].body()["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("model", MODELS)
def test_openai_stream_helper(oai, upstream, model):
    upstream[model].script(text="four five six")
    with oai().chat.completions.stream(model=model, messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert final.choices[0].message.content == "four five six"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [True, False])
def test_openai_tools(oai, upstream, model, stream):
    upstream[model].script(**CALL)
    client, messages = oai(), [{"role": "user", "content": "How is Oslo?"}]
    ask = dict(model=model, tools=[OPENAI_TOOL], tool_choice="auto")
    if stream:
        call, reason = None, None
        for chunk in client.chat.completions.create(messages=messages, stream=True, **ask):
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                for piece in choice.delta.tool_calls or []:
                    assert piece.index == 0
                    if piece.id:
                        assert call is None, "only the first piece names the call"
                        call = {"id": piece.id, "name": piece.function.name, "arguments": ""}
                    call["arguments"] += piece.function.arguments or ""
    else:
        choice = client.chat.completions.create(messages=messages, **ask).choices[0]
        assert choice.message.content is None
        (made,) = choice.message.tool_calls
        call = {"id": made.id, "name": made.function.name, "arguments": made.function.arguments}
        reason = choice.finish_reason
    assert (call["name"], json.loads(call["arguments"]), reason) == ("weather", {"city": "Oslo"}, "tool_calls")
    sent = upstream[model].body()
    if model == "gpt":
        assert sent["tools"] == [OPENAI_TOOL] and sent["tool_choice"] == "auto"
    else:
        assert sent["tools"] == [ANTHROPIC_TOOL] and sent["tool_choice"] == {"type": "auto"}

    # The tool's result goes back, and the model answers from it.
    function = {"name": call["name"], "arguments": call["arguments"]}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [{"id": call["id"], "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call["id"], "content": "minus four degrees"},
    ]
    if stream:
        chunks = client.chat.completions.create(messages=messages, stream=True, **ask)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    else:
        text = client.chat.completions.create(messages=messages, **ask).choices[0].message.content
    assert text == "minus four degrees"
    turns = upstream[model].body()["messages"]
    if model == "claude":
        assert turns[-2]["content"][0]["type"] == "tool_use" and turns[-2]["content"][0]["id"] == call["id"]
        assert turns[-1]["content"][0]["tool_use_id"] == call["id"]
    else:
        assert turns[-1]["tool_call_id"] == call["id"]


@pytest.mark.parametrize("model", MODELS)
def test_anthropic_whole(ant, upstream, model):
    upstream[model].script(text="four five")
    answer = ant().messages.create(model=model, max_tokens=50, messages=HELLO, system="Be brief.")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", model)
    assert [(b.type, b.text) for b in answer.content] == [("text", "four five")]
    assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == ("end_turn", 5, 2)
    assert answer._request_id == answer.id
    sent = upstream[model].body()
    if model == "claude":
        assert sent["system"] == "Be brief." and sent["max_tokens"] == 50
    else:
        assert sent["messages"][0] == {"role": "system", "content": "Be brief."} and sent["max_tokens"] == 50


@pytest.mark.parametrize("model", MODELS)
def test_anthropic_stream(ant, upstream, model):
    upstream[model].script(text="four five six")
    events = list(ant().messages.create(model=model, max_tokens=50, messages=HELLO, stream=True))
    kinds = [e.type for e in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "".join(e.delta.text for e in events if e.type == "content_block_delta") == "four five six"
    assert events[-2].delta.stop_reason == "end_turn" and events[-2].usage.output_tokens == 3


@pytest.mark.parametrize("model", MODELS)
def test_anthropic_stream_helper(ant, upstream, model):
    upstream[model].script(text="four five six")
    with ant().messages.stream(model=model, max_tokens=50, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "four five six"
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == 3 and final.usage.input_tokens == 3


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [True, False])
def test_anthropic_tools(ant, upstream, model, stream):
    upstream[model].script(**CALL)
    client, messages = ant(), [{"role": "user", "content": "How is Oslo?"}]
    ask = dict(model=model, max_tokens=200, tools=[ANTHROPIC_TOOL])

    def answer():
        if not stream:
            return client.messages.create(messages=messages, **ask)
        with client.messages.stream(messages=messages, **ask) as events:
            return events.get_final_message()

    first = answer()
    (call,) = first.content
    assert (call.type, call.name, call.input, first.stop_reason) == ("tool_use", "weather", {"city": "Oslo"}, "tool_use")
    sent = upstream[model].body()
    assert sent["tools"] == [ANTHROPIC_TOOL if model == "claude" else OPENAI_TOOL]

    messages += [
        {"role": "assistant", "content": [call.to_dict()]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "minus four degrees"}]},
    ]
    second = answer()
    assert [b.text for b in second.content] == ["minus four degrees"] and second.stop_reason == "end_turn"
    last = upstream[model].body()["messages"][-1]
    if model == "claude":
        assert (last["role"], last["content"][0]["tool_use_id"]) == ("user", call.id)
    else:
        assert (last["role"], last["tool_call_id"]) == ("tool", call.id)


def test_anthropic_counts_tokens_without_asking_the_provider(ant, upstream):
    for model in [*MODELS, "summarize"]:
        counted = ant().messages.count_tokens(model=model, messages=[{"role": "user", "content": "hello there"}])
        assert 1 <= counted.input_tokens <= 20
    assert upstream["claude"].log() == [] and upstream["gpt"].log() == []


@pytest.mark.parametrize("model", MODELS)
def test_both_clients_asynchronously(oai, ant, upstream, model):
    upstream[model].script(text="four five six")

    async def ask():
        async with oai(kind=openai.AsyncOpenAI) as client:
            async def stream():
                parts = [c.choices[0].delta.content or "" async for c in await client.chat.completions.create(
                    model=model, messages=HELLO, stream=True) if c.choices]
                return "".join(parts)
            whole = client.chat.completions.create(model=model, messages=HELLO)
            many = await asyncio.gather(whole, *(stream() for _ in range(8)))
            assert many[0].choices[0].message.content == "four five six" and set(many[1:]) == {"four five six"}
        async with ant(kind=anthropic.AsyncAnthropic) as client:
            whole = await client.messages.create(model=model, max_tokens=9, messages=HELLO)
            assert whole.content[0].text == "four five six"
            async with client.messages.stream(model=model, max_tokens=9, messages=HELLO) as stream:
                assert "".join([t async for t in stream.text_stream]) == "four five six"

    asyncio.run(ask())


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_cut_by_its_limit_says_so(oai, ant, upstream, model):
    upstream[model].script(text="one two three four five six")
    answer = oai().chat.completions.create(model=model, messages=HELLO, max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length" and upstream[model].body()["max_tokens"] == 2
    answer = ant().messages.create(model=model, messages=HELLO, max_tokens=2)
    assert answer.stop_reason == "max_tokens"


def test_a_fallback_answers_under_the_name_that_was_asked_for(oai, upstream):
    upstream["gpt"].script(text="four five")
    answer = oai().chat.completions.create(model="rescued", messages=HELLO)
    assert (answer.model, answer.choices[0].message.content) == ("rescued", "four five")
