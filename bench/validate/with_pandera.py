"""pandera on Polars: `with_pandera.py FOLDER eager|lazy`, one line of JSON.

Every check is pandera's own where it has one. All failures are collected (`lazy=True`), values are looked at and not only types
(`SCHEMA_AND_DATA`, which a LazyFrame needs to be told).
"""

import json
import os
import sys
import time

os.environ["PANDERA_VALIDATION_DEPTH"] = "SCHEMA_AND_DATA"

import pandera.polars as pa  # noqa: E402
import polars as pl  # noqa: E402

from checks import CHECKS  # noqa: E402

FLOATS = ("price", "cost", "discount", "weight")
TEXTS = ("order_ref", "sku", "currency", "country", "postcode", "status", "channel", "warehouse", "email")
COLUMNS = (
    "id order_ref customer product sku quantity price cost discount weight currency country postcode status channel "
    "warehouse email created shipped rating"
).split()


def kind(column):
    if column in FLOATS:
        return pl.Float64
    if column in TEXTS:
        return pl.String
    return pl.Datetime("us", "UTC") if column in ("created", "shipped") else pl.Int64


def schema():
    checks, missing, unique, wide = {c: [] for c in COLUMNS}, set(), set(), []
    for name, what, how in CHECKS:
        column = how.get("column")
        if what == "not_null":
            missing.add(column)
        elif what == "unique":
            unique.add(column)
        elif what == "range":
            checks[column].append(pa.Check.in_range(how["min"], how["max"], name=name))
        elif what == "set":
            checks[column].append(pa.Check.isin(how["values"], name=name))
        elif what == "pattern":
            checks[column].append(pa.Check.str_matches(how["regex"], name=name))
        elif what == "length":
            checks[column].append(pa.Check.str_length(how["min"], how["max"], name=name))
        elif what == "pair":
            upper, lower = how["upper"], how["lower"]
            wide.append(
                pa.Check(
                    lambda data, upper=upper, lower=lower: data.lazyframe.select(
                        (pl.col(upper) >= pl.col(lower)).fill_null(True)
                    ),
                    name=name,
                )
            )
    return pa.DataFrameSchema(
        {
            c: pa.Column(kind(c), checks[c], nullable=c not in missing, unique=c in unique)
            for c in COLUMNS
        },
        checks=wide,
    )


def counts(failures):
    said = {"not_null": "not_nullable", "unique": "field_uniqueness", "range": "in_range", "set": "isin"}
    said |= {"pattern": "str_matches", "length": "str_length"}
    names = {(said.get(what, name), how.get("column")): name for name, what, how in CHECKS}
    found = {name: 0 for name, _, _ in CHECKS}
    for check, column, n in failures.group_by("check", "column").len().iter_rows():
        pair = check in found
        found[check if pair else names[check.split("(")[0], column]] += n
    return found


def main(folder, mode):
    start = time.perf_counter()
    frame = pl.scan_parquet(f"{folder}/*.parquet")
    if mode == "eager":
        frame = frame.collect()
    read = time.perf_counter() - start
    found = {name: 0 for name, _, _ in CHECKS}
    try:
        validated = schema().validate(frame, lazy=True)
        if mode == "lazy":
            validated.collect()
    except pa.errors.SchemaErrors as errors:
        found = counts(errors.failure_cases)
    print(json.dumps({"seconds": time.perf_counter() - start, "read": read, "failed": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
