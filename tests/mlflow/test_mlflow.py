"""The unmodified client of MLflow and plain requests against `forebay up`: each answer is that of the real server, which golden.json
records (record.py makes it again). What is ours alone (keys, tenants, kill -9) is tested below."""

import json
import os
import pathlib
import subprocess
import sys
import threading

import mlflow
import pandas
import pytest

import checks
import departures
import stack
import webhooks

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden.json").read_text())


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = stack.Forebay(tmp_path_factory.mktemp("project"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def world(server):
    return checks.World(server)


@pytest.fixture(scope="session")
def near(tmp_path_factory):
    """One that may tell this machine."""
    server = stack.Forebay(tmp_path_factory.mktemp("near"), near=True)
    yield server
    server.stop()


def test_every_check_is_recorded():
    assert sorted(GOLDEN) == sorted([*checks.CHECKS, *webhooks.TOLD]) and len(GOLDEN) >= 100


@pytest.mark.parametrize("name", checks.CHECKS)
def test_it_answers_as_the_real_server(world, name):
    golden = json.loads(json.dumps(GOLDEN[name]))
    assert world.outcome(name) == departures.ours(name, golden)


@pytest.mark.parametrize("name", webhooks.TOLD)
def test_it_tells_as_the_real_server(near, name):
    golden = json.loads(json.dumps(GOLDEN[name]))
    assert checks.World(near, webhooks.TOLD).outcome(name) == departures.ours(name, golden)


def test_a_departure_is_one():
    for name in departures.DEPARTURES:
        golden = json.loads(json.dumps(GOLDEN[name]))
        assert departures.ours(name, golden) != GOLDEN[name], name


def test_without_a_key_nobody_comes_in(server):
    for path, method in [("runs/search", "POST"), ("experiments/get?experiment_id=0", "GET")]:
        status, _, said = server.ask(method, checks.A + path, {} if method == "POST" else None, token="wrong")
        assert (status, json.loads(said)["error_code"]) == (401, "UNAUTHENTICATED")
    status, _, said = server.ask("PUT", checks.P + "artifacts/x", b"x", token="wrong")
    assert (status, json.loads(said)["error_code"]) == (401, "UNAUTHENTICATED")
    status, _, said = stack.http("GET", server.url + checks.A + "experiments/get?experiment_id=0")
    assert status == 401


def test_tenants_see_nothing_of_each_other(server, world):
    world.check = "tenants"
    world.use()
    run = world.run()
    experiment = world.client.get_run(run).info.experiment_id
    world.client.log_text(run, "secret", "a.txt")
    world.client.create_registered_model("theirs")
    others = [
        ("GET", checks.A + f"runs/get?run_id={run}", None),
        ("POST", checks.A + "runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": 1}),
        ("GET", checks.A + f"experiments/get?experiment_id={experiment}", None),
        ("GET", f"{checks.P}artifacts/{experiment}/{run}/artifacts/a.txt", None),
        ("GET", checks.A + "registered-models/get?name=theirs", None),
    ]
    for method, path, body in others:
        assert server.ask(method, path, body, token=server.other)[0] == 404, path
        assert server.ask(method, path, body)[0] == 200, path
    assert world.client.get_run(run).data.metrics == {"m": 1.0}


def test_an_unknown_endpoint_says_so(server):
    status, _, said = server.ask("GET", checks.A + "nothing/here")
    assert (status, json.loads(said)["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


def test_logged_metrics_survive_a_kill(tmp_path):
    server = stack.Forebay(tmp_path)
    try:
        run = json.loads(server.ask("POST", checks.A + "runs/create", {"experiment_id": "0"})[2])["run"]["info"]["run_id"]
        acknowledged = [[] for _ in range(8)]

        def log(of):
            try:
                for n in range(10_000):
                    body = {"run_id": run, "key": f"m{of}", "value": n, "timestamp": n, "step": n}
                    if server.ask("POST", checks.A + "runs/log-metric", body)[0] == 200:
                        acknowledged[of].append(n)
            except OSError:
                pass

        threads = [threading.Thread(target=log, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        while sum(map(len, acknowledged)) < 200:
            threads[0].join(0.01)
        server.kill()
        for t in threads:
            t.join()
        server.start()
        for of, sent in enumerate(acknowledged):
            said = server.ask("GET", checks.A + "metrics/get-history", query={"run_id": run, "metric_key": f"m{of}"})[2]
            kept = {m["step"] for m in json.loads(said).get("metrics", [])}
            assert set(sent) <= kept
    finally:
        server.stop()


TRAIN = """
import mlflow, mlflow.sklearn
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

mlflow.sklearn.autolog(log_models=False)
x, y = make_classification(n_samples=200, random_state=3)
LogisticRegression(C=0.5).fit(x, y)
"""


def test_a_script_with_autolog_works_as_a_stage(tmp_path):
    """Nothing is set up for it: the command's environment leads it to the project's own tracking."""
    (tmp_path / "train.py").write_text(TRAIN)
    stage = {"fit": {"exec": {"command": [sys.executable, "train.py"]}}}
    (tmp_path / "forebay.yaml").write_text(json.dumps({"pipelines": {"train": {"stages": [stage]}}}))
    done = subprocess.run([stack.FOREBAY, "--project", str(tmp_path), "run", "train"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    server = stack.Forebay(tmp_path)
    try:
        found = json.loads(server.ask("GET", checks.A + "experiments/get-by-name", query={"experiment_name": "train"})[2])
        body = {"experiment_ids": [found["experiment"]["experiment_id"]]}
        [run] = json.loads(server.ask("POST", checks.A + "runs/search", body)[2])["runs"]
    finally:
        server.stop()
    tags = {t["key"]: t["value"] for t in run["data"]["tags"]}
    assert (tags["forebay.pipeline"], tags["forebay.stage"], tags["estimator_name"]) == ("train", "fit", "LogisticRegression")
    assert {p["key"]: p["value"] for p in run["data"]["params"]}["C"] == "0.5"
    assert run["info"]["status"] == "FINISHED" and any(m["key"] == "training_accuracy_score" for m in run["data"]["metrics"])


def test_a_model_that_was_trained_here_is_loaded_by_pyfunc_and_asked_with_a_frame(tmp_path, monkeypatch):
    library = pathlib.Path(os.environ.get("FOREBAY_FIXTURES") or pathlib.Path.home() / ".cache/forebay/fixtures") / "libonnxruntime.so"
    if not library.is_file():
        pytest.skip(f"SKIPPED: {library} is missing: cargo run -p xtask -- fixtures")
    monkeypatch.setenv("ORT_DYLIB_PATH", str(library))
    rows = [{"hour": n % 24, "carrier": "AA" if n % 3 else "UA", "late": int(n % 24 > 12 + n % 5)} for n in range(600)]
    pandas.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    stages = [
        {"rows": {"ingest": {"files": ["rows.csv"]}}},
        {"table": {"commit": {"dataset": "table"}, "from": "rows"}},
        {"model": {"train": {"linear": {"target": "late"}, "split": {"holdout": 0.25}}, "from": "table"}},
        {"release": {"register": {"model": "lateness"}, "from": "model"}},
    ]
    (tmp_path / "forebay.yaml").write_text(json.dumps({"datasets": {"table": {}}, "pipelines": {"learn": {"stages": stages}}}))
    done = subprocess.run([stack.FOREBAY, "--project", str(tmp_path), "run", "learn"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    server = stack.Forebay(tmp_path)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token)
        mlflow.set_tracking_uri(server.url)
        mlflow.set_registry_uri(server.url)
        model = mlflow.pyfunc.load_model("models:/lateness/1")
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
        server.stop()
    # Whole numbers are taken for numbers, and a column that nobody asked for is passed over.
    asked = pandas.DataFrame({"carrier": ["AA", "UA", "??"], "hour": [1, 23, 23], "late": [0, 1, 1]})
    answer = model.predict(asked)
    assert answer["label"].tolist() == [0, 1, 1]
    assert answer["probabilities"].shape == (3, 2) and answer["probabilities"][0, 1] < 0.1 < 0.9 < answer["probabilities"][1, 1]
