//! A change behind a gate: rows are looked at on their way in, and only what is as expected becomes a version.
//!
//! The source is read once. Rows that break an expectation of rows are written aside with their reasons, the others as files
//! that no version names yet; what is expected of rows together is counted on the way. Then the gate decides, the quarantine is
//! committed, and after it the change: a crash in between leaves rows in quarantine that come there again with the next
//! attempt, and never loses one.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::dataset::add::Pending;
use crate::dataset::quarantine::{Bad, Entries};
use crate::dataset::result::depends;
use crate::dataset::stage::{Staged, Stager, remove};
use crate::dataset::unique::duplicates;
use crate::dataset::validate::histories;
use crate::dataset::{Added, Change, Dataset};
use crate::expect::{Ends, Plan, Report, Scope, Severity, Suite, Tally, Verdict, row};
use crate::source::{Batches, Source};
use crate::{Error, Schema};

/// Batches between the one who reads and the one who looks.
const AHEAD: usize = 2;

/// What has to hold for a change to become a version.
#[derive(Debug, Clone)]
pub struct Gate {
    /// What is expected.
    pub suite: Suite,
    /// What becomes of a change with bad rows.
    pub policy: Policy,
}

/// What becomes of a change with rows that break an expectation of severity `error`. If one about all rows together fails
/// (`volume`, `freshness`, `unique`, a share of nulls, …) the change is refused under either.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// It is refused as a whole.
    Fail,
    /// Bad rows go to quarantine and the others are added; with more bad rows than this share of all (0 to 1), or none that is
    /// good, the change is refused.
    Quarantine {
        /// The share.
        max_share: f64,
    },
}

/// What came of a change behind a gate.
#[derive(Debug, Clone, Serialize)]
pub struct Gated {
    /// Names this attempt in the quarantine, and in the log when it made a version.
    pub attempt: String,
    /// What was expected and found. It has not passed when rows are in quarantine, also when the others were added.
    pub report: Report,
    /// What was added; `None` when the change was refused: the dataset is as it was.
    #[serde(skip)]
    pub added: Option<Added>,
    /// Rows in quarantine by this attempt.
    pub quarantined: u64,
}

/// A batch of the source and where its rows stand there.
pub(super) struct Piece {
    pub(super) batch: RecordBatch,
    pub(super) file: String,
    pub(super) lines: Vec<u64>,
}

/// What came through, and what did not.
struct Sifted {
    good: Staged,
    bad: Stager,
    tally: Tally,
    quarantined: u64,
}

impl Dataset {
    /// Adds the rows of a source as far as they are as expected: [`Dataset::add`] behind a [`Gate`].
    ///
    /// `unique` is looked at over the rows that the change results in; if another writer commits meanwhile, it is refused.
    /// Everything else is looked at over the rows of the source, and what is counted over rows together over those that are
    /// not quarantined.
    ///
    /// # Errors
    /// As [`Dataset::add`]; [`Error::Invalid`] for a share that is none. A refused change is no error: [`Gated::added`] is `None` and the report says why.
    pub async fn add_checked(&self, source: &Source, change: &Change, gate: &Gate) -> Result<Gated, Error> {
        if let Policy::Quarantine { max_share } = gate.policy
            && !(0.0..=1.0).contains(&max_share)
        {
            return Err(Error::invalid(format!("the share of bad rows {max_share}"), "it is 0 to 1"));
        }
        let base = self.current().await?;
        let schema = self.schema_for(base.as_ref(), source, &change.how).await?;
        let table = match &base {
            Some(table) => table.clone(),
            None => self.table()?,
        };
        let session = self.warehouse.session();
        let mut given = Box::pin(self.given(&session, &gate.suite, &schema)).await?;
        if base.is_some() {
            for (at, versions) in histories(&gate.suite) {
                let log = self.log(Some(versions)).await?;
                given.history.insert(at, log.iter().filter_map(|v| v.written).collect());
            }
        }
        let plan = Arc::new(Plan::new(&session, gate.suite.clone(), &schema, given, Scope::Change)?);
        let attempt = uuid::Uuid::now_v7().to_string();
        let now_ms = self.warehouse.inner.clock.wall().0;
        let entries = Entries { attempt: attempt.clone(), at_ms: now_ms, who: change.who.clone() };

        let aside = self.aside()?;
        let aside_table = match aside.current().await? {
            Some(table) => table,
            None => aside.table()?,
        };
        let good = Stager::new(self, &table, &schema, true)?;
        let bad = Stager::new(&aside, &aside_table, &Entries::schema(), true)?;
        // Boxed: two writers of files are large.
        let mut sifted = Box::pin(self.sift(source, &plan, gate.policy, &entries, (good, bad))).await?;

        let files = sifted.good.files.clone();
        let pinned = depends(&plan.suite, &change.how);
        let looked = async {
            let mut frame = self.staged_frame(&session, &files, &schema).await?;
            if pinned {
                frame = self.result(&session, base.as_ref(), &change.how, (frame, &schema)).await?;
            }
            duplicates(&frame, &plan, &schema, Default::default()).await
        };
        let duplicates = match Box::pin(looked).await {
            Ok(duplicates) => duplicates,
            Err(error) => {
                sifted.bad.discard().await;
                remove(&*self.store(), &files).await;
                return Err(error);
            }
        };
        let (rows, kept) = (sifted.tally.rows, sifted.tally.kept);
        let ends = Ends { dataset: &self.name, version: None, now_ms, duplicates: &duplicates };
        let report = plan.report(sifted.tally, &ends);
        let together = together(&plan, &report);
        let refused = match gate.policy {
            Policy::Fail => !report.passed,
            Policy::Quarantine { max_share } => {
                let share = sifted.quarantined as f64 / rows.max(1) as f64;
                !together.is_empty() || share > max_share || (rows > 0 && kept == 0)
            }
        };
        let noted = match entries.whole(&together, source.describe()) {
            Some(entry) => sifted.bad.write(&entry?, &aside.name).await,
            None => Ok(()),
        };
        let settled = match noted {
            Ok(()) => Box::pin(aside.hold(aside_table, sifted.bad, change, source.describe())).await,
            Err(error) => Err(error),
        };
        if refused || settled.is_err() {
            remove(&*self.store(), &files).await;
        }
        settled?;
        let quarantined = sifted.quarantined;
        if refused {
            return Ok(Gated { attempt, report, added: None, quarantined });
        }
        let read = sifted.good.fingerprint.rows;
        let checked = Some(attempt.clone());
        let (origin, source) = (source.origin.clone(), source.describe());
        let pending = Pending { change, source, origin, schema, read, checked, pinned };
        let added = Box::pin(self.settle(base, table, sifted.good, &pending)).await?;
        Ok(Gated { attempt, report, added: Some(added), quarantined })
    }

