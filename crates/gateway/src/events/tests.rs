use std::sync::Arc;

use admission::Gate;
use axum::body::Body;
use contract::{BoxFuture, Clock, PipelineName, RequestId, RunId, UnixMillis};
use http::Request;
use parking_lot::Mutex;
use pipeline::runs::Status;
use pipeline::task;
use pipeline::triggers::{
    Cause, Driver, EndedRun, EventRule, Overlap, Start, StartRun, Trigger, TriggerPlan, Watch,
};
use proptest::prelude::*;
use store::Store;
use tower_service::Service as _;

use super::*;
use crate::app::{App, Settings};

#[derive(Default)]
struct Runs(Mutex<Vec<StartRun>>);

impl Start for Runs {
    fn start(&self, start: StartRun) -> BoxFuture<'_, Result<Option<RunId>, Error>> {
        let broken = |c: &Cause| matches!(c, Cause::Event(e) if e.data == json!({"total": "much"}));
        if start.pipeline.as_str() == "invoice" && start.causes.iter().any(broken) {
            return Box::pin(async { Err(Error::new(Code::InvalidRequest, "`total` is a number")) });
        }
        let mut all = self.0.lock();
        all.push(start);
        let run = RunId::of(RequestId::from_parts(UnixMillis(0), all.len() as u128));
        Box::pin(async move { Ok(Some(run)) })
    }
    fn status(&self, _: RunId) -> BoxFuture<'_, Result<Option<Status>, Error>> {
        Box::pin(async { Ok(Some(Status::Running)) })
    }
    fn ended<'a>(
        &'a self,
        _: &'a PipelineName,
        _: UnixMillis,
    ) -> BoxFuture<'a, Result<Vec<EndedRun>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl Watch for Runs {
    fn version<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        Box::pin(async { Ok(None) })
    }
}

