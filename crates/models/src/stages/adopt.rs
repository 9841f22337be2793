//! `adopt`: a model that a command made becomes one that is evaluated, gated and released like those that `train` makes.
//!
//! It comes as the file that a stage `exec` left. What it is worth is found out on rows that its maker did not learn from: those of
//! the table that is given beside it, or the part of them that `split` holds back. Nobody here can see what the command looked at.

use std::collections::BTreeMap;

use contract::lineage::{Lineage, Thing, ThingKind};
use contract::{BoxFuture, Code, Error, Inputs, Kind, UnixMillis, Value};
use pipeline::artifacts::Artifact;
use pipeline::{Problem, task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::asked::Asked;
use super::candidate::{Candidate, parted};
use super::error::{crashed, predicted, sealed, trained, written};
use super::job::Job;
use super::kind::{ModelStage, problem};
use super::record::Recorded;
use super::track::Tracking;
use super::train::thing;
use super::{Means, mlmodel};
use crate::gate::ModelSignature;
use crate::onnx::{About, Adopted, Found, adopt, with_features};
use crate::reproduce::Description;
use crate::train::frozen::Frozen;
use crate::train::{AdoptedConfig, Frame, Label, Metric, Report, SplitConfig, Task, TrainConfig, problems};

/// Rows that a model is asked to see whether it answers what is to be predicted.
const TRIED: usize = 2_048;

/// Takes the file that a command left (ONNX, a text model of LightGBM, XGBoost's JSON or UBJSON) as a model. Pickles are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdoptConfig {
    /// The name of the file among the outputs of the command. Not needed where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The column that it predicts.
    target: String,
    /// Classification of words and 0/1, regression of other numbers, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    /// The columns that it takes, in its order: for a model that takes them side by side and does not say how they are called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    /// The column that says when a row happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// The column that says how much a row counts; not negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<String>,
    /// The column that says what a row belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// What of the table its maker did not learn from. The whole table unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<SplitConfig>,
    /// What is drawn for the split is drawn from it.
    #[serde(default)]
    seed: u64,
}

/// Takes a model.
pub(super) struct AdoptStage(AdoptConfig);

impl ModelStage for AdoptStage {
    const NAME: &'static str = "adopt";
    const INPUTS: &'static [(&'static str, Kind)] = &[("model", Kind::Json(None)), ("table", Kind::Table)];
    type Config = AdoptConfig;

    fn build(config: AdoptConfig, _: &dyn Means) -> Result<Self, Vec<Problem>> {
        let mut wrong = problems(&recorded(&config, ""));
        for (at, name) in config.features.iter().enumerate() {
            if config.features.iter().take(at).any(|before| before == name) {
                let m = format!("the column `{name}` is there twice");
                wrong.push(problem(
                    &format!("/features/{at}"),
                    &m,
                    "name each column once, in the model's order",
                ));
            }
        }
        if config.target.is_empty() {
            wrong.push(problem(
                "/target",
                "no column is called so",
                "name the column that the model predicts",
            ));
        }
        if wrong.is_empty() { Ok(AdoptStage(config)) } else { Err(wrong) }
    }

    fn cached(_: &AdoptConfig) -> bool {
        true
    }

    fn run<'a>(&'a self, job: &'a Job<'a>, inputs: &'a Inputs) -> BoxFuture<'a, Result<Value, Error>> {
        Box::pin(async move {
            let table = contract::given_table(inputs, "table")?;
            let (file, environment) = left(inputs, self.0.file.as_deref())?;
            let made_of = self.description(&file, table, environment)?;
            let id = made_of.id().map_err(|e| sealed(&e))?;
            let taken = self.take(job, &file, table).await.inspect_err(|e| job.say(&e.message))?;
            let tracking = Tracking::begin(job, &id).await?;
            let done = self.keep(job, &tracking, (&file, table), (taken, made_of, id)).await;
            tracking.ended(done).await
        })
    }
}

/// A model that can be asked, and the rows that it is held to.
struct Taken {
    adopted: Adopted,
    signature: ModelSignature,
    /// What its record says of it, by which its rows are held back again.
    config: TrainConfig,
    frozen: Frozen,
    report: Report,
}

/// The configuration in the words of records, of a file that was `found`.
fn recorded(config: &AdoptConfig, found: &str) -> TrainConfig {
    let own = AdoptedConfig {
        target: config.target.clone(),
        task: config.task,
        whole: config.split.is_none(),
        found: found.to_owned(),
    };
    TrainConfig {
        time: config.time.clone(),
        weight: config.weight.clone(),
        group: config.group.clone(),
        split: config.split.clone().unwrap_or_default(),
        seed: config.seed,
        ..TrainConfig::adopted(own)
    }
}

