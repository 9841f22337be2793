//! The section `jobs`.

use contract::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::units::{Count, Time};

/// Requests that are answered later (`Prefer: respond-async`).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobsConfig {
    /// How long a job and its result are kept when it has ended.
    pub keep: Time,
    /// How many are worked on at the same time, for each model and pipeline: one that hangs holds up no other.
    pub parallel: Count,
    /// How often one is attempted that fails by a fault that may pass.
    pub attempts: Count,
    /// A job that has not ended after this long has failed.
    pub within: Time,
    /// How many may wait; more are refused.
    pub waiting: Count,
    /// Who is told when a job has ended.
    pub webhook: WebhookConfig,
    /// Files of requests whose lines are jobs (`/v1/batches`).
    pub batches: BatchesConfig,
}

/// What batches may be.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchesConfig {
    /// How many requests one may have.
    pub lines: Count,
    /// How many of a tenant may go on at the same time; more are refused.
    pub open: Count,
}

impl Default for BatchesConfig {
    fn default() -> Self {
        BatchesConfig { lines: Count(50_000), open: Count(20) }
    }
}

impl Default for JobsConfig {
    fn default() -> Self {
        let day = |n: u64| Time(std::time::Duration::from_secs(n * 86_400));
        JobsConfig {
            keep: day(7),
            parallel: Count(4),
            attempts: Count(3),
            within: day(1),
            waiting: Count(100_000),
            webhook: WebhookConfig::default(),
            batches: BatchesConfig::default(),
        }
    }
}

/// Who is told when a job has ended, by the Standard Webhooks specification.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Told about every job that names nobody itself (by the header `forebay-webhook`).
    pub url: Option<String>,
    /// What messages to `url` are signed with, `whsec_…`: write `${NAME}`, not the secret itself. Messages to an address that a
    /// caller names are signed with a secret of its tenant's own, which is made from this one: `forebay webhooks secret` shows
    /// it. Without a secret nobody is told. Secrets of the registry's webhooks are sealed under it, if it is there.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub secret: Option<Secret>,
    /// The secret before that one: messages are signed with both, until every receiver knows the new one.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub old_secret: Option<Secret>,
    /// Whether addresses of private networks and of this machine may be told, also without TLS.
    pub allow_private: bool,
}

fn secret<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.map(Secret::new))
}
