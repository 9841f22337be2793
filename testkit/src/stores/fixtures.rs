//! Records and admissions for the tests.

use contract::{
    AttemptRecord, Ending, Money, RequestId, RequestRecord, Surface, TenantId, UnixMillis, Usage,
};
use store::Admitted;

/// A day, in milliseconds.
pub const DAY: i64 = 86_400_000;

/// The id of request `n`.
pub fn id(n: u128) -> RequestId {
    RequestId::from_parts(UnixMillis(DAY), n)
}

/// Request `n`, when it came in.
pub fn admitted(n: u128) -> Admitted {
    Admitted {
        id: id(n),
        at: UnixMillis(DAY),
        tenant: TenantId::from("gold"),
        key: Some("k1".into()),
        user: Some("ann".into()),
        pipeline: Some("summarize".into()),
        model: None,
        surface: Surface::Openai,
        stream: true,
        input_tokens: 400,
        reserved_tokens: 1000,
        reserved_cost: Money::from_nanos(70),
    }
}

/// A record like the typical one: two attempts on two models, 10 + 5 tokens and 7 nanodollars each.
pub fn record(n: u128) -> RequestRecord {
    let usage = Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() };
    let attempt = |model: &str| AttemptRecord {
        stage: Some("notes".into()),
        ordinal: 1,
        number: 1,
        reason: None,
        instead_of: None,
        model: model.into(),
        endpoint: "local".into(),
        model_version: Some("v1".to_owned()),
        prompt_version: None,
        started_us: 10,
        queued_us: 1,
        first_token_us: Some(200),
        ended_us: 900,
        usage,
        cost: Money::from_nanos(7),
        finish_reason: Some("stop".to_owned()),
        ending: Ending::Complete,
        error: None,
    };
    let mut total = usage;
    total += usage;
    RequestRecord {
        surface: Surface::Openai,
        stream: true,
        usage: total,
        cost: Money::from_nanos(14),
        attempts: vec![attempt("writer"), attempt("gpt")],
        ending: Ending::Complete,
        error: None,
        total_us: 1000,
        ..admitted(n).lost()
    }
}

/// All time.
pub fn range() -> (UnixMillis, UnixMillis) {
    (UnixMillis(0), UnixMillis(i64::MAX))
}
