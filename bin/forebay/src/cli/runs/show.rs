//! Runs on the terminal.

use comfy_table::{Table, presets};
use contract::UnixMillis;
use serde_json::Value;

use super::super::storage::clean;
use super::super::{print, time};
use super::place::Place;
use crate::Error;

pub(super) fn word(of: &Value, name: &str) -> String {
    clean(of.get(name).and_then(Value::as_str).unwrap_or_default())
}

fn at(of: &Value, name: &str) -> String {
    of.get(name).and_then(Value::as_i64).map_or_else(String::new, |ms| time::show(UnixMillis(ms)))
}

/// How long it took: `1.2 s`, `340 ms`; nothing when it has not ended.
pub(super) fn took(of: &Value) -> String {
    let ms = |name: &str| of.get(name).and_then(Value::as_i64);
    match (ms("started_at"), ms("ended_at")) {
        (Some(from), Some(to)) if to - from >= 120_000 => format!("{} min", (to - from) / 60_000),
        (Some(from), Some(to)) if to - from >= 1_000 => format!("{:.1} s", (to - from) as f64 / 1_000.0),
        (Some(from), Some(to)) => format!("{} ms", (to - from).max(0)),
        _ => String::new(),
    }
}

/// What started it, in short: who, or the triggers: `cron 0 3 * * 1 UTC`, `dataset flights 6-8`.
fn cause(run: &Value) -> String {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let trigger = |t: &Value| {
        let (kind, of) = t.as_object()?.iter().next()?;
        let field = |name: &str| of.get(name).map(text);
        let what = match kind.as_str() {
            "cron" => field("schedule"),
            "dataset" => match (field("dataset"), field("from"), field("to")) {
                (Some(name), Some(from), Some(to)) => Some(format!("{name} {from}-{to}")),
                (name, ..) => name,
            },
            "event" => field("type"),
            "run" => field("pipeline"),
            _ => None,
        };
        Some(format!("{kind} {}", what.unwrap_or_else(|| of.to_string())))
    };
    let cause = run.get("cause").and_then(Value::as_object).and_then(|c| c.iter().next());
    let first = cause.map(|(k, v)| match (k.as_str(), v.as_array()) {
        ("by", _) => text(v),
        ("triggers", Some(all)) => all.iter().filter_map(trigger).collect::<Vec<_>>().join(", "),
        _ => format!("{k} {}", text(v)),
    });
    let part = run.pointer("/partition/key").and_then(Value::as_str).unwrap_or_default();
    clean(format!("{} {part}", first.unwrap_or_default()).trim())
}

/// What a stage made: what is text to read as text, without what would steer a terminal.
pub(super) fn output(made: &Value) -> String {
    let value = made.get("value").cloned().unwrap_or_default();
    match value.as_str() {
        Some(text) => text.split('\n').map(clean).collect::<Vec<_>>().join("\n"),
        None => serde_json::to_string_pretty(&value).unwrap_or_default(),
    }
}

/// `run_… of flights is succeeded`.
pub(super) fn line(run: &Value) -> String {
    format!("run {} of {} is {}", word(run, "id"), word(run, "pipeline"), word(run, "status"))
}

pub(super) fn list(found: &Value) {
    let runs = found.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if runs.is_empty() {
        print("there are no runs; `forebay run PIPELINE` makes one");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["run", "pipeline", "status", "submitted", "ended", "by"]);
    for run in runs {
        table.add_row([
            word(run, "id"),
            word(run, "pipeline"),
            word(run, "status"),
            at(run, "submitted_at"),
            at(run, "ended_at"),
            cause(run),
        ]);
    }
    print(&table.trim_fmt());
    if found.get("has_more").and_then(Value::as_bool) == Some(true) {
        print(&format!("more: --after {}", word(found, "last_id")));
    }
}

/// What there is to say of a stage beside its state.
fn about(stage: &Value) -> String {
    let mut all = Vec::new();
    if let Some(message) = stage.pointer("/error/message").and_then(Value::as_str) {
        all.push(clean(message));
    }
    if word(stage, "state") == "waiting" {
        all.push(format!("approve? {}", word(stage, "approval")));
    }
    if let (Some(done), of) =
        (stage.pointer("/progress/done").and_then(Value::as_u64), stage.pointer("/progress/of"))
    {
        all.push(match of.and_then(Value::as_u64) {
            Some(of) => format!("{done} of {of}"),
            None => done.to_string(),
        });
    }
    all.push(word(stage, "note"));
    all.retain(|t| !t.is_empty());
    all.join("; ")
}

pub(super) fn whole(run: &Value) {
    print(&line(run));
    let told = |name: &str, value: String| {
        if !value.is_empty() {
            print(&format!("{name}: {value}"));
        }
    };
    told("by", cause(run));
    if let Some(params) = run.get("params") {
        told("params", clean(&params.to_string()));
    }
    told("submitted", at(run, "submitted_at"));
    told("ended", at(run, "ended_at"));
    told("resumes", word(run, "resumes"));
    if let Some(message) = run.pointer("/error/message").and_then(Value::as_str) {
        told("error", clean(message));
    }
    print(&stages(run));
}

pub(super) fn stages(run: &Value) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["stage", "kind", "state", "attempts", "took", ""]);
    for stage in run.get("stages").and_then(Value::as_array).into_iter().flatten() {
        table.add_row([
            word(stage, "name"),
            word(stage, "kind"),
            word(stage, "state"),
            stage.get("attempts").and_then(Value::as_u64).unwrap_or_default().to_string(),
            took(stage),
            about(stage),
        ]);
    }
    table.trim_fmt()
}

/// Prints logs, stage by stage; with `follow` until the run has ended.
pub(super) async fn logs(place: &Place, id: &str, stage: Option<&str>, follow: bool) -> Result<(), Error> {
    let mut read: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    loop {
        let run = place.show(id).await?;
        let all = run.get("stages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let names: Vec<String> = all
            .iter()
            .filter_map(|s| s.get("name").and_then(Value::as_str))
            .filter(|name| stage.is_none_or(|wanted| wanted == *name))
            .map(str::to_owned)
            .collect();
        if names.is_empty() {
            let message = format!("run {id} has no stage `{}`", stage.unwrap_or_default());
            return Err(Error::new(message, "`forebay runs show` lists its stages"));
        }
        for name in &names {
            let from = read.get(name).copied().unwrap_or(0);
            let part = place.log(id, name, from).await?;
            for text in part.get("text").and_then(Value::as_str).unwrap_or_default().lines() {
                print(&format!("{name} | {}", clean(text)));
            }
            read.insert(name.clone(), part.get("next").and_then(Value::as_u64).unwrap_or(from));
        }
        let ended = run.get("ended_at").is_some();
        if ended || !follow {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
}
