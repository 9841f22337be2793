//! What there is to call, as it is known from the configuration alone. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use contract::{Kind, PipelineName};
use parking_lot::RwLock;
use serde_json::{Map, Value as Json};

use super::Calls;
use super::kind::{KIND, PipelineKind};
use crate::graph::Source;
use crate::{PipelineSpec, Registry, check, is_durable};

/// A pipeline that stages may call.
#[derive(Debug, Clone)]
pub struct Callee {
    /// What it is given; `None` where no stage of it takes an input.
    pub input: Option<Kind>,
    /// What it answers.
    pub output: Kind,
    /// It is called as a run of its own.
    pub durable: bool,
    /// What such a run may be given; `null`: it must be.
    pub params: Map<String, Json>,
    /// The hash of all that it is made of but files.
    pub version: String,
    /// The files that its stages read.
    pub files: Vec<PathBuf>,
    /// How it comes to call itself, if it does: it first and last.
    pub circle: Option<Vec<PipelineName>>,
}

/// By name. Shared with the kind, which is asked while it is filled.
pub(super) type Callees = Arc<RwLock<BTreeMap<PipelineName, Callee>>>;

/// The same kinds of stages, and `pipeline`, whose stages may call these pipelines. `versions` has the hash of all that each is
/// made of but its files; `calls` is who calls, where anything runs.
#[must_use]
pub fn with_pipelines(
    registry: &Registry,
    pipelines: &BTreeMap<PipelineName, PipelineSpec>,
    versions: &BTreeMap<PipelineName, String>,
    calls: Calls,
) -> Registry {
    let callees = Callees::default();
    let mut registry = registry.clone();
    registry.register(PipelineKind::new(callees.clone(), calls));
    // Who is called is known before who calls it.
    for name in order(pipelines) {
        let Some(spec) = pipelines.get(&name) else { continue };
        let durable = is_durable(spec, &registry);
        let mut callee = Callee {
            input: Some(spec.input.clone()),
            output: spec.output.clone(),
            durable,
            params: spec.durable.params.clone(),
            version: versions.get(&name).cloned().unwrap_or_default(),
            files: files(spec, &registry),
            circle: circle(&name, pipelines),
        };
        // Of one that is not sound, which the check of that one tells, it is taken as it is written.
        if durable
            && callee.circle.is_none()
            && let Ok(graph) = check(spec, &registry)
        {
            let of = |s: &Source| *s == Source::Input;
            let takes = graph
                .nodes
                .iter()
                .any(|n| n.inputs.iter().any(|(_, s)| of(s)) || n.each.as_ref().is_some_and(|(_, s)| of(s)));
            callee.input = callee.input.filter(|_| takes);
            callee.output = graph.nodes.get(graph.result).map_or(callee.output, crate::Node::output);
        }
        callees.write().insert(name, callee);
    }
    registry
}

fn files(spec: &PipelineSpec, registry: &Registry) -> Vec<PathBuf> {
    let of = |s: &crate::StageSpec| registry.get(&s.kind).map(|k| k.files(&s.config)).unwrap_or_default();
    let mut files: Vec<PathBuf> = spec.stages.iter().flat_map(of).collect();
    files.sort();
    files.dedup();
    files
}

/// The pipelines that a pipeline's stages name.
fn called(spec: &PipelineSpec) -> impl Iterator<Item = PipelineName> + '_ {
    let name = |s: &crate::StageSpec| s.config.get("name").and_then(Json::as_str).map(PipelineName::from);
    spec.stages.iter().filter(|s| s.kind == KIND).filter_map(name)
}

/// All names, each behind those that it calls, as far as there is no circle.
fn order(pipelines: &BTreeMap<PipelineName, PipelineSpec>) -> Vec<PipelineName> {
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    let mut todo: Vec<(PipelineName, bool)> = pipelines.keys().rev().map(|n| (n.clone(), false)).collect();
    while let Some((name, ready)) = todo.pop() {
        if ready {
            order.push(name);
        } else if seen.insert(name.clone()) {
            let next = pipelines.get(&name).into_iter().flat_map(called).map(|n| (n, false));
            let next: Vec<_> = next.filter(|(n, _)| !seen.contains(n)).collect();
            todo.push((name, true));
            todo.extend(next);
        }
    }
    order
}

/// The shortest way on which a pipeline calls itself.
fn circle(
    from: &PipelineName,
    pipelines: &BTreeMap<PipelineName, PipelineSpec>,
) -> Option<Vec<PipelineName>> {
    let mut before: BTreeMap<PipelineName, PipelineName> = BTreeMap::new();
    let mut todo = std::collections::VecDeque::from([from.clone()]);
    while let Some(name) = todo.pop_front() {
        for next in pipelines.get(&name).into_iter().flat_map(called) {
            if next == *from {
                let mut way = vec![next];
                let mut at = &name;
                while at != from {
                    way.push(at.clone());
                    at = before.get(at)?;
                }
                way.push(from.clone());
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(&next) {
                before.insert(next.clone(), name.clone());
                todo.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Budget;
    use proptest::prelude::*;
    use serde_json::json;

    fn spec(calls: &[String]) -> PipelineSpec {
        let stage = |name: &String| crate::StageSpec {
            name: "s".into(),
            kind: KIND.into(),
            config: json!({ "name": name }),
            from: crate::Source::Auto,
            each: None,
            parallel: None,
            on_failure: crate::OnFailure::Fail,
            stream: None,
            draft: None,
            budget: Budget::default(),
            runs: crate::StageInRuns::default(),
        };
        PipelineSpec {
            input: Kind::Text,
            output: Kind::Text,
            budget: Budget::default(),
            stages: calls.iter().map(stage).collect(),
            result: None,
            durable: crate::DurableSpec::default(),
        }
    }

    proptest! {
        #[test]
        fn who_calls_itself_is_found_on_any_way_and_others_come_behind_what_they_call(
            edges in prop::collection::vec((0usize..6, 0usize..6), 0..12)
        ) {
            let name = |n: usize| format!("p{n}");
            let all: BTreeMap<PipelineName, PipelineSpec> = (0..6)
                .map(|n| {
                    let calls: Vec<String> =
                        edges.iter().filter(|(a, _)| *a == n).map(|(_, b)| name(*b)).collect();
                    (PipelineName::from(name(n).as_str()), spec(&calls))
                })
                .collect();
            // Who reaches whom, by brute force.
            let mut reach = [[false; 6]; 6];
            edges.iter().for_each(|(a, b)| reach[*a][*b] = true);
            for k in 0..6 {
                for a in 0..6 {
                    for b in 0..6 {
                        reach[a][b] |= reach[a][k] && reach[k][b];
                    }
                }
            }
            let order = order(&all);
            prop_assert_eq!(order.len(), 6);
            for (n, from) in reach.iter().enumerate() {
                let own = PipelineName::from(name(n).as_str());
                let way = circle(&own, &all);
                prop_assert_eq!(way.is_some(), from[n]);
                if let Some(way) = way {
                    prop_assert!(way.first() == Some(&own) && way.last() == Some(&own));
                    for pair in way.windows(2) {
                        prop_assert!(called(&all[&pair[0]]).any(|c| c == pair[1]));
                    }
                }
                let at = |p: &PipelineName| order.iter().position(|o| o == p);
                for next in called(&all[&own]) {
                    let m: usize = next.as_str()[1..].parse().unwrap();
                    prop_assert!(reach[m][n] || at(&next) < at(&own));
                }
            }
        }
    }
}
