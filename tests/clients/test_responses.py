"""Responses through the official client: whole, streamed, with tools, structured, over both providers and a pipeline."""

import asyncio
import json

import openai
import pydantic
import pytest

import document

MODELS = ["gpt", "claude"]
TOOL = {
    "type": "function", "name": "weather", "description": "Now.", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = {"tool_call": {"arguments": '{"city": "Oslo"}'}, "echo": True}


class Count(pydantic.BaseModel):
    n: int
    word: str


def ordered(events):
    """Events as they must come, whatever they say."""
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert [e.type for e in events[:2]] == ["response.created", "response.in_progress"]
    return [e.type for e in events]


@pytest.mark.parametrize("model", MODELS)
def test_whole(oai, server, upstream, model):
    upstream[model].script(text="four five")
    answer = oai().responses.create(
        model=model, input="one two three", instructions="Be brief.", metadata={"a": "b"}, temperature=0.5, user="alice")
    assert (answer.object, answer.model, answer.status, answer.error) == ("response", model, "completed", None)
    assert answer.output_text == "four five" and answer.instructions == "Be brief."
    (message,) = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert (answer.metadata, answer.temperature, answer.tool_choice, answer.tools) == ({"a": "b"}, 0.5, "auto", [])
    assert answer.text.format.type == "text" and answer.parallel_tool_calls is True and answer.store is False
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (5, 2, 7)
    assert (answer.usage.input_tokens_details.cached_tokens, answer.usage.output_tokens_details.reasoning_tokens) == (0, 0)
    # The ids of a response are made of its request's.
    assert answer.id == answer._request_id.replace("req_", "resp_") and message.id.startswith("msg_")
    record = server.record(answer._request_id)
    assert (record["surface"], record["ending"], record["user"]) == ("responses", "complete", "alice")
    sent = upstream[model].body()
    if model == "gpt":
        assert [m["role"] for m in sent["messages"]] == ["system", "user"] and "metadata" not in sent
    else:
        assert sent["system"] == "Be brief."


@pytest.mark.parametrize("model", MODELS)
def test_stream(oai, upstream, model):
    upstream[model].script(text="four five six")
    events = list(oai().responses.create(model=model, input="one two three", stream=True))
    kinds = ordered(events)
    assert kinds[2:4] == ["response.output_item.added", "response.content_part.added"]
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert set(kinds[4:-4]) == {"response.output_text.delta"} and len(kinds) == 11
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "four five six"
    final = events[-1].response
    assert (final.status, final.output_text, final.usage.total_tokens) == ("completed", "four five six", 6)
    assert events[0].response.status == "in_progress" and events[0].response.id == final.id


@pytest.mark.parametrize("model", MODELS)
def test_stream_helper(oai, upstream, model):
    upstream[model].script(text="four five six")
    with oai().responses.stream(model=model, input="one two three") as stream:
        snapshots = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == final.output_text == "four five six"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [True, False])
def test_tools(oai, upstream, model, stream):
    upstream[model].script(**CALL)
    client, items = oai(), [{"role": "user", "content": [{"type": "input_text", "text": "How is Oslo?"}]}]

    def ask():
        if not stream:
            return client.responses.create(model=model, input=items, tools=[TOOL], tool_choice="auto")
        events = list(client.responses.create(model=model, input=items, tools=[TOOL], tool_choice="auto", stream=True))
        kinds = ordered(events)
        if "response.function_call_arguments.delta" in kinds:
            pieces = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
            (done,) = [e for e in events if e.type == "response.function_call_arguments.done"]
            assert done.arguments == pieces
        return events[-1].response

    first = ask()
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments), call.status) == (
        "function_call", "weather", {"city": "Oslo"}, "completed")
    sent = upstream[model].body()
    function = {k: TOOL[k] for k in ["name", "description", "parameters", "strict"]}
    if model == "gpt":
        assert sent["tools"] == [{"type": "function", "function": function}] and sent["tool_choice"] == "auto"
    else:
        assert sent["tools"][0]["input_schema"] == TOOL["parameters"] and sent["tool_choice"] == {"type": "auto"}

    # What came goes back as it came, with the tool's result.
    items += first.output
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "minus four degrees"}]
    second = ask()
    assert second.output_text == "minus four degrees"
    turns = upstream[model].body()["messages"]
    if model == "gpt":
        assert turns[-2]["tool_calls"][0]["id"] == turns[-1]["tool_call_id"] == call.call_id
    else:
        assert turns[-1]["content"][0]["tool_use_id"] == call.call_id


