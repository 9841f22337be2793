//! What makes sense in durable runs alone, and what makes none there.

use super::Found;
use crate::durable::COLUMNS;
use crate::graph::Node;
use crate::{PipelineSpec, StageSpec};

/// The most stages that one is multiplied to.
const MATRIX: usize = 1_000;

/// What a stage says that only durable runs know.
fn fields(s: &StageSpec) -> impl Iterator<Item = &'static str> {
    let given = [
        ("after", !s.runs.after.is_empty()),
        ("approval", s.runs.approval.is_some()),
        ("group", s.runs.group.is_some()),
        ("retries", s.runs.retries.is_some()),
        ("cache", s.runs.cache.is_some()),
        ("matrix", !s.runs.matrix.is_empty()),
        ("collect", s.runs.collect.is_some()),
    ];
    given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name)
}

/// Reports what only durable runs have, in a pipeline that is live.
pub(super) fn none(spec: &PipelineSpec, found: &mut Found) {
    for (i, s) in spec.stages.iter().enumerate() {
        for field in fields(s) {
            let message = format!(
                "`{field}` means something in durable runs alone, and this pipeline answers requests"
            );
            found.stage(
                i,
                &[field],
                message,
                "remove it, or start the pipeline by something else than a request",
            );
        }
    }
    if !spec.durable.params.is_empty() {
        let message = "`params` are given to durable runs, and this pipeline answers requests";
        found.pipeline("params", message, "take them from the input: `input: json`");
    }
}

/// Reports what makes no sense in durable runs.
pub(super) fn check(spec: &PipelineSpec, nodes: &[Node], found: &mut Found) {
    for (i, (s, node)) in spec.stages.iter().zip(nodes).enumerate() {
        if !node.stage.models().is_empty() {
            let message =
                format!("stage `{}` asks a model, and a durable run has no place in its queue", s.name);
            let remedy =
                "put it into a pipeline that answers requests, and call that by `pipeline: {name: …}`";
            found.stage(i, &[], message, remedy);
        }
        for (field, given) in [("stream", s.stream.is_some()), ("draft", s.draft.is_some())] {
            if given {
                let message = "nobody reads the output of a durable run while it is made";
                found.stage(i, &[field], message, format!("remove `{field}`"));
            }
        }
        if node.fallback.and_then(|f| nodes.get(f)).is_some_and(|f| f.matrix) {
            let message = "it falls back on a stage that is run for many values";
            found.stage(i, &["on_failure", "fallback"], message, "fall back on a stage without `matrix`");
        }
        collect(i, s, node, found);
        let size = s.runs.matrix.iter().map(|(_, values)| values.len()).fold(1_usize, usize::saturating_mul);
        if size == 0 || size > MATRIX {
            let message = format!("the matrix has {size} combinations");
            found.stage(
                i,
                &["matrix"],
                message,
                format!("give each name values, {MATRIX} combinations at most"),
            );
        }
    }
}

/// The table that a stage collects has columns of different names, and elements to collect.
fn collect(i: usize, s: &StageSpec, node: &Node, found: &mut Found) {
    let Some(collect) = &s.runs.collect else { return };
    if node.each.is_none() {
        let message = "`collect` makes a table with a row for each element, and this stage runs once";
        found.stage(i, &["collect"], message, "add `each: <stage>`, or remove it");
    }
    let mut names = std::collections::BTreeSet::from(COLUMNS.map(|(name, _)| name));
    for (field, name) in collect.keep.iter().map(|name| ("keep", name)).chain([("as", &collect.output)]) {
        if !names.insert(name) {
            let message = format!("two columns of the table would be called `{name}`");
            found.stage(
                i,
                &["collect", field],
                message,
                "give the output another name by `as`, or keep other fields",
            );
        }
    }
}
