//! The rows of a query over a database, written down as lines of JSON: nothing can be changed in it.
//!
//! SQLite's values have a type each, from which the column's is inferred like that of any JSON. PostgreSQL says the type of every
//! column ([`super::postgres`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::Secret;
use data::{ColumnType, Origin};
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Decode, Row as _, Sqlite, TypeInfo as _, ValueRef as _,
};

use super::postgres;
use crate::Error;
use crate::datasets::{Database, database};

/// A server that does not answer for so long is not there.
const CONNECT: Duration = Duration::from_secs(10);

/// What a query gave.
#[derive(Debug)]
pub struct Asked {
    /// The types that the database says.
    pub types: BTreeMap<String, ColumnType>,
    /// Which database, and what it was asked.
    pub origin: Origin,
}

/// Writes the rows of a query to a file; a server gives it up behind `timeout`. `declared` are types that somebody else says.
///
/// # Errors
/// A database that cannot be opened, a query it refuses, columns with one name, values that JSON has no form for.
pub async fn ask(
    folder: &Path,
    address: &Secret,
    (query, timeout): (&str, Duration),
    declared: &BTreeMap<String, ColumnType>,
    to: &Path,
) -> Result<Asked, Error> {
    let query = query.trim().trim_end_matches(';').trim_end();
    let unknown = || {
        let help = "write `sqlite:FILE` or `postgres://USER@HOST/DATABASE`";
        Error::new("this is not a database that can be asked", help)
    };
    let out = File::create(to).map_err(|e| Error::file("write", to, &e))?;
    let mut lines = Lines { out: BufWriter::new(out), to };
    let (name, types) = match database(folder, address.expose()).ok_or_else(unknown)? {
        Database::Sqlite(file) => {
            if !file.is_file() {
                let message = format!("there is no database {}", file.display());
                return Err(Error::new(message, "check the path"));
            }
            let options = SqliteConnectOptions::new().filename(&file).read_only(true).busy_timeout(CONNECT);
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(|e| refused(&e))?;
            let types = sqlite(&mut connection, query, &mut lines).await?;
            (format!("sqlite:{}", file.display()), types)
        }
        Database::Postgres => postgres::rows(address, query, timeout, declared, &mut lines).await?,
    };
    lines.out.flush().map_err(|e| Error::file("write", to, &e))?;
    Ok(Asked { types, origin: Origin { name, query: Some(query.to_owned()), ..Origin::default() } })
}

/// What the database says. Its messages name tables and columns, never the password.
fn refused(error: &sqlx::Error) -> Error {
    let help = match error {
        sqlx::Error::Database(_) => "correct the query; it can only read",
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => {
            "check the address, and that the server can be reached from here"
        }
        _ => "check the address, the user and the password",
    };
    Error::new(format!("cannot ask the database: {error}"), help)
}

pub(super) struct Lines<'a> {
    out: BufWriter<File>,
    to: &'a Path,
}

impl Lines<'_> {
    pub(super) fn write(&mut self, row: Map<String, Value>) -> Result<(), Error> {
        writeln!(self.out, "{}", Value::Object(row)).map_err(|e| Error::file("write", self.to, &e))
    }
}

/// Which column comes twice.
pub(super) fn doubled<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let help = "give one of them another name: `SELECT a AS b`";
            return Err(Error::new(format!("two columns of the query are named `{name}`"), help));
        }
    }
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

async fn sqlite(
    connection: &mut SqliteConnection,
    query: &str,
    lines: &mut Lines<'_>,
) -> Result<BTreeMap<String, ColumnType>, Error> {
    let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(connection);
    // Of each column: whether bytes were seen, and whether anything else was.
    let mut seen: Vec<(String, bool, bool)> = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(|e| refused(&e))? {
        if seen.is_empty() {
            doubled(row.columns().iter().map(|c| c.name()))?;
            seen = row.columns().iter().map(|c| (c.name().to_owned(), false, false)).collect();
        }
        let mut map = Map::new();
        for (at, (name, bytes, other)) in seen.iter_mut().enumerate() {
            let raw = row.try_get_raw(at).map_err(|e| refused(&e))?;
            let odd = |e: sqlx::error::BoxDynError| {
                let help = "cast the column in the query";
                Error::new(format!("a value of `{name}` cannot be read: {e}"), help)
            };
            let kind = if raw.is_null() { String::new() } else { raw.type_info().name().to_owned() };
            let value = match kind.as_str() {
                "" | "NULL" => Value::Null,
                "INTEGER" => <i64 as Decode<'_, Sqlite>>::decode(raw).map_err(odd)?.into(),
                "REAL" => <f64 as Decode<'_, Sqlite>>::decode(raw).map_err(odd)?.into(),
                "BLOB" => base64(<&[u8] as Decode<'_, Sqlite>>::decode(raw).map_err(odd)?).into(),
                _ => <&str as Decode<'_, Sqlite>>::decode(raw).map_err(odd)?.into(),
            };
            *bytes |= kind == "BLOB";
            *other |= !value.is_null() && kind != "BLOB";
            if *bytes && *other {
                let help = "cast the column in the query: `hex(x)`, or `CAST(x AS TEXT)`";
                return Err(Error::new(format!("`{name}` holds bytes and other values"), help));
            }
            map.insert(name.clone(), value);
        }
        lines.write(map)?;
    }
    Ok(seen.into_iter().filter(|(_, bytes, _)| *bytes).map(|(name, ..)| (name, ColumnType::Binary)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_query_over_sqlite_gives_rows_in_their_types_and_can_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options =
            SqliteConnectOptions::new().filename(folder.path().join("a.db")).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let made = "CREATE TABLE t (id INTEGER, name TEXT, x REAL, b BLOB);
            INSERT INTO t VALUES (1, '007', 0.5, x'00ff'), (2, NULL, NULL, NULL)";
        sqlx::raw_sql(made).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let to = folder.path().join("rows");
        let (database, none) = (Secret::new("sqlite:a.db"), BTreeMap::new());
        let run = |query: &'static str| ask(folder.path(), &database, (query, CONNECT), &none, &to);
        let asked = run("SELECT * FROM t ORDER BY id;").await.unwrap();
        assert_eq!(asked.types.get("b"), Some(&ColumnType::Binary));
        let rows = std::fs::read_to_string(&to).unwrap();
        let expected = "{\"id\":1,\"name\":\"007\",\"x\":0.5,\"b\":\"AP8=\"}\n{\"id\":2,\"name\":null,\"x\":null,\"b\":null}\n";
        assert_eq!(rows, expected);
        let said = run("DELETE FROM t").await.unwrap_err().to_string();
        assert!(said.contains("readonly"), "{said}");
        assert!(run("SELECT id, name AS id FROM t").await.unwrap_err().to_string().contains("`id`"));
        assert!(run("SELECT nothing").await.unwrap_err().to_string().contains("nothing"));
        assert_eq!(run("SELECT count(*) AS n FROM t").await.unwrap().types.len(), 0);
    }
}
