//! Whether the budgets add up: a path slower than the whole, a stage dearer than the whole, a first output that no
//! stage can give in time.

use std::time::Duration;

use contract::Budget;

use super::{Found, is_shown};
use crate::PipelineSpec;
use crate::graph::Node;

/// Checks the budgets and fills in what each node must leave to the ones behind it.
pub(super) fn check(spec: &PipelineSpec, nodes: &mut [Node], result: usize, found: &mut Found) {
    let whole = spec.budget;
    if let (Some(first), Some(total)) = (whole.first_output, whole.total)
        && first > total
    {
        let message = format!("the first output ({}) may come after the end ({})", ms(first), ms(total));
        found.pipeline("budget", message, "make `first_output` shorter than `total`");
    }
    for (i, node) in nodes.iter().enumerate() {
        stage(i, node, &whole, found);
    }
    if let Some(total) = whole.total {
        let (sum, path) = slowest(result, nodes);
        if sum > total && path.len() > 1 {
            let names: Vec<_> = path.iter().filter_map(|p| nodes.get(*p)).map(|n| n.name.as_str()).collect();
            let message =
                format!("the path {} may take {}, the whole only {}", names.join(" → "), ms(sum), ms(total));
            found.pipeline("budget", message, "shorten the stages' budgets or lengthen `total`");
        }
    }
    if let Some(first) = whole.first_output {
        first_output(first, nodes, found);
    }
    reserves(nodes);
}

fn stage(i: usize, node: &Node, whole: &Budget, found: &mut Found) {
    if let (Some(own), Some(total)) = (node.budget.total, whole.total)
        && own > total
    {
        let message =
            format!("stage `{}` may take {}, the whole pipeline only {}", node.name, ms(own), ms(total));
        found.stage(i, &["budget", "total"], message, "shorten it or lengthen the pipeline's `total`");
    }
    if let (Some(own), Some(tokens)) = (node.budget.tokens, whole.tokens)
        && own > tokens
    {
        let message = format!("stage `{}` may use {own} tokens, the whole pipeline only {tokens}", node.name);
        found.stage(i, &["budget", "tokens"], message, "lower it or raise the pipeline's `tokens`");
    }
    if let (Some(own), Some(usd)) = (node.budget.usd, whole.usd)
        && own > usd
    {
        let message = format!("stage `{}` may cost {own}, the whole pipeline only {usd}", node.name);
        found.stage(i, &["budget", "usd"], message, "lower it or raise the pipeline's `usd`");
    }
}

/// The path to `at` whose explicit latency budgets add up to the most.
fn slowest(at: usize, nodes: &[Node]) -> (Duration, Vec<usize>) {
    let Some(node) = nodes.get(at) else { return (Duration::ZERO, Vec::new()) };
    let own = node.budget.total.unwrap_or_default();
    // A tail runs while its stream is made: the two take the longer of their times.
    let (mut sum, mut path) = node
        .sources()
        .map(|s| {
            let (t, p) = slowest(s, nodes);
            if node.tail_of.as_ref().is_some_and(|(n, _)| *n == s) {
                (t.saturating_sub(own), p)
            } else {
                (t, p)
            }
        })
        .max_by_key(|(t, _)| *t)
        .unwrap_or_default();
    sum += own;
    path.push(at);
    (sum, path)
}

/// Some shown stage must be able to give something by `first`: without a model on its path, or by explicit budgets.
fn first_output(first: Duration, nodes: &[Node], found: &mut Found) {
    let shown = |n: &&Node| is_shown(n);
    if nodes.iter().filter(shown).any(|n| in_time(n, nodes).is_some_and(|t| t <= first)) {
        return;
    }
    let message = format!("no stage can show anything within {}", ms(first));
    found.pipeline(
        "budget",
        message,
        "add a stage that needs no model, such as `- draft: {extractive: {sentences: 3}}`, or a longer `first_output`",
    );
}

/// How long a node may take to its first output: nothing when it is instant, its budget when it has one, else unknown.
fn in_time(node: &Node, nodes: &[Node]) -> Option<Duration> {
    let own = match (node.stage.signature().instant, node.budget.first_output.or(node.budget.total)) {
        (_, Some(d)) => d,
        (true, None) => Duration::ZERO,
        (false, None) => return None,
    };
    let mut before = Duration::ZERO;
    for s in node.sources() {
        before = before.max(in_time(nodes.get(s)?, nodes)?);
    }
    Some(before + own)
}

fn reserves(nodes: &mut [Node]) {
    // Longest explicit tail behind each node; the graph has no cycle, so this settles within its own length.
    for _ in 0..nodes.len() {
        for i in 0..nodes.len() {
            let Some(node) = nodes.get(i) else { continue };
            let behind = node.reserve + node.budget.total.unwrap_or_default();
            let (sources, tail) = (node.sources().collect::<Vec<_>>(), node.tail_of.as_ref().map(|t| t.0));
            for s in sources.into_iter().filter(|s| Some(*s) != tail) {
                if let Some(n) = nodes.get_mut(s) {
                    n.reserve = n.reserve.max(behind);
                }
            }
        }
    }
}

fn ms(d: Duration) -> String {
    if d.as_millis() >= 10_000 { format!("{} s", d.as_secs()) } else { format!("{} ms", d.as_millis()) }
}
