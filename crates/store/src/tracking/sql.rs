//! A database as tracking sees it: statements with bound arguments, and transactions that end whole or not at all.
//!
//! The statements are one portable set (`$n`, `ON CONFLICT`, `RETURNING`), so that what tracking means is written once and each
//! database is only a way to carry it out. Where two databases have different words for one thing, [`Dialect`] has both.

use contract::BoxFuture;

use crate::Error;

/// A value, to a statement or from a row. A null knows its type: PostgreSQL asks for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// A whole number.
    Int(Option<i64>),
    /// A finite double.
    Real(Option<f64>),
    /// A text.
    Text(Option<String>),
}

impl From<i64> for Arg {
    fn from(n: i64) -> Self {
        Arg::Int(Some(n))
    }
}

impl From<Option<i64>> for Arg {
    fn from(n: Option<i64>) -> Self {
        Arg::Int(n)
    }
}

impl From<f64> for Arg {
    fn from(n: f64) -> Self {
        Arg::Real(Some(n))
    }
}

impl From<&str> for Arg {
    fn from(s: &str) -> Self {
        Arg::Text(Some(s.to_owned()))
    }
}

impl From<String> for Arg {
    fn from(s: String) -> Self {
        Arg::Text(Some(s))
    }
}

impl From<&String> for Arg {
    fn from(s: &String) -> Self {
        Arg::Text(Some(s.clone()))
    }
}

impl From<Option<&str>> for Arg {
    fn from(s: Option<&str>) -> Self {
        Arg::Text(s.map(str::to_owned))
    }
}

impl From<&Option<String>> for Arg {
    fn from(s: &Option<String>) -> Self {
        Arg::Text(s.clone())
    }
}

/// The values of a row, by their places.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub Vec<Arg>);

impl Row {
    fn wrong(at: usize) -> Error {
        Error::Database(sqlx::Error::Decode(format!("column {at} holds something else").into()))
    }

    /// A number or nothing.
    pub(super) fn maybe_int(&self, at: usize) -> Result<Option<i64>, Error> {
        match self.0.get(at) {
            Some(Arg::Int(n)) => Ok(*n),
            Some(Arg::Real(None) | Arg::Text(None)) => Ok(None),
            _ => Err(Row::wrong(at)),
        }
    }

    /// A number.
    pub(super) fn int(&self, at: usize) -> Result<i64, Error> {
        self.maybe_int(at)?.ok_or_else(|| Row::wrong(at))
    }

    /// A double; whole ones may come as numbers.
    pub(super) fn real(&self, at: usize) -> Result<f64, Error> {
        match self.0.get(at) {
            Some(Arg::Real(Some(n))) => Ok(*n),
            #[expect(clippy::cast_precision_loss, reason = "a double that is whole")]
            Some(Arg::Int(Some(n))) => Ok(*n as f64),
            _ => Err(Row::wrong(at)),
        }
    }

    /// A text or nothing.
    pub(super) fn maybe_text(&self, at: usize) -> Result<Option<String>, Error> {
        match self.0.get(at) {
            Some(Arg::Text(s)) => Ok(s.clone()),
            Some(Arg::Int(None) | Arg::Real(None)) => Ok(None),
            _ => Err(Row::wrong(at)),
        }
    }

    /// A text.
    pub(super) fn text(&self, at: usize) -> Result<String, Error> {
        self.maybe_text(at)?.ok_or_else(|| Row::wrong(at))
    }

    /// A text, read in place.
    pub(super) fn str(&self, at: usize) -> Result<&str, Error> {
        match self.0.get(at) {
            Some(Arg::Text(Some(s))) => Ok(s),
            _ => Err(Row::wrong(at)),
        }
    }
}

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// It is on the disk's platter: it outlives the machine's power.
    Synced,
    /// It is with the operating system, as the ledger's journal is: it outlives a `kill -9` of the process. A database that
    /// keeps no such difference syncs.
    Written,
}

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

impl Dialect {
    /// An expression for the rows of `from` as one text: a JSON list of lists of `columns`, in the order of `order`.
    pub(super) fn rows(self, columns: &str, from: &str, order: &str) -> String {
        match self {
            Dialect::Sqlite => format!(
                "(SELECT json_group_array(json_array({columns})) FROM (SELECT {columns} FROM {from} ORDER BY {order}))"
            ),
            Dialect::Postgres => format!(
                "(SELECT COALESCE(json_agg(json_build_array({columns}) ORDER BY {order}), '[]')::text FROM {from})"
            ),
        }
    }

    /// A comparison by a pattern in which `%` is any text and `_` any character.
    pub(super) fn like(self, column: &str, pattern: &str, any_case: bool) -> String {
        match (self, any_case) {
            (_, true) => format!("LOWER({column}) LIKE LOWER({pattern})"),
            (Dialect::Postgres, false) => format!("{column} LIKE {pattern}"),
            // SQLite's LIKE knows no case; its GLOB does, with other signs.
            (Dialect::Sqlite, false) => format!("{column} GLOB {pattern}"),
        }
    }

    /// The argument of [`Dialect::like`] for a pattern. A backslash is one, as in SQLite's words.
    pub(super) fn pattern(self, pattern: &str, any_case: bool) -> String {
        match (self, any_case) {
            (Dialect::Postgres, _) => return pattern.replace('\\', "\\\\"),
            (Dialect::Sqlite, true) => return pattern.to_owned(),
            (Dialect::Sqlite, false) => {}
        }
        let mut glob = String::with_capacity(pattern.len());
        for c in pattern.chars() {
            match c {
                '%' => glob.push('*'),
                '_' => glob.push('?'),
                '*' | '?' | '[' => glob.extend(['[', c, ']']),
                c => glob.push(c),
            }
        }
        glob
    }
}