@pytest.mark.parametrize("model", MODELS)
def test_structured_output(oai, upstream, model):
    upstream[model].script(text='{"n": 3, "word": "three"}')
    answer = oai().responses.parse(model=model, input="How many?", text_format=Count)
    assert answer.output_parsed == Count(n=3, word="three")
    sent = upstream[model].body()
    if model == "gpt":
        form = sent["response_format"]
        assert form["type"] == "json_schema" and form["json_schema"]["name"] == "Count"
        schema = form["json_schema"]["schema"]
    else:
        schema = sent["output_config"]["format"]["schema"]
    assert set(schema["properties"]) == {"n", "word"} and answer.text.format.type == "json_schema"
    with oai().responses.stream(model=model, input="How many?", text_format=Count) as stream:
        (done,) = [e for e in stream if e.type == "response.output_text.done"]
        assert done.parsed == stream.get_final_response().output_parsed == Count(n=3, word="three")


def test_the_arguments_of_a_strict_tool_are_parsed(oai, upstream):
    upstream["gpt"].script(tool_call={"arguments": '{"city": "Oslo"}'})
    strict = {**TOOL, "strict": True, "parameters": {**TOOL["parameters"], "additionalProperties": False}}
    (call,) = oai().responses.parse(model="gpt", input="How is Oslo?", tools=[strict]).output
    assert call.parsed_arguments == {"city": "Oslo"}


