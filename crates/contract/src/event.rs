//! What a live run tells its caller while it goes on. JSON, SSE and WebSocket show the same events.

use serde::{Deserialize, Serialize};

use crate::{Class, Code, Error, Money, RequestId, RetryHint, StageName, StageRecord, Usage};

/// Where a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Running.
    Started,
    /// Ended with everything.
    Done,
    /// Ended with something.
    Partial,
    /// Ended with nothing; its failure contract decides what follows.
    Failed,
    /// Not needed, or left out by its contract.
    Skipped,
}

impl StageState {
    /// The name in events, records, traces and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One event. The field `type` names it on the wire; SSE uses the same name as its `event:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields of each event are described by the wire format's page")]
pub enum Event {
    /// The request was taken.
    Accepted { id: RequestId, queue_position: u64, expected_wait_ms: u64 },
    /// A stage changed its state. `budget_ms` is its latency budget, when it has one.
    Stage {
        name: StageName,
        state: StageState,
        elapsed_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget_ms: Option<u64>,
    },
    /// Something useful before the answer: it will be replaced.
    Draft { text: String },
    /// The next piece of the answer.
    Delta { text: String },
    /// The answer broke off and begins anew: forget all deltas so far.
    Reset {},
    /// An element of a fan-out ended; exactly one of `text` and `error` is there.
    Part {
        stage: StageName,
        index: u64,
        of: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// What has been used so far.
    Usage { usage: Usage, cost_nanousd: Money },
    /// Why the answer is not, or not all, there. `partial` says whether what came before can be used.
    Error {
        code: Code,
        class: Class,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        partial: bool,
    },
    /// The end. Always the last event; a stream without it was cut.
    Done {
        done: bool,
        usage: Usage,
        cost_nanousd: Money,
        stages: Vec<StageRecord>,
        /// The answer itself, when no piece of it was shown by a delta: JSON as it is, a list as an array, the rest as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<serde_json::Value>,
        /// Findings of stages by name: `coverage`, `citations`, `grounding`, …
        #[serde(default, flatten)]
        facts: serde_json::Map<String, serde_json::Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model_version: Option<String>,
    },
}

impl Event {
    /// The name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Accepted { .. } => "accepted",
            Event::Stage { .. } => "stage",
            Event::Draft { .. } => "draft",
            Event::Delta { .. } => "delta",
            Event::Reset {} => "reset",
            Event::Part { .. } => "part",
            Event::Usage { .. } => "usage",
            Event::Error { .. } => "error",
            Event::Done { .. } => "done",
        }
    }

    /// An error as an event.
    pub fn error(e: &Error, partial: bool) -> Event {
        let retry_after_ms = match e.retry {
            RetryHint::After(d) => Some(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            RetryHint::No | RetryHint::Elsewhere => None,
        };
        Event::Error {
            code: e.code,
            class: e.class(),
            message: e.told().into_owned(),
            retry_after_ms,
            partial,
        }
    }
}
