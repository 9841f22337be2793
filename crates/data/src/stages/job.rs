//! One attempt at a stage: what it works with, and under which key its commits are made.

use std::sync::Arc;

use contract::lineage::{Check, Lineage};
use contract::{Attempt, BoxFuture, Code, Context, Value};
use deltalake::DeltaTable;

use super::Means;
use super::error::failed;
use super::table::{self, Table};
use crate::dataset::{Looked, On, Sieved};
use crate::expect::{Outcome, Severity};
use crate::{Added, Change, Dataset, Effect, Error, Gate, How, Rows, Warehouse};

/// How often a merge is made again because somebody else committed meanwhile.
const TRIES: usize = 16;

pub(super) struct Job<'a> {
    pub(super) means: &'a dyn Means,
    pub(super) warehouse: Warehouse,
    pub(super) attempt: &'a Attempt,
    /// The stage's name.
    stage: Arc<str>,
}

impl<'a> Job<'a> {
    pub(super) fn begin(means: &'a dyn Means, cx: &'a Context) -> Result<Job<'a>, contract::Error> {
        let Some(attempt) = &cx.attempt else {
            let message =
                "this stage works on datasets, which only a durable run does; start the pipeline as a run";
            return Err(contract::Error::new(Code::InvalidRequest, message));
        };
        let stage = cx.stage.as_ref().map_or_else(|| Arc::from("stage"), |name| name.shared());
        Ok(Job { means, warehouse: means.warehouse()?, attempt, stage })
    }

    /// One line of the stage's log.
    pub(super) fn say(&self, line: impl AsRef<str>) {
        self.attempt.log.line(line.as_ref());
    }

    /// A failure, told in full where it may quote rows.
    pub(super) fn failed(&self, error: Error) -> contract::Error {
        self.say(format!("cannot {error}"));
        failed(error)
    }

    /// Where the stage puts what nobody has published yet.
    pub(super) fn staging(&self) -> Result<Dataset, contract::Error> {
        let name = table::staging(self.attempt.pipeline.as_str(), &self.stage);
        self.warehouse.dataset(&name).map_err(failed)
    }

    /// A dataset by its name.
    pub(super) fn dataset(&self, name: &str) -> Result<Dataset, contract::Error> {
        self.warehouse.dataset(name).map_err(failed)
    }

    fn effect(&self) -> Effect {
        Effect { key: self.attempt.effect.clone() }
    }

    /// A change that this attempt makes once.
    pub(super) fn change(&self, how: How, message: Option<&str>, lineage: Lineage) -> Change {
        let own = format!("{}.{}", self.attempt.pipeline, self.stage);
        Change {
            how,
            who: Some(self.attempt.run.to_string()),
            message: Some(message.map_or(own, str::to_owned)),
            effect: Some(self.effect()),
            lineage: Some(lineage),
        }
    }

    /// What an earlier attempt at the same made of this dataset, and could not tell any more.
    pub(super) async fn done(&self, dataset: &Dataset) -> Result<Option<Value>, contract::Error> {
        Ok(self.made(dataset).await?.map(|added| table::value(dataset, &added)))
    }

    /// The same with its version.
    pub(super) async fn made(&self, dataset: &Dataset) -> Result<Option<Added>, contract::Error> {
        let done = dataset.made_by(&self.effect()).await.map_err(|e| self.failed(e))?;
        let Some(added) = done else { return Ok(None) };
        self.say(format!("version {} of {} was made by an attempt before", added.version, dataset.name()));
        self.trace(dataset, &added).await?;
        Ok(Some(added))
    }

    /// Tells what a version was made of.
    pub(super) async fn trace(&self, dataset: &Dataset, added: &Added) -> Result<(), contract::Error> {
        let lineage = dataset.lineage(added).await.map_err(|e| self.failed(e))?;
        self.attempt.log.lineage(lineage);
        Ok(())
    }

    /// Puts rows into a dataset. What is made by key is made again of the rows that are newest then, when another writer came first;
    /// `rows` gives them anew.
    pub(super) async fn put<'b>(
        &self,
        dataset: &Dataset,
        change: &Change,
        source: &str,
        rows: &(dyn Fn() -> BoxFuture<'b, Result<Rows, Error>> + Send + Sync + 'b),
    ) -> Result<Added, contract::Error> {
        let mut tries = 0;
        loop {
            let given = rows().await.map_err(|e| self.failed(e))?;
            let put = self.try_put(dataset, change, source, (given, On::Newest), &mut tries).await?;
            if let Some(added) = put {
                return Ok(added);
            }
        }
    }

    /// The same, once; `None` when another writer came first and it is to be begun anew, which `tries` counts.
    pub(super) async fn try_put(
        &self,
        dataset: &Dataset,
        change: &Change,
        source: &str,
        (rows, on): (Rows, On),
        tries: &mut usize,
    ) -> Result<Option<Added>, contract::Error> {
        let told = |taken| self.attempt.log.progress(taken, None);
        match Box::pin(dataset.put(rows, change, source.to_owned(), (on, &told))).await {
            Err(Error::Conflict { theirs, .. }) if *tries < TRIES => {
                *tries += 1;
                self.say(format!("version {theirs} of {} came first: beginning anew", dataset.name()));
                Ok(None)
            }
            Err(error) => Err(self.failed(error)),
            Ok(added) => {
                let new = if added.new { "" } else { ", as it was" };
                let (version, rows) = (added.version, added.rows);
                let name = added.name.short();
                self.say(format!("version {version} of {} ({name}), {rows} rows{new}", dataset.name()));
                self.trace(dataset, &added).await?;
                Ok(Some(added))
            }
        }
    }

    /// Looks at a table as if it were about to come into `target`; see [`Looked::onto`]. Gives the table when all of it may be used, and
    /// the version of the rows that may when some may not; and what of `target` that holds against.
    pub(super) async fn sieve(
        &self,
        table: Table,
        target: &Dataset,
        gate: &Gate,
        onto: Option<(&How, Option<DeltaTable>)>,
    ) -> Result<(Table, On), contract::Error> {
        let staging = self.staging()?;
        let looked_at = table.dataset.pinned(table.version).await.map_err(|e| self.failed(e))?;
        let made_of = Lineage::of(vec![looked_at]);
        let change = self.change(How::Overwrite, None, made_of.clone());
        let attempt = self.effect_name();
        let source = table.text.to_string();
        let looked = Looked { dataset: &table.dataset, version: table.version, onto, source };
        let sieved = Box::pin(target.sieve(&looked, gate, &staging, &change, &attempt)).await;
        let sieved = sieved.map_err(|e| self.failed(e))?;
        let place = target.keep_report(&attempt, &sieved.report).await.map_err(|e| self.failed(e))?;
        self.tell(&sieved, &place);
        self.attempt.log.lineage(checked(made_of, &sieved));
        if sieved.quarantined > 0 || !sieved.passed {
            self.say(format!("in quarantine of {}: attempt {}", target.name(), sieved.attempt));
        }
        if !sieved.passed {
            return Err(refused(&sieved, target.name()));
        }
        match sieved.good {
            None => Ok((table, sieved.on)),
            Some(added) => {
                self.trace(&staging, &added).await?;
                let text = format!("{}@{}", staging.name(), added.name).into();
                Ok((Table { dataset: staging, version: added.version, text }, sieved.on))
            }
        }
    }

    /// The effect's key as a name: of a report, and of the attempt in a quarantine.
    pub(super) fn effect_name(&self) -> String {
        let digest = blake3::hash(self.attempt.effect.as_bytes()).to_hex();
        digest.get(..32).unwrap_or_default().to_owned()
    }

    fn tell(&self, sieved: &Sieved, place: &str) {
        let report = &sieved.report;
        let failed = report.outcomes.iter().filter(|o| !o.passed).count();
        let all = report.outcomes.len();
        self.say(format!("{} rows, {failed} of {all} expectations not met; report: {place}", report.rows));
        for outcome in report.outcomes.iter().filter(|o| !o.passed) {
            let severity = match outcome.severity {
                Severity::Error => "",
                Severity::Warn => " (a warning)",
            };
            let found = match (&outcome.problem, outcome.rows_failed) {
                (Some(why), _) => why.clone(),
                (None, Some(rows)) => format!("{rows} rows"),
                (None, None) => outcome.observed.to_string(),
            };
            self.say(format!(
                "not met{severity}: {}: expected {}, found {found}",
                outcome.name, outcome.expected
            ));
        }
    }
}

