"""Makes the small models of the tests, and records what ONNX Runtime's own Python says of some rows: `*.onnx`, `models.json`.

    pip install onnxruntime==1.32.0 onnx==1.23.2 scikit-learn==1.9.1 skl2onnx==1.20.0 lightgbm==4.7.0 onnxmltools==1.16.0
    python engines/onnx/oracles/models.py

`words.onnx`: a classifier with names for classes, whose probabilities are maps. `columns.onnx`: one tensor for each column, text
among them. `trees.onnx`: boosted trees with missing values, 20 features. `bench` as an argument writes the trees of the benches
(100 trees of depth 4) to the path that follows it instead.
"""

import json
import pathlib
import sys

import lightgbm
import numpy
import onnxruntime
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as MlFloats
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

HERE = pathlib.Path(__file__).parent
random = numpy.random.default_rng(7)


def trees(count, depth, rows=20_000):
    x = random.normal(size=(rows, 20)).astype(numpy.float32)
    x[random.random(x.shape) < 0.05] = numpy.nan
    score = numpy.nan_to_num(x[:, 0]) * numpy.nan_to_num(x[:, 1]) + numpy.nan_to_num(x[:, 2]) - 0.5 * numpy.abs(numpy.nan_to_num(x[:, 3]))
    y = (score + random.normal(size=rows) > 0).astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=count, max_depth=depth, num_leaves=2**depth, n_jobs=1, verbose=-1)
    model.fit(x, y)
    return convert_lightgbm(model, initial_types=[("x", MlFloats([None, 20]))], target_opset=15, zipmap=False), x


def recorded(proto, feed):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    plain = lambda v: v.tolist() if isinstance(v, numpy.ndarray) else [list(row.values()) for row in v]
    floats = lambda v: [floats(x) for x in v] if isinstance(v, list) else (None if v != v else v)
    return {
        "inputs": {n: {"shape": list(v.shape), "data": floats(v.reshape(-1).tolist())} for n, v in feed.items()},
        "outputs": {n: plain(v) for n, v in zip(names, session.run(None, feed))},
    }


def main():
    if sys.argv[1:2] == ["bench"]:
        pathlib.Path(sys.argv[2]).write_bytes(trees(100, 4)[0].SerializeToString())
        return
    golden = {}

    def keep(name, proto, feed):
        (HERE / f"{name}.onnx").write_bytes(proto.SerializeToString())
        golden[name] = recorded(proto, feed)

    x = random.normal(size=(300, 3)).astype(numpy.float32)
    y = numpy.array(["low", "middle", "high"])[numpy.digitize(x @ [1, -2, 0.5], [-1, 1])]
    words = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    keep("words", to_onnx(words, initial_types=[("x", FloatTensorType([None, 3]))]), {"x": x[:5]})

    carrier = random.choice(["AA", "UA", "DL"], size=(300, 1)).astype(object)
    miles = random.uniform(100, 3000, size=(300, 1)).astype(numpy.float32)
    late = (miles[:, 0] / 1500 + (carrier[:, 0] == "AA") > 1.2).astype(int)
    table = numpy.concatenate([carrier, miles.astype(object)], axis=1)
    steps = ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), [0]), ("m", StandardScaler(), [1])])
    columns = make_pipeline(steps, LogisticRegression()).fit(table, late)
    types = [("carrier", StringTensorType([None, 1])), ("miles", FloatTensorType([None, 1]))]
    proto = to_onnx(columns, initial_types=types, options={id(columns): {"zipmap": False}})
    keep("columns", proto, {"carrier": carrier[:5], "miles": miles[:5]})

    proto, x = trees(12, 4, 4_000)
    keep("trees", proto, {"x": x[:16]})
    (HERE / "models.json").write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")


main()
