use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::BytesMut;
use contract::{
    AttemptRecord, Class, Code, Ending, Error, Event, Money, RequestId, RequestRecord, RetryHint,
    StageRecord, StageState, Surface, ToolCall, UnixMillis, Usage,
};
use llm::surface::{anthropic, completions, openai, responses};
use llm::{Answer, Delta, FinishReason};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

mod batches;
mod features;
mod feedback;
mod inference;
mod jobs;

const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/openapi.json");

const SURFACES: [Surface; 7] = [
    Surface::Openai,
    Surface::Completions,
    Surface::Responses,
    Surface::Anthropic,
    Surface::Inference,
    Surface::Native,
    Surface::Cli,
];

/// Path → methods of the document.
fn described() -> BTreeMap<String, BTreeSet<String>> {
    let all = document();
    let paths = all["paths"].as_object().unwrap();
    paths.iter().map(|(p, item)| (p.clone(), item.as_object().unwrap().keys().cloned().collect())).collect()
}

/// Path → methods of a router's source: `.route("/path", get(handler).post(handler))`, on one line.
fn routed(source: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lines = source.lines().filter_map(|l| l.trim().strip_prefix(".route(\"")?.split_once('"'));
    let methods = ["get", "post", "put", "patch", "delete"];
    let of = |handlers: &str| {
        let words: Vec<&str> = handlers.split_inclusive('(').collect();
        let is = |m: &&&str| {
            let call = format!("{m}(");
            words.iter().any(|w| {
                w.trim_start_matches([',', ' ', ')', '.']) == call || w.ends_with(&format!(".{call}"))
            })
        };
        methods.iter().filter(is).map(|m| (*m).to_owned()).collect()
    };
    lines.map(|(path, handlers)| (path.replace("{*", "{"), of(handlers))).collect()
}

#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let mut routes = routed(include_str!("../router.rs"));
    routes.extend(routed(include_str!("../admin.rs")));
    routes.extend(routed(include_str!("../jobs/routes.rs")));
    routes.extend(routed(include_str!("../jobs/background.rs")));
    routes.extend(routed(include_str!("../batches/routes.rs")));
    routes.extend(routed(include_str!("../runs/routes.rs")));
    routes.extend(routed(include_str!("../features.rs")));
    routes.extend(routed(include_str!("../inference.rs")));
    routes.extend(routed(include_str!("../lineage.rs")));
    assert!(routes.len() >= 16 && routes.values().all(|m| !m.is_empty()), "the routes are found: {routes:?}");
    assert_eq!(described(), routes);
}

#[test]
fn the_copy_in_the_reference_is_current() {
    let now = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("FOREBAY_UPDATE_REFERENCE").is_some() {
        std::fs::write(COPY, &now).unwrap();
    }
    let copy = std::fs::read_to_string(COPY).unwrap_or_default();
    let how = "docs/reference/openapi.json is not current: run this test with FOREBAY_UPDATE_REFERENCE=1";
    assert!(copy == now, "{how}");
}

