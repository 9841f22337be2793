//! `features`: a training set, each feature as it was known at its row's own time.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::lineage::{ColumnMade, FromColumn, Lineage, Output, Thing, ThingKind, Via};
use contract::{BoxFuture, Inputs, UnixMillis, Value};
use indexmap::IndexMap;
use pipeline::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

use super::config::{looked_up, open, problem, tables};
use super::job::Job;
use super::kind::{Config, Made, Work};
use super::table::Table;
use super::{Means, table};
use crate::features::{AsOf, Entities, FeatureView, Label, TrainingSetSpec, Use};
use crate::query::Query;
use crate::{At, How};

/// Puts the features of views beside the rows of a table, each as it was at that row's time, without leaks: a training set. There is
/// one row for each row of the table.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FeaturesConfig {
    /// The views, in the order their features are wanted: what each is called here, and how it is used.
    #[schemars(length(min = 1))]
    views: IndexMap<String, ViewConfig>,
    /// The column of the table that says as of when features are wanted.
    as_of: String,
    /// Which rows of views are seen, when those say when a row became known.
    #[serde(default)]
    known: KnownConfig,
    /// An instant, as `2026-01-31T00:00:00Z`: what became known later is not seen. Everything is seen unless it is given.
    #[serde(default)]
    cut: Option<String>,
    /// What is to be predicted, which becomes known after the row's time.
    #[serde(default)]
    label: Option<LabelConfig>,
}

/// How a feature view is used.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ViewConfig {
    /// The view. Unless given: the one of the same name.
    view: Option<String>,
    /// The column of the table for a key of the view, where they are called differently.
    keys: IndexMap<String, String>,
    /// The version of the view's dataset: a number, a tag, a time or a content name. Unless given: the newest.
    at: Option<String>,
}

/// Which rows of a view are seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum KnownConfig {
    /// All that were known by the cut.
    #[default]
    Cut,
    /// Those that were known at the row's own time, as a model in production would have seen them.
    Event,
}

/// What is to be predicted.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LabelConfig {
    /// The columns of the table.
    #[schemars(length(min = 1))]
    columns: Vec<String>,
    /// The column that says when they became known.
    known_at: String,
    /// What becomes of a row whose label was not known by the cut.
    #[serde(default)]
    late: LateConfig,
}

/// What becomes of a row whose label was not known by the cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LateConfig {
    /// It stays, and its label is null.
    #[default]
    Null,
    /// It is left out.
    Drop,
}

impl Config for FeaturesConfig {
    const NAME: &'static str = "features";

