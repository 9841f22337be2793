//! `evaluate`: what a model says of the rows that were held back, and what it is worth.

use contract::{BoxFuture, Inputs, Kind, Value};
use pipeline::{Problem, task};
use store::tracking::{Logged, Metric};

use super::asked::{Asked, keys, rows};
use super::candidate::Candidate;
use super::error::{crashed, evaluated, predicted, trained, written};
use super::job::Job;
use super::kind::{ModelStage, problem};
use super::record::Recorded;
use super::{Means, track};
use crate::evaluate::{EvaluateConfig, Evaluation, evaluate};
use crate::gate::Measured;
use crate::onnx::Classes;
use crate::train::Frame;
use crate::train::frozen::Frozen;

/// The parts of a slice that the log tells of, the worst first.
const PARTS: usize = 5;

/// Evaluates a model.
pub(super) struct EvaluateStage(EvaluateConfig);

impl ModelStage for EvaluateStage {
    const NAME: &'static str = "evaluate";
    const INPUTS: &'static [(&'static str, Kind)] = &[("model", Kind::Json(None))];
    type Config = EvaluateConfig;

    fn build(config: EvaluateConfig, _: &dyn Means) -> Result<Self, Vec<Problem>> {
        let wrong = |(field, remedy): (&str, &str)| {
            problem(&format!("/{field}"), "what is said there makes no sense", remedy)
        };
        let problems: Vec<Problem> = config.problems().into_iter().map(wrong).collect();
        if problems.is_empty() { Ok(EvaluateStage(config)) } else { Err(problems) }
    }

    fn cached(_: &EvaluateConfig) -> bool {
        // How long an answer takes is a matter of the machine.
        false
    }

    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let candidate = Candidate::given(inputs)?;
            let held = Held::of(job, &candidate).await?;
            let file = job.read(&candidate.model).await?;
            let (config, clock) = (self.0.clone(), job.cx.clock.clone());
            let backend = job.means.backend();
            let work = move || {
                let asked = Asked::load(&*backend, file).map_err(|e| predicted(&e))?;
                let named: Vec<&String> = config.slices.iter().chain(&config.groups).collect();
                let (rows, measured) = measured(asked, &held, held.record.classes.as_ref(), &named, &*clock)?;
                Ok((evaluate(&rows, &config).map_err(|e| evaluated(&e))?, measured))
            };
            let done: Result<(Evaluation, Measured), contract::Error> =
                task::blocking("evaluate", work).await.map_err(|e| crashed(&e))?;
            let (evaluation, measured) = done?;
            tell(job, &evaluation, &measured);
            let bytes = serde_json::to_vec_pretty(&evaluation).map_err(|e| written(&e))?;
            let files = vec![("evaluation.json", bytes.clone())];
            track::add(job, &candidate, files, logged(&evaluation, &measured, job.now())).await?;
            let kept = job.keep("evaluation.json", bytes).await?;
            let metrics = evaluation.metrics.iter().filter_map(|(name, x)| Some((name.clone(), (*x)?)));
            let metrics = metrics.collect();
            let measured = Some(measured);
            Candidate { metrics, evaluation: Some(kept), measured, ..candidate }.value()
        })
    }
}

/// The rows that were held back from a candidate.
pub(super) struct Held {
    pub(super) record: Recorded,
    pub(super) frozen: Frozen,
    /// The rows, with all columns of the table.
    pub(super) frame: Frame,
}

impl Held {
    pub(super) async fn of(job: &Job<'_>, candidate: &Candidate) -> Result<Held, contract::Error> {
        let record: Recorded =
            serde_json::from_slice(&job.read(&candidate.record).await?).map_err(|e| written(&e))?;
        let table = job.means.frame(&candidate.table).await?;
        let held = move || {
            let frozen = Frozen::of(&table, &record.config).map_err(|e| trained(&e))?;
            let frame = table.only(&frozen.rows);
            Ok(Held { record, frozen, frame })
        };
        task::blocking("hold back", held).await.map_err(|e| crashed(&e))?
    }
}

/// What a model said of held-back rows, ready for figures, with what was measured of it.
pub(super) fn measured(
    mut asked: Asked,
    held: &Held,
    classes: Option<&Classes>,
    columns: &[&String],
    clock: &dyn contract::Clock,
) -> Result<(crate::evaluate::Rows, Measured), contract::Error> {
    let answers = asked.answers(&held.frame).map_err(|e| predicted(&e))?;
    let keys = keys(&held.frame, columns).map_err(|e| trained(&e))?;
    let rows = rows(&held.frozen, answers, classes, keys).map_err(|e| evaluated(&e))?;
    let measured = asked.measure(&held.frame, clock).map_err(|e| predicted(&e))?;
    Ok((rows, measured))
}

fn logged(evaluation: &Evaluation, measured: &Measured, now: i64) -> Logged {
    let named =
        evaluation.metrics.iter().filter_map(|(name, x)| Some((name.replace(['@', '='], "_"), (*x)?)));
    #[expect(clippy::cast_precision_loss, reason = "bytes")]
    let bytes = measured.artifact_bytes.map(|bytes| ("artifact_bytes".to_owned(), bytes as f64));
    let p99 = measured.latency_p99_ms.map(|ms| ("latency_p99_ms".to_owned(), ms));
    let metrics = named.chain(p99).chain(bytes).map(|(key, value)| Metric::new(key, value, now, 1)).collect();
    Logged { metrics, ..Logged::default() }
}

fn tell(job: &Job<'_>, evaluation: &Evaluation, measured: &Measured) {
    let figures: Vec<String> =
        evaluation.metrics.iter().filter_map(|(name, x)| Some(format!("{name} {:.4}", (*x)?))).collect();
    job.say(format!("{} of {} rows: {}", evaluation.task, evaluation.rows, figures.join(", ")));
    if let Some(ms) = measured.latency_p99_ms {
        job.say(format!("the 99th percentile of an answer to one row is {ms:.3} ms"));
    }
    for slice in &evaluation.slices {
        let Some(metric) =
            evaluation.metrics.keys().find_map(|name| name.parse::<crate::evaluate::Metric>().ok())
        else {
            continue;
        };
        let name = metric.to_string();
        let mut parts: Vec<(&str, f64)> = slice
            .parts
            .iter()
            .filter_map(|p| Some((p.value.as_str(), p.metrics.get(&name).copied()??)))
            .collect();
        parts.sort_by(|a, b| metric.gain(a.1, b.1).total_cmp(&0.0));
        let worst: Vec<String> =
            parts.iter().take(PARTS).map(|(value, x)| format!("{value} {x:.4}")).collect();
        job.say(format!("{name} is least by {}: {}", slice.column, worst.join(", ")));
    }
    for column in &evaluation.fairness {
        if let Some(i) = column.eo_difference {
            let (c, value, low, high) = (&column.column, i.value, i.low, i.high);
            job.say(format!("equalised odds differ over {c} by {value:.3} ({low:.3} to {high:.3})"));
        }
    }
    job.note(figures.into_iter().take(4).collect::<Vec<_>>().join(", "));
}
