//! Which value goes where: names to sources, and whether the kinds meet.

use std::time::Duration;

use contract::{FailureContract, Kind};

use super::{Built, Found, names_of, position};
use crate::graph::{Node, Source};
use crate::{OnFailure, PipelineSpec, Shows, StageSpec, spec};

/// The inputs that the executor itself gives to a stage that runs for each element.
const ITEM: &str = "item";
const INDEX: &str = "index";

/// Resolves all names.
pub(super) fn resolve(spec: &PipelineSpec, built: Vec<Built>, found: &mut Found) -> Vec<Node> {
    let mut nodes: Vec<Node> = spec
        .stages
        .iter()
        .zip(built)
        .enumerate()
        .map(|(i, (s, b))| {
            let (inputs, each) = inputs(i, s, &b, spec, found);
            let (on_failure, fallback) = failure(i, s, spec, found);
            if s.parallel == Some(0) {
                found.stage(i, &["parallel"], "nothing can run 0 at a time", "use 1 or more");
            }
            if s.parallel.is_some() && s.each.is_none() {
                found.stage(
                    i,
                    &["parallel"],
                    "`parallel` needs `each`",
                    "add `each: <stage>` or remove `parallel`",
                );
            }
            let by_kind = b.kind.shows() == Shows::Draft && s.each.is_none();
            let cached = s.runs.cache.unwrap_or_else(|| b.kind.cached(&s.config));
            let shows = if s.draft.unwrap_or(by_kind) { Shows::Draft } else { Shows::Nothing };
            Node {
                name: s.name.clone(),
                stage: b.stage,
                inputs,
                each,
                parallel: s.parallel.unwrap_or(4).max(1) as usize,
                on_failure,
                fallback,
                shows,
                budget: s.budget,
                tail_of: None,
                tailed_by: None,
                lazy: false,
                matrix: !s.runs.matrix.is_empty(),
                collects: s.runs.collect.is_some(),
                cached,
                after: after(i, s, spec, found),
                reserve: Duration::ZERO,
            }
        })
        .collect();
    for i in 0..nodes.len() {
        let Some(tail) = tail_of(i, &nodes) else { continue };
        let taken = nodes.get(tail.0).is_some_and(|n| n.tailed_by.is_some());
        if !taken {
            if let Some(source) = nodes.get_mut(tail.0) {
                source.tailed_by = Some(i);
            }
            if let Some(node) = nodes.get_mut(i) {
                node.tail_of = Some(tail);
            }
        }
    }
    nodes
}

/// The nodes that a stage waits for.
fn after(i: usize, s: &StageSpec, spec: &PipelineSpec, found: &mut Found) -> Vec<usize> {
    let mut after = Vec::new();
    for name in &s.runs.after {
        match position(spec, name) {
            Some(at) => after.push(at),
            None => found.stage(i, &["after"], format!("there is no stage `{name}`"), names_of(spec)),
        }
    }
    after
}

/// The node whose stream node `i` can work on: its tail input comes from a streaming node that runs once.
fn tail_of(i: usize, nodes: &[Node]) -> Option<(usize, String)> {
    let node = nodes.get(i)?;
    let input = node.stage.tail_input()?;
    let (_, Source::Node(source)) = node.inputs.iter().find(|(n, _)| n == input)? else { return None };
    let from = nodes.get(*source)?;
    let streams = from.stage.signature().streams && from.each.is_none() && node.each.is_none();
    // The tail's other inputs must not need the stream's own node.
    streams.then(|| (*source, input.to_owned()))
}

type Edges = (Vec<(String, Source)>, Option<(String, Source)>);

fn inputs(i: usize, s: &StageSpec, b: &Built, spec: &PipelineSpec, found: &mut Found) -> Edges {
    let wanted: Vec<&str> = b.stage.signature().inputs.keys().map(String::as_str).collect();
    let source = |name: &str| -> Option<Source> {
        if name == "input" { Some(Source::Input) } else { position(spec, &name.into()).map(Source::Node) }
    };
    let mut inputs = Vec::new();
    let mut each = None;
    let mut open: Vec<&str> = wanted.clone();
    if let Some(over) = &s.each {
        let element = if wanted.contains(&ITEM) || wanted.len() != 1 {
            ITEM
        } else {
            wanted.first().copied().unwrap_or(ITEM)
        };
        if !wanted.contains(&element) {
            found.stage(
                i,
                &["each"],
                format!("stage `{}` does not use the element it is given", s.name),
                "use `item` among its inputs (in a prompt: `{{ item }}`), or remove `each`",
            );
        }
        match source(over) {
            Some(src) => each = Some((element.to_owned(), src)),
            None => found.stage(i, &["each"], format!("there is no stage `{over}`"), names_of(spec)),
        }
        open.retain(|n| *n != element && *n != INDEX);
    }
    match &s.from {
        spec::Source::Auto => {}
        spec::Source::One(from) => match (source(from), open.as_slice()) {
            (None, _) => found.stage(i, &["from"], format!("there is no stage `{from}`"), names_of(spec)),
            (Some(_), []) => found.stage(i, &["from"], "this stage takes nothing more", "remove `from`"),
            (Some(src), [first, ..]) => {
                inputs.push(((*first).to_owned(), src));
                let first = *first;
                open.retain(|n| *n != first);
            }
        },
        spec::Source::Named(map) => {
            for (name, from) in map {
                let known = open.contains(&name.as_str());
                match source(from) {
                    _ if !known => found.stage(
                        i,
                        &["from", name],
                        format!("this stage has no input `{name}`"),
                        format!("its inputs are {}", wanted.join(", ")),
                    ),
                    None => {
                        found.stage(i, &["from", name], format!("there is no stage `{from}`"), names_of(spec))
                    }
                    Some(src) => inputs.push((name.clone(), src)),
                }
                open.retain(|n| n != name);
            }
        }
    }
    let only = open.len() == 1 && wanted.len() == 1;
    for name in open {
        match source(name) {
            Some(Source::Node(n)) if n == i => {
                found.stage(
                    i,
                    &[],
                    format!("stage `{name}` takes its own output"),
                    "name another source by `from`",
                );
            }
            Some(src) => inputs.push((name.to_owned(), src)),
            None if only => inputs.push((name.to_owned(), Source::Input)),
            None => found.stage(
                i,
                &[],
                format!("nothing gives stage `{}` its input `{name}`", s.name),
                format!("add a stage `{name}` or `from: {{{name}: <stage>}}`"),
            ),
        }
    }
    (inputs, each)
}

