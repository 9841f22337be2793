#!/usr/bin/env python3
"""Makes online.json: what river's SGD predicts row by row, and FTRL-Proximal as its paper has it.

    python3 -m venv venv && venv/bin/pip install river==0.26.1 numpy
    venv/bin/python crates/models/tests/oracles/make_online.py

River's FTRL answers with the weights of the step before, so Algorithm 1 of McMahan et al. (2013) is written out here; river gives
the figure that it is to come near to.
"""

import json
import math
import pathlib

import numpy as np
import river
from river import linear_model, metrics, optim, preprocessing, stats

OUT = pathlib.Path(__file__).parent / "online.json"
N = 400


def rows():
    r = np.random.default_rng(5)
    for _ in range(N):
        a, b, word = r.normal(5, 3), r.exponential(20), str(r.choice(["ash", "elm", "oak", "yew"]))
        score = 0.5 * (a - 5) - 0.05 * (b - 20) + {"ash": 1, "elm": -1, "oak": 0, "yew": 0.3}[word]
        yield (None if r.random() < 0.1 else float(a)), float(b), word, int(r.random() < 1 / (1 + math.exp(-score))), score + float(r.normal())


class Encode:
    """Running means and deviations, one-hot words, a constant: learn first, as river's pipelines do."""

    def __init__(self):
        self.var = {"a": stats.Var(ddof=0), "b": stats.Var(ddof=0)}

    def learn(self, row):
        for name, x in (("a", row[0]), ("b", row[1])):
            if x is not None:
                self.var[name].update(x)

    def __call__(self, row):
        x = {"one": 1.0, "word=" + row[2]: 1.0}
        for name, v in (("a", row[0]), ("b", row[1])):
            s = self.var[name]
            deviation = math.sqrt(s.get()) if s.get() > 0 else 0.0
            x[name] = 0.0 if v is None or deviation == 0 else (v - s.mean.get()) / deviation
        return x


def by_river(data, model, target, predict):
    encode, out = Encode(), []
    for row in data:
        out.append(float(predict(model, encode(row))))
        encode.learn(row)
        model.learn_one(encode(row), row[target])
    return out


def ftrl(data, alpha=0.3, beta=1.0, l1=0.5, l2=0.1):
    encode, z, n, out = Encode(), {}, {}, []

    def weight(i):
        zi = z.get(i, 0.0)
        if abs(zi) <= l1:
            return 0.0
        return -(zi - math.copysign(l1, zi)) / ((beta + math.sqrt(n.get(i, 0.0))) / alpha + l2)

    def probability(x):
        return 1 / (1 + math.exp(-sum(weight(i) * v for i, v in x.items())))

    for row in data:
        out.append(probability(encode(row)))
        encode.learn(row)
        x = encode(row)
        slope = probability(x) - row[3]
        for i, v in x.items():
            if v == 0:
                continue
            g, w = slope * v, weight(i)
            sigma = (math.sqrt(n.get(i, 0.0) + g * g) - math.sqrt(n.get(i, 0.0))) / alpha
            z[i] = z.get(i, 0.0) + g - sigma * w
            n[i] = n.get(i, 0.0) + g * g
    return out


def auc(answers, data):
    metric = metrics.ROCAUC(n_thresholds=200)
    for p, row in zip(answers, data):
        metric.update(bool(row[3]), p)
    return metric.get()


def main():
    data = list(rows())
    logistic = linear_model.LogisticRegression(optimizer=optim.SGD(0.05), intercept_lr=0.0)
    # River's squared loss has the slope 2·(p − y): half the rate is ours.
    linear = linear_model.LinearRegression(optimizer=optim.SGD(0.01), intercept_lr=0.0)
    theirs = linear_model.LogisticRegression(optimizer=optim.FTRLProximal(alpha=0.3, beta=1.0, l1=0.5, l2=0.1), intercept_lr=0.0)
    one = lambda model, x: model.predict_proba_one(x)[True]
    body = {
        "versions": {"river": river.__version__},
        "rows": data,
        "sgd_logistic": by_river(data, logistic, 3, one),
        "sgd_linear": by_river(data, linear, 4, lambda model, x: model.predict_one(x)),
        "ftrl": ftrl(data),
        "river_ftrl_auc": auc(by_river(data, theirs, 3, one), data),
    }
    OUT.write_text(json.dumps(body, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
