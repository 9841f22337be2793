//! The rows of a query over PostgreSQL, as they come: one transaction that can only read and sees one state of the database.
//!
//! The server says the type of every column, and writes the values as text in one form, whatever its own settings are. Rows are taken
//! as fast as they are written down, so that a result of any size needs little memory here.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::Secret;
use data::ColumnType;
use futures_util::TryStreamExt as _;
use pipeline::task;
use serde_json::{Map, Value};
use sqlx::postgres::{
    PgColumn, PgConnectOptions, PgConnection, PgDatabaseError, PgErrorPosition, PgTypeInfo, PgTypeKind,
};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
    TypeInfo as _,
};

use super::sql::{Lines, doubled};
use crate::Error;

/// A server that does not answer for so long is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// Digits of a decimal: all together, and behind the point where nothing says how many there are.
const DIGITS: usize = 38;
const SCALE: usize = 9;

/// What begins the statement around a query.
const BEFORE: &str = " FROM (\n";

/// A column as it is read.
struct Column {
    name: String,
    ty: ColumnType,
    /// The type is as wide as its values need it.
    grows: bool,
    /// What the server makes text of it by.
    text: String,
    /// The most digits before and behind the point.
    digits: (usize, usize),
}

/// Writes the rows of a query; `declared` are types that somebody else says. The database, without secrets, and the types it says.
///
/// # Errors
/// A server that cannot be reached or refuses, a query that it refuses or that takes longer than `timeout`, values that no type here
/// holds.
pub(super) async fn rows(
    address: &Secret,
    query: &str,
    timeout: Duration,
    declared: &BTreeMap<String, ColumnType>,
    lines: &mut Lines<'_>,
) -> Result<(String, BTreeMap<String, ColumnType>), Error> {
    let help = "write `postgres://USER@HOST/DATABASE`, and `${NAME}` where the password is";
    let options: PgConnectOptions =
        address.expose().parse().map_err(|_| Error::new("this is not the address of a database", help))?;
    let shown = format!("postgres://{}/{}", options.get_host(), options.get_database().unwrap_or_default());
    let mut connection = tokio::select! {
        connected = PgConnection::connect_with(&options) => connected.map_err(|e| refused(&e, query, 0))?,
        () = task::sleep(CONNECT) => {
            let message = format!("cannot ask the database: {shown} does not answer");
            return Err(Error::unreachable(message, "check the address, and that it runs"));
        }
    };
    let failed = |e: sqlx::Error| refused(&e, query, 0);
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    let mut transaction = connection.begin_with(begin).await.map_err(failed)?;
    let setup = format!(
        "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {0}; SET LOCAL TIME ZONE 'UTC'; \
         SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'iso_8601'; SET LOCAL extra_float_digits = 1",
        timeout.as_millis().clamp(1, 2_147_483_647)
    );
    sqlx::raw_sql(AssertSqlSafe(setup)).execute(&mut *transaction).await.map_err(failed)?;
    let prepared = transaction.prepare(AssertSqlSafe(query).into_sql_str()).await.map_err(failed)?;
    doubled(prepared.columns().iter().map(sqlx::Column::name))?;
    if prepared.columns().is_empty() {
        return Err(Error::new("the query gives no columns", "write a query that gives rows: `SELECT …`"));
    }
    let mut columns = Vec::with_capacity(prepared.columns().len());
    for column in prepared.columns() {
        let said = declared.get(column.name()).cloned();
        columns.push(column_of(column, said, &mut transaction).await.map_err(failed)?);
    }
    let list: Vec<&str> = columns.iter().map(|c| c.text.as_str()).collect();
    let before = format!("SELECT {}{BEFORE}", list.join(", "));
    let whole = format!("{before}{query}\n) AS q");
    let own = before.chars().count();
    {
        let mut rows = sqlx::query(AssertSqlSafe(whole)).persistent(false).fetch(&mut *transaction);
        let mut number = 0_u64;
        while let Some(row) = rows.try_next().await.map_err(|e| refused(&e, query, own))? {
            number += 1;
            let mut map = Map::new();
            for (at, column) in columns.iter_mut().enumerate() {
                let text: Option<&str> = row.try_get(at).map_err(failed)?;
                map.insert(column.name.clone(), column.value(text, number)?);
            }
            lines.write(map)?;
        }
    }
    transaction.rollback().await.map_err(failed)?;
    // The server learns that nobody listens any more.
    let _ = connection.close().await;
    let types = columns.into_iter().map(Column::typed).collect::<Result<_, _>>()?;
    Ok((shown, types))
}

/// The type below all domains.
fn base(ty: &PgTypeInfo) -> &PgTypeInfo {
    match ty.kind() {
        PgTypeKind::Domain(of) => base(of),
        _ => ty,
    }
}

