//! Rows that a gate did not let through, beside the dataset: a Delta table of its own, named `_quarantine.` and the dataset's name,
//! which no dataset can be called.
//!
//! **Invariant.** The same is in quarantine once: rows that an attempt brings, all of them with the same source, lines and reasons as
//! those of an attempt before, stay where they are, under that attempt, until they are released.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field};
use contract::UnixMillis;
use datafusion::prelude::{ident, lit};
use deltalake::DeltaTable;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::dataset::add::{Added, Pending};
use crate::dataset::facts;
use crate::dataset::stage::{Stager, remove};
use crate::dataset::{Change, Dataset, How, Rows};
use crate::fingerprint::{Adder, Key};
use crate::{Column, ColumnType, Error, Schema, store};

/// A row in quarantine, or what was wrong with all rows of an attempt together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quarantined {
    /// The attempt that brought it; when it made a version, the log names it there.
    pub attempt: String,
    /// When, in milliseconds since the epoch.
    pub at: i64,
    /// Who made the attempt.
    pub who: Option<String>,
    /// The file it stood in.
    pub source: Option<String>,
    /// The line it began on, counted from 1, where the format has lines.
    pub line: Option<u64>,
    /// The names of the expectations it breaks.
    pub reasons: Vec<String>,
    /// The row; `None` when the reasons are about all rows together.
    pub row: Option<Map<String, Value>>,
}

/// A bad row on its way there.
pub(super) struct Bad {
    pub(super) row: Map<String, Value>,
    pub(super) line: Option<u64>,
    pub(super) reasons: Vec<String>,
}

/// What all entries of an attempt share.
pub(super) struct Entries {
    pub(super) attempt: String,
    pub(super) at_ms: i64,
    pub(super) who: Option<String>,
}

impl Entries {
    /// The columns of every quarantine.
    pub(super) fn schema() -> Schema {
        let column = |name: &str, ty| Column { name: name.to_owned(), ty };
        let texts = ColumnType::List(Box::new(ColumnType::Text));
        Schema {
            columns: vec![
                column("attempt", ColumnType::Text),
                column("at", ColumnType::Timestamp),
                column("who", ColumnType::Text),
                column("source", ColumnType::Text),
                column("line", ColumnType::Int),
                column("reasons", texts),
                column("row", ColumnType::Text),
            ],
        }
    }

    /// The entries of bad rows of one file.
    fn batch(&self, source: &str, bad: &[Bad]) -> Result<RecordBatch, Error> {
        let rows = bad.iter().map(|b| Some(Value::Object(b.row.clone()).to_string())).collect();
        let lines = bad.iter().map(|b| b.line.and_then(|line| i64::try_from(line).ok())).collect();
        self.columns(source, bad.iter().map(|b| b.reasons.as_slice()), lines, rows)
    }

    /// The entry of what was wrong with all rows together.
    fn whole(&self, source: &str, reasons: &[String]) -> Result<RecordBatch, Error> {
        let (line, row) = (Int64Array::from(vec![None]), StringArray::from(vec![None::<String>]));
        self.columns(source, std::iter::once(reasons), line, row)
    }

    fn columns<'a>(
        &self,
        source: &str,
        reasons: impl Iterator<Item = &'a [String]>,
        lines: Int64Array,
        rows: StringArray,
    ) -> Result<RecordBatch, Error> {
        let n = lines.len();
        let texts = |text: Option<&str>| Arc::new(StringArray::from(vec![text; n])) as ArrayRef;
        let mut lists = ListBuilder::new(StringBuilder::new()).with_field(Arc::new(Field::new(
            "element",
            DataType::Utf8,
            true,
        )));
        for names in reasons {
            lists.append_value(names.iter().map(Some));
        }
        let micros = self.at_ms.saturating_mul(1000);
        let columns: Vec<ArrayRef> = vec![
            texts(Some(&self.attempt)),
            Arc::new(TimestampMicrosecondArray::from(vec![micros; n]).with_timezone("UTC")),
            texts(self.who.as_deref()),
            texts(Some(source)),
            Arc::new(lines),
            Arc::new(lists.finish()),
            Arc::new(rows),
        ];
        RecordBatch::try_new(Entries::schema().to_arrow(), columns).map_err(|e| Error::Query(e.to_string()))
    }
}

