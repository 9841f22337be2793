//! Rows that are the same: by the hashes of a pass that went before, or by a grouping that goes through files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{DataFrame, ident, lit};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value};

use crate::batch::conform;
use crate::canonical::Cells;
use crate::dataset::Rows;
use crate::dataset::validate::{COUNT, LOOKING, partitions};
use crate::expect::{Duplicates, Hashes, Kind, Plan, hashed, plain, row};
use crate::{Column, ColumnType, Error, Schema, store};

/// Bits of a hash that [`Twice`] looks at first.
const BITS: u32 = 16;

/// Hashes that came twice: every row is looked up in them, and nearly none is there.
struct Twice {
    /// One bit for the lowest [`BITS`] of each.
    likely: Vec<u64>,
    all: HashSet<u64, ahash::RandomState>,
}

impl Twice {
    fn new(hashes: Vec<u64>) -> Twice {
        let mut likely = vec![0; 1 << (BITS - u64::BITS.ilog2())];
        for hash in &hashes {
            let (word, bit) = Twice::place(*hash);
            likely.get_mut(word).into_iter().for_each(|word| *word |= bit);
        }
        Twice { likely, all: hashes.into_iter().collect() }
    }

    fn place(hash: u64) -> (usize, u64) {
        let low = hash & ((1 << BITS) - 1);
        ((low >> u64::BITS.ilog2()) as usize, 1 << (low % u64::from(u64::BITS)))
    }

    fn contains(&self, hash: u64) -> bool {
        let (word, bit) = Twice::place(hash);
        self.likely.get(word).is_some_and(|word| word & bit != 0) && self.all.contains(&hash)
    }
}

/// A row and how often it came.
type Counts = HashMap<Vec<u8>, (u64, Map<String, Value>)>;

/// What is the same, for each expectation that nothing is. `hashes` are those of all rows of the frame, where there are any; the frame
/// is read again only for the columns of an expectation whose hashes are not there, too many, or twice the same.
pub(super) async fn duplicates(
    frame: &DataFrame,
    plan: &Plan,
    schema: &Schema,
    mut hashes: BTreeMap<usize, Hashes>,
) -> Result<BTreeMap<usize, Duplicates>, Error> {
    let each = plan.kinds().enumerate().filter_map(|(at, kind)| {
        let Kind::Unique(names) = kind else { return None };
        let columns: Vec<Column> = names.iter().filter_map(|name| schema.column(name).cloned()).collect();
        Some((at, columns, hashes.remove(&at)))
    });
    // Two at a time: of one, part of the work keeps a single core busy.
    let found = stream::iter(each.collect::<Vec<_>>())
        .map(async |(at, columns, hashes)| Ok::<_, Error>((at, of_one(frame, columns, hashes).await?)))
        .buffer_unordered(2);
    found.try_collect().await
}

async fn of_one(
    frame: &DataFrame,
    columns: Vec<Column>,
    hashes: Option<Hashes>,
) -> Result<Duplicates, Error> {
    let twice = match hashes {
        Some(hashes) => {
            let sorting = pipeline::task::blocking("data-unique", move || hashes.twice());
            sorting.await.map_err(|crashed| Error::Query(format!("{LOOKING}: {crashed}")))?
        }
        None => None,
    };
    match twice {
        Some(twice) if twice.is_empty() => Ok(Duplicates::default()),
        Some(twice) => looked_up(frame, columns, twice).await,
        None => grouped(frame, &columns).await,
    }
}

/// Reads the columns once more and counts, by value, the rows with one of these hashes.
async fn looked_up(frame: &DataFrame, columns: Vec<Column>, twice: Vec<u64>) -> Result<Duplicates, Error> {
    let names = columns.iter().map(|c| ident(&c.name)).collect::<Vec<_>>();
    let frame = frame.clone().select(names).map_err(|e| store::query(LOOKING, &e))?;
    let twice = Arc::new(Twice::new(twice));
    let schema = Schema { columns };
    let plain = schema.clone();
    let look = move |counts: &mut Result<Counts, String>, batch: &RecordBatch| {
        if let Ok(known) = counts
            && let Err(why) = count_batch(known, batch, &plain, &twice)
        {
            *counts = Err(why);
        }
    };
    let mut all = Counts::new();
    for part in partitions(frame, &schema.to_views(), || Ok(Counts::new()), look).await? {
        for (key, (count, example)) in part.map_err(Error::Query)? {
            all.entry(key).or_insert((0, example)).0 += count;
        }
    }
    let mut duplicates = Duplicates::default();
    for (count, example) in all.into_values().filter(|(count, _)| *count > 1) {
        duplicates.add(count, example);
    }
    Ok(duplicates)
}

fn count_batch(
    counts: &mut Counts,
    batch: &RecordBatch,
    schema: &Schema,
    twice: &Twice,
) -> Result<(), String> {
    let mut hashes = Vec::new();
    let nulls = hashed(batch.columns(), &mut hashes)?;
    let meant = |(at, hash): (usize, &u64)| {
        let counts = twice.contains(*hash) && nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at));
        counts.then_some(at as u64)
    };
    let rows: UInt64Array = hashes.iter().enumerate().filter_map(meant).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let some = take_record_batch(batch, &rows).map_err(|e| e.to_string())?;
    let some = conform(&some, schema).map_err(|(column, why)| format!("`{column}`: {why}"))?;
    let places: Vec<usize> = (0..some.num_columns()).collect();
    let cells: Vec<Cells<'_>> = some.columns().iter().map(|c: &ArrayRef| Cells::of(c)).collect();
    for at in 0..some.num_rows() {
        let mut key = Vec::new();
        cells.iter().for_each(|cells| cells.encode(at, &mut key));
        counts.entry(key).or_insert_with(|| (0, row(&some, at, &places))).0 += 1;
    }
    Ok(())
}

/// Groups the rows. The grouping spills to files beyond the memory limit.
async fn grouped(frame: &DataFrame, columns: &[Column]) -> Result<Duplicates, Error> {
    let failed = |e| store::query(LOOKING, &e);
    let there = columns.iter().map(|c| ident(&c.name).is_not_null()).reduce(|a, b| a.and(b));
    let groups = frame
        .clone()
        .filter(there.unwrap_or_else(|| lit(true)))
        .and_then(|frame| frame.select(columns.iter().map(|c| plain(c).alias(&c.name)).collect::<Vec<_>>()))
        .and_then(|frame| {
            let by = columns.iter().map(|c| ident(&c.name)).collect();
            frame.aggregate(by, vec![count(lit(1)).alias(COUNT)])
        })
        .and_then(|frame| frame.filter(ident(COUNT).gt(lit(1))))
        .map_err(failed)?;
    let mut shown = columns.to_vec();
    shown.push(Column { name: COUNT.to_owned(), ty: ColumnType::Int });
    let places: Vec<usize> = (0..columns.len()).collect();
    let mut rows = Rows::run(groups, Schema { columns: shown }).await?;
    let mut duplicates = Duplicates::default();
    while let Some(batch) = rows.next_arrow().await? {
        let counts = batch.column(columns.len()).as_primitive::<arrow::datatypes::Int64Type>();
        for (at, count) in counts.iter().enumerate() {
            duplicates.add(count.unwrap_or_default().unsigned_abs(), row(&batch, at, &places));
        }
    }
    Ok(duplicates)
}
