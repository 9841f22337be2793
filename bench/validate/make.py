"""Writes the table as one Parquet file: `make.py FILE ROWS`."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from checks import CHANNELS, CHUNK, COUNTRIES, CURRENCIES, STATUSES, WAREHOUSES, planted

START = 1_760_000_000_000_000


def texts(pool, rng, n):
    return np.array(pool, dtype=object)[rng.integers(0, len(pool), n)]


def chunk(first, n):
    rng = np.random.default_rng(first + 7)
    row = np.arange(first, first + n)

    def bad(name):
        step, rest = planted(name)
        return np.nonzero(row % step == rest)[0]

    missing = {}
    columns = {
        "id": row.astype(np.int64) + 1,
        "customer": rng.integers(1, 2_000_001, n),
        "product": rng.integers(1, 100_001, n),
        "quantity": rng.integers(1, 51, n),
        "price": np.round(rng.uniform(50, 1000, n), 2),
        "discount": np.round(rng.uniform(0, 0.5, n), 3),
        "weight": np.round(rng.uniform(0, 80, n), 2),
        "rating": rng.integers(1, 6, n),
        "created": START + row * 1_000_000,
    }
    columns["cost"] = np.round(columns["price"] * rng.uniform(0.3, 0.9, n), 2)
    columns["shipped"] = columns["created"] + rng.integers(1, 900_000, n) * 1_000_000
    for name, pool in [
        ("currency", CURRENCIES),
        ("country", COUNTRIES),
        ("status", STATUSES),
        ("channel", CHANNELS),
        ("warehouse", WAREHOUSES),
    ]:
        columns[name] = texts(pool, rng, n)
        columns[name][bad(f"{name} known")] = "???"
    columns["email"] = np.array(
        [f"user.{c}@mail{c % 97}.example" for c in columns["customer"].tolist()], dtype=object
    )
    columns["sku"] = np.array([f"{'ABC' if p % 2 else 'XYZ'}-{p % 100_000:05d}" for p in columns["product"].tolist()], dtype=object)
    columns["order_ref"] = np.array([f"ORD-{r:09d}" for r in row.tolist()], dtype=object)
    columns["postcode"] = np.array([str(1000 + c % 98_000) for c in columns["customer"].tolist()], dtype=object)

    for name in ("customer", "product", "quantity"):
        columns[name][bad(f"{name} in range")] = -1
    columns["rating"][bad("rating in range")] = 9
    columns["price"][bad("price in range")] = 5000.0
    columns["weight"][bad("weight in range")] = -3.0
    columns["discount"][bad("discount in range")] = 0.9
    columns["email"][bad("email looks right")] = "nobody at home"
    columns["sku"][bad("sku looks right")] = "abc-1"
    refs = columns["order_ref"]
    for at in bad("order_ref looks right"):
        refs[at] = "ord-" + refs[at][4:]
    for at in bad("order_ref has 13"):
        refs[at] += "0"
    columns["postcode"][bad("postcode has 4 to 8")] = "a postcode that is too long"
    for name in ("id", "order_ref"):
        at = bad(f"{name} unique")
        columns[name][at] = columns[name][at - 1]
    columns["shipped"][bad("shipped after created")] -= 2_000_000_000_000
    columns["cost"][bad("price above cost")] = 9000.0
    for name in ("status", "currency", "customer", "product", "quantity", "price", "email", "created", "postcode"):
        missing[name] = bad(f"{name} there")
    # What is optional is missing here and there.
    missing["rating"] = np.nonzero(rng.random(n) < 0.3)[0]
    missing["weight"] = np.nonzero(rng.random(n) < 0.05)[0]
    missing["shipped"] = np.nonzero((rng.random(n) < 0.1))[0]
    missing["rating"] = np.setdiff1d(missing["rating"], bad("rating in range"))
    missing["weight"] = np.setdiff1d(missing["weight"], bad("weight in range"))
    missing["shipped"] = np.setdiff1d(missing["shipped"], bad("shipped after created"))

    order = [
        "id", "order_ref", "customer", "product", "sku", "quantity", "price", "cost", "discount", "weight",
        "currency", "country", "postcode", "status", "channel", "warehouse", "email", "created", "shipped", "rating",
    ]
    arrays = {}
    for name in order:
        mask = np.zeros(n, dtype=bool)
        mask[missing.get(name, [])] = True
        kind = pa.timestamp("us", tz="UTC") if name in ("created", "shipped") else None
        arrays[name] = pa.array(columns[name], mask=mask, type=kind)
    return pa.table(arrays)


def main(path, rows):
    writer = None
    for first in range(0, rows, CHUNK):
        table = chunk(first, min(CHUNK, rows - first))
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
        writer.write_table(table)
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