/// The columns that say what was wrong: those that tell nothing of the attempt.
const SAYS: [usize; 4] = [3, 4, 5, 6];

/// Entries on their way into a quarantine: files that no version names, until they are settled.
pub(super) struct Holding {
    aside: Dataset,
    table: DeltaTable,
    stager: Stager,
    entries: Entries,
    /// What the entries say, added up.
    says: Adder,
}

impl Holding {
    /// For what does not come into a dataset.
    pub(super) async fn begin(dataset: &Dataset, entries: Entries) -> Result<Holding, Error> {
        let aside = dataset.aside()?;
        let table = match aside.current().await? {
            Some(table) => table,
            None => aside.table()?,
        };
        let stager = Stager::new(&aside, &table, &Entries::schema(), true)?;
        Ok(Holding { aside, table, stager, entries, says: Adder::new(Key::default()) })
    }

    /// Takes bad rows of one file.
    pub(super) async fn rows(&mut self, source: &str, bad: &[Bad]) -> Result<(), Error> {
        if bad.is_empty() { Ok(()) } else { self.write(self.entries.batch(source, bad)?).await }
    }

    /// Takes what was wrong with all rows together, if anything was.
    pub(super) async fn whole(&mut self, source: &str, reasons: &[String]) -> Result<(), Error> {
        if reasons.is_empty() { Ok(()) } else { self.write(self.entries.whole(source, reasons)?).await }
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<(), Error> {
        self.says.add(&batch.project(&SAYS).map_err(|e| Error::Query(e.to_string()))?);
        self.stager.write(&batch, &self.aside.name).await
    }

    /// Takes back what was written.
    pub(super) async fn discard(self) {
        self.stager.discard().await;
    }

    /// Commits the entries, unless they are there already. Gives the attempt under which they are.
    pub(super) async fn settle(self, change: &Change, source: String) -> Result<String, Error> {
        let Holding { aside, table, stager, entries, says } = self;
        let staged = stager.finish(&aside.name).await?;
        if staged.files.is_empty() {
            return Ok(entries.attempt);
        }
        let files = staged.files.clone();
        let columns = Entries::schema().columns.into_iter().skip(3).collect();
        let held = Some(says.total().name(&Schema { columns }).as_str().to_owned());
        let change = Change { how: How::Append, lineage: None, ..change.clone() };
        let (read, schema) = (staged.fingerprint.rows, Entries::schema());
        let checked = Some(entries.attempt.clone());
        let pending =
            Pending { change: &change, source, origin: None, schema, read, checked, held, pinned: false };
        let landed = aside.land(table, staged, &pending).await;
        if !matches!(&landed, Ok(added) if added.new) {
            remove(&*aside.store(), &files).await;
        }
        let landed = landed?;
        let before = if landed.new { None } else { aside.attempt_of(landed.version).await? };
        Ok(before.unwrap_or(entries.attempt))
    }
}

impl Dataset {
    /// The attempt that brought the entries of a version of this quarantine.
    async fn attempt_of(&self, version: u64) -> Result<Option<String>, Error> {
        let log = self.table()?.log_store();
        Ok(facts::entry(&*log, &self.name, version).await?.and_then(|entry| entry.facts?.checked))
    }

    /// The version of this quarantine by which entries came that say the same, when they are still here.
    pub(super) async fn held(&self, table: &DeltaTable, says: &str) -> Result<Option<Added>, Error> {
        let Some((version, facts)) = self.holding(table, says).await? else { return Ok(None) };
        let Some(attempt) = &facts.checked else { return Ok(None) };
        let failed = |e| store::query("read the quarantine", &e);
        let frame = self.frame(&self.warehouse.session(), table).await?;
        let own =
            frame.filter(ident("attempt").eq(lit(attempt.as_str()))).and_then(|own| own.limit(0, Some(1)));
        let there = own.map_err(failed)?.count().await.map_err(failed)?;
        if there == 0 { Ok(None) } else { self.added_by(version, &facts).await.map(Some) }
    }

