//! What is shown of jobs.

use std::time::Duration;

use contract::{Code, Error, RequestId, StageRecord, UnixMillis};
use serde_json::{Value as Json, json};

use super::{cause, same, schemas, stage};

/// A job brought to an end of that sort, by what a server would do.
fn job(end: pipeline::runs::Report, kept: &str) -> [String; 3] {
    use pipeline::runs::{Input, Plan, Run, StagePlan};
    let id = contract::RunId::of(RequestId::from_parts(UnixMillis(1), 7));
    let name = contract::StageName::from(crate::jobs::STAGE);
    let plan = Plan::of(vec![StagePlan::new(name.clone(), "x")]);
    let head = store::RunHead {
        id,
        tenant: "gold".into(),
        kind: "job".into(),
        target: "model:m".into(),
        lane: 1,
        about: r#"{"path":"/v1/messages","webhook":"https://a.example"}"#.into(),
        status: "queued".into(),
        submitted_at: UnixMillis(0),
        due_at: None,
        ended_at: Some(UnixMillis(4)),
        entries: 1,
    };
    let show =
        |run: &Run, kept: Option<&[u8]>, live| crate::jobs::view::whole(run, &head, kept, live).unwrap();
    let mut run = Run::new(id);
    run.step(UnixMillis(0), Input::Submit(plan));
    let queued = show(&run, None, None);
    let here = pipeline::runs::Here {
        worker: "w".into(),
        lease: Duration::from_secs(9),
        attempts: Vec::new(),
        living: Vec::new(),
        grouped: true,
        groups: Default::default(),
        busy: Default::default(),
    };
    run.step(UnixMillis(1), Input::Take(here));
    let progress = pipeline::runs::Report::Progress(1, Some(2));
    run.step(UnixMillis(2), Input::Report { stage: name.clone(), attempt: 1, report: progress });
    let running = show(&run, None, Some(vec![stage_of()]));
    run.step(UnixMillis(3), Input::Report { stage: name, attempt: 1, report: end });
    [queued, running, show(&run, Some(kept.as_bytes()), None)]
}

fn stage_of() -> StageRecord {
    stage(Some(cause()))
}

#[test]
fn what_is_shown_of_jobs_is_described() {
    use pipeline::runs::Report;
    let parse = |text: &str| serde_json::from_str::<Json>(text).unwrap();
    let id = RequestId::from_parts(UnixMillis(1), 7);
    let done = job(Report::done("h"), &format!(r#"{{"status":200,"request_id":"{id}","body":{{"a":1}}}}"#));
    let wrong = Error::new(Code::InvalidRequest, "wrong");
    let said =
        format!(r#"{{"status":400,"request_id":"{id}","body":{{"error":{{"code":"invalid_request"}}}}}}"#);
    let failed = job(Report::Failed(wrong), &said);
    for text in done.iter().chain(&failed) {
        same::<schemas::Job>(&parse(text));
    }
    assert_eq!(parse(&done[2])["result"], json!({"a": 1}));
    assert_eq!(parse(&failed[2])["error"]["code"], "invalid_request");
    let delivery = |full: bool| store::Delivery {
        id: "msg_1".into(),
        run: contract::RunId::of(id),
        tenant: "gold".into(),
        url: "https://a.example".into(),
        body: vec![],
        state: store::DeliveryState::Waiting,
        created_at: UnixMillis(1),
        next_at: full.then_some(UnixMillis(2)),
        tries: 1,
        tried_at: full.then_some(UnixMillis(1)),
        answer: full.then_some(500),
        problem: full.then(|| "no".to_owned()),
        webhook: None,
    };
    same::<schemas::Deliveries>(&crate::jobs::view::deliveries(&[delivery(false), delivery(true)]));
    let head = store::RunHead {
        id: contract::RunId::of(id),
        tenant: "gold".into(),
        kind: "job".into(),
        target: "model:m".into(),
        lane: 1,
        about: "{}".into(),
        status: "failed".into(),
        submitted_at: UnixMillis(0),
        due_at: None,
        ended_at: Some(UnixMillis(4)),
        entries: 1,
    };
    same::<schemas::Jobs>(&parse(&crate::jobs::view::list(&[head.clone(), head], 1).unwrap()));
    let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "x", "data": {"a": 1}});
    same::<schemas::CloudEvents>(&json!([event]));
    let started =
        json!([{"pipeline": "p", "status": "started", "run": id}, {"pipeline": "q", "status": "known"}]);
    let taken = json!([{"id": "1", "source": "/s", "started": started}]);
    same::<schemas::EventsTaken>(&json!({"object": "list", "data": taken}));
    same::<schemas::JobRemoved>(&json!({"id": id, "object": "job", "deleted": true}));
}