/// The file that a command left, and what it ran in.
fn left(inputs: &Inputs, wanted: Option<&str>) -> Result<(Artifact, BTreeMap<String, String>), Error> {
    let wrong = |m: String| wrong(format!("the input `model` {m}"));
    let Some(Value::Json(value)) = inputs.get("model") else {
        return Err(wrong("is nothing that a stage `exec` gives".to_owned()));
    };
    let Some(Json::Object(outputs)) = value.get("outputs") else {
        return Err(wrong("names no `outputs`: it is what a stage `exec` gives".to_owned()));
    };
    let files = outputs.values().filter_map(|files| serde_json::from_value(files.clone()).ok());
    let files: Vec<Artifact> = files.flat_map(|files: Vec<Artifact>| files).collect();
    let named = |file: &&Artifact| {
        wanted.is_none_or(|w| file.name == w || file.name.rsplit_once('/').is_some_and(|(_, own)| own == w))
    };
    let found: Vec<&Artifact> = files.iter().filter(named).collect();
    let names = || files.iter().map(|f| format!("`{}`", f.name)).collect::<Vec<_>>().join(", ");
    let file = match (found.as_slice(), wanted) {
        ([one], _) => (*one).clone(),
        ([], Some(w)) => return Err(wrong(format!("has no file `{w}` among its outputs, but {}", names()))),
        ([], None) => return Err(wrong("has no file among its outputs".to_owned())),
        _ => {
            return Err(wrong(format!("has several files: say by `file` which of {} is the model", names())));
        }
    };
    let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let environment = match value.get("environment") {
        Some(Json::Object(all)) => all.iter().map(|(name, v)| (name.clone(), text(v))).collect(),
        _ => BTreeMap::new(),
    };
    Ok((file, environment))
}

impl AdoptStage {
    /// What the model is made of, as far as it is known here: its file stands for the code and the rows that made it.
    fn description(
        &self,
        file: &Artifact,
        table: &str,
        environment: BTreeMap<String, String>,
    ) -> Result<Description, Error> {
        let (dataset, version) = parted(table);
        let params = match serde_json::to_value(&self.0).map_err(|e| written(&e))? {
            Json::Object(fields) => fields.into_iter().filter(|(name, _)| name != "seed").collect(),
            _ => BTreeMap::new(),
        };
        Ok(Description {
            data: [(dataset.to_owned(), version.to_owned())].into(),
            features: BTreeMap::new(),
            code: [("file".to_owned(), file.hash.clone())].into(),
            params,
            seed: self.0.seed,
            environment,
        })
    }

    /// Reads the file, and asks it about some of the rows that it will be held to.
    async fn take(&self, job: &Job<'_>, file: &Artifact, table: &str) -> Result<Taken, Error> {
        let bytes = job.read(file).await?;
        let frame = job.means.frame(table).await?;
        let (config, backend) = (self.0.clone(), job.means.backend());
        let work = move || {
            let mut adopted = adopt(&bytes, &About::default()).map_err(|e| wrong(e.to_string()))?;
            let recorded = recorded(&config, found(adopted.found));
            if !config.features.is_empty() {
                adopted.onnx = with_features(adopted.onnx, &config.features);
            }
            if frame.rows() == 0 {
                return Err(wrong("its table has no rows: there is nothing to hold the model to".to_owned()));
            }
            let frozen = Frozen::of(&frame, &recorded).map_err(|e| trained(&e))?;
            let asked = Asked::load(&*backend, adopted.onnx.clone()).map_err(|e| predicted(&e))?;
            let signature = asked.signature();
            fits(asked, &frozen, (&frame, config.task))?;
            let missing = frame.rows() - frozen.rows.len();
            let report = report(&frozen, if config.split.is_none() { missing } else { 0 });
            Ok(Taken { adopted, signature, config: recorded, frozen, report })
        };
        task::blocking("adopt", work).await.map_err(|e| crashed(&e))?
    }

    /// Up to when its maker learnt: to the last row that was not held back, or, where all were, to before the first one.
    fn learnt_until(&self, frozen: &Frozen) -> Option<i64> {
        let before = || frozen.between.map(|(first, _)| first.saturating_sub(1));
        frozen.learnt_until.or_else(|| before().filter(|_| self.0.split.is_none()))
    }

