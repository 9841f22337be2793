//! A version, or rows that are no version yet, against expectations.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{DataFrame, SessionContext, ident, lit};
use futures_util::StreamExt;

use crate::batch::physically;
use crate::dataset::unique::duplicates;
use crate::dataset::{At, Dataset, Rows, explained};
use crate::expect::{
    CATEGORIES, Check, Counted, Ends, Given, Keys, Plan, Reference, Report, Scope, Suite, Tally, numbers,
    present,
};
use crate::{ColumnType, Error, Schema, store};

/// What was being done, for errors of the engine.
pub(super) const LOOKING: &str = "look at the rows";
/// Versions before whose numbers of rows a report shows.
const SHOWN: usize = 30;
/// How the count of a group is called.
pub(super) const COUNT: &str = "__forebay_count";

impl Dataset {
    /// Looks at a version and says how far it is as expected. Reads the columns concerned once; see
    /// [`expect`](crate::expect) for what needs more.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::NoVersion`], [`Error::Storage`], [`Error::Memory`]. Expectations that do not fit the data are
    /// no error: the report says so.
    pub async fn validate(&self, at: &At, suite: &Suite) -> Result<Report, Error> {
        let version = self.resolve(at).await?;
        match Box::pin(self.look_at(version, suite)).await {
            Err(error) => Err(explained(&[(self.clone(), version)], error).await),
            report => report,
        }
    }

    async fn look_at(&self, version: u64, suite: &Suite) -> Result<Report, Error> {
        let table = self.at_version(version).await?;
        let schema = self.schema_of(&table)?;
        let session = self.warehouse.session_of_scan();
        let mut given = self.given(&session, suite, &schema).await?;
        let wanted = histories(suite);
        let most = wanted.iter().map(|(_, versions)| *versions).fold(SHOWN, usize::max);
        let before = self.counted(version, most).await?;
        for (at, versions) in wanted {
            given.history.insert(at, before.iter().take(versions).map(|c| c.rows).collect());
        }
        let frame = self.frame(&session, &table).await?;
        // Beside what the engine may sort and group by.
        let room = self.warehouse.inner.settings.memory_bytes / 2;
        let plan = Arc::new(Plan::new(&session, suite.clone(), &schema, given, Scope::Scan { room })?);
        let mut tally = scan(frame.clone(), &plan).await?;
        let hashes = tally.hashes();
        let duplicates = duplicates(&frame, &plan, &schema, hashes).await?;
        let now_ms = self.warehouse.inner.clock.wall().0;
        let ends = Ends { dataset: &self.name, version: Some(version), now_ms, duplicates: &duplicates };
        let mut report = plan.report(tally, &ends);
        let now = Counted { version, rows: report.rows };
        report.history = before.into_iter().take(SHOWN).rev().chain([now]).collect();
        Ok(report)
    }

    /// How many rows the versions before had, the newest first, as far as the log says it. Versions that changed nothing do not count.
    async fn counted(&self, version: u64, most: usize) -> Result<Vec<Counted>, Error> {
        let counted = |v: crate::Version| Some(Counted { version: v.version, rows: v.rows? });
        Ok(self.changes(Some(version), most).await?.into_iter().filter_map(counted).collect())
    }

    /// Reads what expectations compare with: other versions, other datasets. What cannot be read becomes the outcome's problem.
    pub(super) async fn given(
        &self,
        session: &SessionContext,
        suite: &Suite,
        schema: &Schema,
    ) -> Result<Given, Error> {
        let mut given = Given::default();
        for (at, expected) in suite.expected.iter().enumerate() {
            match &expected.check {
                Check::Distribution { column, against, .. } => {
                    let read = self.reference(session, schema, column, against).await;
                    given.references.insert(at, problem(read)?.map(Arc::new));
                }
                Check::References { column, dataset, key, at: version } => {
                    let read = self.keys(session, schema, column, (dataset, key, version)).await;
                    given.keys.insert(at, problem(read)?.map(Arc::new));
                }
                _ => {}
            }
        }
        Ok(given)
    }

