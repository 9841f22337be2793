//! Stages that reach outside, with somebody there who keeps what he is asked.

use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Class, Code, Context, Error, Inputs, Outcome, RetryHint, Stage, StageName, Value};
use parking_lot::Mutex;
use pipeline::outside::{Asked, Call, Came, HttpKind, NotifyKind, Outside};
use pipeline::runs::{Deliver, Delivered, Message};
use pipeline::{Problem, Site, StageKind};
use serde_json::{Value as Json, json};

use crate::exec::{Bench, Log};
use crate::memory::Memory;

#[derive(Default)]
struct World {
    came: Mutex<Vec<Came>>,
    asked: Mutex<Vec<Asked>>,
    delivered: Mutex<Vec<Delivered>>,
    messages: Mutex<Vec<Message>>,
}

impl Call for World {
    fn check(&self, url: &str) -> Result<(), String> {
        if url.starts_with("https://") { Ok(()) } else { Err("it does not begin with https://".into()) }
    }
    fn call(&self, asked: Asked) -> BoxFuture<'_, Came> {
        self.asked.lock().push(asked);
        let came = self.came.lock().pop().unwrap();
        Box::pin(std::future::ready(came))
    }
}

impl Deliver for World {
    fn check(&self, url: &str) -> Result<(), String> {
        Call::check(self, url)
    }
    fn deliver(&self, message: Message) -> BoxFuture<'_, Delivered> {
        self.messages.lock().push(message);
        let came = self.delivered.lock().pop().unwrap();
        Box::pin(std::future::ready(came))
    }
}

fn answer(status: u16, body: &str) -> Came {
    Came::Answer { status, retry_after: None, body: body.as_bytes().to_vec(), cut: false }
}

struct Site1 {
    world: Arc<World>,
    outside: Outside,
    bench: Bench,
}

impl Site1 {
    fn new() -> Self {
        let world = Arc::new(World::default());
        let outside = Outside {
            call: Some(world.clone()),
            webhooks: Some((world.clone(), Arc::new(Memory::default()))),
        };
        Site1 { world, outside, bench: Bench::new() }
    }

    fn built(kind: &dyn StageKind, config: &Json) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let name = StageName::new("train");
        kind.build(config, &Site { name: &name, each: false })
    }

    fn http(&self, config: &Json) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        Self::built(&HttpKind::new(self.outside.clone()), config)
    }

    fn notify(&self, config: &Json) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        Self::built(&NotifyKind::new(self.outside.clone()), config)
    }

    fn attempt(&self) -> (Context, Arc<Log>) {
        self.bench.attempt("1")
    }
}

async fn run(stage: &dyn Stage, cx: &Context, inputs: &[(&str, Value)]) -> Result<Value, Error> {
    let inputs: Inputs = inputs.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
    match stage.run(cx, inputs).await {
        Outcome::Complete(v) => Ok(v),
        Outcome::Partial(_, e) | Outcome::Failed(e) => Err(e),
    }
}

