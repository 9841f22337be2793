#!/usr/bin/env python3
"""Makes cbpe.json again: what NannyML's CBPE says of its own synthetic data sets (Apache-2.0), and what was true.

    python3 -m venv v && v/bin/pip install -r requirements-nannyml.txt && v/bin/python cbpe.py

Probabilities are in hundredths there, so that a chunk is kept as counts of (probability, prediction, label).
"""

import collections
import json
import os
import pathlib

# It would report its use to a server.
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"

import nannyml
import numpy as np

HERE = pathlib.Path(__file__).parent
METRICS = ["roc_auc", "average_precision", "f1", "precision", "recall", "specificity", "accuracy"]


def estimates(cbpe, data, metrics):
    frame = cbpe.estimate(data).filter(period="analysis").to_df()
    return [
        {m: {"value": float(frame[(m, "value")].iloc[i]), "realized": float(frame[(m, "realized")].iloc[i])} for m in metrics}
        for i in range(len(frame))
    ]


def hundredths(values):
    ints = np.round(values * 100).astype(int)
    assert np.abs(ints / 100 - values).max() < 1e-12
    return ints


def binary():
    reference, analysis, targets = nannyml.load_synthetic_car_loan_dataset()
    analysis = analysis.merge(targets, left_on="id", right_on="id") if "id" in targets else analysis.join(targets)
    cbpe = nannyml.CBPE(
        y_pred_proba="y_pred_proba", y_pred="y_pred", y_true="repaid", problem_type="classification_binary",
        metrics=METRICS, chunk_size=5000,
    )
    cbpe.fit(reference.copy())

    def counts(frame):
        keys = zip(hundredths(frame["y_pred_proba"].to_numpy()), frame["y_pred"], frame["repaid"])
        found = collections.Counter((int(p), int(said), int(true)) for p, said, true in keys)
        return [[*key, n] for key, n in sorted(found.items())]

    chunks = estimates(cbpe, analysis, METRICS)
    kept = [{"rows": counts(analysis.iloc[i * 5000 : (i + 1) * 5000]), **chunk} for i, chunk in enumerate(chunks)]
    return {"calibrated_first": bool(cbpe.needs_calibration), "reference": counts(reference), "chunks": kept}


def multiclass():
    reference, analysis, targets = nannyml.load_synthetic_multiclass_classification_dataset()
    analysis = analysis.merge(targets, on="id") if "id" in targets else analysis.join(targets)
    classes = sorted(set(reference["y_true"]))
    column = {c: f"y_pred_proba_{c}" for c in classes}
    metrics = [m for m in METRICS if m != "average_precision"]
    size = 2000
    cbpe = nannyml.CBPE(
        y_pred_proba=column, y_pred="y_pred", y_true="y_true", problem_type="classification_multiclass",
        metrics=metrics, chunk_size=size,
    )
    cbpe.fit(reference.copy())
    needed = [type(cbpe._calibrators[c]).__name__ != "NoopCalibrator" for c in classes]

    def fit(c):
        keys = zip(hundredths(reference[column[c]].to_numpy()), reference["y_true"] == c)
        return [[*key, n] for key, n in sorted(collections.Counter((int(p), int(t)) for p, t in keys).items())]

    def rows(frame):
        ps = [hundredths(frame[column[c]].to_numpy()) for c in classes]
        said = [classes.index(c) for c in frame["y_pred"]]
        true = [classes.index(c) for c in frame["y_true"]]
        return " ".join(",".join(str(int(x)) for x in row) for row in zip(*ps, said, true))

    chunks = estimates(cbpe, analysis, metrics)
    pick = [0, len(chunks) - 1]
    kept = [{"rows": rows(analysis.iloc[i * size : (i + 1) * size]), **chunks[i]} for i in pick]
    return {"classes": classes, "calibrated_first": needed, "reference": [fit(c) for c in classes], "chunks": kept}


if __name__ == "__main__":
    found = {"binary": binary(), "multiclass": multiclass()}
    (HERE / "cbpe.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