    /// The bins of a column and how a version fills them.
    async fn reference(
        &self,
        session: &SessionContext,
        schema: &Schema,
        name: &str,
        against: &At,
    ) -> Result<Reference, Error> {
        let failed = |e| store::query("read the reference", &e);
        let table = self.at_version(self.resolve(against).await?).await?;
        let there = self.schema_of(&table)?;
        let column = same_type(schema, name, &there, name)?;
        let frame = self.frame(session, &table).await?.select(vec![ident(name)]).map_err(failed)?;
        let all = frame.clone().count().await.map_err(failed)? as u64;
        let null =
            frame.clone().filter(ident(name).is_null()).map_err(failed)?.count().await.map_err(failed)?
                as u64;
        let frame = frame.filter(present(column)).map_err(failed)?;
        if all == 0 {
            return Err(Error::invalid("the reference", format!("{against} of `{}` has no rows", self.name)));
        }
        match column.ty {
            ColumnType::Text | ColumnType::Bool => {
                let groups = frame
                    .aggregate(vec![ident(name)], vec![count(lit(1)).alias(COUNT)])
                    .and_then(|frame| frame.sort(vec![ident(name).sort(true, true)]))
                    .map_err(failed)?;
                let mut stream = groups.execute_stream().await.map_err(failed)?;
                let mut values = Vec::new();
                while let Some(batch) = stream.next().await {
                    let batch = batch.map_err(failed)?;
                    let text = |e: arrow::error::ArrowError| Error::Query(e.to_string());
                    let texts = cast(batch.column(0), &DataType::Utf8).map_err(text)?;
                    let counts = batch.column(1).as_primitive::<arrow::datatypes::Int64Type>();
                    let pairs = texts.as_string::<i32>().iter().zip(counts);
                    values.extend(pairs.filter_map(|(v, n)| Some((v?.to_owned(), n?.unsigned_abs()))));
                    if values.len() > CATEGORIES {
                        let why = format!("`{name}` has more than {CATEGORIES} different values there");
                        return Err(Error::invalid("the reference", why));
                    }
                }
                Ok(Reference::values(values, null))
            }
            ColumnType::Binary | ColumnType::List(_) | ColumnType::Struct(_) => {
                let why = format!("`{name}` is of type {}, which has no distribution", column.ty);
                Err(Error::invalid("the reference", why))
            }
            _ => {
                let n = frame.clone().count().await.map_err(failed)? as u64;
                let sorted = frame.sort(vec![ident(name).sort(true, false)]).map_err(failed)?;
                let ends = deciles(sorted, n).await?;
                Ok(Reference::numbers(&ends, n, all.saturating_sub(null + n), null))
            }
        }
    }

    /// The values of another dataset's column.
    async fn keys(
        &self,
        session: &SessionContext,
        schema: &Schema,
        column: &str,
        (dataset, key, at): (&str, &str, &At),
    ) -> Result<Keys, Error> {
        let failed = |e| store::query("read the other dataset", &e);
        let other = self.warehouse.dataset(dataset)?;
        let table = other.at_version(other.resolve(at).await?).await?;
        let there = other.schema_of(&table)?;
        let of = same_type(schema, column, &there, key)?.clone();
        let frame = other.frame(session, &table).await?;
        let frame = frame.select(vec![ident(key)]).and_then(DataFrame::distinct).map_err(failed)?;
        let mut rows =
            Rows::run(frame, Schema { columns: vec![crate::Column { name: key.to_owned(), ..of }] }).await?;
        let mut keys = Keys::default();
        while let Some(batch) = rows.next_arrow().await? {
            if !keys.extend(batch.column(0)) {
                let why = format!("`{dataset}`.`{key}` has more than {} different values", Keys::MOST);
                return Err(Error::invalid("the reference", why));
            }
        }
        Ok(keys)
    }
}

/// What the user can do something about becomes the problem of an outcome; the rest stays an error.
fn problem<T>(read: Result<T, Error>) -> Result<Result<T, String>, Error> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(e @ (Error::Invalid { .. } | Error::NoDataset { .. } | Error::NoVersion { .. })) => {
            Ok(Err(format!("cannot {e}")))
        }
        Err(error) => Err(error),
    }
}