    async fn keep(
        &self,
        job: &Job<'_>,
        tracking: &Tracking<'_>,
        (file, table): (&Artifact, &str),
        (taken, made_of, id): (Taken, Description, String),
    ) -> Result<Value, Error> {
        let Taken { adopted, signature, config, frozen, report } = taken;
        let record = Recorded {
            schema: "forebay.record/1".to_owned(),
            id: id.clone(),
            made_of,
            table: table.to_owned(),
            config,
            classes: match &frozen.label {
                Label::Class { classes, .. } => Some(classes.clone()),
                Label::Value(_) => None,
            },
            signature,
            trained_at: job.clock().wall(),
            training_seconds: 0.0,
            trained_until: self.learnt_until(&frozen).map(UnixMillis),
            sum: blake3::hash(&adopted.onnx).to_hex().to_string(),
            report,
        };
        let files = mlmodel::put(job, tracking, &adopted, &record).await?;
        tracking.reads(table, (&self.0.target, "evaluation")).await?;
        let params = vec![("file".to_owned(), file.name.clone()), ("format".to_owned(), record.kind())];
        tracking.log(params, &[], ("", &[])).await?;
        let made = |file: &Artifact| Thing::new(ThingKind::Artifact, &file.name).at(file.hash.clone());
        job.attempt.log.lineage(Lineage {
            inputs: vec![thing(table), made(file)],
            outputs: vec![made(&files.0).into()],
            ..Lineage::default()
        });
        job.note(format!("{}; {} rows to hold it to", record.kind(), frozen.rows.len()));
        Candidate::new(id, tracking.run.info.id.clone(), table, files).value()
    }
}

fn found(found: Found) -> &'static str {
    match found {
        Found::Onnx => "ONNX",
        Found::LightGbm => "LightGBM",
        Found::XgboostJson | Found::XgboostUbj => "XGBoost",
    }
}

fn wrong(m: String) -> Error {
    Error::new(Code::InvalidRequest, m)
}

/// Whether it answers what is to be predicted: as many numbers as there are classes, or one; chances where there are classes.
fn fits(mut asked: Asked, frozen: &Frozen, (frame, task): (&Frame, Option<Task>)) -> Result<(), Error> {
    if asked.is_unnamed() {
        let m = "the model takes its columns side by side and does not say how they are called: name them by `features`, in its order";
        return Err(wrong(m.to_owned()));
    }
    let several = asked.several();
    if !several.is_empty() {
        let m = format!(
            "the model gives {}, and nothing says which is the answer: give it one output called `probabilities` or `prediction` \
             (skl2onnx: `options={{id(model): {{'zipmap': False}}}}`)",
            several.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        );
        return Err(wrong(m));
    }
    let rows: Vec<usize> = frozen.rows.iter().copied().take(TRIED).collect();
    let answers = asked.answers(&frame.only(&rows)).map_err(|e| predicted(&e))?;
    let width = answers.first().map_or(0, Vec::len);
    let (classes, wanted) = match &frozen.label {
        Label::Class { classes, .. } => (classes.len(), format!("{} classes", classes.len())),
        Label::Value(_) => (1, "a number".to_owned()),
    };
    // One number stands for the second of two classes.
    if width != classes && !(classes == 2 && width == 1) {
        let hint =
            if task.is_none() { "; `task: classification` or `regression` says which it is" } else { "" };
        let m =
            format!("the model gives {width} numbers a row, and what it is to predict has {wanted}{hint}");
        return Err(wrong(m));
    }
    let is_chance = |x: &f64| x.is_nan() || (-1e-6..=1.0 + 1e-6).contains(x);
    let other = answers.iter().flatten().find(|x| !is_chance(x));
    if let (Label::Class { .. }, Some(x)) = (&frozen.label, other) {
        let m = format!(
            "the model gives {x}, which is no probability: export it with probabilities (skl2onnx: without `raw_scores`; of a margin, \
             as an SVM's, make some by `CalibratedClassifierCV`)"
        );
        return Err(wrong(m));
    }
    Ok(())
}

/// What a report of a training says, as far as somebody else's is known.
fn report(frozen: &Frozen, unlabelled: usize) -> Report {
    Report {
        model_id: String::new(),
        rows: [0, 0, frozen.rows.len()],
        unlabelled,
        metric: Metric::usual(&frozen.label),
        validation: None,
        holdout: BTreeMap::new(),
        params: Json::Null,
        rounds: 0,
        curve: Vec::new(),
        trials: Vec::new(),
        importance: Vec::new(),
        warnings: Vec::new(),
    }
}
