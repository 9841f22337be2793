"""Opens a dataset by other readers of Delta tables, at every version, and compares what they see.

    python tables.py TABLE_FOLDER

needs `deltalake`, `polars`, `duckdb` and `pyarrow`. DuckDB reads through Arrow here: its own Delta extension is downloaded when
it is first used, and a test has no network. Prints one line of JSON a version; fails when two readers differ, or when one
finds another number of rows than the commit says.
"""

import json
import sys

import duckdb
import polars
from deltalake import DeltaTable


def seen(folder, version):
    table = DeltaTable(folder, version=version)
    arrow = table.to_pyarrow_table()
    frame = polars.scan_delta(folder, version=version).collect()
    rows = arrow  # DuckDB finds it by its name.
    by_duckdb = duckdb.sql("select * from rows").arrow().read_all() if rows.num_rows else arrow
    columns = arrow.column_names
    return {
        "deltalake": (columns, digest(arrow.to_pylist())),
        "polars": (frame.columns, digest(frame.to_dicts())),
        "duckdb": (by_duckdb.column_names, digest(by_duckdb.to_pylist())),
    }


def digest(rows):
    """The rows, whatever their order; times as instants, whatever zone a reader shows them in."""
    plain = lambda v: v.timestamp() if hasattr(v, "timestamp") and v.tzinfo else str(v)
    return sorted(json.dumps({k: plain(v) for k, v in row.items()}, sort_keys=True) for row in rows)


def main(folder):
    table = DeltaTable(folder)
    commits = {commit["version"]: commit for commit in table.history()}
    for version in range(table.version() + 1):
        readers = seen(folder, version)
        first = readers["deltalake"]
        for reader, found in readers.items():
            assert found == first, f"version {version}: {reader} and deltalake differ"
        facts = commits[version].get("forebay")
        facts = json.loads(facts) if isinstance(facts, str) else facts
        if facts:
            assert facts["rows"] == len(first[1]), f"version {version}: {len(first[1])} rows, the commit says {facts['rows']}"
        print(json.dumps({"version": version, "rows": len(first[1]), "name": facts and facts["name"]}))


if __name__ == "__main__":
    main(sys.argv[1])
