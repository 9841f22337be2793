"""Batches through the official client: made of a file, followed, cancelled, and read from their files."""

import base64
import http.server
import json
import os
import pathlib
import threading
import time

import openai
import pytest

import stack

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
CHAT = "/v1/chat/completions"


class Project:
    """A server of its own, with two tenants."""

    def __init__(self, upstream, more="", jobs="parallel: 16"):
        self.folder = stack.temporary()
        (self.folder / "forebay.yaml").write_text(
            "auth: {required: true}\n"
            "models:\n"
            f"  gpt: {{openai: gpt-fake, base_url: {upstream['gpt'].url}/v1}}\n"
            f"  refused: {{openai: gpt-refused, base_url: {upstream['broken'].url}/v1}}\n"
            "pipelines:\n"
            "  shout: {input: text, output: text, stages: [{answer: {generate: {model: gpt, prompt_text: 'Shout: {{ input }}'}}}]}\n"
            f"jobs: {{{jobs}}}\n{more}"
        )
        self.keys = {}
        for tenant in ["mine", "other"]:
            self.keys[tenant] = self.command("key", "create", "--name", tenant, "--tenant", tenant)["key"]
        self.start()

    def start(self):
        log = self.folder / "server.log"
        self.process = stack.Process("--project", str(self.folder), "up", "--listen", "127.0.0.1:0", log=log)
        self.url = self.process.told["listening"]

    def command(self, *arguments):
        return stack.Server.command(self, *arguments)

    def client(self, tenant="mine"):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[tenant], max_retries=0)

    def memory(self):
        """Resident and peak, in MiB."""
        status = pathlib.Path(f"/proc/{self.process.child.pid}/status").read_text()
        field = lambda name: int(next(l for l in status.splitlines() if l.startswith(name)).split()[1]) / 1024
        return field("VmRSS:"), field("VmHWM:")


@pytest.fixture
def project(upstream):
    made = []

    def make(**more):
        made.append(Project(upstream, **more))
        return made[-1]

    yield make
    for one in made:
        one.process.stop()


def line(n, body=None, url=CHAT, **more):
    body = body or {"model": "gpt", "messages": [{"role": "user", "content": f"line {n}"}]}
    return {"custom_id": f"id-{n}", "method": "POST", "url": url, "body": body, **more}


def jsonl(lines):
    return "".join((l if isinstance(l, str) else json.dumps(l)) + "\n" for l in lines).encode()


