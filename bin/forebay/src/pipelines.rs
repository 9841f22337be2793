//! From the pipelines of the configuration to checked graphs, and to what each does when it is busy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use contract::{ModelName, PipelineName, Price};
use gateway::{KeptAnswers, Pipeline, Rung, WhenBusy};
use llm::Models;
use pipeline::durable::{Definition, Definitions};
use pipeline::{Graph, PipelineSpec, Registry, Shows};
use serde_json::Value as Json;

use crate::Error;
use crate::config::Config;
use crate::config::busy::{RungConfig, WhenBusyConfig};
use crate::config::pipeline::PipelineConfig;

/// The longest wait of a pipeline that has no latency budget to compare it with.
const UNLIMITED: Duration = Duration::from_secs(30);

/// All pipelines.
///
/// # Errors
/// A pipeline that does not check.
pub(crate) fn all(
    config: &Config,
    known: &Models,
    registry: &Registry,
) -> Result<BTreeMap<PipelineName, Pipeline>, Error> {
    let mut all = BTreeMap::new();
    for (name, p) in &config.pipelines {
        let spec = p.spec();
        if pipeline::is_durable(&spec, registry) {
            continue;
        }
        let mut built = one(name, p, &spec, known, registry)?;
        if let Some(busy) = &p.when_busy {
            let rungs = busy.then.iter().map(|rung| {
                Ok(match rung {
                    RungConfig::Shed => Some(Rung::Shed),
                    RungConfig::Job => Some(Rung::Job),
                    RungConfig::Cached(at_most) => Some(Rung::Cached(Arc::new(KeptAnswers::new(at_most.0)))),
                    RungConfig::Model(model) => {
                        let other = one(name, p, &with_model(&spec, model), known, registry)?;
                        Some(Rung::Model(Arc::new(other)))
                    }
                    RungConfig::Draft => match draft(&spec, &built.graph) {
                        Some(draft) => Some(Rung::Draft(Arc::new(one(name, p, &draft, known, registry)?))),
                        None => None,
                    },
                })
            });
            let rungs = rungs.filter_map(Result::transpose).collect::<Result<Vec<_>, Error>>()?;
            built.when_busy = Some(Arc::new(WhenBusy { wait: wait(p, busy), rungs }));
        }
        all.insert(name.as_str().into(), built);
    }
    Ok(all)
}

/// All pipelines that durable runs run, with the kinds of their stages.
///
/// # Errors
/// A pipeline that does not check.
pub(crate) fn durable(config: &Config, registry: &Registry) -> Result<Definitions, Error> {
    let mut pipelines = BTreeMap::new();
    for (name, p) in &config.pipelines {
        let spec = p.spec();
        if !pipeline::is_durable(&spec, registry) {
            continue;
        }
        let graph = Arc::new(checked(name, &spec, registry)?);
        let name: PipelineName = name.as_str().into();
        let version = version(&spec);
        pipelines.insert(name.clone(), Arc::new(Definition { name, spec, graph, version }));
    }
    Ok(Definitions { registry: registry.clone(), pipelines })
}

fn checked(name: &str, spec: &PipelineSpec, registry: &Registry) -> Result<Graph, Error> {
    pipeline::check(spec, registry).map_err(|found| {
        let first = found.first().map(|f| f.message.clone()).unwrap_or_default();
        Error::new(format!("pipeline `{name}` cannot run: {first}"), "run `forebay check` for every problem")
    })
}

fn version(spec: &PipelineSpec) -> String {
    blake3::hash(format!("{spec:?}").as_bytes()).to_hex().get(..12).unwrap_or_default().to_owned()
}

fn one(
    name: &str,
    p: &PipelineConfig,
    spec: &PipelineSpec,
    known: &Models,
    registry: &Registry,
) -> Result<Pipeline, Error> {
    let graph = checked(name, spec, registry)?;
    let version = version(spec);
    let mut models: Vec<ModelName> =
        graph.nodes.iter().flat_map(|n| n.stage.models()).flat_map(|name| known.behind(&name)).collect();
    models.sort();
    models.dedup();
    let price = models.iter().map(|n| known.dearest(n)).fold(Price::FREE, Price::dearest);
    let path = p.on.as_ref().and_then(|on| on.http()).map(str::to_owned);
    let (graph, mid_stream) = (Arc::new(graph), p.mid_stream.into());
    let resume = p.resume.map(|t| t.0).filter(|d| !d.is_zero());
    Ok(Pipeline { graph, version, models, price, path, mid_stream, when_busy: None, resume })
}

/// How long a wait for a model is no reason to do less: the budget of the first output where only a model can make one,
/// else half of the whole budget.
fn wait(p: &PipelineConfig, busy: &WhenBusyConfig) -> Duration {
    let budget = p.budget.budget();
    let first = budget.first_output.filter(|_| !busy.then.iter().any(|r| matches!(r, RungConfig::Draft)));
    busy.wait.map(|t| t.0).or(first).or(budget.total.map(|t| t / 2)).unwrap_or(UNLIMITED)
}

/// The same pipeline with another model in every stage that asks one.
fn with_model(spec: &PipelineSpec, model: &str) -> PipelineSpec {
    let mut spec = spec.clone();
    for stage in &mut spec.stages {
        if let Some(asked) = stage.config.get_mut("model").filter(|m| m.is_string()) {
            *asked = Json::from(model);
        }
    }
    spec
}

/// What the pipeline shows before any model has answered, as a pipeline of its own: the stage that is a draft, and what it
/// works on. `None` where there is none that needs no model.
pub(crate) fn draft(spec: &PipelineSpec, graph: &Graph) -> Option<PipelineSpec> {
    let shown = graph.nodes.iter().position(|n| n.shows == Shows::Draft)?;
    let (mut needed, mut next) = (BTreeSet::new(), vec![shown]);
    while let Some(at) = next.pop() {
        let node = graph.nodes.get(at)?;
        if !node.stage.models().is_empty() {
            return None;
        }
        if needed.insert(node.name.clone()) {
            next.extend(node.sources().chain(node.fallback));
        }
    }
    let node = graph.nodes.get(shown)?;
    let mut spec = spec.clone();
    spec.stages.retain(|s| needed.contains(&s.name));
    (spec.result, spec.output) = (Some(node.name.clone()), node.output());
    Some(spec)
}
