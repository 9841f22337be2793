#!/usr/bin/env python3
"""Makes trees.json: models of LightGBM and XGBoost, what they answer, and what ONNX Runtime answers for our files of them.

    python3 -m venv venv && venv/bin/pip install lightgbm==4.7.0 xgboost==3.2.0 onnxruntime==1.32.0 \
        scikit-learn pandas numpy
    venv/bin/python crates/models/tests/oracles/make.py

Two steps: the models are trained and written, then the crate's own test writes an ONNX file of each (FOREBAY_WRITE_ONNX), and
ONNX Runtime answers for it; the file's sum is recorded with the answers, so that the test needs no Python.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import lightgbm as lgb
import numpy as np
import onnxruntime as ort
import pandas as pd
import xgboost as xgb

HERE = pathlib.Path(__file__).parent
OUT = HERE / "trees.json"
WORDS = [f"w{i:02}" for i in range(40)]
FEW = ["ash", "beech", "elm", "oak"]


def table(seed, rows, holes):
    r = np.random.default_rng(seed)
    a, b, c = r.normal(size=rows), r.exponential(size=rows) * 100, r.integers(-5, 6, size=rows).astype(float)
    word, few = r.integers(0, len(WORDS), size=rows).astype(float), r.integers(0, len(FEW), size=rows).astype(float)
    effect = np.sin(np.arange(len(WORDS)) * 1.7)[word.astype(int)]
    score = a + 0.01 * b - 0.2 * c + 1.5 * effect + np.where(few == 2, 1.0, -0.3) + r.normal(size=rows) * 0.5
    x = np.column_stack([a, b, c, word, few])
    if holes:
        for column in range(5):
            x[r.random(rows) < 0.12, column] = np.nan
    return x, score


def asked(seed):
    """Rows to answer: missing values and words that training did not see among them."""
    x, _ = table(seed, 60, True)
    x[5, 3] = x[17, 4] = -1  # unseen
    x[0], x[1] = np.nan, 0.0
    return x


FEATURES = [
    {"name": "a"},
    {"name": "b"},
    {"name": "c"},
    {"name": "word", "words": WORDS},
    {"name": "few", "words": FEW},
]


def light(name, params, y, x, features=FEATURES, classes=None, rounds=15):
    params = {"verbose": -1, "num_leaves": 15, "min_data_in_leaf": 5, "min_data_per_group": 5, "cat_smooth": 1,
              "max_cat_to_onehot": 4, "seed": 1, "deterministic": True, "num_threads": 1, "force_col_wise": True} | params
    categories = [i for i, f in enumerate(features) if "words" in f] if features else []
    data = lgb.Dataset(x, y, categorical_feature=categories, feature_name=[f["name"] for f in features] if features else "auto")
    booster = lgb.train(params, data, rounds)
    rows = asked(7)[:, : x.shape[1]]
    return case(name, "lightgbm", booster.model_to_string(), rows, booster.predict(rows), features, classes)


def boost(name, params, y, x, ubj=False):
    params = {"max_depth": 4, "eta": 0.3, "seed": 1, "nthread": 1, "max_cat_to_onehot": 3} | params
    frame = lambda x: pd.DataFrame({i: x[:, i] for i in range(3)} | {
        3: pd.Categorical.from_codes([-1 if np.isnan(v) or v < 0 else int(v) for v in x[:, 3]], range(len(WORDS)))})
    kinds = ["q", "q", "q", "c"]
    codes = lambda x: np.column_stack([x[:, :3], [np.nan if np.isnan(v) or v < 0 else v for v in x[:, 3]]])
    booster = xgb.train(params, xgb.DMatrix(codes(x), y, feature_types=kinds, enable_categorical=True), 12)
    rows = codes(asked(9))
    answers = booster.predict(xgb.DMatrix(rows, feature_types=kinds, enable_categorical=True))
    model = bytes(booster.save_raw("ubj" if ubj else "json"))
    return case(name, "xgboost", model.hex() if ubj else model.decode(), rows, answers, None, None)


def case(name, library, model, rows, answers, features, classes):
    cells = [[None if np.isnan(v) else float(v) for v in row] for row in rows]
    return {"name": name, "library": library, "features": features, "classes": classes, "model": model,
            "rows": cells, "library_answers": np.atleast_2d(np.asarray(answers, float).T).T.tolist()}


def train():
    x, score = table(1, 1500, True)
    whole, steady = table(2, 1500, False)
    r = np.random.default_rng(3)
    three = np.digitize(score, np.quantile(score, [0.3, 0.7]))
    return [
        light("binary", {"objective": "binary"}, (score > 0.5).astype(int), x, classes={"texts": ["late", "on time"]}),
        light("binary_scaled", {"objective": "binary", "sigmoid": 0.7, "is_unbalance": True}, (score > 2).astype(int), x),
        light("regression", {"objective": "regression"}, steady, whole),
        light("multiclass", {"objective": "multiclass", "num_class": 3}, three, x, classes={"texts": ["low", "mid", "top"]}),
        light("one_against_all", {"objective": "multiclassova", "num_class": 3}, three, x),
        light("poisson", {"objective": "poisson"}, r.poisson(np.exp(0.3 * steady)), whole),
        light("forest", {"objective": "regression", "boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1}, steady, whole),
        light("matrix", {"objective": "binary"}, (score > 0.5).astype(int), x[:, :3], features=None),
        light("nothing_to_split", {"objective": "regression"}, np.full(40, 3.25), whole[:40], rounds=2),
        boost("xgboost_binary", {"objective": "binary:logistic"}, (score > 0.5).astype(int), x),
        boost("xgboost_ubj", {"objective": "binary:logistic"}, (score > 0.5).astype(int), x, ubj=True),
        boost("xgboost_multi", {"objective": "multi:softprob", "num_class": 3}, three, x),
        boost("xgboost_regression", {"objective": "reg:squarederror"}, score, x),
        boost("xgboost_poisson", {"objective": "count:poisson"}, r.poisson(np.exp(0.3 * score.clip(-3, 3))), x),
    ]


def ask(case, path):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = [[np.nan if v is None else v for v in row] for row in case["rows"]]
    if case["features"] is None:
        feed = {"input": np.array(rows, dtype=np.float64)}
    else:
        feed = {}
        for i, feature in enumerate(case["features"]):
            column = [row[i] for row in rows]
            if "words" in feature:
                # A missing word is the empty text; one that training did not see is any other.
                text = lambda v: "" if np.isnan(v) else "unseen" if v < 0 else feature["words"][int(v)]
                feed[feature["name"]] = np.array([[text(v)] for v in column], dtype=object)
            else:
                feed[feature["name"]] = np.array([[v] for v in column], dtype=np.float64)
    answers = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed)))
    case["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    case["onnx_answers"] = (answers["probabilities"] if "probabilities" in answers else answers["prediction"]).tolist()
    case["labels"] = answers["label"].tolist() if "label" in answers else None


def main():
    cases = train()
    OUT.write_text(json.dumps({"cases": cases}, separators=(",", ":")))
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"FOREBAY_WRITE_ONNX": folder}
        run = ["cargo", "test", "-q", "-p", "forebay-models", "--test", "it", "--", "onnx_runtime_answered"]
        subprocess.run(run, env=env, cwd=HERE.parents[3], check=True)
        for case in cases:
            ask(case, pathlib.Path(folder) / f"{case['name']}.onnx")
    body = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    versions = {"lightgbm": lgb.__version__, "xgboost": xgb.__version__, "onnxruntime": ort.__version__}
    OUT.write_text(f'{{"versions":{json.dumps(versions)},"cases":[\n{body}\n]}}\n')


if __name__ == "__main__":
    sys.exit(main())
