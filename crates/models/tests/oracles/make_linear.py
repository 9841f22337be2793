#!/usr/bin/env python3
"""Makes linear.json: coefficients of scikit-learn, and what ONNX Runtime answers for a linear model written by hand.

    python3 -m venv venv && venv/bin/pip install scikit-learn==1.9.1 onnxruntime==1.32.0 numpy
    venv/bin/python crates/models/tests/oracles/make_linear.py
"""

import hashlib
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np
import onnxruntime as ort
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

HERE = pathlib.Path(__file__).parent
OUT = HERE / "linear.json"
N = 300


def data():
    r = np.random.default_rng(11)
    a, b = r.normal(3, 2, N), r.exponential(50, N)
    word = r.choice(["", "ash", "elm", "oak"], N)
    score = 0.8 * a - 0.03 * b + np.where(word == "elm", 1.2, -0.4) + r.normal(0, 1, N)
    a[r.random(N) < 0.1] = np.nan
    return a, b, word, score, r.integers(1, 4, N).astype(float)


def fit(model, x, y, weights):
    steps = ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [0, 1]),
        ("words", OneHotEncoder(sparse_output=False), [2]),
    ])
    design = steps.fit_transform(x)
    model.fit(design, y, sample_weight=weights)
    return np.atleast_2d(model.coef_).tolist(), np.atleast_1d(model.intercept_).tolist()


def cases():
    a, b, word, score, weights = data()
    x = np.column_stack([a.astype(object), b.astype(object), word.astype(object)])
    two = (score > np.median(score)).astype(int)
    three = np.digitize(score, np.quantile(score, [0.3, 0.7]))
    tight = {"tol": 1e-12, "max_iter": 200_000}
    saga = {"solver": "saga", "random_state": 0} | tight
    ones = np.ones(N)
    c = lambda l1, l2, n: {"C": 1 / (n * (l1 + l2)), "l1_ratio": l1 / (l1 + l2)}
    todo = [
        ("logistic", 0, 0.01, two, LogisticRegression(C=1 / (N * 0.01), **tight), ones),
        ("logistic_elastic_net", 0.01, 0.005, two, LogisticRegression(**c(0.01, 0.005, N), **saga), ones),
        ("multinomial", 0, 0.02, three, LogisticRegression(C=1 / (N * 0.02), **tight), ones),
        ("multinomial_elastic_net", 0.01, 0.01, three, LogisticRegression(**c(0.01, 0.01, N), **saga), ones),
        ("ridge", 0, 0.05, score, Ridge(alpha=N * 0.05, solver="cholesky"), ones),
        ("elastic_net", 0.1, 0.05, score, ElasticNet(alpha=0.15, l1_ratio=0.1 / 0.15, **tight), ones),
    ]
    out = []
    for name, l1, l2, y, model, w in todo:
        coefficients, intercepts = fit(model, x, y, w)
        out.append({"name": name, "l1": l1, "l2": l2, "target": [float(v) for v in y], "classes": name[0] in "lm",
                    "coefficients": coefficients, "intercepts": intercepts})
    # Weights, where the preprocessing of both does not see them.
    columns = {"a": [None if np.isnan(v) else float(v) for v in a], "b": [float(v) for v in b], "word": word.tolist()}
    return columns, out


def ask(path):
    rows = {"x": [1.5, np.nan, -2.0, 0.0, 1e6], "y": [0.1, 0.2, np.nan, np.nan, -3.0],
            "word": ["ash", "", "elm", "unseen", "oak"], "tag": ["a", "hello", "", "Grüße", "a longer text than before"]}
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {k: np.array([[v] for v in col], dtype=object if isinstance(col[0], str) else np.float64) for k, col in rows.items()}
    names = [o.name for o in session.get_outputs()]
    answers = dict(zip(names, session.run(None, feed)))
    rows = {k: [None if isinstance(v, float) and np.isnan(v) else v for v in col] for k, col in rows.items()}
    return {"rows": rows, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "probabilities": answers["probabilities"].tolist(), "label": answers["label"].tolist()}


def main():
    columns, out = cases()
    body = {"versions": {"scikit-learn": sklearn.__version__, "onnxruntime": ort.__version__}, "columns": columns,
            "cases": out, "by_hand": {"rows": {"x": [], "y": [], "word": [], "tag": []}, "sha256": "", "probabilities": [], "label": []}}
    OUT.write_text(json.dumps(body))
    with tempfile.TemporaryDirectory() as folder:
        run = ["cargo", "test", "-q", "-p", "forebay-models", "--test", "it", "--", "onnx_runtime_answers_what_a_linear"]
        subprocess.run(run, env=os.environ | {"FOREBAY_WRITE_ONNX": folder}, cwd=HERE.parents[3], check=True)
        body["by_hand"] = ask(pathlib.Path(folder) / "linear.onnx")
    OUT.write_text(json.dumps(body, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