def make(client, lines, endpoint=CHAT, **more):
    file = client.files.create(file=("lines.jsonl", jsonl(lines)), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def ended(client, batch, seconds=30):
    ends = {"completed", "failed", "expired", "cancelled"}

    until = time.monotonic() + seconds
    while True:
        now = client.batches.retrieve(batch.id)
        if now.status in ends:
            return now
        assert time.monotonic() < until, f"it never ended: {now}"
        time.sleep(0.1)  # As a caller would, not to keep the server from its work.


def rows(client, file):
    return [json.loads(l) for l in client.files.content(file).text.splitlines()] if file else []


def test_ten_thousand_lines_end_once_each_with_their_errors_in_a_file_of_their_own(project, upstream):
    many = int(os.environ.get("FOREBAY_BATCH_LINES", 10_000))
    upstream["gpt"].script(text="done", log="off")
    upstream["broken"].script(faults=[{"fault": {"status": {"status": 400}}}], log="off")
    p = project()
    client = p.client()
    unknown = {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}
    refused = {"model": "refused", "messages": [{"role": "user", "content": "x"}]}
    bodies = {0: unknown, 1: refused}
    lines = [line(n, bodies.get(n % 50)) for n in range(many)]
    before, _ = p.memory()
    began = time.monotonic()
    batch = make(client, lines, metadata={"night": "1"})
    assert (batch.object, batch.status, batch.endpoint, batch.completion_window, batch.metadata) == (
        "batch", "validating", CHAT, "24h", {"night": "1"})
    assert batch.expires_at == batch.created_at + 86_400 and batch.output_file_id is None
    batch = ended(client, batch, seconds=540)
    took = time.monotonic() - began
    after, peak = p.memory()
    wrong = {f"id-{n}": 404 if n % 50 == 0 else 400 for n in range(many) if n % 50 in bodies}
    counts = batch.request_counts
    assert (batch.status, counts.total, counts.completed, counts.failed) == (
        "completed", many, many - len(wrong), len(wrong))
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    good, bad = rows(client, batch.output_file_id), rows(client, batch.error_file_id)
    assert len(good) == counts.completed and len(bad) == counts.failed
    assert {r["custom_id"] for r in good} | set(wrong) == {l["custom_id"] for l in lines}
    assert {r["custom_id"]: r["response"]["status_code"] for r in bad} == wrong
    assert len({r["id"] for r in good + bad}) == many
    for row in good:
        assert row["error"] is None and row["response"]["status_code"] == 200
        assert row["response"]["request_id"].startswith("req_")
        assert row["response"]["body"]["choices"][0]["message"]["content"] == "done"
    assert all(r["response"]["body"]["error"]["message"] for r in bad)
    assert bad[0]["response"]["body"]["error"]["code"] == "not_found"
    told = client.files.retrieve(batch.output_file_id)
    assert (told.purpose, told.bytes) == ("batch_output", len(client.files.content(batch.output_file_id).content))
    print(f"\n{many} lines: {took:.1f} s, {many / took:.0f} lines/s; RSS {before:.0f} MiB before, {after:.0f} after, {peak:.0f} peak")
    # 10,000 lines of the file are 1.5 MB, of the files of results 5.
    assert peak - before < 64, "a batch is not held in memory"


def test_every_endpoint_and_a_pipeline_by_its_name(project, upstream):
    upstream["gpt"].script(text="loud")
    client = project().client()
    for endpoint, body, said in [
        ("/v1/completions", {"model": "gpt", "prompt": "x"}, lambda b: b["choices"][0]["text"]),
        ("/v1/responses", {"model": "gpt", "input": "x"}, lambda b: b["output"][0]["content"][0]["text"]),
        (CHAT, {"model": "shout", "messages": [{"role": "user", "content": "x"}]},
         lambda b: b["choices"][0]["message"]["content"]),
    ]:
        batch = ended(client, make(client, [line(1, body, url=endpoint)], endpoint))
        assert batch.status == "completed" and batch.error_file_id is None
        assert said(rows(client, batch.output_file_id)[0]["response"]["body"]) == "loud"


def test_each_bad_line_is_named_and_nothing_is_done(project, upstream):
    client = project(jobs="batches: {lines: 5}").client()
    ok = line(0)
    batch = ended(client, make(client, [
        ok, "{", line(1, url="/v1/responses"), ok, line(2, method="GET"), {"method": "POST"}]))
    assert batch.status == "failed" and batch.failed_at and batch.request_counts.total == 0
    assert [(e.line, e.code) for e in batch.errors.data] == [
        (2, "invalid_json_line"), (3, "invalid_url"), (4, "duplicate_custom_id"), (5, "invalid_method"),
        (6, "too_many_requests")]
    assert ended(client, make(client, ["", "  "])).errors.data[0].code == "empty_file"
    assert upstream["gpt"].log() == []


def test_what_is_wrong_with_a_batch_itself_is_said_at_once(project):
    p = project(jobs="batches: {open: 0}")
    client = p.client()
    other = p.client("other").files.create(file=("a.jsonl", jsonl([line(1)])), purpose="batch")
    data = client.files.create(file=("a.jsonl", jsonl([line(1)])), purpose="user_data")
    mine = client.files.create(file=("a.jsonl", jsonl([line(1)])), purpose="batch")
    right = {"input_file_id": mine.id, "endpoint": CHAT, "completion_window": "24h"}
    for param, value in [
        ("input_file_id", "file-nobody"), ("input_file_id", other.id), ("input_file_id", data.id),
        ("endpoint", "/v1/models"), ("completion_window", "24"), ("metadata", {"a": "x" * 513}),
    ]:
        with pytest.raises(openai.BadRequestError) as refused:
            client.batches.create(**{**right, param: value})
        assert refused.value.param == param
    with pytest.raises(openai.RateLimitError):
        client.batches.create(**right)
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_nobody")


def test_a_tenant_has_its_own_batches_and_lists_them_by_pages(project, upstream):
    p = project()
    mine, other = p.client(), p.client("other")
    made = [make(mine, [line(n)]).id for n in range(3)]
    theirs = make(other, [line(1)])
    assert [b.id for b in mine.batches.list(limit=2)] == made[::-1]
    assert [b.id for b in mine.batches.list(after=made[1]).data] == [made[0]]
    assert [b.id for b in other.batches.list()] == [theirs.id]
    for ask in [mine.batches.retrieve, mine.batches.cancel]:
        with pytest.raises(openai.NotFoundError):
            ask(theirs.id)
    for batch in made:
        ended(mine, mine.batches.retrieve(batch))
    # Its lines are jobs, but not among the jobs.
    assert json.loads(stack.http("GET", f"{p.url}/v1/jobs", headers={"authorization": f"Bearer {p.keys['mine']}"})[2])["data"] == []
    shown = p.command("jobs", "list")
    assert shown["data"] == [] and len(shown["batches"]) == 4
    assert p.command("jobs", "show", made[0])["status"] == "completed"


def test_a_cancelled_batch_keeps_what_was_done_and_names_what_was_not(project, upstream):
    upstream["gpt"].script(text="done")
    client = project(jobs="parallel: 2").client()
    slow = upstream["broken"]
    slow.script(text="late", first_token=60_000)
    hangs = {"model": "refused", "messages": [{"role": "user", "content": "x"}]}
    batch = make(client, [line(0)] + [line(n, hangs) for n in range(1, 300)])
    stack.eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed == 1)
    cancelling = client.batches.cancel(batch.id)
    assert cancelling.status in ("cancelling", "cancelled") and cancelling.cancelling_at
    batch = ended(client, batch)
    counts = batch.request_counts
    assert (batch.status, counts.total, counts.completed, counts.failed) == ("cancelled", 300, 1, 299)
    assert [r["custom_id"] for r in rows(client, batch.output_file_id)] == ["id-0"]
    bad = rows(client, batch.error_file_id)
    assert [r["custom_id"] for r in bad] == [f"id-{n}" for n in range(1, 300)]
    assert {r["error"]["code"] for r in bad} == {"batch_cancelled"} and {r["response"] for r in bad} == {None}
    # The call under way was stopped.
    assert slow.ended() == "client_left"
    assert client.batches.cancel(batch.id).status == "cancelled"


