//! The rows of a version with more columns, which somebody works out row by row: a model, for instance.
//!
//! It may take hours, so it is made in parts that outlive whoever makes them. A part is written as files of the table that is to be
//! made, which no version names yet; a record beside that table says which parts there are, what they were made of, and how their
//! rows add up. Who comes after an attempt that died goes on behind its last part. At the end one commit names all of them.
//!
//! **Invariant.** Files of parts are taken back by [`Dataset::gc`] alone, and only when they are old: another attempt, also one at the
//! same time, may go on with them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use contract::Tick;
use datafusion::prelude::ident;
use deltalake::DeltaTable;
use deltalake::kernel::Add;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use pipeline::task;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::dataset::add::Pending;
use crate::dataset::put::Told;
use crate::dataset::stage::{Staged, Stager};
use crate::dataset::{Added, Change, Dataset, Rows, Select, number};
use crate::fingerprint::{Fingerprint, Sum, schema_hash};
use crate::{Column, ColumnType, Error, Schema, Typed, store};

/// A part is closed after this time, so that no more than that is made again.
const TIME: Duration = Duration::from_secs(20);
/// Batches between those who read, work out and write.
const AHEAD: usize = 2;
/// The folder of records in a table's.
const FOLDER: &str = "_forebay/parts";

/// Who works columns out.
pub trait Adds: Send + 'static {
    /// The columns of the table that it looks at; `None` for all of them.
    fn needs(&self) -> Option<Vec<String>>;

    /// The columns that it adds, in order.
    fn columns(&self) -> Vec<Column>;

    /// Their values, for rows that it is given with the columns it looks at. Called for some thousand rows at a time, on a thread that
    /// it may block.
    ///
    /// # Errors
    /// Why it cannot be done, which ends the attempt.
    fn add(&mut self, rows: Typed) -> Result<Vec<Values>, contract::Error>;
}

/// Values of a column that was worked out, one for each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Of a `float`.
    Numbers(Vec<f64>),
    /// Of an `int`.
    Wholes(Vec<i64>),
    /// Of a `text`.
    Texts(Vec<String>),
}

/// What is extended, and how that is remembered.
pub(crate) struct Extending<'a> {
    pub(crate) from: &'a Dataset,
    pub(crate) version: u64,
    /// The columns that stay; `None` for all of them.
    pub(crate) keep: Option<&'a [String]>,
    /// What tells these added columns from others: parts of others are not gone on with.
    pub(crate) stamp: &'a str,
    /// What the record is called.
    pub(crate) attempt: &'a str,
    /// A part is closed when it has so many rows.
    pub(crate) part: u64,
    pub(crate) change: &'a Change,
    pub(crate) source: String,
    /// Is told what a person should know.
    pub(crate) say: &'a (dyn Fn(String) + Send + Sync),
}

/// Why a version could not be extended.
#[derive(Debug)]
pub(crate) enum Unmade {
    /// For reasons of the tables.
    Ours(Error),
    /// For reasons of who works the columns out.
    Theirs(contract::Error),
}

impl From<Error> for Unmade {
    fn from(e: Error) -> Self {
        Unmade::Ours(e)
    }
}

/// The parts there are.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Parts {
    /// The hash of what they were made of.
    made_of: String,
    parts: Vec<Part>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    rows: u64,
    sum: String,
    files: Vec<Add>,
}

impl Parts {
    fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    fn push(&mut self, staged: Staged) {
        let Staged { files, fingerprint: Fingerprint { sum, rows } } = staged;
        self.parts.push(Part { rows, sum: sum.to_hex(), files });
    }

    /// All of them as one; `None` when a sum cannot be read.
    fn staged(self) -> Option<Staged> {
        let mut all = Staged::default();
        for Part { rows, sum, files } in self.parts {
            all.fingerprint = all.fingerprint.plus(Fingerprint { sum: Sum::from_hex(&sum)?, rows });
            all.files.extend(files);
        }
        Some(all)
    }
}