#[tokio::test]
async fn an_address_is_asked_under_the_key_of_the_effect_and_its_answer_is_the_value() {
    let site = Site1::new();
    let stage = site
        .http(&json!({
            "url": "https://a.example/{{ pipeline }}/{{ inputs.name }}?run={{ run.id }}",
            "headers": {"X-Stage": "{{ stage }}"}, "api_key": "sk-1", "body": "{{ inputs.rows | tojson }}"
        }))
        .unwrap();
    let mut names: Vec<&str> = stage.signature().inputs.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["name", "rows"]);
    let (cx, log) = site.attempt();
    let inputs =
        [("name", Value::text("a/b?c")), ("rows", Value::Json(json!({"n": [1, 2.5, null, true]}).into()))];
    for _ in 0..2 {
        site.world.came.lock().push(answer(200, r#"{"ok": true}"#));
        let value = run(&*stage, &cx, &inputs).await.unwrap();
        assert_eq!(value.to_json(), json!({"ok": true}));
    }
    let asked = site.world.asked.lock();
    for one in asked.iter() {
        assert_eq!((one.method, one.timeout), ("POST", Duration::from_secs(30)));
        assert!(one.url.starts_with("https://a.example/nightly/a%2Fb%3Fc?run=run_"), "{}", one.url);
        assert_eq!(serde_json::from_slice::<Json>(&one.body).unwrap(), json!({"n": [1, 2.5, null, true]}));
        let header = |n: &str| one.headers.iter().find(|(name, _)| name == n).map(|(_, v)| v.as_str());
        assert_eq!(header("idempotency-key"), Some("effect-7"));
        assert_eq!(header("authorization"), Some("Bearer sk-1"));
        assert_eq!((header("x-stage"), header("content-type")), (Some("train"), Some("application/json")));
    }
    assert!(log.text().contains("POST a.example: 200, 12 bytes") && !log.text().contains("sk-1"));
}

#[tokio::test]
async fn what_an_answer_means_for_another_try_is_by_its_status() {
    let site = Site1::new();
    let stage = site.http(&json!({"url": "https://a.example/", "json": false})).unwrap();
    let (cx, _) = site.attempt();
    for (came, code, class) in [
        (answer(500, ""), Code::UpstreamError, Class::Upstream),
        (answer(503, ""), Code::UpstreamError, Class::Upstream),
        (answer(408, ""), Code::UpstreamError, Class::Upstream),
        (answer(429, ""), Code::RateLimited, Class::Overloaded),
        (answer(400, ""), Code::InvalidRequest, Class::Invalid),
        (answer(404, ""), Code::InvalidRequest, Class::Invalid),
        (answer(302, ""), Code::InvalidRequest, Class::Invalid),
        (answer(401, ""), Code::Forbidden, Class::Denied),
        (Came::Late, Code::UpstreamTimeout, Class::Upstream),
        (Came::Unreachable("x".into()), Code::UpstreamUnreachable, Class::Upstream),
        (Came::Forbidden("x".into()), Code::Forbidden, Class::Denied),
        (
            Came::Answer { status: 200, retry_after: None, body: vec![], cut: true },
            Code::TooLarge,
            Class::Invalid,
        ),
    ] {
        let shown = format!("{came:?}");
        site.world.came.lock().push(came);
        let e = run(&*stage, &cx, &[]).await.unwrap_err();
        assert_eq!((e.code, e.class()), (code, class), "{shown}");
    }
    let wait = Duration::from_secs(9);
    let busy = Came::Answer { status: 503, retry_after: Some(wait), body: vec![], cut: false };
    site.world.came.lock().push(busy);
    assert_eq!(run(&*stage, &cx, &[]).await.unwrap_err().retry, RetryHint::After(wait));
    site.world.came.lock().push(answer(200, "as it is"));
    assert_eq!(run(&*stage, &cx, &[]).await.unwrap(), Value::text("as it is"));
    assert!(site.world.asked.lock().iter().all(|a| a.method == "GET"));
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_an_error() {
    let site = Site1::new();
    let stage = site.http(&json!({"url": "https://a.example/", "expect": [404, 204]})).unwrap();
    let (cx, _) = site.attempt();
    site.world.came.lock().extend([answer(404, "{\"a\": secret"), answer(200, "{}"), answer(204, "")]);
    assert_eq!(run(&*stage, &cx, &[]).await.unwrap(), Value::Json(Json::Null.into()));
    assert_eq!(run(&*stage, &cx, &[]).await.unwrap_err().upstream_status, Some(200));
    let e = run(&*stage, &cx, &[]).await.unwrap_err();
    assert!(e.code == Code::InvalidDocument && !e.message.contains("secret"), "{e}");
}

#[tokio::test]
async fn a_value_cannot_add_a_header_or_more_than_its_template_allows() {
    let site = Site1::new();
    let (cx, _) = site.attempt();
    let stage = site.http(&json!({"url": "https://a.example/", "headers": {"x": "{{ inputs.x }}"}})).unwrap();
    let e = run(&*stage, &cx, &[("x", Value::text("a\r\nhost: b"))]).await.unwrap_err();
    assert_eq!(e.code, Code::InvalidRequest);
    let long = Value::text("x".repeat(10_000));
    assert_eq!(run(&*stage, &cx, &[("x", long)]).await.unwrap_err().code, Code::TooLarge);
    let stage = site.http(&json!({"url": "https://a.example/{{ inputs.x.y.z }}"})).unwrap();
    let e = run(&*stage, &cx, &[("x", Value::Json(json!({}).into()))]).await.unwrap_err();
    assert_eq!(e.code, Code::InvalidRequest);
    assert!(site.world.asked.lock().is_empty());
}

#[test]
fn mistakes_of_configurations_are_found_before_anything_runs() {
    let site = Site1::new();
    let at = |built: Result<Arc<dyn Stage>, Vec<Problem>>| {
        let mut at: Vec<String> = built.err().unwrap().into_iter().map(|p| p.pointer).collect();
        at.sort_unstable();
        at
    };
    let wrong = json!({"url": "http://a.example", "method": "GET", "body": "{{ x }}", "headers": {"Host": "x", "a b": "y"}, "timeout": "0s"});
    assert_eq!(
        at(site.http(&wrong)),
        ["/body", "/body", "/headers/Host", "/headers/a b", "/timeout", "/url"]
    );
    assert!(site.http(&json!({"url": "https://a/", "body": {"a": ["{{ x }}"]}})).is_ok(), "or anything");
    assert!(
        site.http(&json!({"url": "http://{{ inputs.host }}"})).is_ok(),
        "which it is turns out when it is asked"
    );
    assert_eq!(at(site.notify(&json!({"message": "{{ inputs }}"}))), ["", "/inputs"]);
    assert_eq!(at(site.notify(&json!({"message": "{{ x }}", "log": "info"}))), ["/message"]);
    assert_eq!(at(site.notify(&json!({"message": "x", "log": "info", "slack": "https://a.example"}))), [""]);
    assert_eq!(at(site.notify(&json!({"message": "x", "slack": "http://a.example"}))), ["/slack"]);
    assert_eq!(at(site.notify(&json!({"message": "x", "webhook": "ftp://a.example"}))), ["/webhook"]);
    // Where nothing runs, nobody has to be there.
    let nobody = Outside::default();
    for (kind, config) in [
        (&HttpKind::new(nobody.clone()) as &dyn StageKind, json!({"url": "https://a.example"})),
        (&NotifyKind::new(nobody), json!({"webhook": "https://a.example", "message": "x"})),
    ] {
        assert!(Site1::built(kind, &config).is_ok());
        assert_eq!(kind.schema()["additionalProperties"], json!(false));
    }
}

#[tokio::test]
async fn every_attempt_of_a_notice_is_one_message() {
    let site = Site1::new();
    let message = "{{ inputs.report.rows }} rows of {{ pipeline }} are bad{{ inputs.left_out }}";
    let stage = site.notify(&json!({"webhook": "https://a.example/hook", "message": message})).unwrap();
    let (cx, log) = site.attempt();
    let ok = || Delivered::Answer { status: 204, retry_after: None };
    let busy = Delivered::Answer { status: 503, retry_after: Some(Duration::from_secs(3)) };
    site.world.delivered.lock().extend([ok(), ok(), busy]);
    let inputs = [("report", Value::Json(json!({"rows": 7}).into()))];
    let e = run(&*stage, &cx, &inputs).await.unwrap_err();
    assert_eq!((e.code, e.retry), (Code::UpstreamError, RetryHint::After(Duration::from_secs(3))));
    let values = [run(&*stage, &cx, &inputs).await.unwrap(), run(&*stage, &cx, &inputs).await.unwrap()];
    assert_eq!(values[0], values[1]);
    let messages = site.world.messages.lock();
    assert!(messages.len() == 3 && messages.iter().all(|m| *m == messages[0]), "{messages:?}");
    assert!(messages[0].id.starts_with("msg_") && messages[0].body.starts_with(br#"{"specversion":"1.0","#));
    let event: Json = serde_json::from_slice(&messages[0].body).unwrap();
    assert_eq!((&event["id"], &event["type"]), (&json!(messages[0].id), &json!("forebay.notice")));
    assert_eq!(event["data"]["message"], "7 rows of nightly are bad");
    assert!(log.text().contains("did not tell a.example") && log.text().contains("told a.example: 7 rows"));
}

#[tokio::test]
async fn a_message_in_slacks_form_names_nobody_whom_its_template_does_not() {
    let site = Site1::new();
    let config = json!({"slack": "https://hooks.example/T0/secret", "message": "<!here> {{ inputs.x }}"});
    let stage = site.notify(&config).unwrap();
    let (cx, log) = site.attempt();
    site.world.came.lock().push(answer(200, "ok"));
    let value = run(&*stage, &cx, &[("x", Value::text("<!channel> & <https://evil|x>"))]).await.unwrap();
    assert_eq!(value.to_json()["channel"], "slack");
    let asked = site.world.asked.lock();
    let body: Json = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!(body, json!({"text": "<!here> &lt;!channel&gt; &amp; &lt;https://evil|x&gt;"}));
    assert!(!log.text().contains("secret"), "{}", log.text());
}

#[tokio::test]
async fn a_notice_may_go_to_the_log_alone() {
    let site = Site1::new();
    let stage = site.notify(&json!({"log": "warn", "message": "run {{ run.id }}"})).unwrap();
    let (cx, log) = site.attempt();
    run(&*stage, &cx, &[]).await.unwrap();
    assert!(log.text().contains("told log: run run_"));
    let live = crate::stages::context();
    assert_eq!(run(&*stage, &live, &[]).await.unwrap_err().code, Code::InvalidRequest);
}