/// Follows every `$ref` below a value.
fn refs(v: &Json, found: &mut BTreeSet<String>) {
    match v {
        Json::Object(map) => {
            for (k, v) in map {
                match v {
                    Json::String(to) if k == "$ref" => _ = found.insert(to.clone()),
                    _ => refs(v, found),
                }
            }
        }
        Json::Array(all) => all.iter().for_each(|v| refs(v, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
    let all = document();
    let mut found = BTreeSet::new();
    refs(&all, &mut found);
    for to in &found {
        assert!(all.pointer(to.trim_start_matches('#')).is_some(), "{to}");
    }
    for kind in ["headers", "responses"] {
        for name in all["components"][kind].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let all = fitted([("digest", "/digest")].into_iter(), true);
    let items = all["paths"].as_object().unwrap().values().flat_map(|i| i.as_object().unwrap().values());
    let names: Vec<&str> = items.map(|o| o["operationId"].as_str().unwrap()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}

#[test]
fn a_projects_document_has_its_own_paths_and_asks_for_no_key_on_an_open_server() {
    let all = fitted([("digest", "/digest")].into_iter(), false);
    let own = &all["paths"]["/digest"]["post"];
    assert_eq!(own["operationId"], "run_digest");
    assert!(own["parameters"].as_array().unwrap().iter().all(|p| p["in"] != "path"));
    assert_eq!(own["security"].as_array().unwrap().last(), Some(&json!({})));
    assert!(all["paths"]["/healthz"]["get"].get("security").is_none());
    let closed = fitted([].into_iter(), true);
    assert_eq!(closed, document());
}

#[test]
fn every_status_that_an_error_can_have_is_described() {
    for code in Code::ALL.iter().filter(|c| **c != Code::Cancelled) {
        for upstream in [None, Some(409), Some(422), Some(500), Some(503)] {
            let e = Error { upstream_status: upstream, ..Error::new(*code, "x") };
            let status = crate::errors::status(&e).as_u16();
            assert!(operations::CALL.contains(&status), "{code} is {status}");
        }
    }
}

/// That nothing a surface writes is missing from its description: it goes through the type and comes back the same.
#[track_caller]
fn same<T: Serialize + DeserializeOwned>(written: &Json) {
    let read: T = serde_json::from_value(written.clone()).unwrap_or_else(|e| panic!("{e}: {written}"));
    assert_eq!(&serde_json::to_value(read).unwrap(), written);
}

fn written(write: impl FnOnce(&mut BytesMut)) -> Json {
    let mut out = BytesMut::new();
    write(&mut out);
    serde_json::from_slice(&out).unwrap()
}

fn usage() -> Usage {
    Usage { input_tokens: 9, output_tokens: 4, cached_input_tokens: 2, reasoning_tokens: 1, estimated: true }
}

fn answers() -> [Answer; 2] {
    let call = ToolCall { id: "c1".into(), name: "look".into(), arguments: "{\"at\":1}".into() };
    let rich = Answer {
        version: Some("v1".into()),
        reasoning: "hm".into(),
        signature: "sealed".into(),
        logprobs: Some(Box::new(json!({"content": []}))),
        tool_calls: vec![call],
        finish: Some(FinishReason::ToolCalls),
        usage: Some(usage()),
        ..Answer::default()
    };
    [rich, Answer { text: "four".into(), finish: Some(FinishReason::Length), ..Answer::default() }]
}

fn deltas() -> Vec<Delta> {
    vec![
        Delta::Version("v1".into()),
        Delta::Text("three".into()),
        Delta::Reset,
        Delta::Reasoning("hm".into()),
        Delta::Signature("sealed".into()),
        Delta::Logprobs(Box::new(json!({"content": []}))),
        Delta::Text("four".into()),
        Delta::ToolCall { index: 0, id: Some("c1".into()), name: Some("look".into()), arguments: "{".into() },
        Delta::ToolCall { index: 0, id: None, name: None, arguments: "}".into() },
        Delta::Finish(FinishReason::ToolCalls),
        Delta::Usage(usage()),
    ]
}

/// The data of all events but `[DONE]`.
fn data(out: &BytesMut) -> Vec<Json> {
    let lines = std::str::from_utf8(out).unwrap().lines().filter_map(|l| l.strip_prefix("data: "));
    lines.filter(|l| *l != "[DONE]").map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn what_the_openai_surface_writes_is_described() {
    for answer in answers() {
        same::<schemas::ChatCompletion>(&written(|out| openai::render(out, "req_1", 7, "gpt", &answer)));
    }
    for include_usage in [false, true] {
        let mut out = BytesMut::new();
        let mut chunks = openai::Chunks::new("req_1", 7, "gpt", include_usage);
        chunks.start(&mut out);
        deltas().iter().for_each(|d| chunks.delta(&mut out, d));
        chunks.end(&mut out);
        chunks.error(&mut out, &Error::new(Code::UpstreamTruncated, "cut"));
        let all = data(&out);
        assert!(all.len() > 6);
        all.iter().for_each(same::<schemas::ChatChunk>);
    }
}

#[test]
fn what_the_completions_surface_writes_is_described() {
    for answer in answers() {
        same::<schemas::TextCompletion>(&written(|out| completions::render(out, "req_1", 7, "gpt", &answer)));
    }
    for include_usage in [false, true] {
        let mut out = BytesMut::new();
        let mut chunks = completions::Chunks::new("req_1", 7, "gpt", include_usage);
        deltas().iter().for_each(|d| chunks.delta(&mut out, d));
        chunks.end(&mut out);
        chunks.error(&mut out, &Error::new(Code::UpstreamTruncated, "cut"));
        let all = data(&out);
        assert!(all.len() > 2);
        all.iter().for_each(same::<schemas::TextChunk>);
    }
}

#[test]
fn what_the_responses_surface_writes_is_described() {
    let full = json!({
        "model": "gpt", "input": "hi", "instructions": "Be brief.", "max_output_tokens": 9, "max_tool_calls": 2,
        "temperature": 0.5, "top_p": 0.5, "top_logprobs": 2, "metadata": {"a": "b"}, "user": "u", "parallel_tool_calls": false,
        "safety_identifier": "s", "prompt_cache_key": "k", "tools": [{"type": "function", "name": "look"}],
        "tool_choice": {"type": "function", "name": "look"}, "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": true}, "verbosity": "low"},
    });
    let mut kinds = BTreeSet::new();
    for asked in [json!({"model": "gpt", "input": "hi"}), full] {
        let (_, echo) = responses::parse(asked.to_string().as_bytes()).unwrap();
        for answer in answers() {
            let write = |out: &mut BytesMut| responses::render(out, "1", 7, "gpt", &echo, &answer);
            same::<schemas::ResponseObject>(&written(write));
        }
        for broken in [false, true] {
            let (mut out, mut events) =
                (BytesMut::new(), responses::Events::new("1", 7, "gpt", echo.clone()));
            events.start(&mut out);
            deltas().iter().for_each(|d| events.delta(&mut out, d));
            match broken {
                false => events.end(&mut out),
                true => events.error(&mut out, &Error::new(Code::UpstreamTruncated, "cut").param("x")),
            }
            let all = data(&out);
            kinds.extend(all.iter().map(|e| e["type"].as_str().unwrap().to_owned()));
            all.iter().for_each(same::<schemas::ResponseEvent>);
        }
    }
    assert_eq!(kinds.len(), 18, "{kinds:?}");
}

#[test]
fn what_the_anthropic_surface_writes_is_described() {
    for answer in answers() {
        same::<schemas::MessageObject>(&written(|out| anthropic::render(out, "req_1", "claude", &answer)));
    }
    let mut out = BytesMut::new();
    let mut events = anthropic::Events::new("req_1", "claude", 9);
    events.start(&mut out);
    events.ping(&mut out);
    deltas().iter().for_each(|d| events.delta(&mut out, d));
    events.end(&mut out);
    events.error(&mut out, "api_error", &Error::new(Code::UpstreamTruncated, "cut"));
    let all = data(&out);
    let kinds: BTreeSet<&str> = all.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 9, "{kinds:?}");
    all.iter().for_each(same::<schemas::MessageEvent>);
}

#[tokio::test]
async fn what_errors_say_is_described() {
    let facts = [
        ("limit_usd", json!(2.0)),
        ("spend_usd", json!(1.5)),
        ("limit_tokens", json!(9)),
        ("spend_tokens", json!(8)),
        ("resets_at", Json::Null),
    ];
    let e = Error::new(Code::BudgetExhausted, "spent").limit_source("tenant:gold").param("x");
    same::<schemas::OpenAiError>(&written(|out| openai::render_error(out, "permission_error", &e, &facts)));
    let id = Some("req_1");
    same::<schemas::AnthropicError>(&written(|out| {
        anthropic::render_error(out, "billing_error", &e, &facts, id);
    }));
    for code in Code::ALL {
        for surface in SURFACES {
            let body = crate::errors::response(surface, Error::new(*code, "x")).into_body();
            let body = serde_json::from_slice(&axum::body::to_bytes(body, 1 << 16).await.unwrap()).unwrap();
            match surface {
                Surface::Anthropic => same::<schemas::AnthropicError>(&body),
                Surface::Inference => same::<schemas::InferenceError>(&body),
                _ => same::<schemas::OpenAiError>(&body),
            }
        }
    }
}

fn cause() -> Error {
    Error::new(Code::RateLimited, "full")
        .retry(RetryHint::After(Duration::from_millis(1_500)))
        .limit_source("tenant:gold")
        .param("model")
        .upstream_status(429)
}

fn stage(error: Option<Error>) -> StageRecord {
    let full = error.is_some();
    StageRecord {
        name: "notes".into(),
        started_us: 1,
        first_output_us: full.then_some(2),
        ended_us: 3,
        budget_ms: full.then_some(4),
        state: StageState::Partial,
        error,
        parts: full.then_some([5, 1, 2]),
    }
}

#[test]
fn every_event_of_a_run_is_described() {
    let id = RequestId::from_parts(UnixMillis(1_700_000_000_000), 7);
    let cost_nanousd = Money::from_nanos(12);
    for event in [
        Event::Accepted { id, queue_position: 1, expected_wait_ms: 20 },
        Event::Stage { name: "notes".into(), state: StageState::Started, elapsed_ms: 3, budget_ms: Some(9) },
        Event::Stage { name: "notes".into(), state: StageState::Skipped, elapsed_ms: 3, budget_ms: None },
        Event::Draft { text: "a".into() },
        Event::Delta { text: "b".into() },
        Event::Reset {},
        Event::Part { stage: "notes".into(), index: 0, of: 2, text: Some("c".into()), error: None },
        Event::Part { stage: "notes".into(), index: 1, of: 2, text: None, error: Some("d".into()) },
        Event::Usage { usage: usage(), cost_nanousd },
        Event::error(&cause(), true),
        Event::Done {
            done: true,
            usage: usage(),
            cost_nanousd,
            stages: vec![stage(None), stage(Some(cause()))],
            output: Some(json!(["x", null])),
            facts: Map::new(),
            model_version: Some("v1".into()),
        },
    ] {
        same::<schemas::RunEvent>(&serde_json::to_value(&event).unwrap());
    }
}

#[test]
fn every_field_of_a_record_is_described() {
    let attempt = |full: bool| AttemptRecord {
        stage: full.then(|| "notes".into()),
        ordinal: 1,
        number: 2,
        model: "gpt".into(),
        reason: full.then_some(contract::Reason::Fallback),
        instead_of: full.then(|| "claude".into()),
        endpoint: "openai".into(),
        model_version: full.then(|| "v1".into()),
        prompt_version: full.then(|| "abc".into()),
        started_us: 1,
        queued_us: 2,
        first_token_us: full.then_some(3),
        ended_us: 4,
        usage: usage(),
        cost: Money::from_nanos(5),
        finish_reason: full.then(|| "stop".into()),
        ending: Ending::Failed,
        error: full.then(cause),
    };
    let record = |full: bool| RequestRecord {
        id: RequestId::from_parts(UnixMillis(1_700_000_000_000), 7),
        at: UnixMillis(1_700_000_000_000),
        surface: Surface::Native,
        tenant: "gold".into(),
        key: full.then(|| "k1".into()),
        user: full.then(|| "u1".into()),
        pipeline: full.then(|| "summarize".into()),
        pipeline_version: full.then(|| "abc".into()),
        model: full.then(|| "gpt".into()),
        stream: true,
        queued_us: 1,
        first_output_us: full.then_some(2),
        total_us: 3,
        usage: usage(),
        cost: Money::from_nanos(5),
        attempts: vec![attempt(false), attempt(true)],
        stages: vec![stage(None), stage(Some(cause()))],
        facts: Map::from_iter(full.then(|| ("coverage".to_owned(), json!(0.5)))),
        ending: Ending::Partial,
        error: full.then(cause),
    };
    same::<schemas::RequestRecord>(&serde_json::to_value(record(false)).unwrap());
    same::<schemas::RequestRecord>(&serde_json::to_value(record(true)).unwrap());
}

/// The words of a schema's `enum`.
fn words(name: &str) -> BTreeSet<String> {
    let all = document();
    let words = all["components"]["schemas"][name]["enum"].as_array().unwrap();
    words.iter().map(|w| w.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_words_of_the_contract_are_all_described() {
    fn of<T: Serialize>(all: &[T]) -> BTreeSet<String> {
        all.iter().map(|v| serde_json::to_value(v).unwrap().as_str().unwrap().to_owned()).collect()
    }
    use StageState::{Done, Failed, Partial, Skipped, Started};
    assert_eq!(words("StageState"), of(&[Started, Done, Partial, Failed, Skipped]));
    let endings = [Ending::Complete, Ending::Partial, Ending::Failed, Ending::Cancelled, Ending::Lost];
    assert_eq!(words("Ending"), of(&endings));
    assert_eq!(words("Surface"), of(&SURFACES));
    assert_eq!(words("Class"), of(&Code::ALL.iter().map(|c| c.class()).collect::<Vec<Class>>()));
}

#[test]
fn what_is_said_of_the_configuration_is_described() {
    use crate::configuration::{ConfigProblem, ConfigRefusal, ConfigState, Reloaded};
    let problem = ConfigProblem {
        line: 1,
        column: 2,
        path: "/models".to_owned(),
        message: "wrong".to_owned(),
        remedy: "correct it".to_owned(),
    };
    let refusal = ConfigRefusal { at: UnixMillis(9), message: "wrong".to_owned(), problems: vec![problem] };
    for refused in [None, Some(refusal.clone())] {
        let config = ConfigState {
            version: "abc".to_owned(),
            loaded_at: UnixMillis(5),
            watched: true,
            needs_restart: vec!["server.listen".to_owned()],
            refused,
        };
        same::<schemas::ConfigState>(&serde_json::to_value(&config).unwrap());
        let done = Reloaded { config, changed: vec!["models.a: added".to_owned()] };
        same::<schemas::Reloaded>(&serde_json::to_value(done).unwrap());
    }
    let error = json!({"message": "wrong", "type": "invalid_request_error", "param": null, "code": "invalid_request"});
    same::<schemas::ReloadRefused>(&json!({"error": error, "refused": refusal}));
    for config in [None, Some(json!({"version": "abc", "loaded_at": 5, "refused_at": null}))] {
        let mut body = json!({"ready": true, "problem": null, "ledger_lag_bytes": 0});
        if let Some(config) = config {
            body["config"] = config;
        }
        same::<schemas::Readiness>(&body);
    }
}

#[test]
fn what_an_operator_reads_and_writes_is_described() {
    let key = |full: bool| store::KeyInfo {
        id: "k1".into(),
        name: "for people".into(),
        tenant: "gold".into(),
        role: store::Role::Admin,
        created_at: UnixMillis(1),
        expires_at: full.then_some(UnixMillis(2)),
        revoked_at: full.then_some(UnixMillis(3)),
    };
    same::<schemas::Keys>(&json!({"keys": [key(false), key(true)]}));
    let made = crate::admin::KeyMade { info: key(false), key: "fbk_1".to_owned() };
    same::<schemas::KeyMade>(&serde_json::to_value(made).unwrap());
    for full in [false, true] {
        let role = store::Role::User;
        let expires_in_ms = full.then_some(9);
        let wanted = crate::admin::KeyWanted { name: "n".into(), tenant: "t".into(), role, expires_in_ms };
        same::<schemas::KeyWanted>(&serde_json::to_value(wanted).unwrap());
    }
    let row = |full: bool| store::CostRow {
        name: full.then(|| "gold".to_owned()),
        tenant: full.then(|| "gold".into()),
        requests: 1,
        input_tokens: 2,
        output_tokens: 3,
        cost: Money::from_nanos(4),
    };
    same::<schemas::Costs>(&json!({"rows": [row(false), row(true)]}));
    let long = contract::LongPrompt { above: 1, input: 2, output: 3, cached_input: 4 };
    let model = |full: bool| crate::admin::ModelInfo {
        name: "gpt".into(),
        kind: "openai".into(),
        model: "gpt-5".into(),
        endpoint: full.then(|| "openai".into()),
        context_window: full.then_some(1),
        max_output_tokens: full.then_some(2),
        price: contract::Price { input: 1, output: 2, cached_input: 3, long: full.then_some(long) },
        price_from: "config".into(),
        state: "ready".into(),
        bytes: full.then_some(3),
        pid: full.then_some(4),
        in_flight: full.then_some(5),
        queued: full.then_some(6),
    };
    same::<schemas::ModelInfos>(&json!({"models": [model(false), model(true)]}));
}
