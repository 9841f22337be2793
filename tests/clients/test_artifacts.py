"""Models whose files are in a bucket: put there over MLflow's surface, listed, read, served, and taken away."""

import json
import pathlib
import shutil

import boto3
import pytest

import stack

ORACLES = pathlib.Path(__file__).parents[2] / "engines/onnx/oracles"
API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(autouse=True)
def server():
    """Those of this file have configurations of their own."""
    yield None


@pytest.fixture
def up(s3, onnxruntime, monkeypatch):
    """Starts a server on a folder; the last one is stopped first."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORT_DYLIB_PATH", onnxruntime)
    folder, running = stack.temporary(), []

    def start(text):
        (folder / "forebay.yaml").write_text(text)
        if running:
            running.pop().stop()
        running.append(stack.Process("--project", str(folder), "up", "--listen", "127.0.0.1:0", log=folder / "server.log"))
        return folder, running[-1].told["listening"]

    yield start
    for process in running:
        process.stop()
    shutil.rmtree(folder, ignore_errors=True)


def ask(url, method, path, body=None, fine=True):
    names = {"content-type": "application/json"} if isinstance(body, dict) else {}
    body = json.dumps(body) if isinstance(body, dict) else body
    status, _, said = stack.http(method, url + path, body, names)
    assert not fine or status == 200, said
    return json.loads(said) if fine and said.startswith(b"{") else (status, said)


def in_bucket(s3, prefix):
    client = boto3.client(
        "s3",
        endpoint_url=s3["AWS_ENDPOINT_URL"],
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    found = client.list_objects_v2(Bucket="lake", Prefix=prefix).get("Contents", [])
    assert not client.list_multipart_uploads(Bucket="lake").get("Uploads")
    return {one["Key"].removeprefix(prefix): one["Size"] for one in found}


def test_a_registered_model_is_put_in_a_bucket_served_from_there_and_removed(up, s3):
    text = "storage: {artifacts: s3://lake/models/a}\nmodels:\n  trees: {registry: trees}\n"
    folder, url = up(text)
    run = ask(url, "POST", API + "runs/create", {"experiment_id": "0"})["run"]["info"]
    model = (ORACLES / "trees.onnx").read_bytes()
    below = f"{ARTIFACTS}/0/{run['run_id']}/artifacts"
    ask(url, "PUT", f"{below}/model/model.onnx", model)
    # In several parts, and a name that has to be escaped.
    long = bytes(range(256)) * (80 << 10)
    ask(url, "PUT", f"{below}/a%20b/long~%C3%BC.bin", long)
    assert ask(url, "GET", f"{below}/a%20b/long~%C3%BC.bin") == (200, long)
    listed = ask(url, "GET", f"{API}artifacts/list?run_id={run['run_id']}&path=a%20b")
    assert listed["files"] == [{"path": "a b/long~ü.bin", "is_dir": False, "file_size": len(long)}]
    ask(url, "POST", API + "registered-models/create", {"name": "trees"})
    source = f"{run['artifact_uri']}/model"
    ask(url, "POST", API + "model-versions/create", {"name": "trees", "source": source, "run_id": run["run_id"]})
    ask(url, "POST", API + "registered-models/alias", {"name": "trees", "alias": "champion", "version": "1"})
    held = in_bucket(s3, "models/a/")
    assert sorted(held.values()) == [len(model), len(long)] and all("/model/" in k or "/a b/" in k for k in held)
    assert not (folder / ".forebay/tracking").exists()
    golden = json.loads((ORACLES / "models.json").read_text())["trees"]["inputs"]["x"]

    def answers(url):
        stack.eventually(lambda: stack.http("GET", f"{url}/v2/models/trees/ready")[0] == 200, seconds=60)
        x = {"name": "x", "datatype": "FP32", "shape": [1, 20], "data": [0.0 if v is None else v for v in golden["data"][:20]]}
        return ask(url, "POST", "/v2/models/trees/infer", {"inputs": [x]})["outputs"]

    before = answers(url)
    # Another process finds it where it was put.
    folder, url = up(text)
    assert answers(url) == before
    ask(url, "DELETE", f"{below}/a%20b")
    assert sorted(in_bucket(s3, "models/a/").values()) == [len(model)]
    assert ask(url, "GET", f"{below}/a%20b/long~%C3%BC.bin", fine=False)[0] == 404


def test_a_bucket_that_is_not_there_is_said_and_a_place_that_is_none_is_refused(up, s3):
    folder, url = up("storage: {artifacts: s3://nowhere/x}\n")
    status, said = ask(url, "PUT", f"{ARTIFACTS}/0/r/artifacts/x", b"x", fine=False)
    assert status >= 500, said
    assert b"NoSuchBucket" in (folder / "server.log").read_bytes() + said
    with pytest.raises(RuntimeError, match="write `s3://BUCKET/PREFIX`, or remove it"):
        up("storage: {artifacts: /a/folder}\n")
