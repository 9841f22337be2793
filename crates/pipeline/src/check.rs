//! From what a person wrote to a graph that can run, or to the list of everything that is wrong with it.

mod budgets;
mod edges;
mod order;
mod runs;

use std::sync::Arc;

use contract::{Stage, StageName};

use crate::graph::{Graph, Node};
use crate::{Finding, PipelineSpec, Place, Registry, Shows, Site, StageKind, StageSpec};

/// Checks a pipeline and resolves it. Reports every problem that can be told from what is right so far.
pub fn check(spec: &PipelineSpec, registry: &Registry) -> Result<Graph, Vec<Finding>> {
    let mut found = Found::default();
    if spec.stages.is_empty() {
        found.pipeline(
            "stages",
            "a pipeline needs at least one stage",
            "add a stage, such as `- answer: {generate: {model: …}}`",
        );
        return Err(found.0);
    }
    names(spec, &mut found);
    let built: Vec<Option<Built>> =
        spec.stages.iter().enumerate().map(|(i, s)| build(i, s, registry, &mut found)).collect();
    let result = result_of(spec, &mut found);
    // Edges and budgets make sense only over stages that exist.
    let (Some(built), Some(result)) = (built.into_iter().collect::<Option<Vec<_>>>(), result) else {
        return Err(found.0);
    };
    let mut nodes = edges::resolve(spec, built, &mut found);
    if found.0.is_empty() {
        order::cycles(&nodes, &mut found);
    }
    let durable = durable(spec, registry);
    if found.0.is_empty() && durable {
        runs::check(spec, &nodes, &mut found);
        edges::kinds(spec, &nodes, None, &mut found);
        order::lazy(&mut nodes);
    } else if found.0.is_empty() {
        runs::none(spec, &mut found);
        edges::kinds(spec, &nodes, Some(result), &mut found);
        order::shown(spec, &mut nodes, result, &mut found);
        order::reachable(&mut nodes, result, &mut found);
        budgets::check(spec, &mut nodes, result, &mut found);
    }
    if found.0.is_empty() {
        Ok(Graph {
            input: spec.input.clone(),
            output: spec.output.clone(),
            budget: spec.budget,
            result,
            nodes,
            durable,
        })
    } else {
        Err(found.0)
    }
}

/// Whether a pipeline is run by durable runs alone: something else than a request starts it, or a stage makes sense only there.
pub fn durable(spec: &PipelineSpec, registry: &Registry) -> bool {
    let kinds = || spec.stages.iter().filter_map(|s| registry.get(&s.kind));
    spec.durable.triggered || kinds().any(|kind| kind.durable())
}

/// A stage that was built, with its kind.
struct Built {
    stage: Arc<dyn Stage>,
    kind: Arc<dyn StageKind>,
}

fn names(spec: &PipelineSpec, found: &mut Found) {
    for (i, s) in spec.stages.iter().enumerate() {
        let name = s.name.as_str();
        if matches!(name, "input" | "item" | "index") {
            found.stage(
                i,
                &[],
                format!("`{name}` is a name the graph needs for itself"),
                "give the stage another name",
            );
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            found.stage(
                i,
                &[],
                format!("`{name}` cannot be a stage's name"),
                "use letters, digits, `-` and `_`",
            );
        }
        if spec.stages.iter().take(i).any(|earlier| earlier.name == s.name) {
            found.stage(
                i,
                &[],
                format!("there is a stage `{name}` already"),
                "give each stage a name of its own",
            );
        }
    }
}

fn build(i: usize, s: &StageSpec, registry: &Registry, found: &mut Found) -> Option<Built> {
    let Some(kind) = registry.get(&s.kind) else {
        let known: Vec<_> = registry.names().collect();
        found.stage(
            i,
            &[&s.kind],
            format!("there is no kind of stage `{}`", s.kind),
            format!("use one of {}", known.join(", ")),
        );
        return None;
    };
    match kind.build(&s.config, &Site { name: &s.name, each: s.each.is_some() }) {
        Ok(stage) => Some(Built { stage, kind: kind.clone() }),
        Err(problems) => {
            for p in problems {
                let mut path = vec![s.kind.clone()];
                path.extend(p.pointer.split('/').filter(|x| !x.is_empty()).map(str::to_owned));
                let place = Place { stage: Some(i), path };
                found.0.push(Finding { place, message: p.message, remedy: p.remedy });
            }
            None
        }
    }
}

fn result_of(spec: &PipelineSpec, found: &mut Found) -> Option<usize> {
    match &spec.result {
        None => spec.stages.len().checked_sub(1),
        Some(name) => {
            let at = position(spec, name);
            if at.is_none() {
                found.pipeline("result", format!("there is no stage `{name}`"), names_of(spec));
            }
            at
        }
    }
}

fn position(spec: &PipelineSpec, name: &StageName) -> Option<usize> {
    spec.stages.iter().position(|s| s.name == *name)
}

fn names_of(spec: &PipelineSpec) -> String {
    let names: Vec<_> = spec.stages.iter().map(|s| s.name.as_str()).collect();
    format!("use one of {}", names.join(", "))
}

/// Collects findings.
#[derive(Default)]
struct Found(Vec<Finding>);

impl Found {
    fn stage(&mut self, stage: usize, path: &[&str], message: impl Into<String>, remedy: impl Into<String>) {
        let place = Place { stage: Some(stage), path: path.iter().map(|p| (*p).to_owned()).collect() };
        self.0.push(Finding { place, message: message.into(), remedy: remedy.into() });
    }

    fn pipeline(&mut self, field: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let place = Place { stage: None, path: vec![field.to_owned()] };
        self.0.push(Finding { place, message: message.into(), remedy: remedy.into() });
    }
}

/// Whether a node's output reaches the caller before the end.
fn is_shown(node: &Node) -> bool {
    node.shows != Shows::Nothing
}