impl Dataset {
    /// Makes a version of the rows of another with columns added, in place of those there are. `told` is told how many rows there are.
    ///
    /// # Errors
    /// [`Error::Invalid`] for columns that are not there or twice; those of reading and of writing; those of who works the columns out.
    pub(crate) async fn extend(
        &self,
        of: Extending<'_>,
        adds: Box<dyn Adds>,
        told: Told<'_>,
    ) -> Result<Added, Unmade> {
        let table = of.from.at_version(of.version).await?;
        let held = of.from.schema_of(&table)?;
        let shape = Shape::of(&of, &held, &*adds)?;
        // Where rows stand nowhere in particular, nobody knows which are done.
        let files = of.from.in_files(&table).await?;
        let made_of = made_of(&of, &shape, files.as_deref());
        let record = Path::from(format!("{FOLDER}/{}.json", of.attempt));
        let mut parts = match files {
            Some(_) => self.parts(&record, &made_of).await?,
            None => Parts { made_of, ..Parts::default() },
        };
        let resumable = files.is_some();
        let target = match self.current().await? {
            Some(table) => table,
            None => self.table()?,
        };
        let mut taken = parts.rows();
        if taken > 0 {
            (of.say)(format!("going on behind {taken} rows, which an attempt before has done"));
        }
        told(taken);
        let (given, read) = mpsc::channel(AHEAD);
        let (widened, mut made) = mpsc::channel(AHEAD);
        let reading = reading(of.from.clone(), (table, held, files), shape.read.clone(), (taken, given));
        let reading = task::spawn("data-read", reading);
        let adding = task::blocking("data-add", widening(adds, shape.clone(), read, widened));
        let adding = task::spawn("data-add", adding);
        let clock = &*self.warehouse.inner.clock;
        let mut open: Option<(Stager, u64, Tick)> = None;
        loop {
            let batch = made.recv().await.transpose()?;
            if let Some(batch) = &batch {
                let (stager, rows, _) = match &mut open {
                    Some(open) => open,
                    None => open.insert((Stager::new(self, &target, &shape.made, true)?, 0, clock.now())),
                };
                stager.write(batch, &self.name).await?;
                *rows += batch.num_rows() as u64;
                taken += batch.num_rows() as u64;
                told(taken);
            }
            let full = open.as_ref().is_some_and(|(_, rows, since)| {
                batch.is_none() || *rows >= of.part || clock.now().since(*since) >= TIME
            });
            if full && let Some((stager, ..)) = open.take() {
                parts.push(stager.finish(&self.name).await?);
                if resumable && batch.is_some() {
                    self.keep_parts(&record, &parts).await?;
                }
            }
            if batch.is_none() {
                break;
            }
        }
        // Who crashed has said nothing: what came before is not all.
        let crashed = |crashed: task::Crashed| self.defect("work out the columns of", &crashed.to_string());
        adding.await.flatten().map_err(crashed)?;
        reading.await.map_err(crashed)?;
        let staged = parts.staged().ok_or_else(|| self.defect("go on with the parts of", "a sum is none"))?;
        let pending = Pending {
            change: of.change,
            source: of.source,
            origin: None,
            schema: shape.made,
            read: staged.fingerprint.rows,
            checked: None,
            held: None,
            pinned: false,
        };
        let added = Box::pin(self.land(target, staged, &pending)).await?;
        if let Err(error) = self.store().delete(&record).await
            && !matches!(error, object_store::Error::NotFound { .. })
        {
            tracing::warn!(%error, "the record of a table's parts stays");
        }
        Ok(added)
    }

    /// How many rows a version has, when its commit says so.
    pub(crate) async fn count(&self, version: u64) -> Result<Option<u64>, Error> {
        let table = self.at_version(version).await?;
        let facts = self.facts(&*table.log_store(), version).await?;
        Ok(facts.and_then(|facts| facts.fingerprint()).map(|all| all.rows))
    }

