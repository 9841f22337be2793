//! What must come before what: cycles, stages nobody needs, and which stage the caller sees.

use super::{Found, is_shown};
use crate::graph::Node;
use crate::{PipelineSpec, Shows};

/// Reports each cycle once, at the stage where it closes.
pub(super) fn cycles(nodes: &[Node], found: &mut Found) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    fn visit(at: usize, nodes: &[Node], marks: &mut [Mark], path: &mut Vec<usize>, found: &mut Found) {
        let Some(node) = nodes.get(at) else { return };
        if let Some(m) = marks.get_mut(at) {
            *m = Mark::Open;
        }
        path.push(at);
        for next in node.sources().chain(node.after.iter().copied()).chain(node.fallback) {
            match marks.get(next) {
                Some(Mark::New) => visit(next, nodes, marks, path, found),
                Some(Mark::Open) => {
                    let cycle = path.iter().skip_while(|p| **p != next).chain([&next]);
                    let names: Vec<_> =
                        cycle.filter_map(|p| nodes.get(*p)).map(|n| n.name.as_str()).collect();
                    found.stage(
                        at,
                        &[],
                        format!("the stages wait for each other: {}", names.join(" → ")),
                        "break the circle: one of them must take its input from elsewhere",
                    );
                }
                Some(Mark::Done) | None => {}
            }
        }
        path.pop();
        if let Some(m) = marks.get_mut(at) {
            *m = Mark::Done;
        }
    }
    let mut marks = vec![Mark::New; nodes.len()];
    for at in 0..nodes.len() {
        if marks.get(at) == Some(&Mark::New) {
            visit(at, nodes, &mut marks, &mut Vec::new(), found);
        }
    }
}

/// Decides which stage's output the caller sees as the answer, piece by piece.
pub(super) fn shown(spec: &PipelineSpec, nodes: &mut [Node], result: usize, found: &mut Found) {
    for (i, s) in spec.stages.iter().enumerate() {
        let Some(node) = nodes.get(i) else { continue };
        let streams = node.stage.signature().streams && node.each.is_none();
        if s.stream == Some(true) && !streams {
            let why = if node.each.is_some() { "runs for each element" } else { "gives its output at once" };
            let message = format!("stage `{}` cannot stream: it {why}", s.name);
            found.stage(i, &["stream"], message, "remove `stream`");
        } else if s.stream == Some(true) && i != result && node.tailed_by != Some(result) {
            let message = format!("stage `{}` streams, but its output is not the pipeline's answer", s.name);
            found.stage(i, &["stream"], message, "stream the last stage, or name this one by `result`");
        }
    }
    let off = spec.stages.get(result).is_some_and(|s| s.stream == Some(false));
    if let Some(node) = nodes.get_mut(result)
        && node.stage.signature().streams
        && node.each.is_none()
        && !off
    {
        node.shows = Shows::Deltas;
    }
}

/// Reports stages whose output goes nowhere; marks those that only a fallback needs.
pub(super) fn reachable(nodes: &mut [Node], result: usize, found: &mut Found) {
    let mut needed = vec![false; nodes.len()];
    let shown: Vec<usize> =
        nodes.iter().enumerate().filter(|(_, n)| is_shown(n)).map(|(i, _)| i).chain([result]).collect();
    mark(nodes, &shown, false, &mut needed);
    let mut kept = needed.clone();
    mark(nodes, &shown, true, &mut kept);
    for (i, node) in nodes.iter_mut().enumerate() {
        let (needed, kept) = (needed.get(i) == Some(&true), kept.get(i) == Some(&true));
        if !kept {
            found.stage(
                i,
                &[],
                format!("nothing uses the output of stage `{}`", node.name),
                "remove it, use its name as an input, or show it with `draft: true`",
            );
        }
        node.lazy = kept && !needed;
    }
}

/// Marks stages that only a fallback needs, where every stage is run for its own sake.
pub(super) fn lazy(nodes: &mut [Node]) {
    let called: Vec<bool> = (0..nodes.len()).map(|i| nodes.iter().any(|n| n.fallback == Some(i))).collect();
    let taken = |i: usize| nodes.iter().any(|n| n.sources().any(|s| s == i) || n.after.contains(&i));
    let lazy: Vec<bool> = called.iter().enumerate().map(|(i, called)| *called && !taken(i)).collect();
    for (node, lazy) in nodes.iter_mut().zip(lazy) {
        node.lazy = lazy;
    }
}

fn mark(nodes: &[Node], roots: &[usize], fallbacks: bool, seen: &mut [bool]) {
    let mut todo = roots.to_vec();
    let mut visited = vec![false; nodes.len()];
    while let Some(at) = todo.pop() {
        let (Some(node), Some(v)) = (nodes.get(at), visited.get_mut(at)) else { continue };
        if std::mem::replace(v, true) {
            continue;
        }
        if let Some(s) = seen.get_mut(at) {
            *s = true;
        }
        todo.extend(node.sources());
        if fallbacks {
            todo.extend(node.fallback);
        }
    }
}
