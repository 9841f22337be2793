//! `train`: from a table to a model in a file, and a tracked run that says how.

use std::collections::BTreeMap;

use contract::lineage::{Lineage, Thing, ThingKind};
use contract::{BoxFuture, Inputs, Kind, UnixMillis, Value};
use parking_lot::Mutex;
use pipeline::Problem;
use serde_json::Value as Json;

use super::candidate::{Candidate, parted};
use super::error::{trained, written};
use super::job::Job;
use super::kind::{ModelStage, problem};
use super::record::Recorded;
use super::track::Tracking;
use super::{Means, mlmodel};
use crate::gate::{Field, ModelSignature};
use crate::onnx::{About, Adopted, Port, adopt};
use crate::reproduce::Description;
use crate::train::frozen::Frozen;
use crate::train::worker::{Worker, WorkerSettings};
use crate::train::{self, Frame, Label, Progress, TrainConfig, Trained, Watch};

/// A line of the log for so many rounds.
const EVERY: u32 = 25;

/// Trains a model.
pub(super) struct TrainStage(TrainConfig);

impl ModelStage for TrainStage {
    const NAME: &'static str = "train";
    const INPUTS: &'static [(&'static str, Kind)] = &[("table", Kind::Table)];
    type Config = TrainConfig;

    fn build(config: TrainConfig, _: &dyn Means) -> Result<Self, Vec<Problem>> {
        let mut problems = train::problems(&config);
        if config.adopted.is_some() {
            let m = "a model that somebody else made is not trained";
            problems.push(problem("/adopted", m, "write a stage `adopt`"));
        }
        if problems.is_empty() { Ok(TrainStage(config)) } else { Err(problems) }
    }

    fn cached(config: &TrainConfig) -> bool {
        // How many tries there is time for is not a matter of the data.
        config.search.as_ref().is_none_or(|search| search.time.is_none())
    }

    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let table = contract::given_table(inputs, "table")?;
            let frame = job.means.frame(table).await?;
            job.say(format!("{table}: {} rows, {} columns", frame.rows(), frame.columns().len()));
            let made_of = description(&self.0, table)?;
            let id = made_of.id().map_err(|e| super::error::sealed(&e))?;
            let tracking = Tracking::begin(job, &id).await?;
            let done = self.train(job, &tracking, (table, frame), made_of, id).await;
            tracking.ended(done).await
        })
    }
}

/// What a model of this configuration and table is made of.
pub(crate) fn description(config: &TrainConfig, table: &str) -> Result<Description, contract::Error> {
    let (dataset, version) = parted(table);
    let params = match serde_json::to_value(config).map_err(|e| written(&e))? {
        // Where the randomness comes from is said apart.
        Json::Object(fields) => fields.into_iter().filter(|(name, _)| name != "seed").collect(),
        _ => BTreeMap::new(),
    };
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Ok(Description {
        data: [text(dataset, version)].into(),
        features: BTreeMap::new(),
        code: [text("forebay", env!("CARGO_PKG_VERSION"))].into(),
        params,
        seed: config.seed,
        environment: [text("arch", std::env::consts::ARCH), text("os", std::env::consts::OS)].into(),
    })
}

/// Trains on a table, wherever it is asked to.
pub(crate) async fn fit(
    means: &dyn Means,
    clock: &dyn contract::Clock,
    (frame, config): (Frame, TrainConfig),
    about: About,
    watch: &dyn Watch,
) -> Result<Trained, train::Error> {
    let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let (memory, threads) =
        config.gbdt.as_ref().map_or((0, cores), |g| (g.memory.0, g.threads.unwrap_or(cores)));
    let trees = Worker::new(WorkerSettings { program: means.worker(), memory, threads });
    train::run(train::Job { frame, config, about }, &trees, clock, watch).await
}

impl TrainStage {
    async fn train(
        &self,
        job: &Job<'_>,
        tracking: &Tracking<'_>,
        (table, frame): (&str, Frame),
        made_of: Description,
        id: String,
    ) -> Result<Value, contract::Error> {
        let config = &self.0;
        let frozen = Frozen::of(&frame, config).map_err(|e| trained(&e))?;
        let about = About { model_id: id.clone(), data_version: table.to_owned(), ..About::default() };
        let (began, at) = (job.clock().now(), job.clock().wall());
        let told = Told::new(job);
        let fitted = fit(job.means, job.clock(), (frame, config.clone()), about, &told).await;
        let Trained { onnx, report, .. } = fitted.map_err(|e| trained(&e))?;
        let adopted = adopt(&onnx, &About::default()).map_err(|e| trained(&e.into()))?;
        let record = Recorded {
            schema: "forebay.record/1".to_owned(),
            id: id.clone(),
            made_of,
            table: table.to_owned(),
            config: config.clone(),
            classes: match frozen.label {
                Label::Class { classes, .. } => Some(classes),
                Label::Value(_) => None,
            },
            signature: signature(&adopted),
            trained_at: at,
            training_seconds: job.clock().now().since(began).as_secs_f64(),
            trained_until: frozen.learnt_until.map(UnixMillis),
            sum: blake3::hash(&onnx).to_hex().to_string(),
            report,
        };
        tell(job, &record);
        let run = &tracking.run.info.id;
        let files = mlmodel::put(job, tracking, &adopted, &record).await?;
        let (target, report) = (target(config), &record.report);
        tracking.reads(table, (target, "training")).await?;
        let metric = serde_json::to_value(report.metric).map_err(|e| written(&e))?;
        let curve = format!("validation_{}", metric.as_str().unwrap_or_default());
        tracking.log(params(config), &figures(&record), (&curve, &report.curve)).await?;
        job.attempt.log.lineage(Lineage {
            inputs: vec![thing(table)],
            outputs: vec![Thing::new(ThingKind::Artifact, mlmodel::FILE).at(files.0.hash.clone()).into()],
            ..Lineage::default()
        });
        let metrics = report.holdout.clone();
        job.note(noted_of(&record));
        Candidate { metrics, ..Candidate::new(id, run.clone(), table, files) }.value()
    }
}

