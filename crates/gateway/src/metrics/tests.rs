use contract::{AttemptRecord, Ending, Money, RequestId, StageRecord, StageState, UnixMillis, Usage};
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn attempt(model: &str, from: u64, to: u64) -> AttemptRecord {
    AttemptRecord {
        stage: None,
        ordinal: 1,
        number: 1,
        model: model.into(),
        reason: None,
        instead_of: None,
        endpoint: "e".into(),
        model_version: Some("text of an upstream".into()),
        prompt_version: None,
        started_us: from,
        queued_us: 0,
        first_token_us: Some(from),
        ended_us: to,
        usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
        cost: Money::from_nanos(1_000_000_000),
        finish_reason: None,
        ending: Ending::Complete,
        error: None,
    }
}

pub(crate) fn record(tenant: &str, attempts: Vec<AttemptRecord>, total_us: u64) -> RequestRecord {
    RequestRecord {
        id: RequestId::from_parts(UnixMillis(0), 1),
        at: UnixMillis(0),
        surface: Surface::Openai,
        tenant: tenant.into(),
        key: None,
        user: Some("someone's name".into()),
        pipeline: None,
        pipeline_version: None,
        model: Some("m".into()),
        stream: false,
        queued_us: 0,
        first_output_us: None,
        total_us,
        usage: Usage::default(),
        cost: Money::ZERO,
        attempts,
        stages: Vec::new(),
        facts: serde_json::Map::new(),
        ending: Ending::Complete,
        error: None,
    }
}

fn metrics() -> Metrics {
    Metrics::new(&Settings { tenants: ["gold".into()].into(), ..Settings::default() })
}

pub(crate) fn text(m: &Metrics) -> String {
    let mut out = String::new();
    encode_registry(&mut out, &m.own).unwrap();
    encode_registry(&mut out, m.gen_ai.registry()).unwrap();
    out
}