/// The column of `there`, when it is of the type that it is compared with.
fn same_type<'a>(
    here: &Schema,
    column: &str,
    there: &'a Schema,
    key: &str,
) -> Result<&'a crate::Column, Error> {
    let found = there
        .column(key)
        .ok_or_else(|| Error::invalid("the reference", format!("it has no column `{key}`")))?;
    match here.column(column) {
        Some(own) if own.ty != found.ty => {
            let why = format!("`{column}` is of type {} and `{key}` there of type {}", own.ty, found.ty);
            Err(Error::invalid("the reference", why))
        }
        _ => Ok(found),
    }
}

/// The expectations that compare with versions before, and with how many.
pub(super) fn histories(suite: &Suite) -> Vec<(usize, usize)> {
    let of = |check: &Check| match check {
        Check::Volume(volume) => volume.history.as_ref().map(|h| h.versions as usize),
        _ => None,
    };
    suite.expected.iter().enumerate().filter_map(|(at, e)| Some((at, of(&e.check)?))).collect()
}

/// The upper ends of tenths of a sorted column, and how many values are up to each. Equal ends are one.
async fn deciles(sorted: DataFrame, n: u64) -> Result<Vec<(f64, u64)>, Error> {
    let failed = |e| store::query("read the reference", &e);
    let mut stream = sorted.execute_stream().await.map_err(failed)?;
    let mut ends: Vec<(f64, u64)> = Vec::new();
    let (mut rank, mut tenth) = (0_u64, 1_u64);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        for value in numbers(batch.column(0)).map_err(|e| Error::Query(e.to_string()))?.iter().flatten() {
            rank += 1;
            if let Some((end, upto)) = ends.last_mut()
                && *end == value
            {
                *upto = rank;
            }
            // The largest value ends no tenth: what is beyond it is told apart by the last bin.
            while tenth < 10 && rank >= (n * tenth).div_ceil(10) {
                if ends.last().is_none_or(|(end, _)| *end != value) {
                    ends.push((value, rank));
                }
                tenth += 1;
            }
        }
    }
    Ok(ends)
}

/// Tallies all rows of a frame.
pub(super) async fn scan(frame: DataFrame, plan: &Arc<Plan>) -> Result<Tally, Error> {
    let columns: Vec<_> = plan.schema.names().map(ident).collect();
    let frame = frame.select(columns).map_err(|e| store::query(LOOKING, &e))?;
    let looking = Arc::clone(plan);
    let look = move |tally: &mut Tally, batch: &RecordBatch| {
        tally.rows(&looking, batch, &looking.verdicts(batch));
        tally.whole(&looking, batch);
    };
    let mut total = Tally::new(plan);
    for part in partitions(frame, &plan.arrow, || Tally::new(plan), look).await? {
        total.merge(part);
    }
    Ok(total)
}

/// Goes once through a frame, its partitions beside each other, each with a state of its own. Batches have these types.
pub(super) async fn partitions<T: Send + 'static>(
    frame: DataFrame,
    schema: &SchemaRef,
    fresh: impl Fn() -> T,
    look: impl Fn(&mut T, &RecordBatch) + Send + Sync + 'static,
) -> Result<Vec<T>, Error> {
    let streams = frame.execute_stream_partitioned().await.map_err(|e| store::query(LOOKING, &e))?;
    let (schema, look) = (SchemaRef::clone(schema), Arc::new(look));
    let start = |mut stream: SendableRecordBatchStream| {
        let (schema, look, mut state) = (SchemaRef::clone(&schema), Arc::clone(&look), fresh());
        pipeline::task::spawn("data-validate", async move {
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|e| store::query(LOOKING, &e))?;
                let batch = physically(&batch, &schema).map_err(|(column, why)| {
                    Error::Query(format!("the column `{column}` cannot be read: {why}"))
                })?;
                look(&mut state, &batch);
            }
            Ok::<T, Error>(state)
        })
    };
    let started: Vec<_> = streams.into_iter().map(start).collect();
    let mut parts = Vec::with_capacity(started.len());
    for part in started {
        parts.push(part.await.map_err(|crashed| Error::Query(format!("{LOOKING}: {crashed}")))??);
    }
    Ok(parts)
}