struct World {
    app: App,
    runs: Arc<Runs>,
    _work: task::Task<()>,
    _folder: tempfile::TempDir,
    _store: Store,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), store::Settings::default(), 1 << 20).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(contract::SystemClock::default());
        let gate = Gate::new(admission::Settings::default(), clock.clone());
        let settings = Settings { auth_required: false, ..Settings::default() };
        let models = llm::Models::new(Arc::new(llm::Unlimited));
        let parts = crate::Parts::of_models(settings, models);
        let app = App::new(parts, clock.clone(), gate, &store, 7);
        let runs = Arc::new(Runs::default());
        let driver = Driver::new(store.reader.triggers.clone(), runs.clone(), runs.clone(), clock);
        let orders = EventRule { kind: Some("order.*".into()), ..EventRule::default() };
        let paid = EventRule { kind: Some("order.paid".into()), ..EventRule::default() };
        let plan = |name: &str, trigger, overlap| TriggerPlan {
            pipeline: name.into(),
            triggers: vec![trigger],
            overlap,
        };
        driver.plan(vec![
            plan("invoice", Trigger::Event(orders.clone()), Overlap::Allow),
            plan("pack", Trigger::Event(paid), Overlap::Queue),
            plan("retrain", Trigger::Alert { alert: "drift".into() }, Overlap::Queue),
        ]);
        app.keep_triggers(driver.clone());
        let work = task::spawn("triggers", driver.work());
        World { app, runs, _work: work, _folder: folder, _store: store }
    }

    async fn send(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> (StatusCode, Json) {
        let mut request = Request::post("/v1/events");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = crate::router(self.app.clone()).call(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

const ONE: (&str, &str) = ("content-type", "application/cloudevents+json; charset=utf-8");

fn order(id: &str) -> Json {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order.paid", "subject": "7", "data": {"total": 12}})
}

#[tokio::test]
async fn an_event_by_which_no_run_can_start_is_refused_and_taken_when_it_is_mended() {
    let world = World::new().await;
    let mut broken = order("1");
    broken["type"] = json!("order.paid");
    broken["data"] = json!({"total": "much"});
    let (status, body) = world.send(&[ONE], broken.to_string()).await;
    // The other pipeline takes it.
    let started = &body["data"][0]["started"];
    assert_eq!((status, &started[1]["status"]), (StatusCode::ACCEPTED, &json!("started")));
    assert_eq!(
        (&started[0]["status"], &started[0]["error"]),
        (&json!("refused"), &json!("`total` is a number"))
    );
    // And has it; nobody else does.
    let (status, body) = world.send(&[ONE], broken.to_string()).await;
    assert_eq!((status, &body["data"][0]["started"][1]["status"]), (StatusCode::ACCEPTED, &json!("known")));
    assert_eq!(body["data"][0]["started"][0]["status"], "refused");
    let (status, body) = world.send(&[ONE], order("1").to_string()).await;
    assert_eq!((status, &body["data"][0]["started"][0]["status"]), (StatusCode::ACCEPTED, &json!("started")));
    broken["type"] = json!("order.billed");
    broken["id"] = json!("2");
    let (status, body) = world.send(&[ONE], broken.to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(
        body.to_string().contains("pipeline `invoice` is not started by it: `total` is a number"),
        "{body}"
    );
}

#[tokio::test]
async fn an_event_is_acknowledged_with_what_it_started_and_again_with_that_it_is_known() {
    let world = World::new().await;
    let (status, body) = world.send(&[ONE], order("1").to_string()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let started = &body["data"][0]["started"];
    assert_eq!(started[0]["pipeline"], "invoice");
    assert_eq!((&started[0]["status"], &started[1]["status"]), (&json!("started"), &json!("started")));
    assert!(started[0]["run"].as_str().unwrap().starts_with("run_"));
    let (_, body) = world.send(&[ONE], order("1").to_string()).await;
    assert_eq!(body["data"][0]["started"][0], json!({"pipeline": "invoice", "status": "known"}));
    let (_, body) = world.send(&[ONE], order("2").to_string()).await;
    assert_eq!(body["data"][0]["started"][1], json!({"pipeline": "pack", "status": "waiting"}));
    let other = json!({"specversion": "1.0", "id": "3", "source": "/shop", "type": "stock"}).to_string();
    assert_eq!(world.send(&[ONE], other).await.1["data"][0]["started"], json!([]));
    let runs = world.runs.0.lock();
    assert_eq!(runs.len(), 3);
    assert_eq!(json!(runs[0].params())["events"][0], order("1"));
    assert_eq!(runs[0].tenant.as_ref().unwrap().as_str(), "default");
}

#[tokio::test]
async fn a_batch_and_an_event_in_headers_are_events_too() {
    let world = World::new().await;
    let batch = json!([order("1"), order("2")]).to_string();
    let kind = ("content-type", "application/cloudevents-batch+json");
    let (status, body) = world.send(&[kind], batch).await;
    assert_eq!((status, body["data"].as_array().unwrap().len()), (StatusCode::ACCEPTED, 2));
    let head = [
        ("ce-specversion", "1.0"),
        ("ce-id", "9"),
        ("ce-source", "/shop%20in%20K%C3%B6ln"),
        ("ce-type", "order.made"),
        ("ce-region", "eu"),
    ];
    let with = |kind: &'static str| [&head[..], &[("content-type", kind)]].concat();
    let (status, _) = world.send(&with("application/json"), r#"{"total":1}"#).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    {
        let runs = world.runs.0.lock();
        let event =
            json!(runs.iter().rfind(|r| r.pipeline.as_str() == "invoice").unwrap().params())["events"][0]
                .clone();
        assert_eq!((&event["source"], &event["region"]), (&json!("/shop in Köln"), &json!("eu")));
        assert_eq!(
            (&event["data"], &event["datacontenttype"]),
            (&json!({"total": 1}), &json!("application/json"))
        );
    }
    let (status, _) = world.send(&with("application/json"), "{").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_alert_is_fired_by_the_operator_alone() {
    let world = World::new().await;
    let alert = json!({"specversion": "1.0", "id": "1", "source": "/watch", "type": "forebay.alert", "subject": "drift"});
    let (status, _) = world.send(&[ONE], alert.to_string()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "without a peer it is not from this machine");
    assert!(world.runs.0.lock().is_empty());
}

#[tokio::test]
async fn what_is_no_event_is_refused_by_what_is_wrong_with_it() {
    let world = World::new().await;
    let without = |name: &str| {
        let mut event = order("1");
        event.as_object_mut().unwrap().remove(name);
        event
    };
    let with = |name: &str, value: Json| {
        let mut event = order("1");
        event[name] = value;
        event
    };
    for (param, event) in [
        ("id", without("id")),
        ("source", with("source", json!(""))),
        ("type", with("type", json!(5))),
        ("specversion", with("specversion", json!("0.3"))),
        ("Big", with("Big", json!("x"))),
        ("list", with("list", json!([]))),
        ("data_base64", {
            let mut e = without("data");
            e["data_base64"] = json!("?");
            e
        }),
        ("data", with("data_base64", json!("aGk="))),
    ] {
        let (status, body) = world.send(&[ONE], event.to_string()).await;
        assert_eq!((status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(param)), "{body}");
    }
    let plain = ("content-type", "application/json");
    assert_eq!(world.send(&[plain], order("1").to_string()).await.1["error"]["param"], "content-type");
    let long = with("data", json!("x".repeat(LONGEST)));
    assert_eq!(world.send(&[ONE], long.to_string()).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(world.runs.0.lock().is_empty());
}

proptest! {
    #[test]
    fn any_body_is_events_or_a_refusal(body in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3_usize) {
        let kinds = ["application/cloudevents+json", "application/cloudevents-batch+json", "text/plain"];
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kinds[kind].parse().unwrap());
        headers.insert("ce-specversion", "1.0".parse().unwrap());
        let _ = read(&headers, &body);
    }

    #[test]
    fn an_event_is_the_same_in_its_body_and_in_headers(
        id in "[ -~äß€]{1,20}", data in "[a-zäß ]{0,20}", subject in "[ -~äß€%]{1,20}",
    ) {
        let escaped = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        let event = json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "subject": subject,
            "datacontenttype": "text/plain", "data": data});
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/cloudevents+json".parse().unwrap());
        let one = read(&headers, event.to_string().as_bytes()).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("content-type", "text/plain".to_owned()), ("ce-specversion", "1.0".to_owned()),
            ("ce-id", escaped(&id)), ("ce-source", "/s".to_owned()), ("ce-type", "t".to_owned()), ("ce-subject", escaped(&subject))] {
            headers.insert(http::HeaderName::from_static(name), value.parse().unwrap());
        }
        let mut other = read(&headers, data.as_bytes()).unwrap();
        if data.is_empty() {
            other[0].data = "".into();
        }
        prop_assert_eq!(one, other);
    }
}
