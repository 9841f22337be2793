use contract::{
    AttemptRecord, Code, Ending, Error, Money, RequestId, RequestRecord, StageRecord, StageState, Surface,
    UnixMillis, Usage,
};

pub(crate) const AT: i64 = 1_763_740_800_000;

pub(crate) fn id(n: u128) -> RequestId {
    RequestId::from_parts(UnixMillis(AT), n)
}

pub(crate) fn attempt(stage: Option<&str>, ordinal: u32) -> AttemptRecord {
    AttemptRecord {
        stage: stage.map(Into::into),
        ordinal,
        number: 1,
        model: "writer".into(),
        reason: None,
        instead_of: None,
        endpoint: "writer".into(),
        model_version: Some("gpt-x-2026".to_owned()),
        prompt_version: Some("0123456789ab".to_owned()),
        started_us: 1_000,
        queued_us: 500,
        first_token_us: Some(2_000),
        ended_us: 9_000,
        usage: Usage { input_tokens: 40, output_tokens: 7, cached_input_tokens: 30, ..Usage::default() },
        cost: Money::from_nanos(123),
        finish_reason: Some("stop".to_owned()),
        ending: Ending::Complete,
        error: None,
    }
}

pub(crate) fn stage(name: &str) -> StageRecord {
    StageRecord {
        name: name.into(),
        started_us: 800,
        first_output_us: None,
        ended_us: 9_500,
        budget_ms: Some(50),
        state: StageState::Done,
        error: None,
        parts: Some([4, 1, 2]),
    }
}

pub(crate) fn record(attempts: Vec<AttemptRecord>, stages: Vec<StageRecord>) -> RequestRecord {
    RequestRecord {
        id: id(7),
        at: UnixMillis(AT),
        surface: Surface::Anthropic,
        tenant: "gold".into(),
        key: Some("k1".into()),
        user: Some("ann@example.org".into()),
        pipeline: (!stages.is_empty()).then(|| "summarize".into()),
        pipeline_version: None,
        model: None,
        stream: true,
        queued_us: 0,
        first_output_us: Some(2_100),
        total_us: 10_000,
        usage: Usage::default(),
        cost: Money::from_nanos(123),
        attempts,
        stages,
        facts: serde_json::Map::new(),
        ending: Ending::Complete,
        error: None,
    }
}

/// An error whose message holds what a caller wrote.
pub(crate) fn error() -> Error {
    Error::new(Code::UpstreamError, "the prompt `my secret diary` was refused")
}
