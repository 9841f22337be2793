//! `forebay explain ID`: what happened to a request, from its record in the ledger, as a tree; of a prediction, from what is kept of
//! answers.

mod prediction;

use contract::{AttemptRecord, RequestId, RequestRecord, StageRecord, Usage};
use serde::Serialize;
use serde_json::Value;

use super::source::Source;
use super::storage::{Need, clean};
use super::{Global, block_on, print, print_json, time};
use crate::Error;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request's id, as in the header `x-request-id` of its answer.
    id: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    const HELP: &str = "take the id from the header `x-request-id` of an answer, and check --project, or --server and its key";
    let id: RequestId = args.id.parse().map_err(|e: String| Error::new(clean(&e), HELP))?;
    let found = block_on(async {
        let source = Source::open(global, Need::Records).await?;
        let found = source.record(id).await;
        source.close().await;
        found
    })?;
    let unknown = || Error::new(format!("there is no record of {id}: it is unknown, or still running"), HELP);
    let Some(record) = found else {
        if global.server().is_some() {
            return Err(unknown());
        }
        // Nothing is charged for a prediction: it has no record in the ledger.
        let found = super::data::block_on(prediction::find(global, &id.to_string()))?.ok_or_else(unknown)?;
        if global.json {
            return print_json(&found.json());
        }
        print(&found.tree().whole());
        return Ok(());
    };
    if global.json {
        return print_json(&record);
    }
    print(&render(&record));
    Ok(())
}

/// A line and what hangs below it.
struct Node {
    line: String,
    below: Vec<Node>,
}

impl Node {
    fn new(line: impl AsRef<str>) -> Self {
        Node { line: clean(line.as_ref()), below: Vec::new() }
    }

    /// It and all that hangs below it.
    fn whole(&self) -> String {
        let mut out = self.line.clone();
        self.write("", &mut out);
        out
    }

    fn write(&self, indent: &str, out: &mut String) {
        for (i, node) in self.below.iter().enumerate() {
            let last = i + 1 == self.below.len();
            out.push_str(&format!("\n{indent}{}{}", if last { "└─ " } else { "├─ " }, node.line));
            node.write(&format!("{indent}{}", if last { "   " } else { "│  " }), out);
        }
    }
}

fn render(r: &RequestRecord) -> String {
    let mut root = Node::new(format!("{}  {}", r.id, word(&r.ending)));
    root.below.push(Node::new(heading(r)));
    root.below.push(Node::new(totals(r)));
    root.below.extend(error(r.error.as_ref()));
    // Stages in the order they began; attempts of none, or of one without a record, stand beside them.
    let mut stages: Vec<&StageRecord> = r.stages.iter().collect();
    stages.sort_by_key(|s| s.started_us);
    for s in &stages {
        let mut node = stage(s);
        node.below.extend(attempts(r, |a| a.stage.as_ref() == Some(&s.name)));
        root.below.push(node);
    }
    let homeless = |a: &AttemptRecord| !stages.iter().any(|s| a.stage.as_ref() == Some(&s.name));
    root.below.extend(attempts(r, homeless));
    if !r.facts.is_empty() {
        let mut node = Node::new("facts");
        node.below = r.facts.iter().map(|(name, value)| Node::new(fact(name, value))).collect();
        root.below.push(node);
    }
    root.whole()
}

fn heading(r: &RequestRecord) -> String {
    let mut parts =
        vec![time::show(r.at), format!("surface {}", word(&r.surface)), format!("tenant {}", r.tenant)];
    parts.extend(r.key.as_ref().map(|k| format!("key {k}")));
    parts.extend(r.user.as_ref().map(|u| format!("user {u}")));
    let version = r.pipeline_version.as_ref().map_or(String::new(), |v| format!(" version {v}"));
    parts.extend(r.pipeline.as_ref().map(|p| format!("pipeline {p}{version}")));
    parts.extend(r.model.as_ref().map(|m| format!("model {m}")));
    parts.join(", ")
}

