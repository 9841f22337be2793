//! The running server before a real OTLP receiver, and its metrics before Prometheus' own checker.

use std::time::Duration;

use contract::{Clock, SystemClock};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::collector::{Collector, Export, attribute, hex};
use crate::prometheus::Tools;
use crate::run::{command, output, project};
use crate::server::{Server, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const DOCUMENT: &str = "First sentence of some length here. Second sentence of some length there.";

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.unwrap()
}

fn script(v: Json) -> Script {
    serde_json::from_value(v).unwrap()
}

/// A server whose configuration names the collector, and which exports every 20 ms.
fn server(upstream: &str, more: &str, env: &[(&str, &str)]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "models:\n  m: {{openai: gpt-test, base_url: {upstream}/v1, api_key: sk-test, price: {{input: 1, output: 2}}}}\n\
         pipelines:\n  shout:\n    input: document\n    output: text\n    stages:\n      \
         - draft: {{extractive: {{sentences: 1}}}}\n      \
         - answer: {{generate: {{model: m, prompt_text: 'Shout: {{{{ input }}}}'}}, on_failure: {{fallback: draft}}}}\n{more}"
    );
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let often = [("OTEL_BSP_SCHEDULE_DELAY", "20"), ("OTEL_METRIC_EXPORT_INTERVAL", "20")];
    Server::in_folder_with(folder, &[&often, env].concat())
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|s| s.name.as_str()).collect();
    spans.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no span `{name}` among {names:?}"))
}

