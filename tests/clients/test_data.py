"""Datasets that `forebay data` makes, opened by the official, unmodified packages at the same versions, in a folder and on S3."""

import json
import os
import shutil
import subprocess

import duckdb
import polars
import pytest
from deltalake import DeltaTable

import stack

FIRST = "id,name,x,day,at\n1,one,0.5,2013-01-01,2013-01-01T05:00:00Z\n2,,1e300,2013-01-02,2013-01-01T06:30:00Z\n"
MORE = "id,name,x,day,at\n3,drei é,,2013-02-01,\n2,zwei,2.5,2013-02-02,2013-02-01T00:00:00Z\n"


@pytest.fixture(autouse=True)
def server():
    """No server is needed: the commands act on the folder."""
    yield None


@pytest.fixture
def project():
    folder = stack.temporary()
    (folder / "first.csv").write_text(FIRST)
    (folder / "more.csv").write_text(MORE)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def forebay(project, *args, env=None, check=True):
    done = subprocess.run(
        [os.environ["FOREBAY"], "data", *args, "--json"], cwd=project, capture_output=True, text=True, env=env
    )
    if check:
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return done


def versions(project, env=None):
    """Three versions of one dataset: made, appended to, merged into."""
    forebay(project, "add", "t", "first.csv", env=env)
    forebay(project, "add", "t", "more.csv", env=env)
    forebay(project, "add", "t", "more.csv", "--overwrite", env=env)


def ours(project, version, env=None):
    rows = forebay(project, "read", f"t@{version}", env=env)["rows"]
    return sorted(((r["id"], r["name"], r["x"], r["day"]) for r in rows), key=repr)


def plain(rows):
    return sorted(((r["id"], r["name"], r["x"], r["day"].isoformat()) for r in rows), key=repr)


def same(project, table, options=None, env=None):
    for version in [0, 1, 2]:
        expected = ours(project, version, env)
        assert len(expected) == [2, 4, 2][version]
        delta = DeltaTable(table, version=version, storage_options=options)
        assert plain(delta.to_pyarrow_table().to_pylist()) == expected
        frame = polars.scan_delta(table, version=version, storage_options=options).collect()
        assert plain(frame.to_dicts()) == expected
        if options is None:
            files = delta.file_uris()
            read = duckdb.sql(f"SELECT id, name, x, day FROM read_parquet({files!r})").fetchall()
            assert sorted(((i, n, x, d.isoformat()) for i, n, x, d in read), key=repr) == expected
    assert DeltaTable(table, storage_options=options).version() == 2


def test_tables_open_at_the_same_versions_with_equal_rows(project):
    versions(project)
    same(project, str(project / ".forebay/data/t"))


def test_duckdb_opens_the_table_itself(project):
    versions(project)
    try:
        duckdb.sql("INSTALL delta; LOAD delta")
    except duckdb.Error as e:
        pytest.skip(f"DuckDB's extension `delta` cannot be installed here: {e}")
    table = project / ".forebay/data/t"
    assert duckdb.sql(f"SELECT count(*), sum(id) FROM delta_scan('{table}')").fetchall() == [(2, 5)]


def test_what_they_write_is_a_version_here(project):
    forebay(project, "add", "t", "first.csv")
    table = str(project / ".forebay/data/t")
    frame = polars.read_delta(table)
    frame.write_delta(table, mode="append")
    assert forebay(project, "show", "t")["rows"] == 4
    assert forebay(project, "add", "t", "more.csv")["rows"] == 6


def on_s3(project, s3, prefix):
    (project / "forebay.yaml").write_text(f"warehouse: s3://lake/{prefix}\n")
    return {**os.environ, **s3}


def test_a_bucket_is_a_warehouse_like_a_folder(project, s3):
    env = on_s3(project, s3, "a/b")
    versions(project, env)
    same(project, "s3://lake/a/b/t", s3, env)
    forebay(project, "tag", "t@1", "good", env=env)
    assert forebay(project, "show", "t@good", env=env)["rows"] == 4
    assert [d["dataset"] for d in forebay(project, "list", env=env)["datasets"]] == ["t"]
    forebay(project, "gc", "t", "--older-than", "0s", env=env)
    assert len(ours(project, 1, env)) == 4, "what is tagged stays"
    assert len(ours(project, 0, env)) == 2, "and what it is made of"
    kept = [f for f in (project / ".forebay").rglob("*.parquet")]
    assert not kept, "no rows are kept beside the bucket"


def test_of_two_writers_at_once_on_a_bucket_no_row_is_lost(project, s3):
    env = on_s3(project, s3, "writers")
    forebay(project, "add", "t", "first.csv", env=env)
    command = [os.environ["FOREBAY"], "data", "add", "t", "more.csv", "--json"]
    writers = [
        subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    made = []
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert writer.returncode == 0, err
        made.append(json.loads(out)["version"])
    assert sorted(made) == [1, 2, 3, 4]
    assert forebay(project, "show", "t", env=env)["rows"] == 10
    assert DeltaTable("s3://lake/writers/t", storage_options=s3).to_pyarrow_table().num_rows == 10


def test_a_bucket_that_is_not_there_is_said(project, s3):
    env = on_s3(project, s3, "x")
    (project / "forebay.yaml").write_text("warehouse: s3://nowhere/x\n")
    done = forebay(project, "add", "t", "first.csv", env=env, check=False)
    assert done.returncode == 1 and "error" in json.loads(done.stderr)