/// What a run is told of a table that did not pass.
fn refused(sieved: &Sieved, dataset: &str) -> contract::Error {
    const SHOWN: usize = 5;
    let failed: Vec<_> = sieved.report.failed(Severity::Error).collect();
    let mut said: Vec<String> = failed
        .iter()
        .take(SHOWN)
        .map(|o| match o.rows_failed {
            Some(rows) => format!("`{}` ({rows} rows)", o.name),
            None => format!("`{}`", o.name),
        })
        .collect();
    if failed.len() > SHOWN {
        said.push(format!("{} more", failed.len() - SHOWN));
    }
    let (n, all) = (failed.len(), sieved.report.outcomes.len());
    let held = match sieved.quarantined {
        0 => String::new(),
        rows => format!(
            "; {rows} of {} rows are in quarantine: `forebay data quarantine list {dataset}`",
            sieved.report.rows
        ),
    };
    let message = format!("{n} of {all} expectations are not met: {}{held}", said.join(", "));
    contract::Error::new(Code::ExpectationsFailed, message)
}

/// What was expected of the only input, for lineage.
fn checked(read: Lineage, sieved: &Sieved) -> Lineage {
    let check = |o: &Outcome| Check {
        input: 0,
        check: o.check.clone(),
        name: o.name.clone(),
        column: match o.columns.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        },
        passed: o.passed,
        severity: match o.severity {
            Severity::Error => "error".to_owned(),
            Severity::Warn => "warn".to_owned(),
        },
    };
    Lineage { checks: sieved.report.outcomes.iter().map(check).collect(), ..read }
}
