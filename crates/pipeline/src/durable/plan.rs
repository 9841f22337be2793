//! From a pipeline and what a run of it is given to the plan of the run.

use std::path::Path;

use contract::{Code, Error, FailureContract, StageName};
use serde_json::{Map, Value as Json, json};

use super::definition::{Asked, Definition};
use super::fill::{check_code, check_path, fill_stage};
use super::kept::Kept;
use super::stage::{From, StageWork};
use crate::graph::{Node, Source};
use crate::runs::{Contract, Plan, Retry, StagePlan};
use crate::spec::StageSpec;
use crate::{Registry, Site};

/// Bytes that the parameters of a run may take, as JSON: they are kept in its journal, in its lineage, and shown in lists.
const PARAMS: usize = 256 << 10;
/// The most stages of a run.
const STAGES: usize = 20_000;

/// A plan, and where the answer of the run comes from.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) result: Vec<StageName>,
    /// That is the variants of a matrix.
    pub(super) many: bool,
}

/// The plan of a run. Reads the files that its stages read.
///
/// # Errors
/// `invalid_request` for what the run is given or is not, and for stages that cannot be built of it.
pub(super) fn plan(
    def: &Definition,
    registry: &Registry,
    project: &Path,
    asked: &Asked,
) -> Result<Planned, Error> {
    let params = params(def, asked)?;
    let run = json!({"id": asked.id, "pipeline": def.name});
    let mut given = Map::new();
    given.insert("params".into(), Json::Object(params));
    given.insert("run".into(), run);
    if let Some(partition) = &asked.partition {
        given.insert("partition".into(), serde_json::to_value(partition).unwrap_or_default());
    }
    let order = order(&def.graph.nodes);
    // The stages that each node became.
    let mut names: Vec<Vec<StageName>> = vec![Vec::new(); def.graph.nodes.len()];
    let variants: Vec<Vec<Map<String, Json>>> = def.spec.stages.iter().map(variants).collect();
    for ((node, of), variants) in def.graph.nodes.iter().zip(&mut names).zip(&variants) {
        *of = variants.iter().map(|v| variant_name(&node.name, v)).collect();
    }
    let mut stages = Vec::new();
    for at in order {
        let (Some(node), Some(spec), Some(of)) =
            (def.graph.nodes.get(at), def.spec.stages.get(at), variants.get(at))
        else {
            continue;
        };
        for (number, variant) in of.iter().enumerate() {
            let mut given = given.clone();
            if !variant.is_empty() {
                given.insert("matrix".into(), Json::Object(variant.clone()));
            }
            let name =
                names.get(at).and_then(|n| n.get(number)).cloned().unwrap_or_else(|| node.name.clone());
            let site = Site { name: &name, each: node.each.is_some() };
            let made =
                stage(&site, (node, spec), (&given, &def.spec.durable.params), &names, (registry, project))?;
            stages.push(match &asked.bound {
                Some((group, places)) if made.group.is_none() => {
                    StagePlan { group: Some(group.clone()), places: Some((*places).max(1)), ..made }
                }
                _ => made,
            });
        }
        if stages.len() > STAGES {
            let m = format!("the run has more than {STAGES} stages");
            return Err(Error::new(Code::InvalidRequest, m));
        }
    }
    let result = names.get(def.graph.result).cloned().unwrap_or_default();
    let many = node_is_matrix(&names, def.graph.result);
    let plan = Plan {
        lane: asked.lane,
        not_before: asked.not_before,
        parallel: def.spec.durable.parallel,
        ..Plan::of(stages)
    };
    Ok(Planned { plan, result, many })
}

fn params(def: &Definition, asked: &Asked) -> Result<Map<String, Json>, Error> {
    let mut params = def.spec.durable.params.clone();
    let size: usize = asked.params.values().map(|v| v.to_string().len()).sum();
    if size > PARAMS {
        let m = format!(
            "the parameters of a run take at most {PARAMS} bytes, and these take {size}: give larger ones as its input, or in a file"
        );
        return Err(Error::new(Code::TooLarge, m).param("params"));
    }
    for (name, value) in &asked.params {
        if params.insert(name.clone(), value.clone()).is_none() {
            let known: Vec<&str> = def.spec.durable.params.keys().map(String::as_str).collect();
            let there = if known.is_empty() {
                "it takes none".into()
            } else {
                format!("it takes {}", known.join(", "))
            };
            let m = format!("pipeline `{}` has no parameter `{name}`: {there}", def.name);
            return Err(Error::new(Code::InvalidRequest, m).param(name.clone()));
        }
    }
    let open = params.iter().find(|(_, v)| v.is_null()).map(|(name, _)| name.clone());
    if let Some(name) = open {
        let m = format!(
            "pipeline `{}` needs the parameter `{name}`: give it by `--param {name}=VALUE`",
            def.name
        );
        return Err(Error::new(Code::InvalidRequest, m).param(name));
    }
    Ok(params)
}

/// Every combination of a matrix; one that is empty without any.
fn variants(spec: &StageSpec) -> Vec<Map<String, Json>> {
    let mut all = vec![Map::new()];
    for (name, values) in &spec.runs.matrix {
        let with = |v: &Map<String, Json>, value: &Json| {
            let mut v = v.clone();
            v.insert(name.clone(), value.clone());
            v
        };
        all = all.iter().flat_map(|v| values.iter().map(move |value| with(v, value))).collect();
    }
    all
}