def test_images_and_parameters_reach_the_provider(oai, upstream):
    url = "data:image/png;base64,iVBORw0KGgo="
    content = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": url, "detail": "low"}]
    ask = dict(
        input=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": content}], top_p=0.9,
        max_output_tokens=99, parallel_tool_calls=False, tools=[TOOL], tool_choice={"type": "function", "name": "weather"},
        reasoning={"effort": "low"}, text={"verbosity": "low"}, truncation="disabled", store=False, background=False,
        safety_identifier="bob", extra_body={"top_k": 4},
    )
    answer = oai().responses.create(model="gpt", **ask)
    sent = upstream["gpt"].body()
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert sent["messages"][1]["content"][1] == {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    assert (sent["max_tokens"], sent["reasoning_effort"], sent["verbosity"], sent["top_k"]) == (99, "low", "low", 4)
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert sent["parallel_tool_calls"] is False and sent["safety_identifier"] == "bob"
    assert not {"store", "background", "truncation", "input", "reasoning", "text", "max_output_tokens"} & set(sent)
    assert answer.reasoning.effort == "low" and answer.max_output_tokens == 99 and answer.safety_identifier == "bob"
    oai().responses.create(model="claude", **ask)
    sent = upstream["claude"].body()
    assert sent["messages"][0]["content"][1]["source"]["type"] == "base64"
    assert sent["tool_choice"] == {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_come_back(oai, upstream, stream):
    upstream["gpt"].script(text="four five six")
    answer = oai().responses.create(
        model="gpt", input="x", include=["message.output_text.logprobs"], top_logprobs=2, stream=stream)
    if stream:
        events = list(answer)
        streamed = [p.token for e in events if e.type == "response.output_text.delta" for p in e.logprobs]
        assert "".join(streamed) == "four five six"
        answer = events[-1].response
    probs = answer.output[0].content[0].logprobs
    assert "".join(p.token for p in probs) == "four five six" and probs[0].logprob == -0.5
    assert upstream["gpt"].body()["top_logprobs"] == 2


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_cut_by_its_limit_is_incomplete(oai, upstream, model, stream):
    upstream[model].script(text="one two three four five six")
    answer = oai().responses.create(model=model, input="x", max_output_tokens=2, stream=stream)
    if stream:
        events = list(answer)
        assert ordered(events)[-1] == "response.incomplete"
        answer = events[-1].response
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output[0].status == "incomplete" and answer.output_text


@pytest.mark.parametrize("stream", [False, True])
def test_a_pipeline_is_called_by_its_name(oai, server, upstream, stream):
    upstream["gpt"].script(text=f"{document.TRUE} {document.INVENTED}")
    answer = oai().responses.create(model="summarize", input=document.long(50), instructions="Ignored.", stream=stream)
    if stream:
        events = list(answer)
        assert ordered(events)[-1] == "response.completed"
        answer = events[-1].response
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == answer.output_text
    assert "council of Oslo" in answer.output_text and "Zebulon" not in answer.output_text
    record = server.record(answer.id.replace("resp_", "req_"))
    assert (record["pipeline"], record["surface"], record["ending"]) == ("summarize", "responses", "complete")
    assert record["usage"]["output_tokens"] == answer.usage.output_tokens > 0
    with pytest.raises(openai.BadRequestError) as refused:
        oai().responses.create(model="summarize", input="  ")
    assert refused.value.param == "input"


@pytest.mark.parametrize("how", ["close", "clean_end"])
def test_a_stream_that_breaks_fails_and_never_completes(oai, server, upstream, how):
    upstream["broken"].script(tokens=60, faults=[{"fault": {"cut": {"after_tokens": 10, "how": how}}}])
    events = list(oai().responses.create(model="cut", input="x", stream=True))
    kinds = ordered(events)
    assert kinds[-2:] == ["error", "response.failed"]
    assert not {"response.completed", "response.output_item.done", "response.output_text.done"} & set(kinds)
    assert events[-2].code == "upstream_truncated" and events[-2].message
    failed = events[-1].response
    assert (failed.status, failed.error.code) == ("failed", "upstream_truncated")
    assert len(failed.output_text.split()) == 10 and failed.output[0].status == "incomplete"
    assert server.record(failed.id.replace("resp_", "req_"))["ending"] == "partial"
    with pytest.raises(openai.InternalServerError) as broke:
        oai().responses.create(model="cut", input="x")
    assert (broke.value.status_code, broke.value.code) == (502, "upstream_truncated")


def test_a_broken_call_is_never_done(oai, upstream):
    arguments = json.dumps({"city": "Oslo " * 40})
    upstream["broken"].script(
        tool_call={"arguments": arguments}, faults=[{"fault": {"cut": {"after_tokens": 5, "how": "close"}}}])
    events = list(oai().responses.create(model="cut", input="x", tools=[TOOL], stream=True))
    kinds = ordered(events)
    assert kinds[-1] == "response.failed" and "response.output_item.added" in kinds
    assert not {"response.output_item.done", "response.function_call_arguments.done"} & set(kinds)


def test_a_stream_that_begins_anew_says_so_and_ends_with_the_new_answer_alone(oai, upstream):
    upstream["broken"].script(
        text="one two three four five six", faults=[{"times": 1, "fault": {"cut": {"after_tokens": 3, "how": "close"}}}])
    with oai().responses.stream(model="cut", input="x", extra_headers={"forebay-mid-stream": "restart"}) as stream:
        kinds = [e.type for e in stream]
        final = stream.get_final_response()
    assert kinds.count("response.forebay_reset") == 1 and kinds[-1] == "response.completed"
    assert final.output_text == "one two three four five six" and len(final.output) == 1


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True, "stream": True}, "stream"),
        ({"background": True, "store": False}, "store"),
        ({"store": True}, "store"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": []}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"extra_body": {"messages": []}}, "messages"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(oai, upstream, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        oai().responses.create(**{"model": "gpt", "input": "x", **more})
    assert (refused.value.param, refused.value.code) == (param, "invalid_request")
    assert refused.value.request_id.startswith("req_") and upstream["gpt"].log() == []


def test_errors_are_the_clients_own(oai, upstream):
    def raised(kind, tenant="default", key=None, model="gpt", **more):
        with pytest.raises(getattr(openai, kind)) as e:
            oai(tenant, key=key).responses.create(model=model, input="one two three", **more)
        return e.value

    assert raised("AuthenticationError", key="fb_wrong").code == "invalid_key"
    assert raised("NotFoundError", model="nobody").param == "model"
    assert raised("PermissionDeniedError", tenant="spent").code == "budget_exhausted"
    assert raised("InternalServerError", model="gone", stream=True).status_code == 503
    assert raised("BadRequestError", model="narrow", instructions="word " * 500).code == "context_length_exceeded"
    # Another test may have used up its one request of this minute.
    for _ in range(2):
        try:
            oai("slow").responses.create(model="gpt", input="x")
        except openai.RateLimitError:
            break
    limited = raised("RateLimitError", tenant="slow")
    assert int(limited.response.headers["retry-after"]) > 0 and limited.body["limit_source"] == "tenant:slow"
    # What is not here is not found, in the client's shape.
    with pytest.raises(openai.NotFoundError):
        oai().responses.retrieve("resp_1")


@pytest.mark.parametrize("stream", [False, True])
def test_headers(oai, server, upstream, stream):
    upstream["gpt"].script(text="four five")
    raw = oai("counted").responses.with_raw_response.create(model="gpt", input="one two three", stream=stream)
    h = raw.headers
    assert h["x-ratelimit-limit-requests"] == "1000" and h["forebay-attempts"] == "1"
    assert h["forebay-model-version"] == "gpt-fake" and int(h["forebay-overhead-us"]) > 0
    if stream:
        assert h["content-type"] == "text/event-stream" and "forebay-cost-nanousd" not in h
        list(raw.parse())
    else:
        assert int(h["forebay-cost-nanousd"]) == 3 * 1000 + 2 * 2000
    assert server.record(h["x-request-id"], "counted")["cost"] == 3 * 1000 + 2 * 2000


def test_a_caller_that_leaves_stops_the_upstream(oai, upstream):
    upstream["gpt"].script(tokens=500, token_interval=20)
    stream = oai().responses.create(model="gpt", input="x", stream=True)
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    stream.close()
    assert upstream["gpt"].ended() == "client_left"


def test_asynchronously(oai, upstream):
    upstream["gpt"].script(text="four five six")

    async def ask():
        async with oai(kind=openai.AsyncOpenAI) as client:
            async def streamed():
                async with client.responses.stream(model="gpt", input="x") as stream:
                    return (await stream.get_final_response()).output_text
            return await asyncio.gather(*(streamed() for _ in range(8)))

    assert set(asyncio.run(ask())) == {"four five six"}
