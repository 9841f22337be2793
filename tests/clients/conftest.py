"""One set of processes for all tests; scripts of the fakes are put back after each, and nothing may be left in flight."""

import shutil
import socket

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
