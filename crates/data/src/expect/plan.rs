//! A suite bound to columns: what is worked out per batch, and what came of it in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;

use crate::expect::bind::Binder;
use crate::expect::quick::Quick;
use crate::expect::suite::{Expected, Suite};
use crate::expect::tally::{Keys, Verdict};
use crate::expect::{Reference, Severity};
use crate::{Column, Error, Schema};

/// What expectations need that is not in the rows, by the place of the expectation.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) references: BTreeMap<usize, Result<Arc<Reference>, String>>,
    pub(crate) keys: BTreeMap<usize, Result<Arc<Keys>, String>>,
    /// Rows of versions before, for `volume`.
    pub(crate) history: BTreeMap<usize, Vec<u64>>,
}

/// How an expectation is looked at. Numbers are places of columns in a batch.
pub(crate) enum Kind {
    /// Row by row: the expression is false where a row breaks it.
    Row(Arc<dyn PhysicalExpr>),
    /// Row by row, by a loop of its own.
    Quick(usize, Quick),
    /// Row by row: values are among these.
    Known(usize, Arc<Keys>),
    /// At most a share of the rows breaks it.
    Share(Arc<dyn PhysicalExpr>, f64),
    /// The newest value, not older than so many milliseconds.
    Newest(usize, i64),
    /// Counts in the bins of a reference.
    Bins(usize, Arc<Reference>),
    /// The number of rows.
    Rows,
    /// By a grouping of its own.
    Unique(Vec<String>),
    /// By the columns alone: what is wrong with them.
    Columns(Vec<String>),
    /// It cannot be looked at.
    Problem(String),
}

/// What a suite is bound for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// Rows of a change, with all of their columns.
    Change,
    /// All rows of a version: batches have only the columns that some expectation looks at, and rows that are the same are found on
    /// the way, within so many bytes.
    Scan {
        /// The bytes.
        room: usize,
    },
}

/// One expectation, bound.
pub(super) struct Bound {
    pub(super) kind: Kind,
    /// The columns an example shows.
    pub(super) columns: Vec<usize>,
}

/// A suite bound to the columns of batches.
pub(crate) struct Plan {
    pub(crate) suite: Suite,
    pub(crate) given: Given,
    /// The columns that batches have to have.
    pub(crate) schema: Schema,
    /// Their types there.
    pub(crate) arrow: SchemaRef,
    /// Bytes that are left for the hashes of rows; `None` when they are not wanted.
    pub(crate) room: Option<AtomicUsize>,
    bound: Vec<Bound>,
}

impl Plan {
    /// Binds a suite to rows whose columns are `full`.
    pub(crate) fn new(
        session: &SessionContext,
        suite: Suite,
        full: &Schema,
        given: Given,
        scope: Scope,
    ) -> Result<Plan, Error> {
        let mut schema = full.clone();
        if let Scope::Scan { .. } = scope {
            let binder = Binder::new(session, full, full, &full.to_arrow())?;
            let mut used: Vec<usize> = suite
                .expected
                .iter()
                .enumerate()
                .flat_map(|(at, e)| binder.bind(at, &e.check, &given).columns)
                .collect();
            used.sort_unstable();
            used.dedup();
            let columns: Vec<Column> = used.iter().filter_map(|at| full.columns.get(*at).cloned()).collect();
            // A scan of no columns at all is not worth its special cases.
            schema.columns =
                if columns.is_empty() { full.columns.iter().take(1).cloned().collect() } else { columns };
        }
        let arrow = match scope {
            Scope::Change => schema.to_arrow(),
            Scope::Scan { .. } => schema.to_views(),
        };
        let binder = Binder::new(session, &schema, full, &arrow)?;
        let bind = |(at, e): (usize, &Expected)| binder.bind(at, &e.check, &given);
        let bound = suite.expected.iter().enumerate().map(bind).collect();
        let room = match scope {
            Scope::Change => None,
            Scope::Scan { room } => Some(AtomicUsize::new(room)),
        };
        Ok(Plan { suite, given, schema, arrow, room, bound })
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.bound.iter().map(|b| &b.kind)
    }

    /// The columns that examples of each expectation show.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &[usize]> {
        self.bound.iter().map(|b| b.columns.as_slice())
    }

    /// Whether a row that breaks the expectation at that place is refused alone.
    pub(crate) fn refuses_rows(&self, at: usize) -> bool {
        let error = self.suite.expected.get(at).is_some_and(|e| e.severity == Severity::Error);
        error
            && self
                .bound
                .get(at)
                .is_some_and(|b| matches!(b.kind, Kind::Row(_) | Kind::Quick(..) | Kind::Known(..)))
    }

    /// What the conditions of rows say of a batch, one for each expectation.
    pub(crate) fn verdicts(&self, batch: &RecordBatch) -> Vec<Verdict> {
        let verdict = |bound: &Bound| match &bound.kind {
            Kind::Row(holds) => match self.failing(holds, batch) {
                Ok(rows) => Verdict::Fails(rows),
                Err(why) => Verdict::Broken(why),
            },
            Kind::Quick(column, quick) => match quick.fails(batch.column(*column)) {
                Some(rows) => Verdict::Fails(rows),
                None => Verdict::Broken("the column is of another type".to_owned()),
            },
            Kind::Known(column, keys) => Verdict::Fails(falses(&keys.known(batch.column(*column)))),
            _ => Verdict::NotOfRows,
        };
        self.bound.iter().map(verdict).collect()
    }

    /// The rows where a condition is false.
    pub(crate) fn failing(
        &self,
        holds: &Arc<dyn PhysicalExpr>,
        batch: &RecordBatch,
    ) -> Result<BooleanBuffer, String> {
        let value = holds.evaluate(batch).map_err(|e| e.to_string())?;
        let array = value.into_array(batch.num_rows()).map_err(|e| e.to_string())?;
        array.as_boolean_opt().map(falses).ok_or_else(|| "the condition is not true or false".to_owned())
    }
}

fn falses(values: &BooleanArray) -> BooleanBuffer {
    let no = !values.values();
    match values.nulls() {
        Some(nulls) => &no & nulls.inner(),
        None => no,
    }
}
