//! Rows summed up for a comparison of what was with what is: sketches of columns in bounded memory, from a version or from files.
//!
//! Numbers are summed up as numbers, texts and bools as categories. Times are left out: between two windows they move by
//! themselves. Lists, structs and bytes are left out too, and whoever reads the result is told which columns those are.
//!
//! **Bound.** A batch, and for each part and column a sketch: nothing grows with the rows.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use watch::drift::Profile;

use crate::source::Batches as _;
use crate::{At, ColumnType, Dataset, Error, Schema, Select, Source};

/// What is summed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watching {
    /// These columns; all of them when it is empty.
    pub columns: Vec<String>,
    /// But not these.
    pub except: Vec<String>,
    /// Columns of numbers that are names of something: a month, a code.
    pub categories: Vec<String>,
    /// Only rows that meet this condition, in SQL; for versions.
    pub filter: Option<String>,
}

/// The rows of a time: from `from` on and before `to`, in milliseconds since the Unix epoch. Rows without a time are in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The column that holds the time.
    pub column: String,
    /// From when on; always, when it is not given.
    pub from: Option<i64>,
    /// Until when; for ever, when it is not given.
    pub to: Option<i64>,
}

/// Rows summed up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sketched {
    /// Its columns.
    pub profile: Profile,
    /// Rows in it.
    pub rows: u64,
    /// Columns that are not in it: times, lists, structs and bytes.
    pub left_out: Vec<String>,
}

impl Dataset {
    /// Sums a version up in one pass: all of its rows when there are no spans, else the rows of each.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::NoVersion`], [`Error::Invalid`] for a column that is not there, [`Error::Query`] for a
    /// filter that cannot be understood, [`Error::Storage`].
    pub async fn sketched(&self, at: &At, what: &Watching, spans: &[Span]) -> Result<Vec<Sketched>, Error> {
        let mut rows = self.read(at, &Select { filter: what.filter.clone(), ..Select::default() }).await?;
        let mut sums = Sums::new(rows.schema(), what, spans, self.name())?;
        while let Some(batch) = rows.next_arrow().await? {
            sums.take(&batch)?;
        }
        Ok(sums.done())
    }

    /// The names of the columns of a version.
    ///
    /// # Errors
    /// As [`Dataset::sketched`].
    pub async fn column_names(&self, at: &At) -> Result<Vec<String>, Error> {
        let table = self.at_version(self.resolve(at).await?).await?;
        Ok(self.schema_of(&table)?.names().map(str::to_owned).collect())
    }

    /// The newest time in a column of a version, in milliseconds since the Unix epoch, of the rows that meet a condition, in SQL.
    ///
    /// # Errors
    /// As [`Dataset::sketched`].
    pub async fn newest(&self, at: &At, column: &str, filter: Option<&str>) -> Result<Option<i64>, Error> {
        let select = Select {
            columns: vec![column.to_owned()],
            filter: filter.map(ToOwned::to_owned),
            ..Select::default()
        };
        let mut rows = self.read(at, &select).await?;
        let mut newest = None;
        while let Some(batch) = rows.next_arrow().await? {
            newest = newest.max(latest(&batch, column, self.name())?);
        }
        Ok(newest)
    }

    /// The columns of a version that hold times.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::NoVersion`].
    pub async fn times(&self, at: &At) -> Result<Vec<String>, Error> {
        let rows = self.read(at, &Select { limit: Some(0), ..Select::default() }).await?;
        Ok(times(rows.schema()))
    }
}

impl Source {
    /// Sums files up in one pass over their rows, aside from the runtime: all rows when there are no spans, else those of each.
    ///
    /// # Errors
    /// [`Error::Source`] with the place, [`Error::Invalid`] for a column that is not there, and for a filter: that is for versions.
    pub async fn sketched(&self, what: &Watching, spans: &[Span]) -> Result<Vec<Sketched>, Error> {
        if what.filter.is_some() {
            let why = "files are compared whole; add them to a dataset to choose rows of them";
            return Err(Error::invalid("a condition of rows", why));
        }
        let (source, what, spans) = (self.clone(), what.clone(), spans.to_vec());
        aside(move || {
            let schema = source.infer()?;
            let mut sums = Sums::new(&schema, &what, &spans, &source.describe())?;
            let mut reader = source.open(&schema)?;
            while let Some(batch) = reader.next()? {
                sums.take(&batch)?;
            }
            Ok(sums.done())
        })
        .await
    }

    /// The newest time in a column of files, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`Source::sketched`].
    pub async fn newest(&self, column: &str) -> Result<Option<i64>, Error> {
        let (source, column) = (self.clone(), column.to_owned());
        aside(move || {
            let schema = source.infer()?;
            let (mut newest, of) = (None, source.describe());
            schema.named(&column, &of)?;
            let mut reader = source.open(&schema)?;
            while let Some(batch) = reader.next()? {
                newest = newest.max(latest(&batch, &column, &of)?);
            }
            Ok(newest)
        })
        .await
    }

