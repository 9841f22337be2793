"""One set of processes for all tests; scripts of the fakes are put back after each, and nothing may be left in flight."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import anthropic
import openai
import pytest

import stack


@pytest.fixture(scope="session")
def processes():
    folder = stack.temporary()
    started = []
    try:
        fakes = {}
        for name in ["openai", "anthropic", "broken"]:
            fakes[name] = stack.Fake(folder / f"{name}.log")
            started.append(fakes[name])
        # A port that nothing listens on while this socket holds it.
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            project = folder / "project"
            project.mkdir()
            dead = f"http://127.0.0.1:{held.getsockname()[1]}"
            server = stack.Server(project, {n: f.url for n, f in fakes.items()}, dead)
            started.append(server)
            yield fakes, server
    finally:
        for process in reversed(started):
            process.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def server(processes):
    fakes, server = processes
    for fake in fakes.values():
        fake.script()
    yield server
    for gauge in ["forebay_requests_in_flight", "forebay_model_slots_in_use", "forebay_model_queue_requests"]:
        stack.eventually(lambda: server.metric(gauge) == 0)


@pytest.fixture
def upstream(processes):
    """The fake providers by the name of the model that each is behind."""
    fakes, _ = processes
    return {"gpt": fakes["openai"], "claude": fakes["anthropic"], "broken": fakes["broken"]}


@pytest.fixture
def oai(server):
    """The official client, as a user makes it; `oai("tenant")` calls with that tenant's key."""
    made = []

    def make(tenant="default", key=None, kind=openai.OpenAI, **more):
        more.setdefault("max_retries", 0)
        made.append(kind(base_url=f"{server.url}/v1", api_key=key or server.keys[tenant], **more))
        return made[-1]

    yield make
    for client in made:
        if isinstance(client, openai.OpenAI):
            client.close()


@pytest.fixture
def ant(server):
    """The same of the other protocol."""
    made = []

    def make(tenant="default", key=None, kind=anthropic.Anthropic, **more):
        more.setdefault("max_retries", 0)
        made.append(kind(base_url=server.url, api_key=key or server.keys[tenant], **more))
        return made[-1]

    yield make
    for client in made:
        if isinstance(client, anthropic.Anthropic):
            client.close()


@pytest.fixture(scope="session")
def onnxruntime():
    """Where ONNX Runtime is."""
    fixtures = os.environ.get("FOREBAY_FIXTURES") or pathlib.Path.home() / ".cache/forebay/fixtures"
    library = pathlib.Path(fixtures) / "libonnxruntime.so"
    if not library.is_file():
        pytest.skip(f"SKIPPED: {library} is missing: cargo run -p xtask -- fixtures")
    return str(library)


@pytest.fixture(scope="session")
def predictions(onnxruntime):
    """A server with predictive models alone, where ONNX Runtime is."""
    os.environ["ORT_DYLIB_PATH"] = onnxruntime
    folder = stack.temporary()
    oracles = pathlib.Path(__file__).parents[2] / "engines/onnx/oracles"
    models = {name: str(oracles / f"{name}.onnx") for name in ["trees", "words", "columns"]}
    lines = [f"  {name}: {{onnx: {path}}}" for name, path in models.items()]
    (folder / "forebay.yaml").write_text("\n".join(["models:", *lines, ""]))
    process = None
    try:
        process = stack.Process(
            "--project", str(folder), "up", "--listen", "127.0.0.1:0", log=folder / "server.log"
        )
        url = process.told["listening"]
        for name in models:
            stack.eventually(lambda: stack.http("GET", f"{url}/v2/models/{name}/ready")[0] == 200, seconds=60)
        yield url.removeprefix("http://")
    finally:
        if process:
            process.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def triton(predictions):
    """Where `tritonclient` finds them."""
    return predictions


@pytest.fixture(scope="session")
def s3():
    """How to reach an S3 with the bucket `lake`."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        signed = {"authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"}
        put = urllib.request.Request(f"{url}/lake", method="PUT", headers=signed)
        urllib.request.urlopen(put, timeout=10).close()
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
    finally:
        server.kill()
        server.wait()
