//! What is shown of a run: over HTTP, by the command line. The same everywhere.

use pipeline::durable::Durable;
use pipeline::runs::{Phase, Run, StagePlan, StageState};
use serde_json::{Map, Value as Json, json};
use store::RunHead;

fn put(map: &mut Map<String, Json>, name: &str, value: Json) {
    if !value.is_null() {
        map.insert(name.to_owned(), value);
    }
}

/// What lists show.
pub(super) fn head(head: &RunHead) -> Json {
    let about = Durable::about(head);
    let field = |name: &str| about.get(name).cloned().unwrap_or_default();
    let mut map = Map::new();
    put(&mut map, "id", json!(head.id));
    put(&mut map, "object", json!("run"));
    put(&mut map, "pipeline", field("pipeline"));
    put(&mut map, "version", field("version"));
    put(&mut map, "status", json!(head.status));
    put(&mut map, "params", field("params"));
    put(&mut map, "partition", field("partition"));
    put(&mut map, "cause", field("cause"));
    put(&mut map, "resumes", field("resumes"));
    put(&mut map, "submitted_at", json!(head.submitted_at));
    put(&mut map, "ended_at", json!(head.ended_at));
    Json::Object(map)
}

/// All of a run.
pub(super) fn whole(of: &RunHead, run: &Run) -> Json {
    let Json::Object(mut map) = head(of) else { return Json::Null };
    put(&mut map, "status", json!(run.status()));
    put(&mut map, "started_at", json!(run.stages().filter_map(|(_, s)| s.started_at).min()));
    put(&mut map, "ended_at", json!(run.ended_at()));
    put(&mut map, "error", error(run.error()));
    if run.stages().any(|(_, s)| is_partial(s)) {
        put(&mut map, "partial", json!(true));
    }
    put(&mut map, "stages", run.stages().map(|(p, s)| stage(p, s)).collect());
    Json::Object(map)
}

fn error(e: Option<&contract::Error>) -> Json {
    e.map(|e| json!({"code": e.code, "class": e.class(), "message": e.message})).unwrap_or_default()
}

/// Whether something is missing from what it made.
fn is_partial(s: &StageState) -> bool {
    s.phase == Phase::Done && s.error.is_some()
}

fn stage(plan: &StagePlan, s: &StageState) -> Json {
    let spec = |name: &str| plan.spec.as_ref().and_then(|spec| spec.get(name)).cloned().unwrap_or_default();
    let mut map = Map::new();
    put(&mut map, "name", json!(plan.name));
    put(&mut map, "kind", spec("kind"));
    put(&mut map, "state", json!(if is_partial(s) { "partial" } else { s.phase.as_str() }));
    put(&mut map, "after", json!(plan.after));
    put(&mut map, "attempts", json!(s.attempts));
    for (name, n) in [("failures", s.failures), ("losses", s.losses), ("postponed", s.postponed)] {
        if n > 0 {
            put(&mut map, name, json!(n));
        }
    }
    put(&mut map, "started_at", json!(s.started_at));
    put(&mut map, "ended_at", json!(s.ended_at));
    if let Phase::Ready(at) = s.phase {
        put(&mut map, "next_at", json!(at));
    }
    if let Some(held) = s.held() {
        put(&mut map, "worker", json!(held.worker));
    }
    if s.phase == Phase::Waiting {
        put(&mut map, "approval", spec("approval"));
    }
    put(
        &mut map,
        "progress",
        s.progress.map(|(done, of)| json!({"done": done, "of": of})).unwrap_or_default(),
    );
    put(&mut map, "reused", json!(s.reused));
    put(&mut map, "note", json!(s.note));
    put(&mut map, "decided_by", json!(s.decided_by));
    put(&mut map, "error", error(s.error.as_ref()));
    Json::Object(map)
}