def test_behind_its_window_a_batch_has_expired_with_what_was_done(project, upstream):
    upstream["gpt"].script(text="done")
    upstream["broken"].script(text="late", first_token=60_000)
    client = project(jobs="parallel: 2").client()
    hangs = {"model": "refused", "messages": [{"role": "user", "content": "x"}]}
    file = client.files.create(file=("l.jsonl", jsonl([line(0)] + [line(n, hangs) for n in range(1, 4)])), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="2s")
    batch = ended(client, batch)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("expired", 1, 3)
    assert batch.expired_at >= batch.expires_at
    assert {r["error"]["code"] for r in rows(client, batch.error_file_id)} == {"batch_expired"}


def test_a_job_finds_a_place_beside_a_batch_that_hangs(project, upstream):
    upstream["gpt"].script(text="done")
    upstream["broken"].script(text="late", first_token=60_000)
    p = project(jobs="parallel: 2")
    client = p.client()
    hangs = {"model": "refused", "messages": [{"role": "user", "content": "x"}]}
    batch = make(client, [line(n, hangs) for n in range(9)])
    stack.eventually(lambda: upstream["broken"].log())
    headers = {"prefer": "respond-async", "content-type": "application/json", "authorization": f"Bearer {p.keys['mine']}"}
    job = json.loads(stack.http("POST", f"{p.url}{CHAT}", json.dumps(line(1)["body"]), headers)[2])
    stack.eventually(lambda: json.loads(stack.http("GET", f"{p.url}/v1/jobs/{job['id']}", headers=headers)[2])["status"] == "succeeded")
    assert len(upstream["broken"].log()) == 1, "one place of two is left to jobs"
    client.batches.cancel(batch.id)
    ended(client, batch)


def test_a_webhook_tells_of_the_end_as_the_client_reads_it(project, upstream):
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((dict(self.headers), self.rfile.read(int(self.headers["content-length"])).decode()))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    client = project(jobs=f"webhook: {{url: '{url}', secret: {SECRET}, allow_private: true}}").client()
    batch = ended(client, make(client, [line(1)]))
    stack.eventually(lambda: received)
    headers, body = received[0]
    event = client.webhooks.unwrap(body, headers, secret=SECRET)
    assert (event.type, event.data.id) == ("batch.completed", batch.id)
    # So are responses that are made in the background.
    upstream["gpt"].script(tokens=9)
    for more, how in [({}, "completed"), ({"max_output_tokens": 2}, "incomplete"), ({"model": "refused"}, "failed")]:
        upstream["broken"].script(faults=[{"fault": {"status": {"status": 400}}}])
        before = len(received)
        response = client.responses.create(**{"model": "gpt", "input": "x", "background": True, **more})
        stack.eventually(lambda: len(received) > before)
        headers, body = received[-1]
        event = client.webhooks.unwrap(body, headers, secret=SECRET)
        assert (event.type, event.data.id) == (f"response.{how}", response.id)
    server.shutdown()


def test_a_batch_survives_kills_and_every_line_ends_once(project, upstream):
    upstream["gpt"].script(text="done", first_token=5)
    p = project()
    batch = make(p.client(), [line(n) for n in range(1_000)])
    for pause in [0.05, 0.3, 0.5, 0.4, 0.2]:
        time.sleep(pause)  # The moment is anywhere.
        p.process.child.kill()
        p.process.child.wait()
        p.start()
    client = p.client()
    batch = ended(client, batch, seconds=120)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1_000)
    assert [r["custom_id"] for r in rows(client, batch.output_file_id)] == [f"id-{n}" for n in range(1_000)]
