"""The native surface: one JSON answer, server-sent events and the socket, which show the same events."""

import json

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import document
import stack

TEXT = document.long(40)


@pytest.fixture(autouse=True)
def answering(upstream):
    upstream["gpt"].script(text=f"{document.TRUE} {document.INVENTED}", first_token=150)


def events(body):
    """The events of a stream: `(id, name, data)`, after the comments are left out."""
    found = []
    for block in body.decode().split("\n\n"):
        fields = dict(l.split(": ", 1) for l in block.splitlines() if not l.startswith(":"))
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def check_events(found, final):
    names = [e["type"] for e in found]
    assert names[0] == "accepted" and names[-1] == "done"
    assert set(found[0]) >= {"id", "queue_position", "expected_wait_ms"}
    assert {"stage", "draft", "delta", "part"} <= set(names)
    # Something useful before any model has answered.
    assert names.index("draft") < names.index("delta")
    for event in found:
        if event["type"] == "stage":
            assert set(event) >= {"name", "state", "elapsed_ms"}
        if event["type"] == "part":
            assert 0 <= event["index"] < event["of"] and ("text" in event) != ("error" in event)
    done = found[-1]
    assert done["done"] is True and done["usage"]["output_tokens"] > 0 and done["cost_nanousd"] >= 0
    assert {s["name"] for s in done["stages"]} == {"draft", "picked", "notes", "summary", "checked"}
    assert "".join(e["text"] for e in found if e["type"] == "delta").strip() == final.strip()


def test_json_and_events_and_the_path_of_its_own_agree(server):
    status, headers, body = server.ask("POST", "/v1/pipelines/summarize", {"input": TEXT})
    whole = json.loads(body)
    assert status == 200 and whole["complete"] is True and whole["output"]
    assert headers["x-request-id"] == whole["id"] and int(headers["forebay-cost-nanousd"]) == whole["cost_nanousd"]

    status, headers, body = server.ask("POST", "/summarize", TEXT, accept="text/event-stream", content_type="text/markdown")
    assert status == 200 and headers["content-type"] == "text/event-stream"
    found = events(body)
    ids = [id for id, _, _ in found]
    assert ids == list(range(len(ids))), "ids increase"
    assert all(name == data["type"] for _, name, data in found)
    check_events([data for _, _, data in found], whole["output"])
    assert headers["x-request-id"] == found[0][2]["id"]
    assert server.record(found[0][2]["id"])["ending"] == "complete"


def socket(server, path="/v1/pipelines/summarize", tenant="default"):
    headers = {"Authorization": f"Bearer {server.keys[tenant]}"}
    return connect(server.url.replace("http", "ws", 1) + path, additional_headers=headers)


def received(ws):
    return [json.loads(m) for m in ws]


def test_the_socket_shows_the_same_events(server):
    whole = json.loads(server.ask("POST", "/v1/pipelines/summarize", {"input": TEXT})[2])
    for first in [json.dumps({"type": "input", "input": TEXT}), TEXT]:
        with socket(server) as ws:
            ws.send(first)
            found = received(ws)
        assert [e["event_id"] for e in found] == list(range(len(found))), "ids increase"
        check_events(found, whole["output"])
        assert server.record(found[0]["id"])["ending"] == "complete"


def test_cancel_over_the_socket_stops_the_upstream_and_settles(server, upstream):
    upstream["gpt"].script(tokens=1000, token_interval=20)
    with socket(server, "/v1/pipelines/shout") as ws:
        ws.send(json.dumps({"input": "hello there"}))
        ws.send(json.dumps({"type": "pong"}))
        found = []
        while not found or found[-1]["type"] != "delta":
            found.append(json.loads(ws.recv(timeout=10)))
        ws.send(json.dumps({"type": "cancel"}))
        found += received(ws)
    assert [e["type"] for e in found[-2:]] == ["error", "done"]
    assert (found[-2]["code"], found[-2]["partial"]) == ("cancelled", True)
    assert upstream["gpt"].ended() == "client_left"
    record = server.record(found[0]["id"])
    assert record["ending"] == "cancelled" and 0 < record["usage"]["output_tokens"] < 1000
    assert record["usage"] == found[-1]["usage"]


def test_leaving_the_socket_stops_the_upstream(server, upstream):
    upstream["gpt"].script(tokens=1000, token_interval=20)
    with socket(server, "/v1/pipelines/shout") as ws:
        ws.send(json.dumps({"input": "hello there"}))
        request = json.loads(ws.recv(timeout=10))["id"]
        while json.loads(ws.recv(timeout=10))["type"] != "delta":
            pass
    assert upstream["gpt"].ended() == "client_left"
    assert stack.eventually(lambda: server.record(request))["ending"] == "cancelled"


def test_the_socket_says_what_is_wrong(server):
    with pytest.raises(InvalidStatus) as refused:
        socket(server, "/v1/pipelines/nobody")
    assert refused.value.response.status_code == 404
    with pytest.raises(InvalidStatus) as refused:
        connect(server.url.replace("http", "ws", 1) + "/v1/pipelines/summarize")
    assert refused.value.response.status_code == 401
    with socket(server) as ws:
        ws.send('{"input": 3')
        (error,) = received(ws)
    assert (error["type"], error["code"], error["partial"]) == ("error", "invalid_request", False)


def test_a_failed_run_ends_with_its_error(server):
    status, _, body = server.ask("POST", "/v1/pipelines/doomed", {"input": "hello"})
    assert (status, json.loads(body)["error"]["code"]) == (503, "upstream_unreachable")
    status, _, body = server.ask("POST", "/v1/pipelines/doomed", {"input": "hello", "stream": True})
    found = events(body)
    assert status == 200 and [name for _, name, _ in found][-1] in ["error", "done"]
    (error,) = [data for _, name, data in found if name == "error"]
    assert (error["code"], error["class"]) == ("upstream_unreachable", "upstream")


def test_wrong_inputs_are_refused_before_anything_runs(server):
    for body, headers, status in [
        ("", {"content_type": "text/plain"}, 400),
        ('{"inptu": "x"}', {"content_type": "application/json"}, 400),
        ("%PDF-1.4 no pdf", {"content_type": "application/pdf"}, 400),
        ("x", {"content_type": "image/png"}, 400),
        ("x" * 33_000_000, {"content_type": "text/plain"}, 413),
    ]:
        answered, _, told = server.ask("POST", "/v1/pipelines/summarize", body, **headers)
        assert answered == status, told[:200]
        assert json.loads(told)["error"]["code"]