/// The wall clock in nanoseconds, as exact as milliseconds are.
fn nanos() -> u64 {
    u64::try_from(SystemClock::default().wall().0).unwrap() * 1_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_traceparent_becomes_the_right_tree_with_the_right_times() {
    let up =
        FakeUpstream::start(script(json!({"text": "LOUD AND CLEAR", "first_token": 120}))).await.unwrap();
    let collector = Collector::start(None);
    let more = format!("telemetry: {{otlp: \"{}\", sample: 0}}\n", collector.url);
    let server = server(&up.base_url(), &more, &[]);
    blocking(move || {
        let before = nanos();
        let headers = [("content-type", "text/plain"), ("traceparent", &traceparent("01"))];
        let (status, _, body) = server.ask("POST", "/v1/pipelines/shout", &headers, DOCUMENT);
        let after = nanos();
        assert_eq!(status, 200, "{body}");
        let (spans, resource) = collector.spans(TRACE, 4);
        assert_eq!(spans.len(), 4, "the request, two stages and one call");
        assert_eq!(attribute(&resource, "service.name").as_deref(), Some("forebay"));

        let root = named(&spans, "pipeline shout");
        assert_eq!((hex(&root.parent_span_id).as_str(), root.kind), (CALLER, 2), "a server's, of the caller");
        let of = |span: &Span, key: &str| attribute(&span.attributes, key);
        assert_eq!(of(root, "forebay.tenant").as_deref(), Some("default"));
        assert_eq!(of(root, "forebay.ending").as_deref(), Some("complete"));
        let id = serde_json::from_str::<Json>(&body).unwrap()["id"].as_str().unwrap().to_owned();
        assert_eq!(of(root, "forebay.request.id"), Some(id));
        let draft = named(&spans, "stage draft");
        let answer = named(&spans, "stage answer");
        assert_eq!((&draft.parent_span_id, &answer.parent_span_id), (&root.span_id, &root.span_id));
        assert_eq!((answer.kind, of(answer, "forebay.stage.state").as_deref()), (1, Some("done")));

        let chat = named(&spans, "chat gpt-test");
        assert_eq!((&chat.parent_span_id, chat.kind), (&answer.span_id, 3), "a client's, of its stage");
        for (key, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "gpt-test"),
            ("gen_ai.response.finish_reasons", "stop"),
            ("server.address", "127.0.0.1"),
            ("forebay.model", "m"),
            ("forebay.attempt.number", "1"),
        ] {
            assert_eq!(of(chat, key).as_deref(), Some(value), "{key}");
        }
        assert!(of(chat, "gen_ai.response.model").is_some());
        let tokens = |key| of(chat, key).unwrap().parse::<u64>().unwrap();
        assert!(tokens("gen_ai.usage.input_tokens") > 0 && tokens("gen_ai.usage.output_tokens") > 0);
        assert_eq!(of(chat, "error.type"), None);

        // The wall clock of a record has milliseconds.
        let slack = 2_000_000;
        assert!(root.start_time_unix_nano + slack >= before && root.end_time_unix_nano <= after + slack);
        for span in &spans {
            assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{}", span.name);
            assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{}", span.name);
        }
        let took = chat.end_time_unix_nano - chat.start_time_unix_nano;
        assert!(took >= 100_000_000, "the model took 120 ms, the span says {took} ns");
        let first = chat.events.iter().find(|e| e.name == "gen_ai.first_token").unwrap();
        assert!(first.time_unix_nano - chat.start_time_unix_nano >= 100_000_000);
        let text = format!("{spans:?}");
        assert!(!text.contains("sentence") && !text.contains("LOUD"), "what was said is never sent");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_no_holds_and_without_a_caller_the_share_decides() {
    let up = FakeUpstream::start(script(json!({"text": "yes"}))).await.unwrap();
    let collector = Collector::start(None);
    let more = format!("telemetry: {{otlp: \"{}\"}}\n", collector.url);
    let server = server(&up.base_url(), &more, &[]);
    blocking(move || {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#;
        let no = [("traceparent", &*traceparent("00"))];
        assert_eq!(server.ask("POST", "/v1/chat/completions", &no, body).0, 200);
        let broken = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1")];
        let (_, _, answer) = server.ask("POST", "/v1/chat/completions", &broken, body);
        let id = serde_json::from_str::<Json>(&answer).unwrap()["id"].as_str().unwrap().to_owned();
        let own = id.trim_start_matches("req_").to_owned();
        // The second request's spans come after the first one's would have.
        let first = collector.wait(|_, export| match export {
            Export::Spans(spans, _) => Some(spans),
            Export::Metrics(_) => None,
        });
        assert!(first.iter().all(|s| hex(&s.trace_id) == own), "the trace is the request: {first:?}");
        let root = named(&first, "POST /v1/chat/completions");
        assert!(root.parent_span_id.is_empty());
        assert_eq!(named(&first, "chat gpt-test").parent_span_id, root.span_id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_says_its_code_and_a_retry_is_a_span_of_its_own() {
    let up = FakeUpstream::start(script(json!({"scenario": "S04"}))).await.unwrap();
    let collector = Collector::start(None);
    let more = format!("telemetry: {{otlp: \"{}\"}}\n", collector.url);
    let server = server(&up.base_url(), &more, &[]);
    blocking(move || {
        let (status, _, body) = server.chat("");
        assert!(status >= 400, "{body}");
        let spans = collector.wait(|_, export| match export {
            Export::Spans(spans, _) => Some(spans),
            Export::Metrics(_) => None,
        });
        let calls: Vec<&Span> = spans.iter().filter(|s| s.name == "chat gpt-test").collect();
        assert_eq!(calls.len(), 2, "503 for good is asked once more");
        for (n, call) in calls.iter().enumerate() {
            let number = attribute(&call.attributes, "forebay.attempt.number");
            assert_eq!(number, Some((n + 1).to_string()));
            assert_eq!(attribute(&call.attributes, "error.type").as_deref(), Some("upstream_error"));
            assert_eq!(call.status.as_ref().map(|s| s.code), Some(2), "an error");
        }
        let root = named(&spans, "POST /v1/chat/completions");
        assert_eq!(root.status.as_ref().map(|s| s.code), Some(2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_go_to_the_collector_named_by_the_environment_with_its_headers_and_name() {
    let up = FakeUpstream::start(script(json!({"text": "one two three four"}))).await.unwrap();
    let collector = Collector::start(Some("s3cret"));
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret"),
        ("OTEL_SERVICE_NAME", "gateway-7"),
    ];
    let server = server(&up.base_url(), "", &env);
    blocking(move || {
        assert_eq!(server.chat("").0, 200);
        let usage = collector.metric("gen_ai.client.token.usage");
        let Some(Data::Histogram(h)) = usage.data else { panic!("no histogram: {usage:?}") };
        assert_eq!(h.data_points.len(), 2, "input and output");
        assert_eq!(h.data_points[0].explicit_bounds[..3], [1.0, 4.0, 16.0]);
        let duration = collector.metric("gen_ai.client.operation.duration");
        assert_eq!(duration.unit, "s");
        collector.metric("gen_ai.server.time_to_first_token");
        assert_eq!(server.chat("").0, 200);
        let resource = collector.wait(|_, export| match export {
            Export::Spans(_, resource) => Some(resource),
            Export::Metrics(_) => None,
        });
        assert_eq!(attribute(&resource, "service.name").as_deref(), Some("gateway-7"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_conventions_count_tokens_when_opted_into() {
    let up = FakeUpstream::start(script(json!({"text": "one two"}))).await.unwrap();
    let collector = Collector::start(None);
    let more = format!("telemetry: {{otlp: \"{}\"}}\n", collector.url);
    let latest = [("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")];
    let server = server(&up.base_url(), &more, &latest);
    blocking(move || {
        assert_eq!(server.chat("").0, 200);
        let input = collector.metric("gen_ai.client.inference.usage.input_tokens");
        assert!(matches!(input.data, Some(Data::Sum(s)) if s.is_monotonic));
        let (_, _, text) = server.ask("GET", "/metrics", &[], "");
        assert!(text.contains("gen_ai_client_inference_usage_output_tokens_total{"), "{text}");
        assert!(!text.contains("gen_ai_client_token_usage"));
        promtool("check metrics", &text);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_costs_no_request_anything_and_drops_are_counted() {
    let up = FakeUpstream::start(script(json!({"text": "yes"}))).await.unwrap();
    let (url, connected) = Collector::hanging();
    let more = format!("telemetry: {{otlp: \"{url}\"}}\n");
    let env = [("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")];
    let server = server(&up.base_url(), &more, &env);
    blocking(move || {
        let clock = SystemClock::default();
        let started = clock.now();
        assert_eq!(server.chat("").0, 200);
        connected.recv_timeout(Duration::from_secs(10)).expect("the export hangs now");
        for _ in 0..40 {
            assert_eq!(server.chat("").0, 200);
        }
        assert!(
            clock.now().since(started) < Duration::from_secs(50),
            "nobody waited for the collector's minute"
        );
        let dropped = |text: &str| {
            let line =
                text.lines().find(|l| l.starts_with("forebay_telemetry_dropped_total{reason=\"backlog\"}"));
            line.and_then(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        // Two spans a request: one request is being sent, four batches of two wait, the others are dropped.
        eventually("what was dropped is counted", || {
            dropped(&server.ask("GET", "/metrics", &[], "").2) >= 30
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_sends_what_is_left() {
    let up = FakeUpstream::start(script(json!({"text": "yes"}))).await.unwrap();
    let collector = Collector::start(None);
    let more = format!("telemetry: {{otlp: \"{}\"}}\n", collector.url);
    let hourly = [("OTEL_BSP_SCHEDULE_DELAY", "3600000"), ("OTEL_METRIC_EXPORT_INTERVAL", "3600000")];
    let mut server = server(&up.base_url(), &more, &hourly);
    blocking(move || {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#;
        let yes = [("traceparent", &*traceparent("01"))];
        assert_eq!(server.ask("POST", "/v1/chat/completions", &yes, body).0, 200);
        server.terminate();
        assert!(server.wait().success());
        assert_eq!(collector.spans(TRACE, 2).0.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_pass_prometheus_own_check() {
    let up = FakeUpstream::start(script(json!({"text": "one two three"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "tenants: {default: {budget: {requests_per_minute: 4}}}\n");
    blocking(move || {
        assert_eq!(server.chat("").0, 200);
        let text = [("content-type", "text/plain")];
        assert_eq!(server.ask("POST", "/v1/pipelines/shout", &text, DOCUMENT).0, 200);
        while server.chat("").0 == 200 {}
        let (_, head, text) = server.ask("GET", "/metrics", &[], "");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        for wanted in [
            "gen_ai_client_token_usage_bucket{",
            "gen_ai_client_operation_duration_seconds_bucket{",
            "gen_ai_server_time_to_first_token_seconds_bucket{",
            "gen_ai_server_time_per_output_token_seconds_bucket{",
            "forebay_overhead_seconds_bucket{le=\"0.00002\"}",
            "forebay_overhead_seconds_bucket{le=\"0.05\"}",
            "forebay_queue_wait_seconds_bucket{",
            "forebay_stage_duration_seconds_bucket{",
            "forebay_tokens_total{model=\"m\",pipeline=\"shout\",tenant=\"default\",direction=\"input\"}",
            "forebay_cost_usd_total{model=\"m\",pipeline=\"\",tenant=\"default\"}",
            "forebay_sheds_total{at=\"gate\",code=\"rate_limited\",tenant=\"default\"}",
        ] {
            assert!(text.contains(wanted), "no {wanted} in\n{text}");
        }
        promtool("check metrics", &text);
        let open = [("accept", "application/openmetrics-text; version=1.0.0")];
        let (_, head, text) = server.ask("GET", "/metrics", &open, "");
        assert!(head.contains("application/openmetrics-text") && text.ends_with("# EOF\n"), "{head}");
    })
    .await;
}

/// Gives the text to `promtool`, which finds nothing to say about it.
fn promtool(command: &str, text: &str) {
    if let Some(tools) = Tools::new() {
        tools.has_nothing_to_say(command, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_the_folder_is_exported_before_it_ends() {
    let up = FakeUpstream::start(script(json!({"text": "LOUD"}))).await.unwrap();
    let collector = Collector::start(None);
    let folder = project(&up.base_url());
    let config = folder.path().join("forebay.yaml");
    let told =
        format!("{}telemetry: {{otlp: \"{}\"}}\n", std::fs::read_to_string(&config).unwrap(), collector.url);
    std::fs::write(&config, told).unwrap();
    let doc = folder.path().join("doc.md");
    let ran = output(command(folder.path(), &["--json", "run", "shout", doc.to_str().unwrap()])).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let chat = blocking(move || {
        let mut all = Vec::new();
        collector.wait(|_, export| {
            let Export::Spans(spans, _) = export else { return None };
            all.extend(spans);
            all.iter().find(|s| s.name == "chat gpt-test").cloned()
        })
    });
    assert_eq!(chat.await.kind, 3, "a client's");
}
