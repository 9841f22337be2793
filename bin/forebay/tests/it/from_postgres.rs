//! Datasets of queries over a real PostgreSQL server.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use contract::Secret;
use data::ColumnType;
use forebay::sources::sql::{Asked, ask};
use serde_json::{Value as Json, json};
use testkit::postgres::Server as Database;

use crate::server::{eventually, forebay};

const TABLE: &str = "CREATE TYPE mood AS ENUM ('calm', 'tense'); CREATE DOMAIN price AS numeric(8, 3);
    CREATE TABLE t (id bigint, small smallint, yes boolean, name text, code varchar(9), cost numeric(12, 2), paid price, free numeric,
      x double precision, y real, on_day date, local timestamp, at timestamptz, bytes bytea, doc jsonb, own uuid, feels mood,
      many int[], took interval);
    INSERT INTO t VALUES
      (9007199254740993, -7, true, 'ü \"1\"', '007', 1234567890.10, 1.125, 0.1, 0.1, 0.5, '2013-01-31', '2013-01-31 23:59:59.000001',
       '2013-01-31 23:59:59.5+05:30', '\\x00ff', '{\"a\": [1, null]}', '6f9619ff-8b86-d011-b42d-00c04fc964ff', 'calm', '{1,2}', '1 day 02:00'),
      (2, NULL, false, '', NULL, NULL, NULL, NULL, 'NaN', '-Infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

async fn asked(database: &str, query: &str, to: &Path) -> Result<Asked, forebay::Error> {
    ask(Path::new(""), &Secret::new(database), (query, Duration::from_secs(60)), &BTreeMap::new(), to).await
}

#[track_caller]
fn refused(asked: Result<Asked, forebay::Error>) -> String {
    match asked.unwrap_err() {
        forebay::Error::Failed { message, help } | forebay::Error::Unreachable { message, help } => {
            format!("{message}: {help}")
        }
        other => other.to_string(),
    }
}

#[tokio::test]
async fn a_query_over_postgres_gives_rows_in_the_types_of_the_server_and_can_change_nothing() {
    let Some(database) = Database::start() else { return };
    database.sql("postgres", TABLE);
    // Whatever the server writes dates and numbers like.
    database.sql("postgres", "ALTER DATABASE postgres SET datestyle = 'German'; ALTER DATABASE postgres SET timezone = 'Asia/Kolkata'");
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("rows");
    let url = database.url("postgres");
    let found = asked(&url, "SELECT * FROM t ORDER BY id DESC;", &to).await.unwrap();
    let ty = |name: &str| found.types[name].clone();
    let types: BTreeMap<&str, ColumnType> = BTreeMap::from([
        ("id", ColumnType::Int),
        ("small", ColumnType::Int),
        ("yes", ColumnType::Bool),
        ("name", ColumnType::Text),
        ("code", ColumnType::Text),
        ("cost", ColumnType::Decimal(12, 2)),
        ("paid", ColumnType::Decimal(8, 3)),
        ("free", ColumnType::Decimal(38, 9)),
        ("x", ColumnType::Float),
        ("y", ColumnType::Float),
        ("on_day", ColumnType::Date),
        ("local", ColumnType::DateTime),
        ("at", ColumnType::Timestamp),
        ("bytes", ColumnType::Binary),
        ("doc", ColumnType::Text),
        ("own", ColumnType::Text),
        ("feels", ColumnType::Text),
        ("many", ColumnType::Text),
        ("took", ColumnType::Text),
    ]);
    assert_eq!(found.types.len(), types.len());
    types.iter().for_each(|(name, wanted)| assert_eq!(ty(name), *wanted, "{name}"));
    let rows = std::fs::read_to_string(&to).unwrap();
    let rows: Vec<Json> = rows.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        rows[0],
        json!({"id": 9007199254740993_i64, "small": -7, "yes": true, "name": "ü \"1\"", "code": "007", "cost": "1234567890.10",
               "paid": "1.125", "free": "0.1", "x": 0.1, "y": 0.5, "on_day": "2013-01-31", "local": "2013-01-31 23:59:59.000001",
               "at": "2013-01-31 18:29:59.5+00", "bytes": "AP8=", "doc": "{\"a\": [1, null]}",
               "own": "6f9619ff-8b86-d011-b42d-00c04fc964ff", "feels": "calm", "many": "{1,2}", "took": "P1DT2H"})
    );
    assert_eq!((&rows[1]["x"], &rows[1]["y"], &rows[1]["name"]), (&json!("NaN"), &json!("-inf"), &json!("")));
    assert_eq!(rows[1].as_object().unwrap().values().filter(|v| v.is_null()).count(), 14);
    assert!(found.origin.name.ends_with("/postgres"), "{:?}", found.origin);
    // An empty result has types too.
    assert_eq!(asked(&url, "TABLE t LIMIT 0", &to).await.unwrap().types.len(), types.len());
    for change in [
        "DELETE FROM t RETURNING id",
        "WITH gone AS (DELETE FROM t RETURNING id) SELECT * FROM gone",
        "SELECT nextval('s')",
        "SELECT 1; DROP TABLE t",
    ] {
        database.sql("postgres", "CREATE SEQUENCE IF NOT EXISTS s");
        refused(asked(&url, change, &to).await);
    }
    assert_eq!(database.sql("postgres", "SELECT count(*) FROM t"), "2");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'";
    eventually("no transaction is left open", || database.sql("postgres", open) == "0");
}

