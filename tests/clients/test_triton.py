"""Predictive models by the unmodified `tritonclient`: HTTP with JSON and binary tensors, gRPC on the same port, and many at once."""

import concurrent.futures
import json
import pathlib
import urllib.request

import numpy
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

ORACLES = pathlib.Path(__file__).parents[2] / "engines/onnx/oracles"
GOLDEN = json.loads((ORACLES / "models.json").read_text())


def golden(model):
    """Inputs and outputs as ONNX Runtime's own Python has them."""
    inputs = {}
    for name, given in GOLDEN[model]["inputs"].items():
        text = isinstance(given["data"][0], str)
        data = [x.encode() if text else numpy.nan if x is None else x for x in given["data"]]
        inputs[name] = numpy.array(data, dtype=object if text else numpy.float32).reshape(given["shape"])
    return inputs, GOLDEN[model]["outputs"]


def given(kind, inputs, binary=True):
    made = []
    for name, values in inputs.items():
        datatype = "BYTES" if values.dtype == object else "FP32"
        made.append(kind.InferInput(name, list(values.shape), datatype))
        if kind is tritonclient.http:
            made[-1].set_data_from_numpy(values, binary_data=binary)
        else:
            made[-1].set_data_from_numpy(values)
    return made


def holds(result, outputs):
    for name, wanted in outputs.items():
        got = result.as_numpy(name)
        if got.dtype == object:
            assert [x.decode() if isinstance(x, bytes) else x for x in got.tolist()] == wanted
        else:
            numpy.testing.assert_allclose(got, numpy.array(wanted), atol=1e-6)


@pytest.fixture
def http(triton):
    client = tritonclient.http.InferenceServerClient(triton, concurrency=8)
    yield client
    client.close()


@pytest.fixture
def grpc(triton):
    client = tritonclient.grpc.InferenceServerClient(triton)
    yield client
    client.close()


def test_health_and_metadata(http, grpc):
    for client in [http, grpc]:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("trees")
        assert not client.is_model_ready("nobody")
    assert http.get_server_metadata()["name"] == grpc.get_server_metadata().name == "forebay"
    told = http.get_model_metadata("trees")
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 20]}]
    assert told["platform"] == "onnxruntime_onnx"
    same = grpc.get_model_metadata("trees", as_json=True)
    assert same["versions"] == told["versions"] and same["inputs"][0]["name"] == "x"
    assert http.get_model_config("trees")["input"][0]["data_type"] == "TYPE_FP32"


@pytest.mark.parametrize("model", ["trees", "words", "columns"])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_http_in_json_and_binary(http, model, binary_in, binary_out):
    inputs, outputs = golden(model)
    wanted = [tritonclient.http.InferRequestedOutput(n, binary_data=binary_out) for n in outputs]
    # Missing values go as the bare NaN that Python's json writes.
    result = http.infer(model, given(tritonclient.http, inputs, binary_in), outputs=wanted, request_id="mine")
    assert result.get_response()["id"] == "mine"
    holds(result, outputs)
    holds(http.infer(model, given(tritonclient.http, inputs, binary_in)), outputs)


@pytest.mark.parametrize("model", ["trees", "words", "columns"])
def test_grpc(grpc, model):
    inputs, outputs = golden(model)
    result = grpc.infer(model, given(tritonclient.grpc, inputs), request_id="mine")
    assert result.get_response().id == "mine"
    holds(result, outputs)
    one = list(outputs)[-1]
    only = grpc.infer(model, given(tritonclient.grpc, inputs), outputs=[tritonclient.grpc.InferRequestedOutput(one)])
    holds(only, {one: outputs[one]})


def test_grpc_stream(grpc):
    inputs, outputs = golden("trees")
    came = []
    grpc.start_stream(lambda result, error: came.append((result, error)))
    for n in range(5):
        grpc.async_stream_infer("trees" if n != 2 else "nobody", given(tritonclient.grpc, inputs), request_id=str(n))
    grpc.stop_stream()
    assert len(came) == 5
    for n, (result, error) in enumerate(came):
        if n == 2:
            assert "there is no model" in str(error)
        else:
            assert result.get_response().id == str(n)
            holds(result, outputs)


def test_errors_are_the_clients_own(http, grpc):
    inputs, _ = golden("trees")
    for kind, client in [(tritonclient.http, http), (tritonclient.grpc, grpc)]:
        with pytest.raises(InferenceServerException, match="there is no model `nobody`"):
            client.infer("nobody", given(kind, inputs))
        with pytest.raises(InferenceServerException, match="the input `x` is missing|has no input `y`"):
            client.infer("trees", given(kind, {"y": inputs["x"]}))
        with pytest.raises(InferenceServerException, match=r"takes `x` of shape \[\?, 20\]"):
            client.infer("trees", given(kind, {"x": inputs["x"][:, :3]}))


def test_repository_and_statistics(http, grpc):
    assert {m["name"] for m in http.get_model_repository_index()} >= {"trees", "words", "columns"}
    assert {m.name for m in grpc.get_model_repository_index().models} >= {"trees"}
    http.unload_model("words")
    assert not http.is_model_ready("words")
    http.load_model("words")
    assert grpc.is_model_ready("words")
    inputs, _ = golden("trees")
    before = http.get_inference_statistics("trees")["model_stats"][0]["inference_count"]
    http.infer("trees", given(tritonclient.http, inputs))
    after = grpc.get_inference_statistics("trees", as_json=True)["model_stats"][0]
    assert int(after["inference_count"]) == before + len(inputs["x"])


def test_sixty_four_clients_each_have_their_own_answers(triton):
    inputs, outputs = golden("trees")
    probabilities = numpy.array(outputs["probabilities"])

    def work(nth):
        kind = tritonclient.http if nth % 2 else tritonclient.grpc
        client = kind.InferenceServerClient(triton)
        for step in range(10):
            row = (nth * 7 + step) % len(probabilities)
            result = client.infer("trees", given(kind, {"x": inputs["x"][row : row + 1]}), request_id=f"{nth}-{step}")
            told = result.get_response()
            assert (told["id"] if isinstance(told, dict) else told.id) == f"{nth}-{step}"
            numpy.testing.assert_allclose(result.as_numpy("probabilities"), probabilities[row : row + 1], atol=1e-6)
        client.close()

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        list(pool.map(work, range(64)))


def test_invocations_as_mlflow_sends_them(triton):
    inputs, outputs = golden("columns")
    rows = [[c[0].decode(), float(m[0])] for c, m in zip(inputs["carrier"], inputs["miles"])]
    body = {"dataframe_split": {"columns": ["carrier", "miles"], "data": rows}}
    request = urllib.request.Request(
        f"http://{triton}/invocations?model=columns", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        predictions = json.load(answer)["predictions"]
    name = next(n for n in outputs if "prob" not in n)
    assert [p[name] for p in predictions] == outputs[name]