fn totals(r: &RequestRecord) -> String {
    let first = r.first_output_us.map_or("no output".into(), |us| format!("first output after {}", ms(us)));
    let queued = if r.queued_us > 0 { format!(", queued {}", ms(r.queued_us)) } else { String::new() };
    format!("total {}, {first}{queued}, {}, {}", ms(r.total_us), tokens(&r.usage), r.cost)
}

fn stage(s: &StageRecord) -> Node {
    let elapsed = s.ended_us.saturating_sub(s.started_us);
    let budget = s.budget_ms.map_or(String::new(), |budget| {
        let over = if elapsed > budget.saturating_mul(1000) { ", over it" } else { "" };
        format!(" of a budget of {budget} ms{over}")
    });
    let parts = s.parts.map_or(String::new(), |[all, failed, cached]| {
        format!(", {all} parts ({failed} failed, {cached} from the cache)")
    });
    let line = format!(
        "stage {}: {}, started at {}, took {}{budget}{parts}",
        s.name,
        word(&s.state),
        ms(s.started_us),
        ms(elapsed)
    );
    let mut node = Node::new(line);
    node.below.extend(error(s.error.as_ref()));
    node
}

/// The attempts that `wanted` names, in the order they began.
fn attempts(r: &RequestRecord, wanted: impl Fn(&AttemptRecord) -> bool) -> Vec<Node> {
    let mut found: Vec<&AttemptRecord> = r.attempts.iter().filter(|a| wanted(a)).collect();
    found.sort_by_key(|a| a.started_us);
    found.into_iter().map(attempt).collect()
}

fn attempt(a: &AttemptRecord) -> Node {
    let why = a.reason.map_or(String::new(), |r| format!(" ({})", r.as_str()));
    let mut parts = vec![format!("attempt{why} {} at {}: {}", a.model, a.endpoint, word(&a.ending))];
    parts.extend(a.model_version.as_ref().map(|v| format!("version {v}")));
    parts.extend(a.prompt_version.as_ref().map(|v| format!("prompt {v}")));
    parts.push(format!("started at {}", ms(a.started_us)));
    parts.push(format!("queued {}", ms(a.queued_us)));
    parts.push(a.first_token_us.map_or("no token".into(), |us| format!("first token at {}", ms(us))));
    parts.push(format!("ended at {}", ms(a.ended_us)));
    parts.push(tokens(&a.usage));
    parts.push(a.cost.to_string());
    let mut node = Node::new(parts.join(", "));
    node.below.extend(error(a.error.as_ref()));
    node
}

fn error(error: Option<&contract::Error>) -> Option<Node> {
    error.map(|e| {
        let status = e.upstream_status.map_or(String::new(), |s| format!(" (upstream status {s})"));
        Node::new(format!("error {}: {}{status}", e.code, e.message))
    })
}

/// A finding on one line: counts as `name 3`, a list by its length.
fn fact(name: &str, value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let each: Vec<String> = fields.iter().map(|(k, v)| figure(k, v)).collect();
            format!("{name}: {}", each.join(", "))
        }
        Value::Array(items) => format!("{name}: {} (listed by --json)", items.len()),
        Value::Number(n) if name == "coverage" => {
            let percent = n.as_f64().map_or_else(|| n.to_string(), |x| format!("{:.1} %", x * 100.0));
            format!("{name}: {percent}")
        }
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    }
}

/// A figure of a finding; money in dollars, and figures by a name behind it: `writer (hit 1, saved_tokens 30)`.
fn figure(name: &str, value: &Value) -> String {
    match (value, name.strip_suffix("_nanousd")) {
        (Value::Object(fields), _) => {
            let each: Vec<String> = fields.iter().map(|(k, v)| figure(k, v)).collect();
            format!("{name} ({})", each.join(", "))
        }
        (Value::Number(n), Some(what)) if n.is_i64() => {
            format!("{what} {}", contract::Money::from_nanos(n.as_i64().unwrap_or(0)))
        }
        _ => format!("{name} {value}"),
    }
}

