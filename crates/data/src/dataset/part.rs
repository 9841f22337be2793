//! Taking good and bad rows apart: good ones into files that no version names yet, bad ones aside with their reasons, everything
//! counted on the way.
//!
//! **Invariant.** A row goes to one of the two sides; after an error there are no files on either.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use crate::Error;
use crate::dataset::quarantine::{Bad, Holding};
use crate::dataset::stage::{Staged, Stager, remove};
use crate::dataset::{Dataset, Policy};
use crate::expect::{Plan, Report, Severity, Tally, Verdict, row};

/// A batch of rows and where they stand in their source.
pub(super) struct Piece {
    pub(super) batch: RecordBatch,
    pub(super) file: String,
    pub(super) lines: Vec<u64>,
}

/// How many rows there are on each side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    /// All of them.
    pub(super) rows: u64,
    /// Those that break nothing.
    pub(super) kept: u64,
    /// The others.
    pub(super) quarantined: u64,
}

/// Rows that are being taken apart.
pub(super) struct Parting<'a> {
    plan: Arc<Plan>,
    bad: Holding,
    /// Where good rows go; nowhere when one bad row is enough to refuse all.
    good: Option<(Stager, &'a Dataset)>,
    tally: Tally,
    quarantined: u64,
    /// What is counted over rows together counts bad ones too: with one of them none comes in.
    all: bool,
}

/// Rows that were taken apart.
pub(super) struct Parted {
    pub(super) good: Staged,
    pub(super) bad: Holding,
    pub(super) tally: Tally,
    pub(super) counts: Counts,
}

impl<'a> Parting<'a> {
    pub(super) fn new(
        plan: &Arc<Plan>,
        policy: Policy,
        bad: Holding,
        good: Option<(Stager, &'a Dataset)>,
    ) -> Parting<'a> {
        let (tally, all) = (Tally::new(plan), policy == Policy::Fail);
        Parting { plan: Arc::clone(plan), bad, good, tally, quarantined: 0, all }
    }

    /// Takes rows.
    pub(super) async fn take(&mut self, piece: &Piece) -> Result<(), Error> {
        let (keep, refused) = look(&self.plan, piece, &mut self.tally);
        self.quarantined += refused.len() as u64;
        self.bad.rows(&piece.file, &refused).await?;
        let kept = filter_record_batch(&piece.batch, &keep).map_err(|e| Error::Query(e.to_string()))?;
        self.tally.whole(&self.plan, if self.all { &piece.batch } else { &kept });
        match &mut self.good {
            Some((good, into)) if kept.num_rows() > 0 => good.write(&kept, &into.name).await,
            _ => Ok(()),
        }
    }

    /// What there is behind the last row; nothing when something went wrong on the way.
    pub(super) async fn finish(self, done: Result<(), Error>) -> Result<Parted, Error> {
        let Parting { bad, good, tally, quarantined, .. } = self;
        let finished = match (good, done) {
            (Some((good, into)), Ok(())) => good.finish(&into.name).await,
            (None, Ok(())) => Ok(Staged::default()),
            (good, Err(error)) => {
                if let Some((good, _)) = good {
                    good.discard().await;
                }
                Err(error)
            }
        };
        match finished {
            Ok(good) => {
                let counts = Counts { rows: tally.rows, kept: tally.kept, quarantined };
                Ok(Parted { good, bad, tally, counts })
            }
            Err(error) => {
                Box::pin(bad.discard()).await;
                Err(error)
            }
        }
    }
}

impl Parted {
    /// Takes back what was written, the good rows in `into`.
    pub(super) async fn discard(self, into: &Dataset) {
        Box::pin(self.bad.discard()).await;
        remove(&*into.store(), &self.good.files).await;
    }
}

/// The expectations about all rows together that did not pass, and those that could not be looked at.
pub(super) fn together(plan: &Plan, report: &Report) -> Vec<String> {
    let broken = report.outcomes.iter().enumerate().filter(|(at, o)| {
        let alone = plan.refuses_rows(*at) && o.problem.is_none();
        !o.passed && o.severity == Severity::Error && !alone
    });
    broken.map(|(_, o)| o.name.clone()).collect()
}

/// Which rows of a piece may pass, and the others with their reasons.
fn look(plan: &Plan, piece: &Piece, tally: &mut Tally) -> (BooleanArray, Vec<Bad>) {
    let verdicts = plan.verdicts(&piece.batch);
    tally.rows(plan, &piece.batch, &verdicts);
    let rows = piece.batch.num_rows();
    let mut reasons: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (at, (verdict, expected)) in verdicts.iter().zip(&plan.suite.expected).enumerate() {
        if let Verdict::Fails(fails) = verdict
            && plan.refuses_rows(at)
        {
            for row in fails.set_indices() {
                reasons.entry(row).or_default().push(expected.name.clone());
            }
        }
    }
    let keep = (0..rows).map(|row| Some(!reasons.contains_key(&row))).collect();
    let all: Vec<usize> = (0..piece.batch.num_columns()).collect();
    let bad = reasons.into_iter().map(|(at, reasons)| Bad {
        row: row(&piece.batch, at, &all),
        line: piece.lines.get(at).copied(),
        reasons,
    });
    (keep, bad.collect())
}