    /// The files that a version's rows are in, as they stand there, in an order that is always the same; `None` when files do not hold
    /// the rows as they are.
    async fn in_files(&self, table: &DeltaTable) -> Result<Option<Vec<String>>, Error> {
        if !self.is_plain(table)? {
            return Ok(None);
        }
        let mut files = self.files_of(table).await?;
        files.iter_mut().for_each(|files| files.sort_unstable());
        Ok(files)
    }

    /// The parts that an attempt before left of the same, as far as their files are there.
    async fn parts(&self, record: &Path, made_of: &str) -> Result<Parts, Error> {
        let none = || Parts { made_of: made_of.to_owned(), ..Parts::default() };
        let failed = |e| store::failed("look for parts that are made", &e);
        let bytes = match self.store().get(record).await {
            Ok(found) => found.bytes().await.map_err(failed)?,
            Err(object_store::Error::NotFound { .. }) => return Ok(none()),
            Err(e) => return Err(failed(e)),
        };
        // A record that is torn or of another form is none.
        let found = serde_json::from_slice(&bytes).ok().filter(|parts: &Parts| parts.made_of == made_of);
        let Some(mut found) = found else { return Ok(none()) };
        for (whole, part) in found.parts.iter().enumerate() {
            for file in &part.files {
                match self.store().head(&Path::from(file.path.as_str())).await {
                    Ok(there) if i64::try_from(there.size) == Ok(file.size) => {}
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {
                        found.parts.truncate(whole);
                        return Ok(found);
                    }
                    Err(e) => return Err(failed(e)),
                }
            }
        }
        Ok(found)
    }

    async fn keep_parts(&self, record: &Path, parts: &Parts) -> Result<(), Error> {
        let bytes = serde_json::to_vec(parts).map_err(|e| self.defect("note parts of", &e.to_string()))?;
        let done = self.store().put(record, PutPayload::from(Bytes::from(bytes))).await;
        done.map(|_| ()).map_err(|e| store::failed("note the parts that are made", &e))
    }
}

/// Which columns are read, and what becomes of them.
#[derive(Clone)]
struct Shape {
    /// What is read.
    read: Schema,
    /// Places in it of the columns that are looked at.
    looked_at: Vec<usize>,
    /// Places in it of the columns that stay.
    kept: Vec<usize>,
    /// The columns of the result.
    made: Schema,
}

impl Shape {
    fn of(of: &Extending<'_>, held: &Schema, adds: &dyn Adds) -> Result<Shape, Error> {
        let needs = adds.needs();
        let (keep, needs) = (of.keep, needs.as_deref());
        for name in keep.iter().chain(&needs).copied().flatten() {
            held.named(name, of.from.name())?;
        }
        let among = |names: Option<&[String]>, c: &Column| names.is_none_or(|n| n.contains(&c.name));
        let read: Vec<Column> =
            held.columns.iter().filter(|c| among(keep, c) || among(needs, c)).cloned().collect();
        let places = |names: Option<&[String]>| -> Vec<usize> {
            read.iter().enumerate().filter(|(_, c)| among(names, c)).map(|(at, _)| at).collect()
        };
        let (kept, looked_at) = (places(keep), places(needs));
        let mut columns: Vec<Column> = kept.iter().filter_map(|at| read.get(*at)).cloned().collect();
        for column in adds.columns() {
            if columns.iter().any(|own| own.name == column.name) {
                let why =
                    "the table has a column of that name: leave that out, or call the new one otherwise";
                return Err(Error::invalid(format!("the column `{}`", column.name), why));
            }
            columns.push(column);
        }
        Ok(Shape { read: Schema { columns: read }, looked_at, kept, made: Schema { columns } })
    }
}

