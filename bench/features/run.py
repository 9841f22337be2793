#!/usr/bin/env python3
"""The point-in-time join beside Feast with DuckDB: the same files, the same question, equal answers, one run.

Usage: run.py FOREBAY_BENCH_DATA [WORK_FOLDER]

Run it by a Python that has `feast[duckdb]==0.67.0` (tests/feast/run.sh makes such a venv). Every measurement is a process of
its own, which does nothing else; its time is that of the work (Feast: of `get_historical_features(...).to_df()`, imports and
repository aside; Forebay: from opening the warehouse until the result is written), its memory the highest of the process.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ENTITIES, HOURS = 1000, 887
ROWS = [10_000, 100_000]
RUNS = 3


def make(folder):
    """Some 864,000 rows of features, an hour each; some late, some twice at one hour; and entity rows at random times."""
    import numpy
    import pandas

    rng = numpy.random.default_rng(7)
    begin = pandas.Timestamp("2026-01-01", tz="UTC")
    hour = numpy.repeat(numpy.arange(HOURS), ENTITIES)
    driver = numpy.tile(numpy.arange(ENTITIES), HOURS)
    n = len(hour)
    # One row in fifty is a correction of the hour before, which makes a tie of event times.
    tie = (rng.random(n) < 0.02) & (hour > 0)
    event = begin + pandas.to_timedelta(hour - tie, unit="h")
    late = numpy.where(rng.random(n) < 0.05, 86_400, 60) + numpy.where(tie, 90_000, 0)
    features = pandas.DataFrame({
        "driver_id": driver, "event_timestamp": event.astype("datetime64[us, UTC]"),
        "created": (event + pandas.to_timedelta(late, unit="s")).astype("datetime64[us, UTC]"),
        "a": rng.integers(0, 1000, n), "b": rng.integers(0, 77, n), "c": rng.integers(0, 100, n) + 0.5,
    })
    # Some entities are silent for longer than the TTL.
    silent = (features.driver_id % 20 == 3) & ((hour // 72) % 2 == 1)
    features = features[~silent]
    features.to_parquet(folder / "features.parquet", row_group_size=65_536)
    for rows in ROWS:
        at = begin + pandas.to_timedelta(rng.integers(0, HOURS * 3600, rows), unit="s")
        entities = pandas.DataFrame({
            "driver_id": rng.integers(0, ENTITIES, rows), "event_timestamp": at.astype("datetime64[us, UTC]"),
            "row": numpy.arange(rows),
        })
        entities.to_parquet(folder / f"entities-{rows}.parquet")
    return len(features)


def feast(folder, rows, out):
    """In a process of its own: joins, and writes the result."""
    import datetime
    import warnings

    warnings.filterwarnings("ignore")
    import pandas
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast.types import Float64, Int64

    registry = folder / f"registry-{os.getpid()}.db"
    store = FeatureStore(config=RepoConfig(
        project="bench", provider="local", registry=str(registry), offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": str(folder / "online.db")}, entity_key_serialization_version=3,
    ))
    driver = Entity(name="driver", join_keys=["driver_id"])
    source = FileSource(
        path=str(folder / "features.parquet"), timestamp_field="event_timestamp", created_timestamp_column="created"
    )
    view = FeatureView(
        name="hourly", entities=[driver], ttl=datetime.timedelta(days=1), source=source,
        schema=[Field(name="a", dtype=Int64), Field(name="b", dtype=Int64), Field(name="c", dtype=Float64)],
    )
    store.apply([driver, view])
    entities = pandas.read_parquet(folder / f"entities-{rows}.parquet")
    begun = time.perf_counter()
    made = store.get_historical_features(entity_df=entities, features=["hourly:a", "hourly:b", "hourly:c"]).to_df()
    seconds = time.perf_counter() - begun
    made.to_parquet(out)
    return {"rows": len(made), "seconds": seconds}


def measured(command):
    """What it said, and its peak of memory in MB."""
    # A child begins with the peak of who starts it: this process stays small, and does its own work in children too.
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=said)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode()
    assert child.returncode == 0, (command, text)
    return {**json.loads(text.strip().splitlines()[-1]), "megabytes": usage.ru_maxrss / 1024}


def same(ours, theirs):
    """The number of rows with a feature; fails unless both results are equal."""
    import pandas

    columns = ["row", "driver_id", "a", "b", "c"]
    ours = pandas.read_parquet(ours)[columns].sort_values("row", ignore_index=True).astype("float64")
    theirs = pandas.read_parquet(theirs)[columns].sort_values("row", ignore_index=True).astype("float64")
    pandas.testing.assert_frame_equal(ours, theirs)
    return int(ours.a.notna().sum())


def main():
    if sys.argv[1] == "--feast":
        print(json.dumps(feast(pathlib.Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
        return
    if sys.argv[1] == "--make":
        print(json.dumps({"rows": make(pathlib.Path(sys.argv[2]))}))
        return
    if sys.argv[1] == "--same":
        print(json.dumps({"rows": same(sys.argv[2], sys.argv[3])}))
        return
    bench = sys.argv[1]
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        folder = pathlib.Path(folder)
        count = measured([sys.executable, __file__, "--make", str(folder)])["rows"]
        warehouse = str(folder / "warehouse")
        prepared = measured([bench, "join", "prepare", warehouse, str(folder / "features.parquet")])
        print(f"{count} rows of features, {prepared['seconds']:.2f} s to make them a dataset\n")
        print("| entity rows | | best s | all runs, s | peak MB | rows with features |")
        print("|---|---|---|---|---|---|")
        for rows in ROWS:
            entities = str(folder / f"entities-{rows}.parquet")
            ours, theirs = str(folder / "ours.parquet"), str(folder / "theirs.parquet")
            commands = {
                "forebay": [bench, "join", "run", warehouse, entities, ours],
                "feast 0.67 + duckdb": [sys.executable, __file__, "--feast", str(folder), str(rows), theirs],
            }
            runs = {name: [] for name in commands}
            for _ in range(RUNS):
                for name, command in commands.items():
                    runs[name].append(measured(command))
            matched = measured([sys.executable, __file__, "--same", ours, theirs])["rows"]
            for name, all in runs.items():
                seconds = sorted(run["seconds"] for run in all)
                each = " ".join(f"{s:.2f}" for s in seconds)
                megabytes = max(run["megabytes"] for run in all)
                print(f"| {rows} | {name} | {seconds[0]:.2f} | {each} | {megabytes:.0f} | {matched} |")
        online = measured([bench, "join", "online", warehouse, str(folder / "online")])
        print(f"\nmaterialised {online['rows']} rows in {online['seconds']:.2f} s; one entity, three features: "
              f"p50 {online['p50_ns'] / 1000:.1f} µs, p99 {online['p99_ns'] / 1000:.1f} µs without HTTP")


main()