/// `train` of no variant is `train`, else `train[rate=0.1,depth=4]`.
fn variant_name(name: &StageName, variant: &Map<String, Json>) -> StageName {
    if variant.is_empty() {
        return name.clone();
    }
    let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let parts: Vec<String> = variant.iter().map(|(k, v)| format!("{k}={}", text(v))).collect();
    StageName::from(format!("{name}[{}]", parts.join(",")))
}

/// The nodes, each behind what it waits for.
fn order(nodes: &[Node]) -> Vec<usize> {
    let (mut done, mut order) = (vec![false; nodes.len()], Vec::with_capacity(nodes.len()));
    let mut todo: Vec<(usize, bool)> = (0..nodes.len()).rev().map(|at| (at, false)).collect();
    while let Some((at, ready)) = todo.pop() {
        if done.get(at) != Some(&false) {
            continue;
        }
        if ready {
            if let Some(d) = done.get_mut(at) {
                *d = true;
            }
            order.push(at);
            continue;
        }
        todo.push((at, true));
        let Some(node) = nodes.get(at) else { continue };
        todo.extend(node.sources().chain(node.after.iter().copied()).map(|s| (s, false)));
    }
    order
}

fn stage(
    site: &Site<'_>,
    (node, spec): (&Node, &StageSpec),
    (given, own): (&Map<String, Json>, &Map<String, Json>),
    names: &[Vec<StageName>],
    (registry, project): (&Registry, &Path),
) -> Result<StagePlan, Error> {
    let kind = registry
        .get(&spec.kind)
        .ok_or_else(|| Error::new(Code::Internal, format!("there is no kind of stage `{}`", spec.kind)))?;
    let here = |e: Error| Error { message: format!("stage `{}`: {e}", site.name), ..e };
    for text in kind.code().iter().filter_map(|field| spec.config.get(field).and_then(Json::as_str)) {
        check_code(text, given, own).map_err(here)?;
    }
    for field in kind.paths().iter().filter_map(|field| spec.config.get(field)) {
        for text in field.as_array().into_iter().flatten().chain([field]).filter_map(Json::as_str) {
            check_path(text, given, own).map_err(here)?;
        }
    }
    let config = fill_stage(&spec.config, (given, own), kind.templates()).map_err(here)?;
    if let Err(problems) = kind.build(&config, site) {
        let first = problems.first().map(|p| format!("{}: {}", p.message, p.remedy)).unwrap_or_default();
        return Err(Error::new(Code::InvalidRequest, format!("stage `{}`: {first}", site.name)));
    }
    let from = |source: &Source| match source {
        Source::Input => From::Input,
        Source::Node(n) => match names.get(*n).map(Vec::as_slice) {
            Some([one]) if !node_is_matrix(names, *n) => From::Stage(one.clone()),
            Some(all) => From::Stages(all.to_vec()),
            None => From::Input,
        },
    };
    let inputs: Vec<(String, From)> = node.inputs.iter().map(|(n, s)| (n.clone(), from(s))).collect();
    let each = node.each.as_ref().map(|(n, s)| (n.clone(), from(s)));
    let of = |at: &usize| names.get(*at).into_iter().flatten().cloned();
    let needs = inputs.iter().chain(&each).flat_map(|(_, f)| f.stages().iter().cloned());
    let mut after: Vec<StageName> = needs.chain(node.after.iter().flat_map(of)).collect();
    after.sort();
    after.dedup();
    let (on_failure, default) = match &node.on_failure {
        FailureContract::Fail | FailureContract::Retry(_) => (Contract::Fail, None),
        FailureContract::Partial => (Contract::Partial, None),
        FailureContract::Skip => (Contract::Skip, None),
        FailureContract::Default(value) => (Contract::Default, Some(Kept::from(value))),
        FailureContract::Fallback(name) => (Contract::Fallback(name.clone()), None),
    };
    let retries = spec.runs.retries.unwrap_or(match node.on_failure {
        FailureContract::Retry(n) => n,
        _ => 0,
    });
    let work = StageWork {
        kind: spec.kind.clone(),
        version: kind.version(),
        files: files(&kind.files(&config), project),
        made_of: kind.made_of(&config),
        collect: spec.runs.collect.clone(),
        tokens: node.budget.tokens,
        nanousd: node.budget.usd.map(contract::Money::nanos),
        config,
        inputs,
        each,
        parallel: node.parallel,
        cached: node.cached,
        default,
        approval: spec.runs.approval.clone(),
    };
    let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    Ok(StagePlan {
        after,
        // Many runs share a worker, and its death says little of a single stage.
        retry: Retry { attempts: retries.saturating_add(1), losses: 100, ..Retry::default() },
        on_failure,
        lazy: node.lazy,
        approval: spec.runs.approval.is_some(),
        timeout_ms: node.budget.total.map(millis),
        group: spec.runs.group.clone(),
        spec: serde_json::to_value(&work).ok(),
        ..StagePlan::new(site.name.clone(), super::content::of(&work))
    })
}

fn node_is_matrix(names: &[Vec<StageName>], at: usize) -> bool {
    names.get(at).and_then(|n| n.first()).is_some_and(|n| n.as_str().contains('['))
}

/// Files with their hashes; one that cannot be read is not there.
pub(super) fn files(paths: &[std::path::PathBuf], project: &Path) -> Vec<(String, String)> {
    let hash = |path: &std::path::PathBuf| match std::fs::read(project.join(path)) {
        Ok(bytes) => blake3::hash(&bytes).to_hex().to_string(),
        Err(_) => "absent".to_owned(),
    };
    paths.iter().map(|p| (p.display().to_string(), hash(p))).collect()
}
