//! A change behind a gate: rows are looked at on their way in, and only what is as expected becomes a version.
//!
//! The source is read once. Rows that break an expectation of rows are written aside with their reasons, the others as files
//! that no version names yet; what is expected of rows together is counted on the way. Then the gate decides, the quarantine is
//! committed, and after it the change: a crash in between leaves rows in quarantine that the next attempt finds there, and never
//! loses one.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::dataset::add::Pending;
use crate::dataset::part::{Counts, Parted, Parting, Piece, together};
use crate::dataset::quarantine::{Entries, Holding};
use crate::dataset::result::depends;
use crate::dataset::stage::{Stager, remove};
use crate::dataset::unique::duplicates;
use crate::dataset::{Added, Change, Dataset};
use crate::expect::{Plan, Report, Scope, Suite};
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

impl Policy {
    /// # Errors
    /// [`Error::Invalid`] for a share that is none.
    fn check(self) -> Result<(), Error> {
        match self {
            Policy::Quarantine { max_share } if !(0.0..=1.0).contains(&max_share) => {
                Err(Error::invalid(format!("the share of bad rows {max_share}"), "it is 0 to 1"))
            }
            _ => Ok(()),
        }
    }

    /// Whether rows are refused of which this was found, `together` about all of them.
    pub(super) fn refuses(self, report: &Report, together: &[String], counts: Counts) -> bool {
        match self {
            Policy::Fail => !report.passed,
            Policy::Quarantine { max_share } => {
                let share = counts.quarantined as f64 / counts.rows.max(1) as f64;
                !together.is_empty() || share > max_share || (counts.rows > 0 && counts.kept == 0)
            }
        }
    }
}

/// What came of a change behind a gate.
#[derive(Debug, Clone, Serialize)]
pub struct Gated {
    /// Names this attempt in the quarantine, and in the log when it made a version. An attempt before that left the same there, if
    /// there is one.
    pub attempt: String,
    /// What was expected and found. It has not passed when rows are in quarantine, also when the others were added.
    pub report: Report,
    /// What was added; `None` when the change was refused: the dataset is as it was.
    #[serde(skip)]
    pub added: Option<Added>,
    /// Rows of this change that are in quarantine.
    pub quarantined: u64,
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
        Box::pin(self.checked(source, change, gate, None)).await
    }

    /// The same; of rows that are in quarantine already under the attempt `held`, which stay there when they are refused.
    pub(super) async fn checked(
        &self,
        source: &Source,
        change: &Change,
        gate: &Gate,
        held: Option<&str>,
    ) -> Result<Gated, Error> {
        gate.policy.check()?;
        let base = self.current().await?;
        let schema = self.schema_for(base.as_ref(), source, &change.how).await?;
        let table = match &base {
            Some(table) => table.clone(),
            None => self.table()?,
        };
        let session = self.warehouse.session();
        let given = Box::pin(self.before(&session, gate, &schema)).await?;
        let plan = Arc::new(Plan::new(&session, gate.suite.clone(), &schema, given, Scope::Change)?);
        let now_ms = self.warehouse.inner.clock.wall().0;
        let attempt = uuid::Uuid::now_v7().to_string();
        let bad = Holding::begin(self, Entries { attempt, at_ms: now_ms, who: change.who.clone() }).await?;
        let good = Stager::new(self, &table, &schema, true)?;
        let parting = Parting::new(&plan, gate.policy, bad, Some((good, self)));
        // Boxed: two writers of files are large.
        let parted = Box::pin(self.sift(source, &schema, parting)).await?;

        let pinned = depends(&plan.suite, &change.how);
        let looked = async {
            let mut frame = self.staged_frame(&session, &parted.good.files, &schema).await?;
            if pinned {
                frame = self.result(&session, base.as_ref(), &change.how, (frame, &schema)).await?;
            }
            duplicates(&frame, &plan, &schema, Default::default()).await
        };
        let duplicates = match Box::pin(looked).await {
            Ok(duplicates) => duplicates,
            Err(error) => {
                Box::pin(parted.discard(self)).await;
                return Err(error);
            }
        };
        let Parted { good, mut bad, tally, counts } = parted;
        let report = plan.report(tally, &self.ends(now_ms, &duplicates));
        let together = together(&plan, &report);
        let refused = gate.policy.refuses(&report, &together, counts);
        let settled = match (held, bad.whole(&source.describe(), &together).await) {
            (_, Err(error)) => Err(error),
            (Some(attempt), Ok(())) if refused => {
                Box::pin(bad.discard()).await;
                Ok(attempt.to_owned())
            }
            (_, Ok(())) => Box::pin(bad.settle(change, source.describe())).await,
        };
        if refused || settled.is_err() {
            remove(&*self.store(), &good.files).await;
        }
        let (attempt, quarantined) = (settled?, counts.quarantined);
        if refused {
            return Ok(Gated { attempt, report, added: None, quarantined });
        }
        let (read, checked) = (good.fingerprint.rows, Some(attempt.clone()));
        let (origin, source) = (source.origin.clone(), source.describe());
        let pending = Pending { change, source, origin, schema, read, checked, held: None, pinned };
        let added = Box::pin(self.settle(base, table, good, &pending)).await?;
        Ok(Gated { attempt, report, added: Some(added), quarantined })
    }

    /// Reads the source once, and takes its rows apart. After an error there are no files.
    async fn sift(
        &self,
        source: &Source,
        schema: &Schema,
        mut parting: Parting<'_>,
    ) -> Result<Parted, Error> {
        let (sender, mut pieces) = mpsc::channel::<Result<Piece, Error>>(AHEAD);
        let (source, wanted) = (source.clone(), schema.clone());
        let reading = pipeline::task::blocking("data-read", move || pieces_of(&source, &wanted, &sender));
        let reading = pipeline::task::spawn("data-read", reading);
        let mut done = Ok(());
        while let Some(piece) = pieces.recv().await {
            done = match piece {
                Ok(piece) => parting.take(&piece).await,
                Err(error) => Err(error),
            };
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
        Box::pin(parting.finish(done)).await
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
    let fetched = source.origin.as_ref().map(|origin| origin.name.clone());
    while let Some(next) = reader.next().transpose() {
        let own = || reader.file().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let piece = next.map(|batch| Piece {
            batch,
            // A copy of what was fetched may be called another way each time.
            file: fetched.clone().unwrap_or_else(own),
            lines: reader.lines().to_vec(),
        });
        let failed = piece.is_err();
        if to.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}