/// An open transaction. Dropped, it leaves nothing.
pub trait SqlTx: Send {
    /// Runs one statement; its rows.
    fn query<'a>(&'a mut self, sql: &'a str, args: Vec<Arg>) -> BoxFuture<'a, Result<Vec<Row>, Error>>;
    /// Inserts rows, in the order given: before the next statement, at the latest with the commit, which then says what was wrong.
    fn insert(&mut self, all: Vec<Insert>) -> BoxFuture<'_, Result<(), Error>>;
    /// Until the end of the transaction nobody else holds this number. A database with one writer has nothing to do.
    fn lock(&mut self, number: i64) -> BoxFuture<'_, Result<(), Error>>;
    /// Who brings messages is woken by the end of the transaction: it puts some into the outbox.
    fn tell(&mut self) -> BoxFuture<'_, Result<(), Error>>;
    /// Ends it.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>>;
}

/// A database.
pub trait Sql: Send + Sync + std::fmt::Debug {
    /// Its words.
    fn dialect(&self) -> Dialect;
    /// Runs a statement that changes nothing.
    fn read<'a>(&'a self, sql: &'a str, args: Vec<Arg>) -> BoxFuture<'a, Result<Vec<Row>, Error>>;
    /// Begins a change.
    fn begin(&self, commit: Commit) -> BoxFuture<'_, Result<Box<dyn SqlTx>, Error>>;
}

/// A statement under construction, with its arguments.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) args: Vec<Arg>,
}

impl Statement {
    pub(super) fn new(sql: impl Into<String>) -> Self {
        Statement { sql: sql.into(), args: Vec::new() }
    }

    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// The place of another argument.
    pub(super) fn place(&mut self, arg: impl Into<Arg>) -> String {
        self.args.push(arg.into());
        format!("${}", self.args.len())
    }

    /// Appends an argument.
    pub(super) fn bind(&mut self, arg: impl Into<Arg>) -> &mut Self {
        let place = self.place(arg);
        self.push(&place)
    }

    /// Appends arguments with commas between, in brackets.
    pub(super) fn list<A: Into<Arg>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.push("(");
        for (n, arg) in args.into_iter().enumerate() {
            if n > 0 {
                self.push(", ");
            }
            self.bind(arg);
        }
        self.push(")")
    }
}

/// Rows in one statement, largest first: few shapes, so that each is prepared once.
const ROWS: [usize; 4] = [256, 32, 4, 1];

/// Rows to insert, of `width` values each, given one behind the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The statement up to `VALUES`.
    pub head: String,
    /// Values of a row.
    pub width: usize,
    /// What follows the rows.
    pub tail: &'static str,
    /// The values.
    pub values: Vec<Arg>,
}

impl Insert {
    pub(super) fn new(head: impl Into<String>, width: usize, tail: &'static str, values: Vec<Arg>) -> Self {
        Insert { head: head.into(), width, tail, values }
    }

    /// Statements that insert them, with their arguments: places are `$n`, or `?` where `numbered` is not asked for.
    pub fn statements(self, numbered: bool) -> impl Iterator<Item = (String, Vec<Arg>)> {
        let Insert { head, width, tail, values } = self;
        let mut left = values.len() / width.max(1);
        let mut values = values.into_iter();
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let rows = ROWS.into_iter().find(|n| *n <= left).unwrap_or(1);
            left -= rows;
            let mut sql = String::with_capacity(head.len() + tail.len() + rows * width * 6 + 16);
            sql.push_str(&head);
            sql.push_str(" VALUES ");
            for row in 0..rows {
                sql.push_str(if row == 0 { "(" } else { ", (" });
                for column in 0..width {
                    use std::fmt::Write as _;
                    let comma = if column == 0 { "" } else { ", " };
                    let _ = match numbered {
                        true => write!(sql, "{comma}${}", row * width + column + 1),
                        false => write!(sql, "{comma}?"),
                    };
                }
                sql.push(')');
            }
            sql.push_str(tail);
            Some((sql, values.by_ref().take(rows * width).collect()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_inserted_in_statements_of_few_shapes() {
        let values: Vec<Arg> = (0..74).map(Arg::from).collect();
        let of = |numbered| {
            Insert::new("INSERT INTO t (a, b)", 2, " ON CONFLICT DO NOTHING", values.clone())
                .statements(numbered)
        };
        let sizes: Vec<usize> = of(true).map(|(_, args)| args.len() / 2).collect();
        assert_eq!(sizes, [32, 4, 1]);
        assert_eq!(of(true).flat_map(|(_, args)| args).collect::<Vec<_>>(), values);
        let last = |numbered| of(numbered).last().unwrap().0;
        assert_eq!(last(true), "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        assert_eq!(last(false), "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT DO NOTHING");
    }

    #[test]
    fn a_pattern_means_the_same_in_both_words() {
        assert_eq!(Dialect::Sqlite.pattern("%a_b*[c]?", false), "*a?b[*][[]c][?]");
        assert_eq!(Dialect::Postgres.pattern(r"%a_b*\", false), r"%a_b*\\");
        assert_eq!(Dialect::Sqlite.pattern("%a_", true), "%a_");
    }
}
