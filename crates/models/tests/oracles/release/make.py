"""Golden values of figures and tests, from the packages that people trust for them.

    python -m venv venv
    venv/bin/pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 fairlearn==0.15.0 statsmodels==0.15.0 MLstatkit==0.1.91
    venv/bin/python make.py

writes metrics.json, paired.json and rollout.json beside this file, the same bytes every time.
"""

import json
import pathlib

import numpy as np
from fairlearn import metrics as fair
from MLstatkit import Delong_test
from scipy import integrate, optimize, special, stats
from sklearn import calibration, metrics
from statsmodels.stats.contingency_tables import mcnemar

HERE = pathlib.Path(__file__).parent


def write(name, value):
    def plain(x):
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(v) for v in x]
        if isinstance(x, np.ndarray):
            return plain(x.tolist())
        if isinstance(x, np.generic):
            return x.item()
        return x

    (HERE / name).write_text(json.dumps(plain(value), indent=None, separators=(",", ":")) + "\n")


def ece(y, p, w, edges):
    """Expected calibration error by its definition; scikit-learn has the curve, not the figure."""
    bins = np.searchsorted(edges[1:-1], p)
    total = 0.0
    for b in np.unique(bins):
        at = bins == b
        total += w[at].sum() * abs(np.average(p[at], weights=w[at]) - np.average(y[at], weights=w[at]))
    return total / w.sum()


def binary(y, p, w, threshold):
    called = (p >= threshold).astype(int)
    kw = {"sample_weight": w}
    tn, fp, fn, tp = metrics.confusion_matrix(y, called, **kw).ravel()
    precision, recall, _ = metrics.precision_recall_curve(y, p, **kw)
    fpr, tpr, _ = metrics.roc_curve(y, p, drop_intermediate=False, **kw)
    uniform = np.linspace(0, 1, 11)
    mass = np.percentile(p, np.linspace(0, 1, 11) * 100)
    return {
        "metrics": {
            "auc": metrics.roc_auc_score(y, p, **kw),
            "average_precision": metrics.average_precision_score(y, p, **kw),
            "accuracy": metrics.accuracy_score(y, called, **kw),
            "precision": metrics.precision_score(y, called, **kw),
            "recall": metrics.recall_score(y, called, **kw),
            "f1": metrics.f1_score(y, called, **kw),
            "fpr": fp / (fp + tn),
            "fnr": fn / (fn + tp),
            "log_loss": metrics.log_loss(y, p, **kw),
            "brier": metrics.brier_score_loss(y, p, **kw),
            "ece": ece(y, p, w, uniform),
            "ece_mass": ece(y, p, w, mass),
            "recall@precision=0.6": max(r for q, r in zip(precision, recall) if q >= 0.6),
            "cost": (fp * 2.0 + fn * 5.0) / w.sum(),
        },
        "confusion": [tp, fp, tn, fn],
        "roc": list(zip(fpr, tpr)),
    }


def golden_metrics():
    rng = np.random.default_rng(20260101)
    n = 240
    y = rng.integers(0, 2, n)
    p = np.clip(np.round(rng.beta(2 + 2 * y, 3 - y), 2), 0.0, 1.0)  # two digits: many ties
    w = np.round(rng.gamma(2.0, 0.7, n), 3)
    group = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    out = {"binary": {"labels": y, "scores": p, "weights": w, "group": group}}
    out["binary"]["plain"] = binary(y, p, np.ones(n), 0.45)
    out["binary"]["weighted"] = binary(y, p, w, 0.45)
    prob_true, prob_pred = calibration.calibration_curve(y, p, n_bins=10)
    out["binary"]["curve"] = list(zip(prob_pred, prob_true))
    prob_true, prob_pred = calibration.calibration_curve(y, p, n_bins=10, strategy="quantile")
    out["binary"]["curve_mass"] = list(zip(prob_pred, prob_true))
    called = (p >= 0.45).astype(int)
    kw = {"sensitive_features": group}
    out["fairness"] = {
        "dp_difference": fair.demographic_parity_difference(y, called, **kw),
        "dp_ratio": fair.demographic_parity_ratio(y, called, **kw),
        "eo_difference": fair.equalized_odds_difference(y, called, **kw),
        "weighted_dp_difference": fair.demographic_parity_difference(y, called, sample_weight=w, **kw),
        "weighted_eo_difference": fair.equalized_odds_difference(y, called, sample_weight=w, **kw),
        "selection_rate": fair.MetricFrame(metrics=fair.selection_rate, y_true=y, y_pred=called, **kw).by_group.to_dict(),
    }
    classes = 4
    label = rng.integers(0, classes - 1, n)  # the last class never is, but is called
    logits = rng.normal(0, 1, (n, classes)) + 1.5 * np.eye(classes)[label]
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    out["multiclass"] = {"labels": label, "probabilities": q.ravel(), "weights": w, "classes": classes}
    for name, kw in [("plain", {}), ("weighted", {"sample_weight": w})]:
        called = q.argmax(1)
        out["multiclass"][name] = {
            "accuracy": metrics.accuracy_score(label, called, **kw),
            "macro_f1": metrics.f1_score(label, called, average="macro", **kw),
            "micro_f1": metrics.f1_score(label, called, average="micro", **kw),
            "log_loss": metrics.log_loss(label, q, labels=range(classes), **kw),
        }
    truth = np.round(rng.normal(10, 4, n), 3)
    truth[0] = 0.0
    predicted = np.round(truth + rng.normal(0.5, 2, n), 3)
    out["regression"] = {"truth": truth, "predicted": predicted, "weights": w}
    for name, kw in [("plain", {}), ("weighted", {"sample_weight": w})]:
        out["regression"][name] = {
            "mae": metrics.mean_absolute_error(truth, predicted, **kw),
            "rmse": metrics.root_mean_squared_error(truth, predicted, **kw),
            "r2": metrics.r2_score(truth, predicted, **kw),
            "mape": metrics.mean_absolute_percentage_error(truth, predicted, **kw),
        }
    write("metrics.json", out)


