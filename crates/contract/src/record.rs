//! What the ledger keeps of a request: who asked, which attempts were made, what each stage took, how it ended.

use serde::{Deserialize, Serialize};

use crate::{
    EndpointName, Error, KeyId, ModelName, Money, PipelineName, RequestId, StageName, StageState, TenantId,
    UnixMillis, Usage, UserId,
};

/// Which protocol the caller spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// OpenAI chat completions.
    Openai,
    /// OpenAI completions.
    Completions,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Anthropic,
    /// The Open Inference Protocol, and MLflow's scoring.
    Inference,
    /// `/v1/pipelines/{name}`.
    Native,
    /// The command line, without a server.
    Cli,
}

/// How a request or an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With everything.
    Complete,
    /// With something.
    Partial,
    /// With nothing.
    Failed,
    /// The caller left or said stop.
    Cancelled,
    /// The server died while it ran; written at the next start, usage estimated from the reservation.
    Lost,
}

impl Ending {
    /// The name in records, queries and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// Why an attempt was made that is not the first for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The same endpoint once more.
    Retry,
    /// Another endpoint of the same model.
    Elsewhere,
    /// Another model.
    Fallback,
    /// Beside an attempt that was slow to begin.
    Hedge,
    /// The answer broke off and began anew.
    Restart,
    /// The answer broke off and was gone on with.
    Continue,
}

impl Reason {
    /// The name in records, traces and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Elsewhere => "elsewhere",
            Self::Fallback => "fallback",
            Self::Hedge => "hedge",
            Self::Restart => "restart",
            Self::Continue => "continue",
        }
    }
}

/// One call to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The stage that made it; `None` for a plain model call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    /// Which attempt of the request this is, from 1, in order of their start; 0 in records from before it was kept.
    #[serde(default)]
    pub ordinal: u32,
    /// Which try for the same answer this is, from 1: more is a retry or a fallback.
    #[serde(default)]
    pub number: u32,
    /// Why it was made, unless it is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The model, as the configuration names it.
    pub model: ModelName,
    /// The model that was asked for, when this one stood in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<ModelName>,
    /// The upstream that was called.
    pub endpoint: EndpointName,
    /// The version that answered, as the provider named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// The version of the prompt, when a prompt file was used: the first 12 hex digits of its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_version: Option<String>,
    /// When it began, in µs after the request's arrival.
    pub started_us: u64,
    /// How long it waited for a slot, in µs.
    pub queued_us: u64,
    /// When its first output came, in µs after the request's arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_us: Option<u64>,
    /// When it ended, in µs after the request's arrival.
    pub ended_us: u64,
    /// Tokens.
    pub usage: Usage,
    /// Money.
    pub cost: Money,
    /// Why the model stopped, in the words of OpenAI's protocol, or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// How it ended.
    pub ending: Ending,
    /// Why, unless complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// One stage of a live run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage.
    pub name: StageName,
    /// When it began, in µs after the request's arrival.
    pub started_us: u64,
    /// When its first output was shown, in µs after the request's arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_output_us: Option<u64>,
    /// When it ended, in µs after the request's arrival.
    pub ended_us: u64,
    /// Its latency budget in ms, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<u64>,
    /// How it ended.
    pub state: StageState,
    /// Why, unless done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// Elements of a fan-out: how many there were, failed, and came from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<[u64; 3]>,
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The request.
    pub id: RequestId,
    /// When it arrived.
    pub at: UnixMillis,
    /// The protocol.
    pub surface: Surface,
    /// Who pays.
    pub tenant: TenantId,
    /// With which key; `None` on an open server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The end user named by the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The pipeline, unless it was a plain model call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineName>,
    /// The hash of the pipeline's definition: equal pipelines, equal version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_version: Option<String>,
    /// The model asked for by a plain model call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// Waiting before anything ran, in µs.
    pub queued_us: u64,
    /// When the caller had the first useful output, in µs after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_output_us: Option<u64>,
    /// All of it, in µs.
    pub total_us: u64,
    /// The sum over the attempts.
    pub usage: Usage,
    /// The sum over the attempts.
    pub cost: Money,
    /// Every call to a model, in order of its end.
    pub attempts: Vec<AttemptRecord>,
    /// Every stage, in order of its end.
    pub stages: Vec<StageRecord>,
    /// Findings of stages: coverage, citations, grounding.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// How it ended.
    pub ending: Ending,
    /// Why, unless complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}
