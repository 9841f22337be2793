#!/usr/bin/env python3
"""Makes the golden files of this folder again, from SciPy, scikit-learn, fairlearn, statsmodels and river.

    python3 -m venv v && v/bin/pip install -r requirements.txt && v/bin/python make.py

CBPE is NannyML's: see cbpe.py, whose pinned packages do not go with these.
"""

import json
import pathlib

import numpy as np
from scipy import stats
from scipy.spatial.distance import jensenshannon
from series import column, scored, units

HERE = pathlib.Path(__file__).parent


def keep(name, rows):
    text = "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
    (HERE / f"{name}.json").write_text(text)


def drift():
    sizes = [(1, 1), (2, 1), (5, 7), (12, 12), (50, 50), (100, 37), (1000, 1000), (2000, 3001), (9999, 10000)]
    sizes += [(10001, 20), (500, 50000), (20000, 15000), (150000, 100000), (60000, 90)]
    rows = []
    for at, (n, m) in enumerate(sizes):
        for kind, shift in [("bell", 0.0), ("bell", 0.25), ("ties", 0.0), ("ties", 0.1), ("heavy", 0.02), ("bell", 2.0)]:
            seeds = (1000 + at, 2000 + at)
            a, b = column(kind, seeds[0], n, 0.0), column(kind, seeds[1], m, shift)
            ks = stats.ks_2samp(a, b, method="auto")
            cuts = np.quantile(a, np.arange(1, 10) / 10, method="inverted_cdf")
            edges = np.unique(cuts)
            r = np.bincount(np.searchsorted(edges, a, side="left"), minlength=len(edges) + 1)
            c = np.bincount(np.searchsorted(edges, b, side="left"), minlength=len(edges) + 1)
            p, q = r / r.sum(), c / c.sum()
            pf, qf = np.where(p > 0, p, 1e-4), np.where(q > 0, q, 1e-4)
            used = r + c > 0
            chi = stats.chi2_contingency(np.array([r[used], c[used]]), correction=False) if used.sum() > 1 else None
            rows.append({
                "kind": kind, "shift": shift, "n": n, "m": m, "seeds": seeds,
                "ks": float(ks.statistic), "ks_p": float(ks.pvalue),
                "w1": float(stats.wasserstein_distance(a, b)),
                "std": float(np.std(a)), "edges": [repr(float(e)) for e in edges],
                "psi": float(np.sum((qf - pf) * np.log(qf / pf))),
                "js": float(jensenshannon(p, q, base=2)),
                "chi2": [float(chi.statistic), int(chi.dof), float(chi.pvalue)] if chi else [0.0, 0, 1.0],
            })
    keep("drift", rows)
    rows = []
    for n in [1, 2, 5, 10, 20, 50, 139, 140, 141, 500, 2000, 9999, 49999, 50001, 100000, 250000, 1000000]:
        for z in [0.05, 0.15, 0.3, 0.5, 0.7, 0.86, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0]:
            x = z / np.sqrt(n)
            if x < 1:
                rows.append([n, float(x), float(stats.kstwo.sf(x, n))])
    keep("kolmogorov", rows)
    rows = []
    for r, n, c, m in [(0, 20000, 1, 100), (2, 20000, 1, 100), (3, 50, 0, 40), (0, 1000, 30, 100), (1000, 1000, 97, 100),
                       (1, 500000, 0, 10), (0, 500000, 4, 5000), (0, 50, 0, 50), (3, 12, 2, 9)]:
        law = stats.hypergeom(n + m, r + c, m)
        p = min(1.0, 2 * min(law.sf(c - 1), law.cdf(c)))
        rows.append([r, n, c, m, float(p)])
    keep("share", rows)
    rows = []
    for seed, tests in [(1, 1), (2, 2), (3, 10), (4, 50), (5, 200)]:
        p = units(seed, tests) ** 3
        p[: tests // 4] = np.round(p[: tests // 4], 1)
        rows.append({"p": p.tolist(), "q": stats.false_discovery_control(p).tolist()})
    keep("fdr", rows)


def mmd():
    """Straight from the formula, pair by pair."""
    rows = []
    for seed, n, m, width, shift in [(1, 20, 20, 3, 0.0), (2, 30, 25, 4, 0.4), (3, 41, 40, 8, 0.2)]:
        a = column("bell", seed, n * width, 0.0).reshape(n, width)
        b = column("bell", seed + 100, m * width, shift).reshape(m, width)
        both = np.vstack([a, b])
        d2 = ((both[:, None] - both[None]) ** 2).sum(-1)
        sigma = float(np.median(np.sqrt(d2[np.triu_indices(n + m, 1)])))
        k = np.exp(-d2 / (2 * sigma**2))
        off = lambda x: x.sum() - np.trace(x)
        value = off(k[:n, :n]) / n / (n - 1) + off(k[n:, n:]) / m / (m - 1) - 2 * k[:n, n:].mean()
        pairs = min(n, m) // 2
        i, j = np.arange(pairs) * 2, np.arange(pairs) * 2 + 1
        h = k[i, j] + k[n + i, n + j] - k[i, n + j] - k[j, n + i]
        z = h.mean() / (h.std(ddof=1) / np.sqrt(pairs))
        rows.append({"seed": seed, "n": n, "m": m, "width": width, "shift": shift, "sigma": sigma, "mmd": float(value),
                     "linear": float(h.mean()), "linear_p": float(stats.norm.sf(z))})
    keep("mmd", rows)


def performance():
    from sklearn import metrics as s
    from statsmodels.stats.proportion import proportion_confint

    rows = []
    for seed, n, steps, cut in [(11, 2000, 1000, 0.5), (12, 500, 10, 0.5), (13, 37, 5, 0.6), (14, 5000, 1 << 30, 0.3)]:
        score, label = scored(seed, n, steps)
        said = (score >= cut).astype(int)
        tn, fp, fn, tp = s.confusion_matrix(label, said).ravel()
        precision, recall, _ = s.precision_recall_curve(label, score)
        bins = np.minimum((score * 10).astype(int), 9)
        ece = sum(abs(label[bins == b].mean() - score[bins == b].mean()) * (bins == b).mean() for b in set(bins))
        rows.append({
            "seed": seed, "n": n, "steps": steps, "cut": cut,
            "auc": s.roc_auc_score(label, score), "pr_auc": s.average_precision_score(label, score),
            "log_loss": s.log_loss(label, np.clip(score, 1e-15, 1 - 1e-15)), "brier": s.brier_score_loss(label, score),
            "f1": s.f1_score(label, said), "precision": s.precision_score(label, said),
            "recall": s.recall_score(label, said), "accuracy": s.accuracy_score(label, said),
            "fpr": fp / (fp + tn), "fnr": fn / (fn + tp), "ece": float(ece),
            "recall_at_06": float(recall[precision >= 0.6].max()),
            "wilson": [float(x) for x in proportion_confint(int(tp), int(tp + fn), 0.05, "wilson")],
        })
    keep("binary", rows)
    rows = []
    for seed, n in [(21, 1000), (22, 50)]:
        truth, noise = column("bell", seed, n, 0.0), column("bell", seed + 1, n, 0.1)
        said = truth + noise / 2.0
        rows.append({"seed": seed, "n": n, "mae": s.mean_absolute_error(truth, said),
                     "rmse": s.root_mean_squared_error(truth, said), "r2": s.r2_score(truth, said)})
    keep("regression", rows)
    from sklearn.isotonic import IsotonicRegression
    rows = []
    for seed, n, steps in [(31, 400, 1 << 30), (32, 300, 7)]:
        score, label = scored(seed, n, steps)
        ask = np.arange(-2, 13) / 10.0
        fit = IsotonicRegression(out_of_bounds="clip").fit(score, label)
        rows.append({"seed": seed, "n": n, "steps": steps, "ask": ask.tolist(), "say": fit.predict(ask).tolist()})
    keep("isotonic", rows)


def fairness():
    from fairlearn import metrics as f

    rows = []
    for seed, n, groups in [(41, 1000, 2), (42, 3000, 4), (43, 300, 3)]:
        score, label = scored(seed, n, 1 << 30)
        group = np.floor(units(seed + 100, n) * groups).astype(int)
        said = (score >= 0.4 + 0.05 * group).astype(int)
        with_groups = {"sensitive_features": group}
        rows.append({
            "seed": seed, "n": n, "groups": groups,
            "dp_difference": f.demographic_parity_difference(label, said, **with_groups),
            "dp_ratio": f.demographic_parity_ratio(label, said, **with_groups),
            "eo_difference": f.equalized_odds_difference(label, said, **with_groups),
            "eo_ratio": f.equalized_odds_ratio(label, said, **with_groups),
        })
    keep("fairness", rows)


def stream():
    from river import drift as r

    rows = []
    # (kind, seed, length, [(onset, level)], scale)
    plans = [
        ("bell", 51, 3000, [(0, 0.0)]), ("bell", 52, 3000, [(0, 0.0), (1500, 1.0)]),
        ("unit", 53, 4000, [(0, 0.2), (1000, 0.5), (2500, 0.3)]), ("unit", 54, 6000, [(0, 0.1), (5000, 0.9)]),
        ("heavy", 55, 2000, [(0, 0.0), (1000, 3.0)]), ("bell", 56, 8000, [(0, 0.0), (2000, 0.2), (4000, 0.4), (6000, 0.0)]),
    ]
    for kind, seed, n, levels in plans:
        level = np.zeros(n)
        for onset, value in levels:
            level[onset:] = value
        # `unit`: errors of a classifier, one with the probability of the level.
        x = (units(seed, n) < level).astype(float) if kind == "unit" else column(kind, seed, n, 0.0) + level
        row = {"kind": kind, "seed": seed, "n": n, "levels": levels, "adwin": [], "page_hinkley": []}
        for settings in [{}, {"delta": 0.05, "clock": 8, "min_window_length": 10}, {"max_buckets": 3, "grace_period": 60}]:
            d, at = r.ADWIN(**settings), []
            for i, value in enumerate(x):
                d.update(float(value))
                if d.drift_detected:
                    at.append(i)
            row["adwin"].append({"settings": settings, "at": at, "width": int(d.width), "mean": float(d.estimation),
                                 "variance": float(d.variance)})
        for settings in [{}, {"threshold": 10.0, "delta": 0.05}, {"mode": "down", "threshold": 20.0, "alpha": 0.999},
                         {"mode": "up", "threshold": 5.0, "min_instances": 100}]:
            d, at = r.PageHinkley(**settings), []
            for i, value in enumerate(x):
                d.update(float(value))
                if d.drift_detected:
                    at.append(i)
            row["page_hinkley"].append({"settings": settings, "at": at})
        rows.append(row)
    keep("stream", rows)


if __name__ == "__main__":
    for part in (drift, mmd, performance, fairness, stream):
        part()