    /// The columns of files that hold times.
    ///
    /// # Errors
    /// [`Error::Source`] with the place.
    pub async fn times(&self) -> Result<Vec<String>, Error> {
        let source = self.clone();
        aside(move || Ok(times(&source.infer()?))).await
    }
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let ended = pipeline::task::reading("data-sketch", work).await;
    ended.map_err(|e| Error::Query(format!("the reading of the rows ended: {e}")))?
}

fn is_time(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::Date | ColumnType::Timestamp | ColumnType::DateTime)
}

fn times(schema: &Schema) -> Vec<String> {
    schema.columns.iter().filter(|c| is_time(&c.ty)).map(|c| c.name.clone()).collect()
}

/// How a column is summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Numbers,
    Categories,
}

struct Sums {
    columns: Vec<(String, Way)>,
    /// Where the rows of each sum are in time; one sum of all rows when there are none.
    spans: Vec<Span>,
    sums: Vec<Sketched>,
    of: String,
}

impl Sums {
    fn new(schema: &Schema, what: &Watching, spans: &[Span], of: &str) -> Result<Sums, Error> {
        let named = what.columns.iter().chain(&what.except).chain(&what.categories);
        for name in named.chain(spans.iter().map(|span| &span.column)) {
            schema.named(name, of)?;
        }
        let (mut columns, mut left_out) = (Vec::new(), Vec::new());
        for column in &schema.columns {
            let asked = what.columns.is_empty() || what.columns.contains(&column.name);
            if !asked || what.except.contains(&column.name) {
                continue;
            }
            let way = match column.ty {
                ColumnType::Int | ColumnType::Float | ColumnType::Decimal(..)
                    if !what.categories.contains(&column.name) =>
                {
                    Way::Numbers
                }
                ColumnType::Int | ColumnType::Float | ColumnType::Decimal(..) => Way::Categories,
                ColumnType::Bool | ColumnType::Text => Way::Categories,
                _ => {
                    left_out.push(column.name.clone());
                    continue;
                }
            };
            columns.push((column.name.clone(), way));
        }
        let empty = Sketched { left_out, ..Sketched::default() };
        let sums = vec![empty; spans.len().max(1)];
        Ok(Sums { columns, spans: spans.to_vec(), sums, of: of.to_owned() })
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        if self.spans.is_empty() {
            return self.sums.iter_mut().try_for_each(|sum| add(sum, &self.columns, batch));
        }
        for (span, sum) in self.spans.iter().zip(&mut self.sums) {
            let within = |at: Option<i64>| {
                at.is_some_and(|at| {
                    span.from.is_none_or(|from| from <= at) && span.to.is_none_or(|to| at < to)
                })
            };
            let mask: BooleanArray =
                millis(batch, &span.column, &self.of)?.into_iter().map(within).map(Some).collect();
            let part = filter_record_batch(batch, &mask)
                .map_err(|e| Error::Query(format!("the rows of a time cannot be taken: {e}")))?;
            add(sum, &self.columns, &part)?;
        }
        Ok(())
    }

    fn done(self) -> Vec<Sketched> {
        self.sums
    }
}

fn add(sum: &mut Sketched, columns: &[(String, Way)], batch: &RecordBatch) -> Result<(), Error> {
    sum.rows += batch.num_rows() as u64;
    for (name, way) in columns {
        let Some(array) = batch.column_by_name(name) else { continue };
        let unlike = |why: String| Error::Query(format!("the column `{name}` cannot be summed up: {why}"));
        let added = match way {
            Way::Numbers => {
                let array = cast(array, &DataType::Float64).map_err(|e| unlike(e.to_string()))?;
                let numbers = array.as_primitive::<Float64Type>();
                if numbers.null_count() == 0 {
                    sum.profile.numbers(name, numbers.values())
                } else {
                    let values: Vec<f64> = numbers.iter().map(|x| x.unwrap_or(f64::NAN)).collect();
                    sum.profile.numbers(name, &values)
                }
            }
            Way::Categories => {
                let array: ArrayRef = cast(array, &DataType::Utf8).map_err(|e| unlike(e.to_string()))?;
                sum.profile.categories(name, array.as_string::<i32>())
            }
        };
        added.map_err(|e| unlike(format!("failed to {e}")))?;
    }
    Ok(())
}

/// The times of a column, in milliseconds since the Unix epoch.
fn millis(batch: &RecordBatch, column: &str, of: &str) -> Result<Vec<Option<i64>>, Error> {
    let array = batch.column_by_name(column);
    let no_time = || Error::invalid(format!("the column `{column}` of `{of}`"), "it holds no times");
    let array = array
        .filter(|a| matches!(a.data_type(), DataType::Timestamp(..) | DataType::Date32))
        .ok_or_else(no_time)?;
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let array = cast(array, &micros).map_err(|_| no_time())?;
    let array = array.as_primitive::<TimestampMicrosecondType>();
    Ok(array.iter().map(|at| at.map(|micros| micros.div_euclid(1000))).collect())
}

fn latest(batch: &RecordBatch, column: &str, of: &str) -> Result<Option<i64>, Error> {
    Ok(millis(batch, column, of)?.into_iter().flatten().max())
}