/// How a column is read.
async fn column_of(
    column: &PgColumn,
    declared: Option<ColumnType>,
    connection: &mut PgConnection,
) -> Result<Column, sqlx::Error> {
    let quoted = format!("q.\"{}\"", column.name().replace('"', "\"\""));
    let kind = base(column.type_info()).name().to_owned();
    let (own, grows) = match kind.as_str() {
        "BOOL" => (ColumnType::Bool, false),
        "INT2" | "INT4" | "INT8" | "OID" => (ColumnType::Int, false),
        "FLOAT4" | "FLOAT8" => (ColumnType::Float, false),
        "NUMERIC" => match width(column, connection).await? {
            Some((digits, scale)) => (ColumnType::Decimal(digits, scale), false),
            None => (ColumnType::Decimal(38, 9), true),
        },
        "DATE" => (ColumnType::Date, false),
        "TIMESTAMP" => (ColumnType::DateTime, false),
        "TIMESTAMPTZ" => (ColumnType::Timestamp, false),
        "BYTEA" => (ColumnType::Binary, false),
        // JSON, names of enums, UUIDs, times of day, intervals, lists, addresses: as PostgreSQL writes them.
        _ => (ColumnType::Text, false),
    };
    let text = match kind.as_str() {
        "BYTEA" => format!("translate(encode({quoted}, 'base64'), E'\\n', '')"),
        _ => format!("{quoted}::text"),
    };
    let (ty, grows) = declared.map_or((own, grows), |said| (said, false));
    Ok(Column { name: column.name().to_owned(), ty, grows, text, digits: (0, 0) })
}

/// The digits of a `numeric(p, s)` that is the column of a table.
async fn width(column: &PgColumn, connection: &mut PgConnection) -> Result<Option<(u8, i8)>, sqlx::Error> {
    let (Some(table), Some(number)) = (column.relation_id(), column.relation_attribute_no()) else {
        return Ok(None);
    };
    let query = "SELECT CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END FROM pg_catalog.pg_attribute a \
                 JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1 AND a.attnum = $2";
    let found =
        sqlx::query_scalar::<_, i32>(query).bind(table).bind(number).fetch_optional(connection).await?;
    Ok(found.and_then(digits_of))
}

/// What a type's modifier says: the digits in its upper half, those behind the point in eleven bits of the lower.
fn digits_of(modifier: i32) -> Option<(u8, i8)> {
    let bits = modifier.checked_sub(4).filter(|bits| *bits >= 0)?;
    let (digits, scale) = ((bits >> 16) & 0xffff, bits & 0x7ff);
    // More than 1023 is less than nothing: 1000 for `numeric(5, -3)`. No type here has that.
    let sound = (1..=38).contains(&digits) && scale <= digits;
    sound.then(|| Some((u8::try_from(digits).ok()?, i8::try_from(scale).ok()?)))?
}

impl Column {
    fn value(&mut self, text: Option<&str>, number: u64) -> Result<Value, Error> {
        let Some(text) = text else { return Ok(Value::Null) };
        let odd = |what: &str, help: String| {
            let message = format!("`{}` is {text} in row {number} of the query: {what}", self.name);
            Err(Error::new(message, help))
        };
        let quoted = || format!("\"{}\"", self.name.replace('"', "\"\""));
        Ok(match self.ty {
            ColumnType::Bool => match text {
                "true" | "t" => Value::Bool(true),
                "false" | "f" => Value::Bool(false),
                other => other.into(),
            },
            ColumnType::Int => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
            ColumnType::Float => match text {
                "Infinity" => "inf".into(),
                "-Infinity" => "-inf".into(),
                other => match other.parse::<f64>() {
                    Ok(number) if number.is_finite() => number.into(),
                    _ => other.into(),
                },
            },
            ColumnType::Date | ColumnType::DateTime | ColumnType::Timestamp => {
                let four = text.as_bytes().get(4) == Some(&b'-') && !text.ends_with("BC");
                if !four {
                    let help = format!(
                        "leave such rows out, or make null of it: `CASE WHEN isfinite({0}) THEN {0} END`",
                        quoted()
                    );
                    return odd("times here are those of the years 0001 to 9999", help);
                }
                text.into()
            }
            ColumnType::Decimal(..) => {
                if !text.bytes().any(|b| b.is_ascii_digit()) {
                    return odd("that is no decimal", format!("make a float of it: `{}::float8`", quoted()));
                }
                let (whole, behind) = text
                    .trim_start_matches('-')
                    .split_once('.')
                    .unwrap_or((text.trim_start_matches('-'), ""));
                let (whole, behind) =
                    (whole.trim_start_matches('0').len(), behind.trim_end_matches('0').len());
                self.digits = (self.digits.0.max(whole), self.digits.1.max(behind));
                text.into()
            }
            _ => text.into(),
        })
    }