fn failure(
    i: usize,
    s: &StageSpec,
    spec: &PipelineSpec,
    found: &mut Found,
) -> (FailureContract, Option<usize>) {
    let contract = match &s.on_failure {
        OnFailure::Fail => FailureContract::Fail,
        OnFailure::Retry(0) => {
            found.stage(i, &["on_failure"], "0 retries are none", "use `retry: 1` or more, or `fail`");
            FailureContract::Fail
        }
        OnFailure::Retry(n) => FailureContract::Retry(*n),
        OnFailure::Partial => FailureContract::Partial,
        OnFailure::Skip => FailureContract::Skip,
        OnFailure::Default(v) => FailureContract::Default(v.clone()),
        OnFailure::Fallback(name) => match position(spec, name) {
            Some(at) if at != i => return (FailureContract::Fallback(name.clone()), Some(at)),
            Some(_) => {
                found.stage(
                    i,
                    &["on_failure", "fallback"],
                    "a stage cannot fall back on itself",
                    names_of(spec),
                );
                FailureContract::Fail
            }
            None => {
                let message = format!("there is no stage `{name}`");
                found.stage(i, &["on_failure", "fallback"], message, names_of(spec));
                FailureContract::Fail
            }
        },
    };
    (contract, None)
}

/// Whether what comes is what is taken, everywhere; and what is promised, where somebody waits for an answer.
pub(super) fn kinds(spec: &PipelineSpec, nodes: &[Node], result: Option<usize>, found: &mut Found) {
    let kind_of = |s: Source| match s {
        Source::Input => Some(spec.input.clone()),
        Source::Node(n) => nodes.get(n).map(Node::output),
    };
    let name_of = |s: Source| match s {
        Source::Input => "the pipeline's input".to_owned(),
        Source::Node(n) => nodes.get(n).map_or_else(String::new, |n| format!("stage `{}`", n.name)),
    };
    for (i, node) in nodes.iter().enumerate() {
        let wants = &node.stage.signature().inputs;
        for (input, source) in &node.inputs {
            let (Some(want), Some(given)) = (wants.get(input), kind_of(*source)) else { continue };
            if !want.accepts(&given) {
                found.stage(
                    i,
                    &["from"],
                    format!(
                        "stage `{}` takes {want} as `{input}`, but {} gives {given}",
                        node.name,
                        name_of(*source)
                    ),
                    format!("name a source that gives {want} by `from`, or put a stage between them"),
                );
            }
        }
        if let Some((input, source)) = &node.each {
            let Some(given) = kind_of(*source) else { continue };
            // Nobody reads a table for a request.
            let row = || (result.is_none() && given == Kind::Table).then_some(Kind::Json(None));
            match (given.element().or_else(row), wants.get(input)) {
                (None, _) => found.stage(
                    i,
                    &["each"],
                    format!("{} gives one {given}, not many", name_of(*source)),
                    "name a stage that gives chunks or a list",
                ),
                (Some(one), Some(want)) if !want.accepts(&one) => found.stage(
                    i,
                    &["each"],
                    format!(
                        "stage `{}` takes {want}, but the elements of {} are {one}",
                        node.name,
                        name_of(*source)
                    ),
                    "name a source with other elements",
                ),
                _ => {}
            }
        }
        let own = node.output();
        if let Some(kind) = node.fallback.and_then(|f| nodes.get(f)).map(Node::output)
            && !own.accepts(&kind)
        {
            let message = format!("stage `{}` gives {own}, its fallback gives {kind}", node.name);
            found.stage(i, &["on_failure", "fallback"], message, "fall back on a stage of the same kind");
        }
        if let FailureContract::Default(value) = &node.on_failure
            && !own.accepts(&value.kind())
            && own != Kind::Json(None)
        {
            let message = format!("stage `{}` gives {own}, its default is {}", node.name, value.kind());
            found.stage(i, &["on_failure", "default"], message, format!("give a default that is {own}"));
        }
    }
    if let Some(given) = result.and_then(|at| nodes.get(at)).map(Node::output)
        && !spec.output.accepts(&given)
    {
        let message = format!("the pipeline promises {}, but its last stage gives {given}", spec.output);
        found.pipeline(
            "output",
            message,
            format!("write `output: {given}` or name another stage by `result`"),
        );
    }
}