    /// Reads the source once: good rows into files, bad ones aside, everything counted. After an error there are no files.
    async fn sift(
        &self,
        source: &Source,
        plan: &Arc<Plan>,
        policy: Policy,
        entries: &Entries,
        (mut good, mut bad): (Stager, Stager),
    ) -> Result<Sifted, Error> {
        let (sender, mut pieces) = mpsc::channel::<Result<Piece, Error>>(AHEAD);
        let (source, wanted) = (source.clone(), plan.schema.clone());
        let reading = pipeline::task::blocking("data-read", move || pieces_of(&source, &wanted, &sender));
        let reading = pipeline::task::spawn("data-read", reading);
        let mut tally = Tally::new(plan);
        let mut quarantined = 0;
        let mut done = Ok(());
        while let Some(piece) = pieces.recv().await {
            let step = async {
                let piece = piece?;
                let (keep, refused) = look(plan, &piece, &mut tally);
                quarantined += refused.len() as u64;
                let kept =
                    filter_record_batch(&piece.batch, &keep).map_err(|e| Error::Query(e.to_string()))?;
                tally.whole(plan, if policy == Policy::Fail { &piece.batch } else { &kept });
                if !refused.is_empty() {
                    bad.write(&entries.batch(&piece.file, &refused)?, &self.name).await?;
                }
                if kept.num_rows() > 0 { good.write(&kept, &self.name).await } else { Ok(()) }
            };
            done = step.await;
            if done.is_err() {
                pieces.close();
                break;
            }
        }
        if done.is_ok()
            && let Ok(Err(crashed)) | Err(crashed) = reading.await
        {
            done = Err(self.defect("read the source for", &crashed.to_string()));
        }
        if let Err(error) = done {
            good.discard().await;
            bad.discard().await;
            return Err(error);
        }
        match good.finish(&self.name).await {
            Ok(good) => Ok(Sifted { good, bad, tally, quarantined }),
            Err(error) => {
                bad.discard().await;
                Err(error)
            }
        }
    }
}

/// Reads the source to its end, or until nobody listens.
fn pieces_of(source: &Source, schema: &Schema, to: &mpsc::Sender<Result<Piece, Error>>) {
    let mut reader = match source.open(schema) {
        Ok(reader) => reader,
        Err(error) => {
            let _ = to.blocking_send(Err(error));
            return;
        }
    };
    while let Some(next) = reader.next().transpose() {
        let piece = next.map(|batch| Piece {
            batch,
            file: reader.file().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            lines: reader.lines().to_vec(),
        });
        let failed = piece.is_err();
        if to.blocking_send(piece).is_err() || failed {
            return;
        }
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
pub(super) fn look(plan: &Plan, piece: &Piece, tally: &mut Tally) -> (BooleanArray, Vec<Bad>) {
    let verdicts = plan.verdicts(&piece.batch);
    tally.rows(plan, &piece.batch, &verdicts);
    let rows = piece.batch.num_rows();
    let mut reasons: std::collections::BTreeMap<usize, Vec<String>> = std::collections::BTreeMap::new();
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