#[tokio::test]
async fn what_a_server_refuses_is_told_with_its_place_in_the_query_and_without_the_password() {
    let Some(database) = Database::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("rows");
    let url = database.url("postgres").replace("forebay@", "forebay:s3cret-word@");
    let says = async |query: &str| {
        let said = refused(asked(&url, query, &to).await);
        assert!(!said.contains("s3cret"), "{said}");
        said
    };
    assert!(says("SELECT 1 AS one,\n  ü FROM pg_class").await.contains("line 2, column 3 of the query"));
    assert!(says("SELEC 1").await.contains("line 1, column 1 of the query"));
    assert!(says("SELECT 1 AS a, 2 AS a").await.contains("named `a`"));
    assert!(says("SELECT 1/0 AS a").await.contains("division by zero"));
    let infinite = says("SELECT 'infinity'::date AS d").await;
    assert!(
        infinite.contains("`d` is infinity in row 1") && infinite.contains("isfinite(\"d\")"),
        "{infinite}"
    );
    assert!(says("SELECT '0044-03-15 BC'::date AS d").await.contains("0001 to 9999"));
    assert!(says("SELECT 'NaN'::numeric AS n").await.contains("::float8"));
    assert!(says("SELECT 1e40::numeric + 1e-10 AS n").await.contains("round"));
    let nobody = database.url("nowhere");
    let said = refused(asked(&nobody.replace("forebay@", "forebay:s3cret-word@"), "SELECT 1", &to).await);
    assert!(said.contains("nowhere") && !said.contains("s3cret"), "{said}");
    let wrong = refused(asked("postgres://ann:s3cret-word@127.0.0.1:1/d", "SELECT 1", &to).await);
    assert!(!wrong.contains("s3cret"), "{wrong}");
    // As wide as its values need it.
    let thirds =
        asked(&url, "SELECT 1::numeric / 3 AS third, avg(n) AS mean FROM generate_series(1, 3) n", &to)
            .await
            .unwrap();
    assert_eq!(
        (&thirds.types["third"], &thirds.types["mean"]),
        (&ColumnType::Decimal(38, 20), &ColumnType::Decimal(38, 9))
    );
    // A query that takes too long is ended at the server.
    let short = ("SELECT pg_sleep(60)", Duration::from_millis(200));
    let slow = refused(ask(Path::new(""), &Secret::new(url.clone()), short, &BTreeMap::new(), &to).await);
    assert!(slow.contains("timeout"), "{slow}");
}

#[tokio::test]
async fn a_large_result_is_one_state_of_the_database_and_is_a_dataset_like_any_other() {
    let Some(database) = Database::start() else { return };
    database.sql("postgres", "CREATE TABLE big AS SELECT i AS id, (i % 97)::numeric(10, 2) AS cost, now() AS at FROM generate_series(1, 200000) i");
    let folder = tempfile::tempdir().unwrap();
    let url = database.url("postgres").replace("forebay@", "forebay:${PG_PASSWORD}@");
    let config = format!(
        "datasets:\n  big:\n    sql: {{database: '{url}', query: 'SELECT * FROM big', timeout: 1m}}\n    mode: overwrite\n\
         pipelines:\n  take:\n    stages:\n      - rows: {{ingest: {{dataset: big}}}}\n      - keep: {{commit: {{dataset: big, how: overwrite}}, from: rows}}\n"
    );
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let run = |args: &[&str]| {
        let out = forebay(folder.path())
            .args(args)
            .env("PG_PASSWORD", "s3cret-word")
            .env_remove("FOREBAY_URL")
            .output()
            .unwrap();
        let text = [out.stdout, out.stderr].map(|t| String::from_utf8(t).unwrap()).concat();
        assert!(out.status.success() && !text.contains("s3cret"), "{args:?}: {text}");
        text
    };
    run(&["check"]);
    let added: Json = serde_json::from_str(&run(&["--json", "data", "add", "big"])).unwrap();
    assert_eq!(added["rows"], 200_000, "{added}");
    let log = run(&["--json", "data", "log", "big"]);
    assert!(log.contains("SELECT * FROM big"), "{log}");
    let shown = run(&["--json", "data", "show", "big"]);
    assert!(shown.contains("decimal(10, 2)") && shown.contains("timestamp"), "{shown}");
    let before = added["name"].clone();
    // The same by a run; equal rows have an equal name.
    run(&["run", "take"]);
    let newest: Json = serde_json::from_str(&run(&["--json", "data", "log", "big"])).unwrap();
    assert_eq!(newest["versions"][0]["name"], before, "{newest}");
    assert_eq!(std::fs::read_dir(folder.path().join(".forebay/tmp")).map_or(0, Iterator::count), 0);
}