def delong(y, a, b):
    """DeLong, DeLong and Clarke-Pearson (1988) by the definition: components from every pair."""
    def components(s):
        kernel = (s[y == 1][:, None] > s[y == 0][None, :]) + 0.5 * (s[y == 1][:, None] == s[y == 0][None, :])
        return kernel.mean(), kernel.mean(1), kernel.mean(0)

    (auc_a, a10, a01), (auc_b, b10, b01) = components(a), components(b)
    variance = np.cov(a10, b10) / len(a10) + np.cov(a01, b01) / len(a01)
    se = np.sqrt(variance[0, 0] + variance[1, 1] - 2 * variance[0, 1])
    return auc_a, auc_b, se


def tango(n, gained, lost, delta):
    """Tango (1998): the score test of p12 - p21 = delta, with the constrained estimate found numerically."""
    def slope(q):
        return gained / (q + delta) + lost / q - 2 * (n - gained - lost) / (1 - 2 * q - delta)

    q = optimize.brentq(slope, max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12, xtol=1e-16, rtol=1e-15)
    return (gained - lost - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))


def golden_paired():
    rng = np.random.default_rng(7)
    n = 200
    y = rng.integers(0, 2, n)
    base = rng.normal(0, 1, n) + y
    a = np.round(base + rng.normal(0, 0.5, n), 2)
    b = np.round(base + rng.normal(0, 0.8, n), 2)
    auc_a, auc_b, se = delong(y, a, b)
    z, p = Delong_test(y, a, b, verbose=0)[:2]
    assert abs(abs(z) - abs(auc_a - auc_b) / se) < 1e-9, (z, auc_a - auc_b, se)
    margin = 0.01
    bound = auc_a - auc_b - stats.norm.ppf(0.95) * se
    out = {"delong": {
        "labels": y, "a": a, "b": b, "auc_a": auc_a, "auc_b": auc_b, "se": se, "two_sided_p": p,
        "margin": margin, "p": stats.norm.sf((auc_a - auc_b + margin) / se), "bound": bound,
    }}
    out["mcnemar"] = [
        {"gained": g, "lost": l, "exact": e, "p": mcnemar([[50, g], [l, 40]], exact=e, correction=True).pvalue}
        for g, l, e in [(3, 9, True), (0, 5, True), (7, 7, True), (30, 12, False), (60, 61, False)]
    ]
    out["tango"] = [
        {"n": n, "gained": g, "lost": l, "margin": m, "z": tango(n, g, l, -m), "p": stats.norm.sf(tango(n, g, l, -m))}
        for n, g, l, m in [(200, 12, 15, 0.05), (1000, 40, 60, 0.02), (1000, 40, 40, 0.01), (50, 5, 1, 0.1)]
    ]
    x, z = rng.gamma(2, 1, 120), rng.gamma(2, 1.1, 120)
    test = stats.ttest_rel(x, z)
    out["paired_t"] = {
        "a": x, "b": z, "margin": 0.1,
        # The loss of a is not more than b's by the margin.
        "p": stats.ttest_1samp(x - z, 0.1, alternative="less").pvalue,
        "two_sided_p": test.pvalue,
        "bound": np.mean(x - z) + stats.t.ppf(0.95, 119) * stats.sem(x - z),
    }
    margin_bound = lambda n, g, l: optimize.brentq(
        lambda d: tango(n, g, l, d) - stats.norm.ppf(0.95), -0.9, (g - l) / n - 1e-9, xtol=1e-14, rtol=1e-14)
    for case in out["tango"]:
        case["bound"] = margin_bound(case["n"], case["gained"], case["lost"])
    found = stats.bootstrap((a, b, y), lambda a, b, y: metrics.average_precision_score(y, a) - metrics.average_precision_score(y, b),
                            paired=True, vectorized=False, n_resamples=20000, method="percentile",
                            confidence_level=0.9, rng=np.random.default_rng(1))
    out["bootstrap"] = {"low": found.confidence_interval.low, "se": found.standard_error}
    write("paired.json", out)