/// What parts are made of, as a hash.
fn made_of(of: &Extending<'_>, shape: &Shape, files: Option<&[String]>) -> String {
    let mut hasher = blake3::Hasher::new();
    let version = of.version.to_string();
    let (made, read) = (schema_hash(&shape.made), schema_hash(&shape.read));
    let files = files.unwrap_or_default().iter().map(String::as_str);
    for part in [of.from.name(), &version, of.stamp, &made, &read].into_iter().chain(files) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Reads the rows behind the first `skip` of a version: file by file where these are known.
async fn reading(
    from: Dataset,
    (table, held, files): (DeltaTable, Schema, Option<Vec<String>>),
    columns: Schema,
    (mut skip, to): (u64, mpsc::Sender<Result<RecordBatch, Error>>),
) {
    let read = async {
        let pieces: Vec<Option<String>> = match files {
            Some(files) => files.into_iter().map(Some).collect(),
            None => vec![None],
        };
        let session = from.warehouse.session_of_one();
        for piece in pieces {
            let mut rows = match piece {
                Some(file) => {
                    let frame = from.paths_frame(&session, [file.as_str()].into_iter(), &held).await?;
                    let frame = frame.select(columns.names().map(ident).collect::<Vec<_>>());
                    let frame = frame.map_err(|e| store::query("read rows", &e))?;
                    Rows::run_of(frame, columns.clone(), vec![(from.clone(), number(&table))]).await?
                }
                None => {
                    let select =
                        Select { columns: columns.names().map(str::to_owned).collect(), ..Select::default() };
                    from.scan(&table, &select).await?
                }
            };
            while let Some(batch) = rows.next_arrow().await? {
                let done = usize::try_from(skip).unwrap_or(usize::MAX).min(batch.num_rows());
                skip -= done as u64;
                let batch = batch.slice(done, batch.num_rows() - done);
                if batch.num_rows() > 0 && to.send(Ok(batch)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok::<_, Error>(())
    };
    if let Err(e) = read.await {
        // Nobody is there any more who would want to know.
        let _ = to.send(Err(e)).await;
    }
}

/// Works the columns out, batch by batch, as they were read.
fn widening(
    mut adds: Box<dyn Adds>,
    shape: Shape,
    mut read: mpsc::Receiver<Result<RecordBatch, Error>>,
    to: mpsc::Sender<Result<RecordBatch, Unmade>>,
) -> impl FnOnce() + Send + 'static {
    move || {
        while let Some(batch) = read.blocking_recv() {
            let made = batch.map_err(Unmade::Ours).and_then(|batch| widened(&mut *adds, &shape, &batch));
            let failed = made.is_err();
            if to.blocking_send(made).is_err() || failed {
                return;
            }
        }
    }
}

fn widened(adds: &mut dyn Adds, shape: &Shape, batch: &RecordBatch) -> Result<RecordBatch, Unmade> {
    let looked_at = batch.project(&shape.looked_at).map_err(|e| Error::Query(e.to_string()))?;
    let schema = |places: &[usize]| Schema {
        columns: places.iter().filter_map(|at| shape.read.columns.get(*at)).cloned().collect(),
    };
    let made = adds.add(Typed::of(&schema(&shape.looked_at), &looked_at)?).map_err(Unmade::Theirs)?;
    let kept = shape.kept.iter().filter_map(|at| batch.columns().get(*at)).cloned();
    let columns: Vec<ArrayRef> = kept.chain(made.into_iter().map(array)).collect();
    let batch = RecordBatch::try_new(shape.made.to_arrow(), columns);
    batch.map_err(|e| Error::Query(format!("the columns that were added do not fit the rows: {e}")).into())
}

fn array(values: Values) -> ArrayRef {
    match values {
        Values::Numbers(all) => Arc::new(Float64Array::from(all)),
        Values::Wholes(all) => Arc::new(Int64Array::from(all)),
        Values::Texts(all) => Arc::new(StringArray::from(all)),
    }
}

impl Values {
    /// The type of the column they are of.
    pub fn column_type(&self) -> ColumnType {
        match self {
            Values::Numbers(_) => ColumnType::Float,
            Values::Wholes(_) => ColumnType::Int,
            Values::Texts(_) => ColumnType::Text,
        }
    }
}