fn tokens(usage: &Usage) -> String {
    let about = if usage.estimated { " (estimated)" } else { "" };
    let cached = match usage.cached_input_tokens {
        0 => String::new(),
        n => format!(" ({n} cached)"),
    };
    format!("tokens {} in{cached}, {} out{about}", usage.input_tokens, usage.output_tokens)
}

/// Microseconds, shown in milliseconds to a tenth.
fn ms(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

/// The name of a variant, as it is in the record.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record() -> RequestRecord {
        let attempt = |stage: &str, at: u64| {
            json!({
                "stage": stage, "model": "writer", "endpoint": "openai", "model_version": "gpt-x-1",
                "prompt_version": "0123456789ab", "started_us": at, "queued_us": 150, "first_token_us": at + 5000,
                "ended_us": at + 9000, "usage": {"input_tokens": 100, "output_tokens": 20}, "cost": 1_200_000,
                "ending": "complete",
            })
        };
        let mut failed = attempt("part", 1000);
        failed["ending"] = json!("failed");
        failed["error"] = json!({"code": "upstream_error", "message": "no\n\u{1b}[31mway"});
        serde_json::from_value(json!({
            "id": RequestId::from_parts(contract::UnixMillis(0), 7), "at": 0, "surface": "native", "tenant": "acme",
            "pipeline": "summarize", "pipeline_version": "abc", "stream": true, "queued_us": 0,
            "first_output_us": 15_000, "total_us": 40_000,
            "usage": {"input_tokens": 300, "output_tokens": 60}, "cost": 3_600_000,
            "attempts": [attempt("part", 12_000), failed, attempt("merge", 25_000)],
            "stages": [
                {"name": "merge", "started_us": 24_000, "ended_us": 39_000, "budget_ms": 10, "state": "done"},
                {"name": "part", "started_us": 500, "ended_us": 22_000, "budget_ms": 30, "state": "partial",
                 "parts": [4, 1, 2]},
            ],
            "facts": {"coverage": 0.75, "grounding": {"sentences": 4, "supported": 3}, "citations": [1, 2]},
            "ending": "partial",
        }))
        .unwrap()
    }

    #[test]
    fn a_record_is_a_tree_of_stages_in_order_with_their_attempts() {
        let text = render(&record());
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in\n{text}"));
        assert!(text.starts_with("req_") && at("  partial") < at("1970-01-01T00:00:00Z"), "{text}");
        assert!(at("pipeline summarize version abc") < at("total 40.0 ms, first output after 15.0 ms"));
        let part = at("stage part: partial, started at 0.5 ms, took 21.5 ms of a budget of 30 ms, 4 parts");
        let merge = at("stage merge: done, started at 24.0 ms, took 15.0 ms of a budget of 10 ms, over it");
        assert!(part < at("attempt writer at openai: failed") && at("error upstream_error") < merge);
        assert_eq!(
            text.matches("│  ├─ attempt").count() + text.matches("│  └─ attempt").count(),
            3,
            "{text}"
        );
        assert!(merge < at("coverage: 75.0 %") && at("grounding: sentences 4, supported 3") > merge);
    }

    #[test]
    fn what_a_cache_saved_is_shown_in_dollars() {
        let saved = json!({"writer": {"hit": 2, "saved_tokens": 30, "saved_nanousd": 1_500_000}});
        assert_eq!(fact("cache", &saved), "cache: writer (hit 2, saved_tokens 30, saved $0.0015)");
    }

    #[test]
    fn what_a_provider_said_cannot_steer_the_terminal() {
        let text = render(&record());
        assert!(!text.contains('\u{1b}') && text.contains("no  [31mway"), "{text}");
    }

    #[test]
    fn attempts_of_a_plain_model_call_stand_at_the_top() {
        let mut r = record();
        r.stages.clear();
        r.facts.clear();
        assert_eq!(render(&r).matches("\n├─ attempt").count(), 2);
        assert_eq!(render(&r).matches("\n└─ attempt").count(), 1);
    }
}