ODDS = [1.2, 1.5, 2, 3, 5, 10, 30, 100, 1000]


def guard(limit, batches, epoch=100):
    """The evidence by its definition: for each alternative and each beginning the likelihood ratio of what came since, weighted."""
    begins, since = [], epoch
    for at, (_, n) in enumerate(batches):
        if since >= epoch:
            begins.append(at)
            since = 0
        since += n
    total = 1 / (len(begins) + 1)  # beginnings that are still to come
    for odds in ODDS:
        other = limit * odds / (1 - limit + limit * odds)
        for t, begin in enumerate(begins, start=1):
            k = sum(k for k, _ in batches[begin:])
            n = sum(n for _, n in batches[begin:])
            log = stats.binom.logpmf(k, n, other) - stats.binom.logpmf(k, n, limit)
            total += np.exp(log) / (t * (t + 1)) / len(ODDS)
    return np.log(total)


def golden_rollout():
    out = {"guard": [], "ratio": [], "difference": []}
    for limit, batches in [
        (0.02, [(0, 50), (1, 60), (3, 40), (0, 10), (9, 100)]),
        (0.01, [(0, 100)] * 30 + [(4, 100)] * 3),
        (0.05, [(2, 2)]),
        (0.3, [(1, 30)] * 10),
    ]:
        out["guard"].append({"limit": limit, "batches": batches, "log": guard(limit, batches)})
    for a, b, expected in [(0, 0, 0.5), (480, 520, 0.5), (4800, 5200, 0.5), (900, 300, 0.75), (70000, 71500, 0.5)]:
        log = special.betaln(100 * expected + a, 100 * (1 - expected) + b) - special.betaln(100 * expected, 100 * (1 - expected))
        log -= special.xlogy(a, expected) + special.xlogy(b, 1 - expected)
        n = max(a + b, 1)
        chi = stats.chisquare([a, b], [n * expected, n * (1 - expected)]).pvalue if a + b else 1.0
        out["ratio"].append({"a": a, "b": b, "expected": expected, "p": min(1.0, np.exp(-log)), "chi_squared_p": chi})
    rng = np.random.default_rng(5)
    for kind, margin in [("proportion", 0.05), ("mean", 0.4)]:
        draw = (lambda n, p: (rng.random(n) < p).astype(float)) if kind == "proportion" else (lambda n, p: rng.gamma(2, p * 2, n))
        strata = [(draw(90, 0.3), draw(100, 0.25)), (draw(400, 0.3), draw(380, 0.28)), (draw(20, 0.9), draw(20, 0.1))]
        information = score = 0.0
        for a, b in strata[:2]:  # the last has too few
            v = 0.0
            for x in (a, b):
                if kind == "proportion":
                    p = (x.sum() + 1) / (len(x) + 2)
                    v += p * (1 - p) / len(x)
                else:
                    v += (((x - x.mean()) ** 2).sum() + margin**2) / (len(x) - 1) / len(x)
            information += 1 / v
            score += (a.mean() - b.mean()) / v
        estimate, v = score / information, 1 / information
        # The ends are where the mixture of likelihood ratios over N(0, margin^2) reaches 1/alpha: by quadrature and root-finding.
        alpha = 0.05
        def log_mixture(d):
            f = lambda t: np.exp((t * (estimate - d) - t * t / 2) / v) * stats.norm.pdf(t, scale=margin)
            return np.log(integrate.quad(f, -12 * margin, 12 * margin, points=[0, (estimate - d)], epsabs=0, epsrel=1e-13, limit=500)[0])
        radius = optimize.brentq(lambda r: log_mixture(estimate - r) - np.log(1 / alpha), 1e-9, 6 * np.sqrt(v), xtol=1e-14)
        out["difference"].append({"kind": kind, "margin": margin, "alpha": alpha, "strata": strata, "estimate": estimate, "radius": radius})
    write("rollout.json", out)


if __name__ == "__main__":
    golden_metrics()
    golden_paired()
    golden_rollout()
