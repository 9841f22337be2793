//! Batches, a step at a time, over a store on disk and a clock that stands still. No line is worked on: a test says what comes of it.

use std::sync::Arc;

use admission::Gate;
use bytes::Bytes;
use contract::{Clock as _, ManualClock, RequestId, RunId, TenantId, UnixMillis};
use serde_json::{Value as Json, json};
use store::{Change, DeliveryState, FileInfo, Output, Store, StoredBatch, Tried};

use super::Driver;
use super::drive::Steps;
use super::object::{Batch, Status};
use super::places::Places;
use crate::app::{App, Limits, Parts, Settings};
use crate::current::Current;
use crate::jobs::{Job, Jobs, JobsSettings};

const START: UnixMillis = UnixMillis(1_700_000_000_000);
const ENDPOINT: &str = "/v1/chat/completions";

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    current: Current,
    jobs: Jobs,
    driver: Driver,
    _folder: tempfile::TempDir,
}

fn parts(body_bytes: usize) -> Parts {
    let limits = Limits { body_bytes, ..Limits::default() };
    let settings = Settings { limits, auth_required: false, ..Settings::default() };
    let models = llm::Models::new(Arc::new(llm::Unlimited));
    Parts::of_models(settings, models)
}

fn tenant() -> TenantId {
    App::open_tenant()
}

fn line(n: usize) -> String {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": format!("line {n}")}]});
    json!({"custom_id": format!("id-{n}"), "method": "POST", "url": ENDPOINT, "body": body}).to_string()
        + "\n"
}

fn lines(n: usize) -> String {
    (1..=n).map(line).collect()
}

