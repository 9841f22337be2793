//! Rows that are a version already, behind a gate: what a pipeline made is looked at before it is published.
//!
//! The version is scanned once, on all cores. Only when single rows are bad it is read again: bad rows go to the quarantine with
//! their reasons, the others become a version elsewhere. Both are committed under the effect that the change names, the
//! quarantine first, as behind every gate.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::prelude::{DataFrame, SessionContext, ident};
use deltalake::DeltaTable;

use crate::dataset::add::Pending;
use crate::dataset::part::{Parted, Parting, Piece, together};
use crate::dataset::quarantine::{Entries, Holding};
use crate::dataset::result::depends;
use crate::dataset::stage::{Staged, Stager, remove};
use crate::dataset::unique::duplicates;
use crate::dataset::validate::{histories, scan};
use crate::dataset::{Added, Change, Dataset, Effect, Gate, How, On, Policy, Rows, explained};
use crate::expect::{Duplicates, Ends, Given, Outcome, Plan, Report, Scope};
use crate::{Error, Schema, store};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Sieved {
    /// What was expected and found.
    pub(crate) report: Report,
    /// Whether the rows may be used.
    pub(crate) passed: bool,
    /// Bad rows, which are in quarantine.
    pub(crate) quarantined: u64,
    /// The attempt under which the quarantine has them, or what was wrong with all rows together.
    pub(crate) attempt: String,
    /// The version of the good rows, when some were bad and the rows may be used without them.
    pub(crate) good: Option<Added>,
    /// What that holds against, for whoever puts the rows into the dataset.
    pub(crate) on: On,
}

/// A version to be looked at.
pub(crate) struct Looked<'a> {
    pub(crate) dataset: &'a Dataset,
    pub(crate) version: u64,
    /// How its rows are about to come in, and what they come to. `None` when nobody knows: then `unique` is looked at among these
    /// rows alone.
    pub(crate) onto: Option<(&'a How, Option<DeltaTable>)>,
    /// What it is called in the quarantine.
    pub(crate) source: String,
}

impl Dataset {
    /// Looks at a version of another dataset as if its rows were about to come into this one: they are compared with this one's
    /// history and versions, bad ones go to this one's quarantine under `attempt`, and with [`Policy::Quarantine`] the others
    /// become a version of `into` by `change`. `unique` is looked at over the rows that there would be then.
    pub(crate) async fn sieve(
        &self,
        looked: &Looked<'_>,
        gate: &Gate,
        into: &Dataset,
        change: &Change,
        attempt: &str,
    ) -> Result<Sieved, Error> {
        let table = looked.dataset.at_version(looked.version).await?;
        let schema = looked.dataset.schema_of(&table)?;
        let session = self.warehouse.session();
        let frame = looked.dataset.frame(&session, &table).await?;
        let now_ms = self.warehouse.inner.clock.wall().0;
        let entries = || Entries { attempt: attempt.to_owned(), at_ms: now_ms, who: change.who.clone() };
        let given = Box::pin(self.before(&session, gate, &schema)).await?;
        // What the engine groups and sorts by has the other half.
        let room = self.warehouse.inner.settings.memory_bytes / 2;
        let plan = Arc::new(Plan::new(&session, gate.suite.clone(), &schema, given, Scope::Scan { room })?);
        let mut tally = match scan(frame.clone(), &plan).await {
            Ok(tally) => tally,
            Err(error) => return Err(explained(&[(looked.dataset.clone(), looked.version)], error).await),
        };
        let hashes = tally.hashes();
        let on = match &looked.onto {
            Some((how, base)) if depends(&gate.suite, how) => On::Seen(base.clone()),
            _ => On::Newest,
        };
        // The hashes are of the new rows.
        let hashes = if matches!(on, On::Seen(Some(_))) { BTreeMap::new() } else { hashes };
        let all = self.as_if_in(&session, gate, looked, (&frame, &schema)).await?;
        let doubled = duplicates(&all, &plan, &schema, hashes).await?;
        let report = plan.report(tally, &self.ends(now_ms, &doubled));
        let alone = |(at, o): (usize, &Outcome)| !o.passed && plan.refuses_rows(at);
        if report.outcomes.iter().enumerate().any(alone) {
            let job = Job { session, frame, schema, gate, into, change, entries: &entries, now_ms, on };
            return Box::pin(self.part(looked, job)).await;
        }
        let whole = together(&plan, &report);
        let attempt = self.aside_all(entries(), &whole, change, looked).await?;
        Ok(Sieved { report, passed: whole.is_empty(), quarantined: 0, attempt, good: None, on })
    }

    /// The rows there would be with those of `frame`.
    async fn as_if_in(
        &self,
        session: &SessionContext,
        gate: &Gate,
        looked: &Looked<'_>,
        (frame, schema): (&DataFrame, &Schema),
    ) -> Result<DataFrame, Error> {
        match &looked.onto {
            Some((how, base)) if depends(&gate.suite, how) => {
                self.result(session, base.as_ref(), how, (frame.clone(), schema)).await
            }
            _ => Ok(frame.clone()),
        }
    }