pub(super) fn thing(table: &str) -> Thing {
    let (dataset, version) = parted(table);
    Thing::new(ThingKind::Dataset, dataset).at(version)
}

fn target(config: &TrainConfig) -> &str {
    let of = config.gbdt.as_ref().map(|g| &g.target).or(config.linear.as_ref().map(|l| &l.target));
    of.map_or("", String::as_str)
}

/// What a model's file takes and gives.
fn signature(adopted: &Adopted) -> ModelSignature {
    let word = |kind: &str| match kind {
        "double" | "float" | "bool" => kind.to_owned(),
        "string" => "text".to_owned(),
        "int64" => "long".to_owned(),
        _ => "int".to_owned(),
    };
    let field = |p: &Port| Field { name: p.name.clone(), ty: word(&p.kind), optional: false };
    ModelSignature {
        inputs: adopted.inputs.iter().map(field).collect(),
        outputs: adopted.outputs.iter().map(field).collect(),
    }
}

/// The configuration as parameters with names: `gbdt.rounds`.
fn params(config: &TrainConfig) -> Vec<(String, String)> {
    fn walk(path: String, value: &Json, all: &mut Vec<(String, String)>) {
        match value {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(path, value, all);
                }
            }
            Json::Null => {}
            Json::String(text) => all.push((path, text.clone())),
            other => all.push((path, other.to_string())),
        }
    }
    let mut all = Vec::new();
    walk(String::new(), &serde_json::to_value(config).unwrap_or_default(), &mut all);
    all
}

fn figures(record: &Recorded) -> Vec<(String, f64)> {
    let report = &record.report;
    let mut all: Vec<(String, f64)> = report.holdout.iter().map(|(k, v)| (k.clone(), *v)).collect();
    all.push(("training_seconds".to_owned(), record.training_seconds));
    all.push(("rounds".to_owned(), f64::from(report.rounds)));
    let rows = ["rows_train", "rows_validation", "rows_holdout"].iter().zip(report.rows);
    #[expect(clippy::cast_precision_loss, reason = "numbers of rows")]
    all.extend(rows.map(|(name, rows)| ((*name).to_owned(), rows as f64)));
    all
}

fn noted_of(record: &Recorded) -> String {
    let figures: Vec<String> =
        record.report.holdout.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    format!("{}; on what was held back: {}", record.kind(), figures.join(", "))
}

fn tell(job: &Job<'_>, record: &Recorded) {
    let report = &record.report;
    if report.unlabelled > 0 {
        job.say(format!("{} rows had no label and were left out", report.unlabelled));
    }
    job.say(format!("{} in {:.1} s", noted_of(record), record.training_seconds));
    for (column, weight) in record.importance().iter().take(10) {
        job.say(format!("importance of {column}: {weight:.4}"));
    }
    report.warnings.iter().for_each(|warning| job.say(format!("warning: {warning}")));
}

/// Tells the run how far a training is.
struct Told<'a> {
    log: &'a dyn contract::StageLog,
    /// The last round that has a line of its own.
    last: Mutex<u32>,
}

impl<'a> Told<'a> {
    fn new(job: &'a Job<'a>) -> Told<'a> {
        Told { log: &*job.attempt.log, last: Mutex::new(0) }
    }
}

impl Watch for Told<'_> {
    fn progress(&self, progress: Progress) {
        match progress {
            Progress::Split { rows: [train, valid, held] } => {
                self.log.line(&format!("{train} rows to learn from, {valid} to steer by, {held} held back"));
            }
            Progress::Trial { trial, of } => {
                self.log.progress(u64::from(trial.number) + 1, Some(u64::from(of)));
                let value = trial.value.map_or_else(|| "given up".to_owned(), |value| format!("{value:.5}"));
                self.log.line(&format!("try {} of {of}: {value}", trial.number + 1));
            }
            Progress::Round { round, of, value } => {
                self.log.progress(u64::from(round), Some(u64::from(of)));
                let mut last = self.last.lock();
                // A training that begins anew on more rows counts anew.
                if round >= last.saturating_add(EVERY) || round < *last {
                    *last = round;
                    let value = value.map_or_else(String::new, |value| format!(": {value:.5}"));
                    self.log.line(&format!("round {round} of at most {of}{value}"));
                }
            }
        }
    }
}