#[test]
fn labels_are_names_of_the_configuration_only() {
    let m = metrics();
    m.ended(&record("gold", vec![attempt("m", 0, 10)], 10));
    m.ended(&record("made-up-by-a-key", vec![attempt("m", 0, 10)], 10));
    m.refused(At::Gate, &"another".into(), &Error::new(Code::RateLimited, "slow down"));
    let text = text(&m);
    assert!(text.contains(r#"forebay_cost_usd_total{model="m",pipeline="",tenant="gold"} 1.0"#), "{text}");
    assert!(text.contains(r#"forebay_cost_usd_total{model="m",pipeline="",tenant="other"} 1.0"#));
    assert!(text.contains(r#"forebay_sheds_total{at="gate",code="rate_limited",tenant="other"} 1"#));
    for secret in ["made-up", "another", "someone", "text of an upstream", "slow down"] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
}

#[test]
fn a_tenant_that_another_configuration_names_is_named_from_then_on() {
    let m = metrics();
    m.ended(&record("late", vec![attempt("m", 0, 10)], 10));
    m.refused(At::Gate, &"late".into(), &Error::new(Code::RateLimited, "slow down"));
    m.name(&Settings { tenants: ["late".into()].into(), ..Settings::default() });
    (0..2).for_each(|_| m.ended(&record("late", vec![attempt("m", 0, 10)], 10)));
    (0..3).for_each(|_| m.refused(At::Gate, &"late".into(), &Error::new(Code::RateLimited, "slow down")));
    let text = text(&m);
    assert!(text.contains(r#"forebay_cost_usd_total{model="m",pipeline="",tenant="other"} 1.0"#), "{text}");
    assert!(text.contains(r#"forebay_cost_usd_total{model="m",pipeline="",tenant="late"} 2.0"#), "{text}");
    assert!(text.contains(r#"forebay_sheds_total{at="gate",code="rate_limited",tenant="other"} 1"#));
    assert!(text.contains(r#"forebay_sheds_total{at="gate",code="rate_limited",tenant="late"} 3"#));
}

#[test]
fn a_call_without_output_makes_no_times_of_output() {
    let m = metrics();
    let silent = || AttemptRecord { first_token_us: None, ..attempt("m", 0, 10) };
    m.ended(&record("gold", vec![silent()], 10));
    assert!(!text(&m).contains("gen_ai_server_time_to_first_token_seconds_count"));
    m.ended(&record("gold", vec![attempt("m", 0, 10), silent()], 10));
    let text = text(&m);
    let count = |name: &str| text.lines().find(|l| l.starts_with(name)).and_then(|l| l.rsplit(' ').next());
    assert_eq!(count("gen_ai_server_time_to_first_token_seconds_count"), Some("1"));
    assert_eq!(count("gen_ai_client_operation_duration_seconds_count"), Some("3"));
}

#[test]
fn retries_and_fallbacks_are_told_apart() {
    let m = metrics();
    let (retry, fallback) = (Some(contract::Reason::Retry), Some(contract::Reason::Fallback));
    let again = AttemptRecord { number: 2, reason: retry, ..attempt("m", 10, 20) };
    let other =
        AttemptRecord { number: 3, reason: fallback, instead_of: Some("m".into()), ..attempt("n", 20, 30) };
    m.ended(&record("gold", vec![attempt("m", 0, 10), again, other], 30));
    let text = text(&m);
    assert!(text.contains(r#"forebay_retries_total{model="m",reason="retry"} 1"#), "{text}");
    assert!(text.contains(r#"forebay_fallbacks_total{model="n",instead_of="m"} 1"#));
    assert!(text.contains(r#"forebay_retries_total{model="n",reason="fallback"} 1"#));
}

#[test]
fn a_stage_is_measured_against_its_budget() {
    let m = metrics();
    let stage = |budget_ms| StageRecord {
        name: "draft".into(),
        started_us: 0,
        first_output_us: None,
        ended_us: 15_000,
        budget_ms,
        state: StageState::Done,
        error: None,
        parts: None,
    };
    let stages = vec![stage(Some(10)), stage(Some(100)), stage(None)];
    let pipeline = Some("p".into());
    m.ended(&RequestRecord { stages, pipeline, ..record("gold", Vec::new(), 15_000) });
    let text = text(&m);
    assert!(text.contains(r#"forebay_stages_over_budget_total{pipeline="p",stage="draft"} 1"#), "{text}");
    assert!(text.contains(r#"forebay_stage_budget_used_ratio_count{pipeline="p",stage="draft"} 2"#));
    assert!(text.contains(r#"forebay_stage_duration_seconds_count{pipeline="p",stage="draft"} 3"#));
}

proptest! {
    #[test]
    fn overhead_is_the_time_in_which_nothing_ran(
        spans in prop::collection::vec((0u64..60, 0u64..60), 0..8),
        total in 0u64..60,
    ) {
        let spans: Vec<_> = spans.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        let attempts = spans.iter().map(|(from, to)| attempt("m", *from, *to)).collect();
        let idle = (0..total).filter(|t| !spans.iter().any(|(from, to)| (from..to).contains(&t))).count();
        let found = overhead::overhead_us(&record("gold", attempts, total));
        prop_assert_eq!(found, (!spans.is_empty()).then_some(idle as u64));
    }
}

#[test]
fn every_metric_that_the_alerts_and_the_dashboard_name_exists() {
    let m = metrics();
    let stage = StageRecord {
        name: "draft".into(),
        started_us: 0,
        first_output_us: None,
        ended_us: 15_000,
        budget_ms: Some(1),
        state: StageState::Done,
        error: None,
        parts: None,
    };
    let (retry, fallback) = (Some(contract::Reason::Retry), Some(contract::Reason::Fallback));
    let again = AttemptRecord { number: 2, reason: retry, ..attempt("m", 10, 20) };
    let other =
        AttemptRecord { number: 3, reason: fallback, instead_of: Some("m".into()), ..attempt("n", 20, 30) };
    let first_output_us = Some(1);
    let r = record("gold", vec![again, other], 30);
    m.ended(&RequestRecord { stages: vec![stage], first_output_us, ..r });
    m.refused(At::Gate, &"gold".into(), &Error::new(Code::RateLimited, "slow down"));
    let gate = admission::Gate::new(
        admission::Settings::default(),
        std::sync::Arc::new(contract::ManualClock::starting_at(UnixMillis(0))),
    );
    gate.pool(&"m".into(), None);
    let resting = EndpointState { breaker: BreakerState::Open, in_flight: 2, limit: Some(4), latency: None };
    let endpoints = [(ModelName::from("m"), EndpointName::from("m#2"), resting)];
    let shown =
        m.render(&gate.snapshot(), &store::Health::default(), &endpoints, &[("backlog", 1)], Format::Classic);
    assert!(shown.contains(r#"forebay_endpoint_resting{model="m",endpoint="m#2"} 1"#), "{shown}");
    let firing = crate::MonitorState {
        monitor: "m".into(),
        firing: 1,
        drift: Some(0.3),
        problem: true,
        ..Default::default()
    };
    m.monitors_are(&[firing], 3, UnixMillis(0));
    let shown =
        m.render(&gate.snapshot(), &store::Health::default(), &endpoints, &[("backlog", 1)], Format::Classic);
    assert!(shown.contains(r#"forebay_alerts{monitor="m",state="firing"} 1"#), "{shown}");
    assert!(shown.contains("forebay_capture_dropped_total 3"), "{shown}");
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    let text = ["alerts.yml", "dashboards/forebay.json"]
        .map(|name| std::fs::read_to_string(format!("{docs}/{name}")).unwrap())
        .concat();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: BTreeSet<&str> = words
        .filter(|w| w.starts_with("forebay_") || w.starts_with("gen_ai_"))
        .filter(|w| *w != "forebay_model")
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(shown.lines().any(|l| l.starts_with(name)), "no {name} in\n{shown}");
    }
}

#[test]
fn what_caches_did_is_counted_by_model() {
    let m = metrics();
    let mut r = record("gold", vec![], 10);
    r.facts.insert(
        "cache".into(),
        serde_json::json!({
            "m": {"hit": 2, "miss": 1, "saved_tokens": 30, "saved_nanousd": 2_500_000_000_u64},
            "n": {"shared": 1},
        }),
    );
    m.ended(&r);
    let text = text(&m);
    for line in [
        r#"forebay_cache_requests_total{model="m",result="hit"} 2"#,
        r#"forebay_cache_requests_total{model="m",result="miss"} 1"#,
        r#"forebay_cache_requests_total{model="n",result="shared"} 1"#,
        r#"forebay_cache_saved_tokens_total{model="m"} 30"#,
        r#"forebay_cache_saved_usd_total{model="m"} 2.5"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[test]
fn what_is_counted_of_a_model_goes_with_the_model() {
    for usage_counters in [false, true] {
        let m = Metrics::new(&Settings { usage_counters, ..Settings::default() });
        let (retry, fallback) = (Some(contract::Reason::Retry), Some(contract::Reason::Fallback));
        let of = |name: &str| {
            let again = AttemptRecord { number: 2, reason: retry, ..attempt(name, 10, 20) };
            let instead_of = Some("old".into());
            let other = AttemptRecord { number: 3, reason: fallback, instead_of, ..attempt(name, 20, 30) };
            let mut r = record("gold", vec![again, other], 30);
            r.facts.insert("cache".into(), serde_json::json!({name: {"hit": 1, "saved_tokens": 3}}));
            r
        };
        m.ended(&of("new"));
        m.keep(|model| model.as_str() == "new");
        let before = text(&m);
        m.ended(&of("old"));
        let both = text(&m);
        assert!(both.lines().filter(|l| l.contains("\"old\"")).count() > 10, "{both}");
        m.keep(|model| model.as_str() == "new");
        let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        // The one line that a model that stays has because of one that is gone goes too.
        let left: BTreeSet<String> = sorted(&text(&m)).into_iter().filter(|l| l.contains("model=")).collect();
        let had = sorted(&before).into_iter().filter(|l| l.contains("model=") && !l.contains("\"old\""));
        assert_eq!(left, had.collect::<BTreeSet<_>>());
        // Under its name again, it is counted from the beginning.
        m.ended(&of("old"));
        assert!(
            text(&m).contains(r#"forebay_attempts_total{model="old",ending="complete"} 2"#),
            "{}",
            text(&m)
        );
    }
}
