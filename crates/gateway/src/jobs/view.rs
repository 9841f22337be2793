//! What is shown of a job: over HTTP, to a webhook, by the command line. The same everywhere.

use contract::{Code, Error, RequestId, RunId, StageRecord, UnixMillis};
use pipeline::runs::{Phase, Run, StagePlan, StageState};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use store::{Delivery, RunHead};

use super::execute::Kept;
use super::stored::About;

/// The largest result that a webhook carries; a larger one is fetched.
const CARRIED: usize = 256 << 10;

#[derive(Serialize)]
struct Head<'a> {
    id: RunId,
    object: &'static str,
    status: &'a str,
    path: &'a str,
    submitted_at: UnixMillis,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<UnixMillis>,
}

#[derive(Serialize)]
struct Whole<'a> {
    id: RunId,
    object: &'static str,
    status: &'static str,
    path: &'a str,
    submitted_at: UnixMillis,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<UnixMillis>,
    attempts: u32,
    request_ids: Vec<RequestId>,
    progress: Vec<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<&'a str>,
}

fn written(e: &serde_json::Error) -> Error {
    Error::new(Code::Internal, format!("the job cannot be written: {e}; this is a defect"))
}

fn text(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| written(&e))
}

/// A page of jobs, of which `heads` may have one more than it shows.
pub(crate) fn list(heads: &[RunHead], limit: usize) -> Result<String, Error> {
    let abouts: Vec<About> = heads.iter().take(limit).map(|h| About::read(&h.about)).collect();
    let one = |(h, about): (&RunHead, &About)| {
        let head = Head {
            id: h.id,
            object: "job",
            status: &h.status,
            path: &about.path,
            submitted_at: h.submitted_at,
            ended_at: h.ended_at,
        };
        serde_json::to_value(head).unwrap_or_default()
    };
    let data: Vec<Json> = heads.iter().zip(&abouts).map(one).collect();
    let last = data.last().and_then(|d| d.get("id")).cloned();
    text(&json!({"object": "list", "data": data, "has_more": heads.len() > limit, "last_id": last}))
}

/// All of a job. `kept` is what its answer left, `live` what its attempt under way has behind it.
pub(crate) fn whole(
    run: &Run,
    head: &RunHead,
    kept: Option<&[u8]>,
    live: Option<Vec<StageRecord>>,
) -> Result<String, Error> {
    let about = About::read(&head.about);
    text(&shown(run, &about, kept.and_then(|k| serde_json::from_slice(k).ok()), live))
}

/// The event of a job's end, in the structured JSON form of CloudEvents.
pub(super) fn event(id: &str, run: &Run, head: &RunHead, kept: Option<&[u8]>) -> Result<String, Error> {
    let about = About::read(&head.about);
    let kept = kept.filter(|k| k.len() <= CARRIED).and_then(|k| serde_json::from_slice(k).ok());
    #[derive(Serialize)]
    struct Event<'a> {
        specversion: &'static str,
        id: &'a str,
        source: &'static str,
        r#type: String,
        subject: RunId,
        time: String,
        datacontenttype: &'static str,
        data: Whole<'a>,
    }
    text(&Event {
        specversion: "1.0",
        id,
        source: "/v1/jobs",
        r#type: format!("forebay.job.{}", run.status().as_str()),
        subject: run.id(),
        time: run.ended_at().unwrap_or_default().rfc3339(),
        datacontenttype: "application/json",
        data: shown(run, &about, kept, None),
    })
}

fn shown<'a>(
    run: &Run,
    about: &'a About,
    kept: Option<Kept<'a>>,
    live: Option<Vec<StageRecord>>,
) -> Whole<'a> {
    let attempts = run.stages().map(|(_, s)| s.attempts).max().unwrap_or(0);
    let answered = kept.as_ref().filter(|k| (200..300).contains(&k.status));
    Whole {
        id: run.id(),
        object: "job",
        status: run.status().as_str(),
        path: &about.path,
        submitted_at: run.submitted_at(),
        started_at: run.stages().filter_map(|(_, s)| s.started_at).min(),
        ended_at: run.ended_at(),
        attempts,
        request_ids: (1..=attempts).map(|n| run.id().request().attempt(n)).collect(),
        progress: run.stages().map(|(p, s)| progress(p, s, live.as_deref())).collect(),
        response_status: kept.as_ref().map(|k| k.status),
        result: answered.map(|k| k.body),
        error: error(run, kept.as_ref()),
        webhook: about.webhook.as_deref(),
    }
}

/// Why a job failed: as the caller would have been told, else as the run has it. Of one that goes on: what went wrong last.
fn error(run: &Run, kept: Option<&Kept<'_>>) -> Option<Json> {
    let told = kept.filter(|k| k.status >= 400).and_then(|k| {
        let body: Json = serde_json::from_str(k.body.get()).ok()?;
        body.get("error").cloned()
    });
    let last = || run.stages().find_map(|(_, s)| s.error.as_ref()).filter(|_| !run.status().is_end());
    told.or_else(|| run.error().or_else(last).map(|e| json!({"code": e.code, "message": e.message})))
}

fn progress(plan: &StagePlan, s: &StageState, live: Option<&[StageRecord]>) -> Json {
    let state = match &s.phase {
        Phase::Ready(_) => "queued",
        other => other.as_str(),
    };
    let mut all = json!({"name": plan.name, "state": state, "attempts": s.attempts, "failures": s.failures});
    let mut put = |name: &str, value: Json| {
        if let Some(map) = all.as_object_mut()
            && !value.is_null()
        {
            map.insert(name.to_owned(), value);
        }
    };
    put("started_at", json!(s.started_at));
    put("ended_at", json!(s.ended_at));
    if let Phase::Ready(at) = s.phase {
        put("next_at", json!(at));
    }
    if let Some((done, of)) = s.progress {
        put("done", json!(done));
        put("of", json!(of));
    }
    put("stages", json!(live));
    all
}

/// The messages about a job.
pub(crate) fn deliveries(all: &[Delivery]) -> Json {
    let one = |d: &Delivery| {
        json!({
            "id": d.id, "object": "delivery", "url": d.url, "status": d.state, "attempts": d.tries,
            "created_at": d.created_at, "last_attempt_at": d.tried_at, "next_attempt_at": d.next_at,
            "response_status": d.answer, "problem": d.problem,
        })
    };
    json!({"object": "list", "data": all.iter().map(one).collect::<Vec<_>>()})
}
