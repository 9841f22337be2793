//! `commit`: a table as a new version of a dataset, once.

use std::sync::Arc;

use contract::lineage::Lineage;
use contract::{BoxFuture, Inputs, Value};
use deltalake::DeltaTable;
use pipeline::Problem;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::config::{HowConfig, dataset, how, looked_up, open, problem, says, suite, tables};
use super::job::Job;
use super::kind::{Config, Made, Work};
use super::table::Table;
use super::{Means, table};
use crate::dataset::On;
use crate::{Added, At, Dataset, Gate, How, Select};

/// Publishes a table as a new version of a dataset, exactly once however often the stage is tried. A dataset of the configuration
/// that has expectations takes no rows that break them. Of two that publish at once both are kept: appended in some order, merged one
/// after the other, and the later of two that overwrite is the newest.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitConfig {
    /// The dataset, of the configuration or not.
    #[schemars(extend("x-forebay-writes" = "dataset"))]
    dataset: String,
    /// How the rows go together with those there are. Unless given: as the dataset's configuration says, or `append`.
    #[serde(default)]
    how: Option<HowConfig>,
    /// With `how: merge`: the columns that tell rows apart.
    #[serde(default)]
    key: Vec<String>,
    /// Why, for the dataset's log. Unless given: the pipeline and the stage.
    #[serde(default)]
    message: Option<String>,
    /// A tag that names the version from then on, and no other any more.
    #[serde(default)]
    tag: Option<String>,
}

impl Config for CommitConfig {
    const NAME: &'static str = "commit";

    fn build(self, means: &Arc<dyn Means>) -> Result<Made, Vec<Problem>> {
        let mut problems = Vec::new();
        problems.extend(dataset(&self.dataset, "/dataset").err());
        let configured = means.dataset(&self.dataset);
        let how = how(self.how, &self.key).map_err(|p| problems.push(p)).ok().flatten();
        let how = how.or_else(|| configured.as_ref().map(|c| c.how.clone())).unwrap_or_default();
        if let Some(tag) = self.tag.as_deref().filter(|tag| !open(tag) && !At::is_tag(tag)) {
            let remedy = "it begins with a letter, and is up to 64 letters, digits, `_`, `-` and `.`";
            problems.push(problem("/tag", &format!("`{tag}` is no tag"), remedy));
        }
        let mut gate = None;
        if let Some((file, policy)) = configured.and_then(|c| Some((c.expectations?, c.policy))) {
            match suite(&**means, &file, "/dataset") {
                Ok(suite) => gate = suite.map(|suite| Gate { suite, policy }),
                Err(wrong) => problems.extend(wrong),
            }
        }
        if problems.is_empty() {
            let CommitConfig { dataset, message, tag, .. } = self;
            Ok(Made {
                inputs: tables(["table"]),
                work: Box::new(Commit { dataset, how, message, tag, gate }),
            })
        } else {
            Err(problems)
        }
    }

    fn made_of(&self, means: &dyn Means) -> Vec<(String, String)> {
        let Some(configured) = means.dataset(&self.dataset) else { return Vec::new() };
        let how = match &configured.how {
            How::Append => json!("append"),
            How::Overwrite => json!("overwrite"),
            How::Merge { key } => json!({"merge": key}),
        };
        let file = configured.expectations.map(|file| means.folder().join(file));
        let expected = file.and_then(|file| std::fs::read_to_string(file).ok());
        let all = json!({"how": how, "expectations": expected, "bad rows": says(configured.policy)});
        vec![looked_up("dataset", &self.dataset, &all)]
    }

    fn cached(&self, _means: &dyn Means) -> bool {
        false
    }
}

struct Commit {
    dataset: String,
    how: How,
    message: Option<String>,
    tag: Option<String>,
    gate: Option<Gate>,
}

impl Commit {
    /// Looks at the rows and publishes them; `None` when another writer came between the two.
    async fn publish(
        &self,
        job: &Job<'_>,
        (target, base): (&Dataset, Option<DeltaTable>),
        given: Table,
        tries: &mut usize,
    ) -> Result<Option<Added>, contract::Error> {
        let (table, on) = match &self.gate {
            Some(gate) => job.sieve(given, target, gate, Some((&self.how, base))).await?,
            None => (given, On::Newest),
        };
        let read = table.dataset.pinned(table.version).await.map_err(|e| job.failed(e))?;
        let change = job.change(self.how.clone(), self.message.as_deref(), Lineage::of(vec![read]));
        let (at, all) = (At::Version(table.version), Select::default());
        let rows = table.dataset.read(&at, &all).await.map_err(|e| job.failed(e))?;
        Box::pin(job.try_put(target, &change, &table.text, (rows, on), tries)).await
    }

    /// Sets the tag to the version that was made. What an attempt before made may be old by now: a tag that a newer version has
    /// meanwhile stays there.
    async fn tagged(
        &self,
        job: &Job<'_>,
        target: &Dataset,
        (made, again): (u64, bool),
    ) -> Result<(), contract::Error> {
        let Some(tag) = &self.tag else { return Ok(()) };
        if again
            && let Some(held) = target.tag_named(tag).await.map_err(|e| job.failed(e))?
            && held.version > made
        {
            job.say(format!("{tag} stays at version {}, which is newer than {made}", held.version));
            return Ok(());
        }
        let who = job.attempt.run.to_string();
        let set = target.tag(tag, &At::Version(made), Some(&who)).await;
        set.map_err(|e| job.failed(e)).map(|_| job.say(format!("{tag} is version {made}")))
    }
}

impl Work for Commit {
    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let target = job.dataset(&self.dataset)?;
            let mut tries = 0;
            loop {
                // Before it is asked what was done: what is not told then is not in these rows either.
                let base = target.current().await.map_err(|e| job.failed(e))?;
                if let Some(done) = job.made(&target).await? {
                    self.tagged(job, &target, (done.version, true)).await?;
                    return Ok(table::value(&target, &done));
                }
                let given = Table::given(&job.warehouse, inputs, "table").await?;
                if let Some(added) = self.publish(job, (&target, base), given, &mut tries).await? {
                    self.tagged(job, &target, (added.version, false)).await?;
                    return Ok(table::value(&target, &added));
                }
            }
        })
    }
}