    /// Its type, as wide as its values need it.
    fn typed(self) -> Result<(String, ColumnType), Error> {
        let (whole, behind) = self.digits;
        if !self.grows || (whole <= DIGITS - SCALE && behind <= SCALE) {
            return Ok((self.name, self.ty));
        }
        let scale = behind.max(SCALE.min(DIGITS.saturating_sub(whole)));
        match (i8::try_from(scale), whole + scale <= DIGITS) {
            (Ok(scale), true) => Ok((self.name, ColumnType::Decimal(38, scale))),
            _ => {
                let message = format!(
                    "`{}` has {whole} digits before the point and {behind} behind it: a decimal has {DIGITS}",
                    self.name
                );
                let help = "round it in the query: `round(x, 9)`, or make a float of it: `x::float8`";
                Err(Error::new(message, help))
            }
        }
    }
}

/// What the server says, with the place in the query that it means: `own` characters stand before it. Its messages name tables and
/// columns, never the password.
fn refused(error: &sqlx::Error, query: &str, own: usize) -> Error {
    let (code, position) = match error {
        sqlx::Error::Database(e) => match e.try_downcast_ref::<PgDatabaseError>() {
            Some(e) => (e.code().to_owned(), e.position()),
            None => (String::new(), None),
        },
        _ => (String::new(), None),
    };
    let place = match position {
        Some(PgErrorPosition::Original(at)) => at.checked_sub(own + 1).and_then(|at| place_of(query, at)),
        _ => None,
    };
    let place = place
        .map_or_else(String::new, |(line, column)| format!(" (line {line}, column {column} of the query)"));
    let help = match (error, code.as_str()) {
        (_, "57014") => "ask for less, or raise `timeout` of the dataset's `sql`",
        (_, "25006") => "correct the query; it can only read",
        (_, code) if code.starts_with("28") || code == "3D000" => {
            "check the user, the password and the database"
        }
        (_, "42501") => "ask for what the role may read, or give it the right",
        (_, code) if code.starts_with("40") || code.starts_with("08") || code.starts_with("57") => {
            "try again"
        }
        (sqlx::Error::Database(_), _) => "correct the query; it can only read",
        (sqlx::Error::Io(_) | sqlx::Error::Tls(_), _) => {
            "check the address, and that the server can be reached from here"
        }
        _ => "check the address, the user and the password",
    };
    let said = match error {
        sqlx::Error::Database(e) => e.message().to_owned(),
        other => other.to_string(),
    };
    let message = format!("cannot ask the database: {said}{place}");
    if may_pass(error, &code) { Error::unreachable(message, help) } else { Error::new(message, help) }
}

/// Whether the same query may succeed later: the connection broke, the server is starting, stopping, full, or chose another
/// transaction. Codes are PostgreSQL's (its documentation, appendix A).
fn may_pass(error: &sqlx::Error, code: &str) -> bool {
    let passing = ["08", "40", "53", "57P"];
    matches!(error, sqlx::Error::Io(_)) || passing.iter().any(|class| code.starts_with(class))
}

/// Line and column of a character.
fn place_of(query: &str, at: usize) -> Option<(usize, usize)> {
    let before: String = query.chars().take(at).collect();
    if at >= query.chars().count().saturating_add(1) {
        return None;
    }
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    Some((line, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_query_is_a_line_and_a_column() {
        let query = "SELECT a,\n  ü, b";
        assert_eq!(place_of(query, 0), Some((1, 1)));
        assert_eq!(place_of(query, 12), Some((2, 3)));
        assert_eq!(place_of(query, 99), None);
    }

    #[test]
    fn the_digits_of_a_decimal_are_read_from_its_modifier() {
        assert_eq!(digits_of(((12 << 16) | 2) + 4), Some((12, 2)));
        assert_eq!(digits_of(((38 << 16) | 38) + 4), Some((38, 38)));
        assert_eq!((digits_of(-1), digits_of(((40 << 16) | 2) + 4)), (None, None));
        // numeric(5, -3): the scale is negative in eleven bits.
        assert_eq!(digits_of(((5 << 16) | (-3 & 0x7ff)) + 4), None);
    }

    #[test]
    fn a_decimal_is_as_wide_as_its_values() {
        let typed = |whole, behind| {
            let (name, text) = ("x".to_owned(), String::new());
            let column =
                Column { name, ty: ColumnType::Decimal(38, 9), grows: true, text, digits: (whole, behind) };
            column.typed().ok().map(|(_, ty)| ty)
        };
        assert_eq!(typed(3, 2), Some(ColumnType::Decimal(38, 9)));
        assert_eq!(typed(3, 20), Some(ColumnType::Decimal(38, 20)));
        assert_eq!(typed(32, 2), Some(ColumnType::Decimal(38, 6)));
        assert_eq!(typed(30, 12), None);
    }
}
