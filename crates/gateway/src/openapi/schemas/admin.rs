//! What an operator reads and writes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::errors::OpenAiErrorDetail;

/// Every key, without its secret.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Keys {
    keys: Vec<KeyInfo>,
}

/// What is known of a key. Times are in milliseconds since the epoch.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct KeyInfo {
    id: String,
    /// For people.
    name: String,
    /// Who pays.
    tenant: String,
    role: KeyRole,
    created_at: i64,
    #[schema(required)]
    expires_at: Option<i64>,
    #[schema(required)]
    revoked_at: Option<i64>,
}

/// What a key may do.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum KeyRole {
    User,
    Admin,
}

/// What a key is to be.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct KeyWanted {
    /// For people: at most 200 bytes.
    #[schema(min_length = 1)]
    name: String,
    /// Who pays for what it asks: at most 200 bytes.
    #[schema(min_length = 1)]
    tenant: String,
    /// `user` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    role: Option<KeyRole>,
    /// After how many milliseconds it is refused; never unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    expires_in_ms: Option<i64>,
}

/// A key that was just made.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct KeyMade {
    info: KeyInfo,
    /// The key itself, this once.
    key: String,
}

/// What was spent.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Costs {
    rows: Vec<CostRow>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct CostRow {
    /// Whose; null for requests that have none.
    #[schema(required)]
    name: Option<String>,
    /// Whose user it is, when costs are summed by user.
    #[schema(required)]
    tenant: Option<String>,
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// In 10⁻⁹ dollars.
    cost: i64,
}

/// All models.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ModelInfos {
    models: Vec<ModelInfo>,
}

/// What a model is and how it is doing.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ModelInfo {
    name: String,
    /// `openai`, `anthropic` or `local`.
    kind: String,
    /// The model's name at its provider, or its file.
    model: String,
    /// Where it is asked; none for a local one.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// Tokens of prompt and answer together.
    #[schema(required)]
    context_window: Option<u64>,
    #[schema(required)]
    max_output_tokens: Option<u64>,
    price: Price,
    /// `config`, the table's entry, or `none`: then it counts as free.
    price_from: String,
    /// `ready`, `missing` (the file), or a worker's `stopped`, `starting` or `running`.
    state: String,
    /// A local model's file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// A running worker's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Calls under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u32>,
    /// Calls that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u64>,
}

/// In 10⁻⁹ dollars per million tokens.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Price {
    input: i64,
    output: i64,
    cached_input: i64,
    /// What holds instead for a long prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    long: Option<LongPrice>,
}

/// The same of prompts with more tokens than `above`.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct LongPrice {
    above: u64,
    input: i64,
    output: i64,
    cached_input: i64,
}

/// The configuration in force.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ConfigState {
    /// A hash of the file and of the files it names: equal configurations, equal version.
    version: String,
    /// In milliseconds since the epoch.
    loaded_at: i64,
    /// Whether a change of the files is noticed.
    watched: bool,
    /// What the file says otherwise than the server does, until it is started again.
    needs_restart: Vec<String>,
    /// Why the last attempt to load another was refused, when it was: what is in force is not what the file says.
    #[schema(required)]
    refused: Option<ConfigRefusal>,
}

/// What a reload did.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Reloaded {
    config: ConfigState,
    /// What is not as it was: `models.small: changed`, `pipelines.digest: added`.
    changed: Vec<String>,
}

/// Why the configuration was refused. What was in force still is.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ReloadRefused {
    error: OpenAiErrorDetail,
    refused: ConfigRefusal,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ConfigRefusal {
    /// When, in milliseconds since the epoch.
    at: i64,
    /// All of it as `forebay check` prints it.
    message: String,
    /// Every problem with its place; none when it is not one of the file.
    problems: Vec<ConfigProblem>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ConfigProblem {
    /// From one.
    line: u64,
    /// In characters, from one.
    column: u64,
    /// JSON pointer of the value at fault.
    path: String,
    message: String,
    /// What to do about it.
    remedy: String,
}
