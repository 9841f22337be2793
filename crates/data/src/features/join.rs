//! The point-in-time join of one view with the entity rows: see the module above for what it means and how it goes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::prelude::{DataFrame, Expr, ident, lit};
use futures_util::stream::{FuturesUnordered, StreamExt};
use pipeline::task;

use crate::dataset::Rows;
use crate::features::entities::{Micros, Slots};
use crate::features::keys::{Keys, NO_KEY};
use crate::features::latest::{At, Latest, Stamp};
use crate::features::rows::Resolved;
use crate::features::view::FeatureView;
use crate::{ColumnType, Error, Schema, Warehouse, store};

/// How many batches are joined at once, at most: each of them has slots of its own until the end.
const WORKERS: usize = 4;
/// How far statistics may be off, in microseconds.
const MARGIN: i64 = 1000;

/// What a view's rows are measured against.
pub(super) struct Plan {
    /// The entities' keys.
    pub(super) keys: Keys,
    pub(super) slots: Slots,
    /// The columns of the view: `key_columns` keys, the event time, the ingest time if there is one, the features.
    pub(super) columns: Schema,
    pub(super) key_columns: usize,
    pub(super) has_ingest: bool,
    /// In microseconds.
    pub(super) ttl: Option<i64>,
    /// The latest ingest time that is seen.
    pub(super) cut: Option<i64>,
    /// Whether a row is known only from its ingest time on.
    pub(super) by_event: bool,
}

/// What came of it.
pub(super) struct Matches {
    /// The columns of features, some thousand rows each.
    pub(super) chunks: Vec<Vec<ArrayRef>>,
    /// The valid row of every slot.
    pub(super) of_slot: Vec<Option<At>>,
    /// Rows of the view that were read.
    pub(super) read: u64,
}

impl Plan {
    /// The oldest event that is valid at a time.
    fn oldest(&self, at: i64) -> i64 {
        self.ttl.map_or(i64::MIN, |ttl| at.saturating_sub(ttl))
    }

    /// Leaves out rows that no slot can take, as far as files and row groups can tell by their statistics. Those of Delta are
    /// cut to milliseconds, so the bounds are wider by one; what is exact is [`Plan::absorb`].
    fn narrow(&self, frame: DataFrame) -> Result<DataFrame, Error> {
        let mut conditions = Vec::new();
        let event = self.columns.columns.get(self.key_columns);
        let ingest = self.columns.columns.get(self.key_columns + 1).filter(|_| self.has_ingest);
        let literal = |ty: &ColumnType, at: i64| match ty {
            ColumnType::Timestamp => {
                Some(lit(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into()))))
            }
            ColumnType::DateTime => Some(lit(ScalarValue::TimestampMicrosecond(Some(at), None))),
            _ => None,
        };
        if let (Some(event), Some((first, last))) = (event, self.slots.span()) {
            conditions.extend(
                literal(&event.ty, last.saturating_add(MARGIN)).map(|last| ident(&event.name).lt_eq(last)),
            );
            let oldest = self.ttl.and_then(|_| literal(&event.ty, self.oldest(first).saturating_sub(MARGIN)));
            conditions.extend(oldest.map(|oldest| ident(&event.name).gt_eq(oldest)));
        }
        if let (Some(ingest), Some(cut)) = (ingest, self.cut) {
            conditions.extend(
                literal(&ingest.ty, cut.saturating_add(MARGIN)).map(|cut| ident(&ingest.name).lt_eq(cut)),
            );
        }
        match conditions.into_iter().reduce(Expr::and) {
            None => Ok(frame),
            Some(condition) => frame.filter(condition).map_err(|e| store::query("read features", &e)),
        }
    }

    /// Offers every row of a batch to the slot it competes in.
    pub(super) fn absorb(&self, batch: &RecordBatch, latest: &mut Latest) -> Result<(), ArrowError> {
        let columns = batch.columns();
        let (keys, rest) = columns.split_at_checked(self.key_columns).unwrap_or((columns, &[]));
        let Some((event, rest)) = rest.split_first() else { return Ok(()) };
        let (ingest, features) = match rest.split_first() {
            Some((ingest, features)) if self.has_ingest => (Some(Micros::of(ingest)), features),
            _ => (None, rest),
        };
        let event = Micros::of(event);
        for (row, key) in self.keys.find(keys, batch.num_rows()).into_iter().enumerate() {
            if key == NO_KEY {
                continue;
            }
            let Some(event) = event.get(row) else { continue };
            let ingest = match &ingest {
                None => event,
                Some(ingest) => match ingest.get(row) {
                    Some(ingest) if self.cut.is_none_or(|cut| ingest <= cut) => ingest,
                    _ => continue,
                },
            };
            let known = if self.by_event { event.max(ingest) } else { event };
            // What is too old for the first slot it could be in is too old for all after it.
            if let Some((slot, at)) = self.slots.from(key, known)
                && event >= self.oldest(at)
            {
                let row = u32::try_from(row).unwrap_or_default();
                latest.offer(slot, Stamp { event, ingest }, row, features);
            }
        }
        latest.settle(features)
    }

    /// The valid row of every slot: the best of the key so far, if it is not too old.
    pub(super) fn walk(&self, latest: &Latest) -> Vec<Option<At>> {
        let mut valid = vec![None; self.slots.len()];
        for slots in self.slots.by_key() {
            let mut best: Option<(Stamp, At)> = None;
            for (slot, at) in slots {
                if let Some(here) = latest.get(slot)
                    && best.is_none_or(|best| here.0 > best.0)
                {
                    best = Some(here);
                }
                let found = best.filter(|(stamp, _)| stamp.event >= self.oldest(at));
                if let (Some(valid), Some((_, row))) = (valid.get_mut(slot), found) {
                    *valid = Some(row);
                }
            }
        }
        valid
    }
}