    /// The table of what did not come in.
    pub(super) fn aside(&self) -> Result<Dataset, Error> {
        Dataset::new(self.warehouse.clone(), &format!("_quarantine.{}", self.name))
    }

    /// What gates did not let into this dataset, the newest first, at most `limit`; of one attempt only, when it is given.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn quarantine(&self, attempt: Option<&str>, limit: usize) -> Result<Vec<Quarantined>, Error> {
        let failed = |e| store::query("read the quarantine", &e);
        let aside = self.aside()?;
        let Some(table) = aside.current().await? else { return Ok(Vec::new()) };
        let session = self.warehouse.session();
        let mut frame = aside.frame(&session, &table).await?;
        if let Some(attempt) = attempt {
            frame = frame.filter(ident("attempt").eq(lit(attempt))).map_err(failed)?;
        }
        let order = vec![
            ident("at").sort(false, false),
            ident("attempt").sort(false, false),
            ident("source").sort(true, false),
            ident("line").sort(true, false),
        ];
        let frame = frame.sort(order).and_then(|frame| frame.limit(0, Some(limit))).map_err(failed)?;
        let rows = Rows::run(frame, Entries::schema()).await?.all().await?;
        Ok(rows.into_iter().map(entry).collect())
    }
}

/// What an attempt left in quarantine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    /// The attempt.
    pub attempt: String,
    /// When, in milliseconds since the epoch.
    pub at: i64,
    /// Who made it.
    pub who: Option<String>,
    /// Rows of it there are.
    pub rows: u64,
    /// The expectations they break, and those that all rows together broke, with how many entries name each.
    pub reasons: std::collections::BTreeMap<String, u64>,
}

impl Dataset {
    /// The attempts that left something in quarantine, the newest first. Reads all of it, a batch at a time.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn attempts(&self) -> Result<Vec<Attempt>, Error> {
        let aside = self.aside()?;
        let Some(table) = aside.current().await? else { return Ok(Vec::new()) };
        let session = self.warehouse.session();
        let frame = aside.frame(&session, &table).await?;
        let columns: Vec<_> = Entries::schema().names().map(ident).collect();
        let frame = frame.select(columns).map_err(|e| store::query("read the quarantine", &e))?;
        let mut rows = Rows::run(frame, Entries::schema()).await?;
        let mut found: std::collections::BTreeMap<String, Attempt> = std::collections::BTreeMap::new();
        while let Some(batch) = rows.next().await? {
            for entry in batch.to_json().into_iter().map(entry) {
                let attempt = found.entry(entry.attempt.clone()).or_insert_with(|| Attempt {
                    attempt: entry.attempt.clone(),
                    at: entry.at,
                    who: entry.who.clone(),
                    rows: 0,
                    reasons: std::collections::BTreeMap::new(),
                });
                attempt.rows += u64::from(entry.row.is_some());
                for reason in entry.reasons {
                    *attempt.reasons.entry(reason).or_default() += 1;
                }
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by(|a, b| (b.at, &b.attempt).cmp(&(a.at, &a.attempt)));
        Ok(found)
    }
}

fn entry(row: Map<String, Value>) -> Quarantined {
    let text = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    let at = text("at").and_then(|at| crate::source::instant(&at)).map_or(UnixMillis(0), UnixMillis);
    let reasons = row.get("reasons").and_then(Value::as_array).into_iter().flatten();
    Quarantined {
        attempt: text("attempt").unwrap_or_default(),
        at: at.0,
        who: text("who"),
        source: text("source"),
        line: row.get("line").and_then(Value::as_u64),
        reasons: reasons.filter_map(|r| r.as_str().map(str::to_owned)).collect(),
        row: text("row").and_then(|row| serde_json::from_str(&row).ok()),
    }
}
