//! `validate`: a table against expectations, before anything depends on it.

use std::path::PathBuf;
use std::sync::Arc;

use contract::{BoxFuture, Inputs, Value};
use pipeline::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Means;
use super::config::{BadRows, dataset, looked_up, open, policy, problem, says, suite, tables};
use super::job::Job;
use super::kind::{Config, Made, Work};
use super::table::Table;
use crate::Gate;
use crate::expect::Suite;

/// Holds a table against expectations, and gives it on when they are met. Rows that break one are put aside with the reasons. A
/// table that does not pass fails the stage, and what depends on it is not run. `unique` is said of the table's own rows: `commit`
/// looks at them together with those that are there.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ValidateConfig {
    /// A file of expectations, relative to the configuration. Unless given: those of `dataset`.
    expect: Option<PathBuf>,
    /// The dataset that the rows are for: its versions are the history and the reference that they are compared with, and its
    /// quarantine takes bad rows. Unless given, that of the table.
    dataset: Option<String>,
    /// What becomes of a table with bad rows. Unless given: as `dataset` says, or `refuse`.
    bad_rows: Option<BadRows>,
    /// With `bad_rows: quarantine`: the share of bad rows (0 to 1) up to which the others are given on.
    #[schemars(range(min = 0, max = 1))]
    max_bad_share: Option<f64>,
}

impl ValidateConfig {
    fn file(&self, means: &dyn Means) -> Option<PathBuf> {
        let configured = || means.dataset(self.dataset.as_deref()?)?.expectations;
        self.expect.clone().or_else(configured)
    }
}

impl Config for ValidateConfig {
    const NAME: &'static str = "validate";
    const PATHS: &'static [&'static str] = &["expect"];

    fn build(self, means: &Arc<dyn Means>) -> Result<Made, Vec<Problem>> {
        let mut problems = Vec::new();
        if let Some(name) = &self.dataset {
            problems.extend(dataset(name, "/dataset").err());
        }
        let configured = self.dataset.as_deref().and_then(|name| means.dataset(name));
        let mut expected = None;
        let later = self.dataset.as_deref().is_some_and(open) && self.expect.is_none();
        match self.file(&**means) {
            Some(file) => {
                let pointer = if self.expect.is_some() { "/expect" } else { "/dataset" };
                match suite(&**means, &file, pointer) {
                    Ok(suite) => expected = suite,
                    Err(wrong) => problems.extend(wrong),
                }
            }
            None if later => {}
            None => {
                let remedy =
                    "name a file of expectations by `expect`, or a dataset that has them by `dataset`";
                problems.push(problem("", "nothing is expected here", remedy));
            }
        }
        let policy = match (self.bad_rows, self.max_bad_share, configured) {
            (None, None, Some(configured)) => Some(configured.policy),
            (bad_rows, share, _) => policy(bad_rows, share).map_err(|p| problems.push(p)).ok(),
        };
        let Some(policy) = policy.filter(|_| problems.is_empty()) else { return Err(problems) };
        let gate = Gate { suite: expected.unwrap_or_default(), policy };
        Ok(Made { inputs: tables(["table"]), work: Box::new(Validate { gate, dataset: self.dataset }) })
    }

    fn files(&self) -> Vec<PathBuf> {
        self.expect.iter().cloned().collect()
    }

    fn made_of(&self, means: &dyn Means) -> Vec<(String, String)> {
        let own = self.bad_rows.is_some() || self.max_bad_share.is_some();
        let name = self.dataset.as_deref().filter(|_| !own);
        let configured = name.and_then(|name| Some((name, means.dataset(name)?)));
        configured.map(|(name, c)| looked_up("bad rows of", name, &says(c.policy))).into_iter().collect()
    }

    fn cached(&self, means: &dyn Means) -> bool {
        // What is compared with versions, other datasets or the clock is looked at in every run. The expectations of a dataset
        // are in a file that this stage does not name.
        let own = self.expect.as_deref().and_then(|file| suite(means, file, "").ok().flatten());
        own.is_some_and(|suite: Suite| suite.of_rows_alone())
    }
}

struct Validate {
    gate: Gate,
    dataset: Option<String>,
}

impl Work for Validate {
    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let table = Table::given(&job.warehouse, inputs, "table").await?;
            let target = match &self.dataset {
                Some(name) => job.dataset(name)?,
                None => table.dataset.clone(),
            };
            let (passed, _) = job.sieve(table, &target, &self.gate, None).await?;
            Ok(Value::Table(passed.text))
        })
    }
}
