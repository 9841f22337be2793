"""Webhooks about jobs, verified by the official `standardwebhooks` package."""

import base64
import http.server
import json
import os
import threading

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

import stack

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


@pytest.fixture
def receiver():
    """Takes webhooks; its first answer is a 500."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((dict(self.headers), body))
            self.send_response(500 if len(received) == 1 else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()


@pytest.fixture
def project(upstream, receiver):
    """A server of its own, that tells the receiver."""
    url, _ = receiver
    folder = stack.temporary()
    (folder / "forebay.yaml").write_text(
        f"models: {{gpt: {{openai: gpt-fake, base_url: {upstream['gpt'].url}/v1}}}}\n"
        f"jobs: {{webhook: {{url: '{url}', secret: {SECRET}, old_secret: {OLD}, allow_private: true}}}}\n"
    )
    process = stack.Process("--project", str(folder), "up", "--listen", "127.0.0.1:0", log=folder / "server.log")
    yield process.told["listening"]
    process.stop()


def test_a_webhook_verifies_and_keeps_its_id_over_retries(project, receiver, upstream):
    upstream["gpt"].script(text="done later")
    body = json.dumps({"model": "gpt", "messages": [{"role": "user", "content": "hi"}]})
    status, head, answer = stack.http(
        "POST", f"{project}/v1/chat/completions", body, {"prefer": "respond-async", "content-type": "application/json"}
    )
    assert status == 202 and head["preference-applied"] == "respond-async"
    job = json.loads(answer)
    _, received = receiver
    # The second try comes after five seconds.
    stack.eventually(lambda: len(received) == 2, seconds=15)
    assert received[0][0]["webhook-id"] == received[1][0]["webhook-id"]
    for headers, body in received:
        for secret in [SECRET, OLD]:
            event = Webhook(secret).verify(body, headers)
        assert (event["specversion"], event["type"]) == ("1.0", "forebay.job.succeeded")
        assert event["id"] == headers["webhook-id"] and event["subject"] == job["id"]
        assert event["data"]["result"]["choices"][0]["message"]["content"] == "done later"
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + base64.b64encode(os.urandom(32)).decode()).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body + b" ", headers)

    def deliveries():
        return json.loads(stack.http("GET", f"{project}/v1/jobs/{job['id']}/deliveries")[2])["data"]

    stack.eventually(lambda: deliveries()[0]["status"] == "delivered")
    assert deliveries()[0]["attempts"] == 2
    stack.http("POST", f"{project}/v1/jobs/{job['id']}/redeliver")
    stack.eventually(lambda: len(received) == 3)
    assert received[2][0]["webhook-id"] == received[0][0]["webhook-id"]