/// Joins a view at versions of its datasets.
pub(super) async fn join(
    warehouse: &Warehouse,
    view: &FeatureView,
    resolved: &Resolved,
    plan: Arc<Plan>,
) -> Result<Matches, Error> {
    let frame = warehouse.view_frame(view, resolved, |frame| plan.narrow(frame)).await?;
    let mut rows = Rows::run(frame, plan.columns.clone()).await?;
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(WORKERS));
    let crashed = |e: task::Crashed| Error::Query(e.to_string());
    let mut idle: Vec<Latest> = Vec::new();
    let mut busy = FuturesUnordered::new();
    let mut read = 0;
    while let Some(batch) = rows.next_arrow().await? {
        read += batch.num_rows() as u64;
        let mut latest = match idle.pop() {
            Some(latest) => latest,
            None if busy.len() < workers => Latest::new(plan.slots.len()),
            None => match busy.next().await {
                Some(done) => absorbed(done, crashed)?,
                None => Latest::new(plan.slots.len()),
            },
        };
        let plan = Arc::clone(&plan);
        busy.push(task::spawn(
            "features-join",
            task::blocking("features-join", move || plan.absorb(&batch, &mut latest).map(|()| latest)),
        ));
    }
    while let Some(done) = busy.next().await {
        idle.push(absorbed(done, crashed)?);
    }
    let last = task::blocking("features-join", move || {
        let mut all = Latest::new(plan.slots.len());
        for latest in idle {
            all.merge(latest)?;
        }
        let of_slot = plan.walk(&all);
        Ok(Matches { of_slot, chunks: all.into_chunks(), read })
    });
    last.await.map_err(crashed)?.map_err(failed)
}

type Absorbed = Result<Result<Result<Latest, ArrowError>, task::Crashed>, task::Crashed>;

fn absorbed(done: Absorbed, crashed: impl Fn(task::Crashed) -> Error) -> Result<Latest, Error> {
    done.map_err(&crashed)?.map_err(&crashed)?.map_err(failed)
}

/// The error of features that cannot be put together.
pub(super) fn failed(error: ArrowError) -> Error {
    Error::Query(error.to_string())
}