impl World {
    async fn new(settings: JobsSettings) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), store::Settings::default(), 1 << 20).await.unwrap();
        let clock = Arc::new(ManualClock::starting_at(START));
        let gate = Gate::new(admission::Settings::default(), clock.clone());
        let current = Current::new(App::new(parts(1 << 20), clock.clone(), gate, &store, 7));
        let (jobs, driver) = Jobs::resting(&current, settings);
        World { store, clock, current, jobs, driver, _folder: folder }
    }

    /// From now on bodies may have so many bytes.
    fn limit(&self, body_bytes: usize) {
        self.current.replace(self.current.app().next(parts(body_bytes)));
    }

    /// A batch of a file with that content, of which nothing is done yet.
    async fn batch(&self, content: &str) -> RunId {
        self.batch_within(content, 1).await
    }

    /// The same, with so many days to end in.
    async fn batch_within(&self, content: &str, days: i64) -> RunId {
        let now = self.clock.wall();
        let id = RunId::of(self.current.app().request_id());
        let file = FileInfo {
            id: format!("file-{id}"),
            name: "lines.jsonl".into(),
            purpose: "batch".into(),
            bytes: content.len() as u64,
            created_at: now,
            expires_at: None,
        };
        let bytes = Bytes::copy_from_slice(content.as_bytes());
        self.store.files.put(&tenant(), &file, bytes, u64::MAX).await.unwrap();
        let about = json!({
            "endpoint": ENDPOINT, "input_file": file.id, "window": "24h", "status": "validating", "errors": [],
            "expires_at": now.0 + days * 86_400_000, "webhook": "https://a.example/hook", "total": 0, "completed": 0, "failed": 0, "fed": 0, "line": 0, "offset": 0,
        });
        let about = Batch::read(&about.to_string()).unwrap().written().unwrap();
        let new = StoredBatch { id, tenant: tenant(), created_at: now, ended_at: None, version: 0, about };
        assert!(self.store.reader.batches.create(&new, 9).await.unwrap());
        id
    }

    async fn stored(&self, id: RunId) -> StoredBatch {
        self.store.reader.batches.get(id).await.unwrap().unwrap()
    }

    /// What is known of it behind another step.
    async fn step(&self, id: RunId) -> Batch {
        self.driver.step(self.stored(id).await).await.unwrap();
        Batch::read(&self.stored(id).await.about).unwrap()
    }

    /// Those of its lines that have not ended.
    async fn open(&self, id: RunId) -> Vec<RunId> {
        self.store.reader.batches.open_parts(id, 1_000).await.unwrap()
    }

    /// Ends a line with an answer.
    async fn answer(&self, run: RunId) {
        let body = json!({"status": 200, "request_id": run.request(), "body": {"answer": 42}});
        let output = Output { key: run.to_string(), stage: "request".into(), value: body.to_string().into() };
        self.change(run, "succeeded", Some(output)).await;
    }

    async fn change(&self, run: RunId, status: &str, output: Option<Output>) {
        let head = self.store.reader.runs.get(run).await.unwrap().unwrap().head;
        let ended_at = output.is_some().then(|| self.clock.wall());
        let change = Change {
            id: run,
            after: head.entries,
            entries: vec!["what nobody can read".into()],
            status: status.into(),
            due_at: None,
            as_of: None,
            ended_at,
            output,
            result: None,
            lineage: None,
            outbox: None,
            keeps_input: false,
            synced: true,
        };
        assert!(self.store.reader.runs.append(&change).await.unwrap());
    }

    /// The rows of a file that a batch left.
    async fn rows(&self, file: Option<&str>) -> Vec<Json> {
        let Some(id) = file else { return Vec::new() };
        let (_, content) = self.store.files.read(&tenant(), id, self.clock.wall()).await.unwrap().unwrap();
        let text = String::from_utf8(content.to_vec()).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_batch_longer_than_what_may_wait_is_fed_as_far_as_there_is_room() {
    let w = World::new(JobsSettings { waiting: 20, ..JobsSettings::default() }).await;
    let id = w.batch(&lines(25)).await;
    w.step(id).await;
    let mut most = 0;
    for _ in 0..9 {
        let batch = w.step(id).await;
        let open = w.open(id).await;
        most = most.max(open.len());
        if batch.fed == 25 && open.is_empty() {
            break;
        }
        for run in open {
            w.answer(run).await;
        }
    }
    // Half of it is the tenant's share.
    assert_eq!((w.step(id).await.fed, most), (25, 10));
}

#[tokio::test]
async fn no_key_of_a_caller_takes_a_lines_place() {
    let w = World::new(JobsSettings::default()).await;
    let id = w.batch(&lines(2)).await;
    let mut other = Job::json(tenant(), None, ENDPOINT, "{}");
    other.idempotency_key = Some(format!("{}:1", super::name(id)));
    w.jobs.submit(vec![(RunId::of(RequestId::from_parts(START, 5)), other)]).await.unwrap();
    w.step(id).await;
    let before = w.stored(id).await;
    w.step(id).await;
    assert_eq!(w.open(id).await.len(), 2);
    // What was cut off behind the submission is submitted once more, and nothing is there twice.
    w.driver.step(before).await.unwrap();
    assert_eq!(w.open(id).await.len(), 2);
}

#[tokio::test]
async fn a_limit_that_is_lowered_under_way_ends_no_batch() {
    let w = World::new(JobsSettings { waiting: 20, ..JobsSettings::default() }).await;
    let id = w.batch(&lines(25)).await;
    w.step(id).await;
    w.step(id).await;
    w.limit(10);
    for _ in 0..4 {
        for run in w.open(id).await {
            w.answer(run).await;
        }
        w.step(id).await;
    }
    let ended = w.step(id).await;
    assert_eq!((ended.status, ended.errors.len(), ended.completed), (Status::Completed, 0, 25));
    assert_eq!(w.rows(ended.output_file.as_deref()).await.len(), 25);
}

#[tokio::test]
async fn a_line_is_as_long_as_it_is_wherever_its_end_is_read() {
    let w = World::new(JobsSettings::default()).await;
    let longest = line(1).trim_end().len();
    w.limit(longest);
    // The second is read in one piece with its end, the third over many, the blank one counts as well.
    let long = format!("{}{}", " ".repeat(300 << 10), line(4));
    let blank = " ".repeat(longest + 1);
    let text = format!("{}{}{long}{blank}\n{}{}", line(1), line(10_000), line(5), line(60_000).trim_end());
    let failed = w.step(w.batch(&text).await).await;
    let problems: Vec<_> = failed.errors.iter().map(|p| (p.code.as_str(), p.line)).collect();
    let too_long = |line| ("line_too_long", Some(line));
    assert_eq!(problems, [too_long(2), too_long(3), too_long(4), too_long(6)]);
    assert_eq!(failed.status, Status::Failed);
}

#[tokio::test]
async fn a_batch_is_not_judged_while_nobody_knows_how_long_a_line_may_be() {
    let w = World::new(JobsSettings::default()).await;
    let id = w.batch(&lines(1)).await;
    let World { store, current, driver, _folder, .. } = w;
    drop(current);
    let stored = store.reader.batches.get(id).await.unwrap().unwrap();
    assert_eq!(driver.step(stored.clone()).await.unwrap_err().code, contract::Code::Draining);
    assert_eq!(store.reader.batches.get(id).await.unwrap().unwrap(), stored);
}

#[tokio::test]
async fn a_file_of_more_lines_than_there_are_ids_for_is_refused_however_many_are_blank() {
    let w = World::new(JobsSettings::default()).await;
    let text = |blank: usize| format!("{}{}{}", line(1), "\n".repeat(blank), line(2));
    let most = (1 << 24) - 1;
    w.limit(most);
    assert_eq!(w.step(w.batch(&text(most - 2)).await).await.status, Status::InProgress);
    let failed = w.step(w.batch(&text(most - 1)).await).await;
    assert_eq!((failed.errors[0].code.as_str(), failed.errors[0].line), ("too_many_lines", Some(1 << 24)));
}

#[tokio::test]
async fn a_line_has_the_time_of_its_batch_and_not_that_of_jobs() {
    let w = World::new(JobsSettings::default()).await;
    let id = w.batch_within(&lines(1), 7).await;
    w.step(id).await;
    w.step(id).await;
    let overdue = async |days: i64| {
        let at = UnixMillis(START.0 + days * 86_400_000);
        w.store.reader.runs.overdue(at, 9).await.unwrap().len()
    };
    assert_eq!((overdue(6).await, overdue(7).await), (0, 1));
}

#[tokio::test]
async fn a_line_whose_journal_nobody_can_read_holds_its_batch_up_for_no_time() {
    for cancelled in [false, true] {
        let w = World::new(JobsSettings::default()).await;
        let id = w.batch(&lines(3)).await;
        w.step(id).await;
        w.step(id).await;
        let open = w.open(id).await;
        w.change(open[1], "queued", None).await;
        let ended = match cancelled {
            true => {
                w.driver.batches.cancel(id, None).await.unwrap();
                w.step(id).await
            }
            false => {
                w.answer(open[0]).await;
                w.answer(open[2]).await;
                assert_eq!(w.step(id).await.status, Status::InProgress, "it may be read yet");
                w.jobs.stop_or_leave(open[1]).await.unwrap();
                assert_eq!(w.step(id).await.status, Status::Finalizing);
                w.step(id).await
            }
        };
        assert_eq!(ended.status, if cancelled { Status::Cancelled } else { Status::Completed });
        let rows = w.rows(ended.error_file.as_deref()).await;
        let why: Vec<_> = rows.iter().map(|r| (r["custom_id"].clone(), r["error"]["code"].clone())).collect();
        let row = |n: usize, code: &str| (json!(format!("id-{n}")), json!(code));
        match cancelled {
            true => {
                assert_eq!(why, [row(1, "batch_cancelled"), row(2, "internal"), row(3, "batch_cancelled")])
            }
            false => assert_eq!(why, [row(2, "internal")]),
        }
        // It takes no room any more either.
        w.driver.sweep().await.unwrap();
        assert_eq!(w.store.reader.runs.open().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_long_step_of_a_batch_is_not_waited_for() {
    let w = World::new(JobsSettings::default()).await;
    let (long, short) = (w.batch(&lines(5)).await, w.batch(&lines(2)).await);
    w.step(short).await;
    let (mut places, mut steps) = (Places::default(), Steps::new());
    assert!(w.driver.round(&mut places, &mut steps).await.unwrap());
    assert_eq!((steps.len(), w.open(short).await.len()), (1, 2));
    assert!(w.driver.round(&mut places, &mut steps).await.unwrap());
    assert_eq!(steps.len(), 1, "one step of a batch at a time");
    let (id, done) = futures_util::StreamExt::next(&mut steps).await.unwrap();
    assert!(id == long && done.is_ok());
    assert_eq!(Batch::read(&w.stored(long).await.about).unwrap().status, Status::InProgress);
}

#[tokio::test]
async fn what_was_stopped_counts_as_failed_from_then_on() {
    let w = World::new(JobsSettings::default()).await;
    let id = w.batch(&lines(3)).await;
    w.step(id).await;
    w.step(id).await;
    let open = w.open(id).await;
    w.answer(open[0]).await;
    w.jobs.stop(open[1]).await.unwrap();
    let shown: Json = serde_json::from_str(&w.driver.batches.show(id, None).await.unwrap()).unwrap();
    assert_eq!(shown["request_counts"], json!({"total": 3, "completed": 1, "failed": 1}));
}

#[tokio::test]
async fn the_webhooks_about_a_batch_are_listed_and_sent_again() {
    let w = World::new(JobsSettings::default()).await;
    let id = w.batch("no request").await;
    assert_eq!(w.step(id).await.status, Status::Failed);
    let ask = async |method: &str, path: &str| {
        let path = format!("/v1/batches/{}/{path}", super::name(id));
        let request = http::Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        let response = crate::inside::call(&w.current.app(), request).await;
        assert_eq!(response.status(), 200);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice::<Json>(&body).unwrap()["data"][0].clone()
    };
    let told = ask("GET", "deliveries").await;
    assert_eq!(told["status"], "waiting", "{told}");
    let gone =
        Tried { at: START, state: DeliveryState::Disabled, next_at: None, answer: Some(410), problem: None };
    assert!(w.store.reader.runs.tried(told["id"].as_str().unwrap(), 0, &gone).await.unwrap());
    assert_eq!(ask("GET", "deliveries").await["status"], "disabled");
    assert_eq!(ask("POST", "redeliver").await["status"], "waiting");
}

#[tokio::test]
async fn a_busy_call_under_a_key_of_its_own_is_its_job_and_under_anothers_is_told_so() {
    let w = World::new(JobsSettings::default()).await;
    let app = w.current.app();
    let ask = async |body: &'static str| {
        let request = http::Request::post("/v1/summaries").header("idempotency-key", "one");
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let mut busy = axum::response::Response::default();
        *busy.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
        let refusal = contract::Error::new(contract::Code::Overloaded, "busy");
        busy.extensions_mut().insert(crate::errors::RatherAJob { pipeline: "p".into(), refusal });
        let (parts, body) = (request.into_parts().0, Bytes::from_static(body.as_bytes()));
        let caller = crate::auth::caller(&app, &parts.headers).unwrap();
        let answer = crate::jobs::submit_instead(&app, caller, parts, body, busy);
        answer.await.status().as_u16()
    };
    let mut before = Job::json(tenant(), None, "/v1/summaries", "{}");
    before.idempotency_key = Some("one".to_owned());
    w.jobs.submit(vec![(RunId::of(RequestId::from_parts(START, 5)), before)]).await.unwrap();
    assert_eq!((ask("{}").await, ask("[]").await), (202, 422));
    assert_eq!(w.store.reader.runs.open().await.unwrap(), 1);
}
