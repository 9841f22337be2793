//! Rows that are a version already, behind a gate: what a pipeline made is looked at before it is published.
//!
//! The version is scanned once, on all cores. Only when single rows are bad it is read again: bad rows go to the quarantine with
//! their reasons, the others become a version elsewhere. Both are committed under the effect that the change names, the
//! quarantine first, as behind every gate.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::filter_record_batch;
use datafusion::prelude::{DataFrame, SessionContext, ident};
use deltalake::DeltaTable;

use crate::dataset::add::Pending;
use crate::dataset::gate::{Piece, look, together};
use crate::dataset::quarantine::Entries;
use crate::dataset::result::depends;
use crate::dataset::stage::{Stager, remove};
use crate::dataset::unique::duplicates;
use crate::dataset::validate::{histories, scan};
use crate::dataset::{Added, Change, Dataset, Effect, Gate, How, On, Policy, Rows};
use crate::expect::{Duplicates, Ends, Given, Plan, Report, Scope, Tally};
use crate::{Error, Schema, store};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Sieved {
    /// What was expected and found.
    pub(crate) report: Report,
    /// Whether the rows may be used.
    pub(crate) passed: bool,
    /// Rows in quarantine by this.
    pub(crate) quarantined: u64,
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
        let entries = Entries { attempt: attempt.to_owned(), at_ms: now_ms, who: change.who.clone() };

        let given = Box::pin(self.before(&session, gate, &schema)).await?;
        // What the engine groups and sorts by has the other half.
        let room = self.warehouse.inner.settings.memory_bytes / 2;
        let plan = Arc::new(Plan::new(&session, gate.suite.clone(), &schema, given, Scope::Scan { room })?);
        let mut tally = scan(frame.clone(), &plan).await?;
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
        let alone = |(at, o): (usize, &crate::expect::Outcome)| !o.passed && plan.refuses_rows(at);
        if report.outcomes.iter().enumerate().any(alone) {
            let job = Job { session, frame, schema, gate, into, change, entries, now_ms, on };
            return Box::pin(self.part(looked, job)).await;
        }
        let whole = together(&plan, &report);
        self.aside_all(&entries, &whole, change, looked).await?;
        Ok(Sieved { report, passed: whole.is_empty(), quarantined: 0, good: None, on })
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
    async fn before(&self, session: &SessionContext, gate: &Gate, schema: &Schema) -> Result<Given, Error> {
        let mut given = self.given(session, &gate.suite, schema).await?;
        if self.exists().await? {
            for (at, versions) in histories(&gate.suite) {
                let log = self.log(Some(versions)).await?;
                given.history.insert(at, log.iter().filter_map(|v| v.written).collect());
            }
        }
        Ok(given)
    }

    fn ends<'a>(&'a self, now_ms: i64, duplicates: &'a BTreeMap<usize, Duplicates>) -> Ends<'a> {
        Ends { dataset: &self.name, version: None, now_ms, duplicates }
    }

    /// Notes what was wrong with all rows together: an effect of its own, because the same rows may be looked at again beside others.
    async fn aside_all(
        &self,
        entries: &Entries,
        reasons: &[String],
        change: &Change,
        looked: &Looked<'_>,
    ) -> Result<(), Error> {
        let Some(entry) = entries.whole(reasons, looked.source.clone()) else { return Ok(()) };
        let (aside, table) = self.aside_table().await?;
        let mut stager = Stager::new(&aside, &table, &Entries::schema(), true)?;
        stager.write(&entry?, &aside.name).await?;
        let effect = change.effect.as_ref().map(|effect| Effect { key: format!("{} together", effect.key) });
        let change = Change { effect, ..change.clone() };
        Box::pin(aside.hold(table, stager, &change, looked.source.clone())).await
    }

    async fn aside_table(&self) -> Result<(Dataset, DeltaTable), Error> {
        let aside = self.aside()?;
        let table = match aside.current().await? {
            Some(table) => table,
            None => aside.table()?,
        };
        Ok((aside, table))
    }

    /// Takes good and bad rows apart.
    async fn part(&self, looked: &Looked<'_>, job: Job<'_>) -> Result<Sieved, Error> {
        let Job { session, frame, schema, gate, into, change, entries, now_ms, on } = job;
        let given = Box::pin(self.before(&session, gate, &schema)).await?;
        let plan = Arc::new(Plan::new(&session, gate.suite.clone(), &schema, given, Scope::Change)?);
        let (aside, aside_table) = self.aside_table().await?;
        let base = into.current().await?;
        let table = match &base {
            Some(table) => table.clone(),
            None => into.table()?,
        };
        let mut bad = Stager::new(&aside, &aside_table, &Entries::schema(), true)?;
        let mut good = match gate.policy {
            Policy::Fail => None,
            Policy::Quarantine { .. } => Some(Stager::new(into, &table, &schema, true)?),
        };
        let mut tally = Tally::new(&plan);
        let mut quarantined = 0;
        let names: Vec<_> = schema.names().map(ident).collect();
        let ordered = frame.clone().select(names).map_err(|e| store::query("look at the rows", &e))?;
        let mut rows = Rows::run(ordered, schema.clone()).await?;
        let done = async {
            while let Some(batch) = rows.next_arrow().await? {
                let piece = Piece { batch, file: looked.source.clone(), lines: Vec::new() };
                let (keep, refused) = look(&plan, &piece, &mut tally);
                quarantined += refused.len() as u64;
                if !refused.is_empty() {
                    bad.write(&entries.batch(&piece.file, &refused)?, &aside.name).await?;
                }
                let Some(good) = &mut good else {
                    tally.whole(&plan, &piece.batch);
                    continue;
                };
                let kept =
                    filter_record_batch(&piece.batch, &keep).map_err(|e| Error::Query(e.to_string()))?;
                tally.whole(&plan, &kept);
                if kept.num_rows() > 0 {
                    good.write(&kept, &into.name).await?;
                }
            }
            Ok(())
        };
        if let Err(error) = Box::pin(done).await {
            bad.discard().await;
            if let Some(good) = good {
                good.discard().await;
            }
            return Err(error);
        }
        let staged = match good {
            None => None,
            Some(good) => match good.finish(&into.name).await {
                Ok(staged) => Some(staged),
                Err(error) => {
                    bad.discard().await;
                    return Err(error);
                }
            },
        };
        let files = staged.as_ref().map(|s| s.files.clone()).unwrap_or_default();
        let settled = async {
            let good: DataFrame = match &staged {
                Some(staged) => into.staged_frame(&session, &staged.files, &schema).await?,
                None => frame,
            };
            let all = self.as_if_in(&session, gate, looked, (&good, &schema)).await?;
            let doubled = duplicates(&all, &plan, &schema, Default::default()).await?;
            let (seen, kept) = (tally.rows, tally.kept);
            let report = plan.report(tally, &self.ends(now_ms, &doubled));
            let whole = together(&plan, &report);
            let passed = match gate.policy {
                Policy::Fail => report.passed,
                Policy::Quarantine { max_share } => {
                    let share = quarantined as f64 / seen.max(1) as f64;
                    whole.is_empty() && share <= max_share && kept > 0
                }
            };
            Box::pin(aside.hold(aside_table, bad, change, looked.source.clone())).await?;
            self.aside_all(&entries, &whole, change, looked).await?;
            Ok::<_, Error>((report, passed))
        };
        let (report, passed) = match Box::pin(settled).await {
            Ok(settled) => settled,
            Err(error) => {
                remove(&*into.store(), &files).await;
                return Err(error);
            }
        };
        let good = match staged {
            Some(staged) if passed => {
                let read = staged.fingerprint.rows;
                let (source, checked) = (looked.source.clone(), Some(entries.attempt.clone()));
                let pending = Pending { change, source, origin: None, schema, read, checked, pinned: false };
                Some(Box::pin(into.settle(base, table, staged, &pending)).await?)
            }
            _ => {
                remove(&*into.store(), &files).await;
                None
            }
        };
        Ok(Sieved { report, passed, quarantined, good, on })
    }
}

/// What the second reading needs of the first.
struct Job<'a> {
    session: SessionContext,
    frame: DataFrame,
    schema: Schema,
    gate: &'a Gate,
    into: &'a Dataset,
    change: &'a Change,
    entries: Entries,
    now_ms: i64,
    on: On,
}
