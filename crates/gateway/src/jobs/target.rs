//! What does a job's work: the pipeline or the model that it calls. Jobs of one that hangs hold up none of another. Names of
//! the configuration alone: a caller cannot make places by making names up.

use std::borrow::Cow;

use contract::ModelName;
use serde::Deserialize;

use super::Job;
use crate::app::App;

/// What a body asks.
#[derive(Deserialize)]
struct Asks<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
}

/// The name of whom a job calls; empty when nobody has that name.
pub(super) fn of(app: &App, job: &Job) -> String {
    let path = job.path.split('?').next().unwrap_or_default();
    if let Some(name) = path.strip_prefix("/v1/pipelines/") {
        return pipeline(app, name).unwrap_or_default();
    }
    let own = app.generation.paths().find(|(_, own)| *own == path);
    if let Some((name, _)) = own {
        return format!("pipeline:{name}");
    }
    let asks = serde_json::from_slice::<Asks<'_>>(&job.body).ok().and_then(|a| a.model);
    let Some(name) = asks else { return String::new() };
    pipeline(app, &name).or_else(|| model(app, &name)).unwrap_or_default()
}

fn pipeline(app: &App, name: &str) -> Option<String> {
    app.generation.is_pipeline(name).then(|| format!("pipeline:{name}"))
}

fn model(app: &App, name: &str) -> Option<String> {
    app.model(&ModelName::from(name)).map(|_| format!("model:{name}"))
}