    fn build(self, means: &Arc<dyn Means>) -> Result<Made, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut uses = Vec::new();
        for (alias, used) in &self.views {
            let pointer = format!("/views/{alias}");
            let name = used.view.as_ref().unwrap_or(alias);
            let Some(view) = means.view(name) else {
                let remedy = "add it to `features`, or correct the name";
                problems.push(problem(&pointer, &format!("there is no feature view `{name}`"), remedy));
                continue;
            };
            let at = match used.at.as_deref() {
                Some(text) if open(text) => At::Newest,
                text => text.unwrap_or_default().parse().unwrap_or_else(|e: crate::Error| {
                    let message = format!("cannot {e}");
                    problems.push(problem(&format!("{pointer}/at"), &message, "name a version"));
                    At::Newest
                }),
            };
            uses.push(checked(alias, used, view, at, &pointer, &mut problems));
        }
        let mut cut = None;
        if let Some(text) = self.cut.as_deref().filter(|text| !open(text)) {
            cut = crate::source::instant(text).map(UnixMillis);
            if cut.is_none() {
                let remedy = "write it as 2026-01-31T00:00:00Z, or as a day";
                problems.push(problem("/cut", &format!("`{text}` is no instant"), remedy));
            }
        }
        if self.label.is_some() && self.cut.is_none() {
            let message = "without a cut every label is known";
            problems.push(problem(
                "/label",
                message,
                "add `cut`: the instant that labels have to be known by",
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let label = self.label.map(|label| Label {
            columns: label.columns,
            known_at: label.known_at,
            drops: label.late == LateConfig::Drop,
        });
        let as_of = match self.known {
            KnownConfig::Cut => AsOf::Cut,
            KnownConfig::Event => AsOf::Event,
        };
        let work = Features { uses, time: self.as_of, as_of, cut, label };
        Ok(Made { inputs: tables(["entities"]), work: Box::new(work) })
    }

    fn made_of(&self, means: &dyn Means) -> Vec<(String, String)> {
        let names = self.views.iter().map(|(alias, used)| used.view.as_ref().unwrap_or(alias));
        let told = |name: &String| {
            let view = means.view(name)?;
            Some(looked_up("view", name, &serde_json::to_value(view.config()).ok()?))
        };
        names.filter_map(told).collect()
    }

    fn cached(&self, _means: &dyn Means) -> bool {
        // Views are read as they are now, unless each of them is pinned.
        let pinned = |at: &At| matches!(at, At::Name(_) | At::Version(_));
        self.views
            .values()
            .all(|v| v.at.as_deref().and_then(|at| at.parse().ok()).is_some_and(|at| pinned(&at)))
    }
}

fn checked(
    alias: &str,
    used: &ViewConfig,
    view: FeatureView,
    at: At,
    pointer: &str,
    problems: &mut Vec<Problem>,
) -> Use {
    let keys = &view.config().keys;
    if let Some(unknown) = used.keys.keys().find(|key| !keys.contains(key)) {
        let message = format!("the view `{}` has no key `{unknown}`", view.name());
        let pointer = format!("{pointer}/keys/{unknown}");
        problems.push(problem(&pointer, &message, &format!("its keys are {}", keys.join(", "))));
    }
    let keys: BTreeMap<_, _> = used.keys.iter().map(|(k, c)| (k.clone(), c.clone())).collect();
    Use { view, at, alias: Some(alias.to_owned()), keys }
}

/// The datasets of a view, each with its version.
type Pins = Vec<(String, u64)>;

struct Features {
    uses: Vec<Use>,
    time: String,
    as_of: AsOf,
    cut: Option<UnixMillis>,
    label: Option<Label>,
}

impl Features {
    /// The versions of each view's datasets: those that are newest now where none was named.
    async fn pinned(&self, job: &Job<'_>) -> Result<Vec<Pins>, contract::Error> {
        let mut pins = Vec::with_capacity(self.uses.len());
        for used in &self.uses {
            let versions = job.warehouse.versions_of(&used.view, &used.at).await;
            pins.push(versions.map_err(|e| job.failed(e))?);
        }
        Ok(pins)
    }
}

impl Features {
    /// What the training set is made of. The columns of a view that is a query are those of its datasets as its plan has them.
    async fn made_of(
        &self,
        job: &Job<'_>,
        entities: &Table,
        pins: &[Pins],
    ) -> Result<Lineage, contract::Error> {
        let failed = |e| job.failed(e);
        let mut lineage = Lineage::default();
        let own = lineage.input(entities.dataset.pinned(entities.version).await.map_err(failed)?);
        let held = entities.dataset.columns_of(entities.version).await.map_err(failed)?;
        let mut output = Output::from(Thing::new(ThingKind::Dataset, ""));
        let from = |input, column: &str, via| FromColumn { input, column: column.to_owned(), via };
        for column in held.names() {
            let mut made = vec![from(own, column, Via::Identity)];
            let label = self.label.as_ref().filter(|l| l.columns.iter().any(|c| c == column));
            made.extend(label.map(|l| from(own, &l.known_at, Via::Conditional)));
            output.columns.push(ColumnMade { name: column.to_owned(), ty: String::new(), from: made });
        }
        if let Some(label) = self.label.as_ref().filter(|l| l.drops) {
            output.rows.push(from(own, &label.known_at, Via::Filter));
        }
        for (used, pins) in self.uses.iter().zip(pins) {
            let config = used.view.config();
            let sources = self.view(job, used, pins, &mut lineage).await?;
            let mut by = vec![from(own, &self.time, Via::Join)];
            by.extend(config.keys.iter().map(|key| from(own, used.keys.get(key).unwrap_or(key), Via::Join)));
            let decides = config.keys.iter().chain([&config.event_time]).chain(&config.ingest_time);
            for column in decides {
                let of = sources.get(column).into_iter().flatten();
                by.extend(of.map(|f| FromColumn { via: Via::Join, ..f.clone() }));
            }
            by.sort();
            by.dedup();
            for feature in &config.features {
                let made = sources.get(feature).into_iter().flatten().cloned().chain(by.clone()).collect();
                // Which of the two it is called decides whether another column is called so too.
                let alias = used.alias.as_deref().unwrap_or(used.view.name());
                let names = [feature.clone(), format!("{alias}__{feature}")];
                let [plain, told] =
                    names.map(|name| ColumnMade { name, ty: String::new(), from: Vec::clone(&made) });
                if !output.columns.iter().any(|c| c.name == plain.name) {
                    output.columns.push(plain);
                }
                output.columns.push(told);
            }
        }
        lineage.outputs.push(output);
        Ok(lineage)
    }

    /// What each column of a view is made of.
    async fn view(
        &self,
        job: &Job<'_>,
        used: &Use,
        pins: &[(String, u64)],
        lineage: &mut Lineage,
    ) -> Result<BTreeMap<String, Vec<FromColumn>>, contract::Error> {
        let (mut read, mut places) = (Vec::new(), Vec::new());
        for (name, version) in pins {
            let dataset = job.dataset(name)?;
            places.push(lineage.input(dataset.pinned(*version).await.map_err(|e| job.failed(e))?));
            read.push((name.clone(), dataset, *version));
        }
        let Some(sql) = &used.view.config().sql else {
            let mut all = BTreeMap::new();
            for ((_, dataset, version), input) in read.iter().zip(places) {
                let columns = dataset.columns_of(*version).await.map_err(|e| job.failed(e))?;
                all.extend(columns.names().map(|name| {
                    let from = FromColumn { input, column: name.to_owned(), via: Via::Identity };
                    (name.to_owned(), vec![from])
                }));
            }
            return Ok(all);
        };
        let Ok(query) = Query::parse(sql) else { return Ok(BTreeMap::new()) };
        let Ok(traced) = job.warehouse.trace(&query, &read).await else { return Ok(BTreeMap::new()) };
        let place = |f: FromColumn| Some(FromColumn { input: *places.get(f.input)?, ..f });
        let of = |c: ColumnMade| {
            let all = c.from.into_iter().chain(traced.rows.clone());
            (c.name, all.filter_map(place).collect())
        };
        Ok(traced.columns.into_iter().map(of).collect())
    }
}

impl Work for Features {
    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let staging = job.staging()?;
            if let Some(done) = job.done(&staging).await? {
                return Ok(done);
            }
            let entities = Table::given(&job.warehouse, inputs, "entities").await?;
            let pins = self.pinned(job).await?;
            let mut said = vec![format!("{}@{}", entities.dataset.name(), entities.version)];
            said.extend(pins.iter().flatten().map(|(name, version)| format!("{name}@{version}")));
            let spec = TrainingSetSpec {
                entities: Entities::Dataset {
                    name: entities.dataset.name().to_owned(),
                    at: At::Version(entities.version),
                },
                time: self.time.clone(),
                views: self.uses.clone(),
                cut: self.cut,
                as_of: self.as_of,
            };
            let rows = || -> BoxFuture<'_, _> {
                Box::pin(async {
                    let set = Box::pin(job.warehouse.training_set_at(&spec, &pins)).await?;
                    for view in &set.views {
                        let of: Vec<String> =
                            view.versions.iter().map(|(name, version)| format!("{name}@{version}")).collect();
                        let (name, matched, all) = (&view.name, view.matched, set.count);
                        job.say(format!("{name}: of {}, {matched} of {all} rows have it", of.join(", ")));
                    }
                    match (&self.label, self.cut) {
                        (Some(label), Some(cut)) => label.cut(set.rows, cut),
                        _ => Ok(set.rows),
                    }
                })
            };
            let change = job.change(How::Overwrite, None, self.made_of(job, &entities, &pins).await?);
            let source = format!("features of {}", said.join(", "));
            let added = job.put(&staging, &change, &source, &rows).await?;
            Ok(table::value(&staging, &added))
        })
    }
}