    /// What expectations of rows about to come are compared with.
    pub(super) async fn before(
        &self,
        session: &SessionContext,
        gate: &Gate,
        schema: &Schema,
    ) -> Result<Given, Error> {
        let mut given = self.given(session, &gate.suite, schema).await?;
        if self.exists().await? {
            for (at, versions) in histories(&gate.suite) {
                let log = self.changes(None, versions).await?;
                given.history.insert(at, log.iter().filter_map(|v| v.written).collect());
            }
        }
        Ok(given)
    }

    /// What a report of rows about to come says besides.
    pub(super) fn ends<'a>(&'a self, now_ms: i64, duplicates: &'a BTreeMap<usize, Duplicates>) -> Ends<'a> {
        Ends { dataset: &self.name, version: None, now_ms, duplicates }
    }

    /// Notes what was wrong with all rows together: an effect of its own, because the same rows may be looked at again beside others.
    async fn aside_all(
        &self,
        entries: Entries,
        reasons: &[String],
        change: &Change,
        looked: &Looked<'_>,
    ) -> Result<String, Error> {
        let mut holding = Holding::begin(self, entries).await?;
        holding.whole(&looked.source, reasons).await?;
        let effect = change.effect.as_ref().map(|effect| Effect { key: format!("{} together", effect.key) });
        let change = Change { effect, ..change.clone() };
        Box::pin(holding.settle(&change, looked.source.clone())).await
    }

    /// Takes good and bad rows apart.
    async fn part(&self, looked: &Looked<'_>, job: Job<'_>) -> Result<Sieved, Error> {
        let Job { session, frame, schema, gate, into, change, entries, now_ms, on } = job;
        let given = Box::pin(self.before(&session, gate, &schema)).await?;
        let plan = Arc::new(Plan::new(&session, gate.suite.clone(), &schema, given, Scope::Change)?);
        let base = into.current().await?;
        let table = match &base {
            Some(table) => table.clone(),
            None => into.table()?,
        };
        let good = match gate.policy {
            Policy::Fail => None,
            Policy::Quarantine { .. } => Some((Stager::new(into, &table, &schema, true)?, into)),
        };
        let bad = Holding::begin(self, entries()).await?;
        let parting = Parting::new(&plan, gate.policy, bad, good);
        let parted = Box::pin(parted(&frame, &schema, &looked.source, parting)).await?;

        let judged = async {
            let good = match gate.policy {
                Policy::Fail => frame,
                Policy::Quarantine { .. } => into.staged_frame(&session, &parted.good.files, &schema).await?,
            };
            let all = self.as_if_in(&session, gate, looked, (&good, &schema)).await?;
            duplicates(&all, &plan, &schema, Default::default()).await
        };
        let doubled = match Box::pin(judged).await {
            Ok(doubled) => doubled,
            Err(error) => {
                Box::pin(parted.discard(into)).await;
                return Err(error);
            }
        };
        let Parted { good, bad, tally, counts } = parted;
        let report = plan.report(tally, &self.ends(now_ms, &doubled));
        let whole = together(&plan, &report);
        let passed = !gate.policy.refuses(&report, &whole, counts);
        let held = async {
            let attempt = Box::pin(bad.settle(change, looked.source.clone())).await?;
            self.aside_all(entries(), &whole, change, looked).await?;
            Ok::<_, Error>(attempt)
        };
        let held = held.await;
        if held.is_err() || !passed {
            remove(&*into.store(), &good.files).await;
        }
        let attempt = held?;
        let good = match (passed, gate.policy) {
            (true, Policy::Quarantine { .. }) => {
                Some(Box::pin(into.passed((base, table), good, (looked, &schema), (change, &attempt))).await?)
            }
            _ => None,
        };
        Ok(Sieved { report, passed, quarantined: counts.quarantined, attempt, good, on })
    }

    /// Makes good rows a version.
    async fn passed(
        &self,
        (base, table): (Option<DeltaTable>, DeltaTable),
        good: Staged,
        (looked, schema): (&Looked<'_>, &Schema),
        (change, attempt): (&Change, &str),
    ) -> Result<Added, Error> {
        let (read, schema) = (good.fingerprint.rows, schema.clone());
        let (source, checked) = (looked.source.clone(), Some(attempt.to_owned()));
        let pending =
            Pending { change, source, origin: None, schema, read, checked, held: None, pinned: false };
        self.settle(base, table, good, &pending).await
    }
}

/// Reads rows, and takes them apart.
async fn parted(
    frame: &DataFrame,
    schema: &Schema,
    source: &str,
    mut parting: Parting<'_>,
) -> Result<Parted, Error> {
    let names: Vec<_> = schema.names().map(ident).collect();
    let done = async {
        let ordered = frame.clone().select(names).map_err(|e| store::query("look at the rows", &e))?;
        let mut rows = Rows::run(ordered, schema.clone()).await?;
        while let Some(batch) = rows.next_arrow().await? {
            parting.take(&Piece { batch, file: source.to_owned(), lines: Vec::new() }).await?;
        }
        Ok(())
    };
    let done = Box::pin(done).await;
    Box::pin(parting.finish(done)).await
}

/// What the second reading needs of the first.
struct Job<'a> {
    session: SessionContext,
    frame: DataFrame,
    schema: Schema,
    gate: &'a Gate,
    into: &'a Dataset,
    change: &'a Change,
    entries: &'a (dyn Fn() -> Entries + Sync),
    now_ms: i64,
    on: On,
}
