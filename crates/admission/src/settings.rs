//! What an operator decides: limits, budgets, weights, queue bounds. Validated by type; every absent limit means "none".

use std::collections::HashMap;
use std::fmt;

use contract::{KeyId, ModelName, Money, PipelineName, TenantId};
use serde::{Deserialize, Deserializer, de};

/// Everything admission needs to know. The default limits nothing but the models' concurrency and queues.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Limits by API key id; a key that is not listed has none of its own.
    pub keys: HashMap<KeyId, Limits>,
    /// Limits and standing by tenant.
    pub tenants: HashMap<TenantId, TenantSettings>,
    /// For tenants that are not listed.
    pub default_tenant: TenantSettings,
    /// Limits of each single end user; users are counted only when something is limited here.
    pub each_user: Limits,
    /// Limits by pipeline.
    pub pipelines: HashMap<PipelineName, Limits>,
    /// Limits, concurrency and queue by model.
    pub models: HashMap<ModelName, ModelSettings>,
    /// For models that are not listed.
    pub default_model: ModelSettings,
    /// At most this many output tokens are reserved for a request, however large its `max_tokens` is. Tokens.
    pub reserved_output_tokens: u64,
    /// A reservation not settled or renewed for this long is taken back. Seconds.
    pub lease_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            keys: HashMap::new(),
            tenants: HashMap::new(),
            default_tenant: TenantSettings::default(),
            each_user: Limits::default(),
            pipelines: HashMap::new(),
            models: HashMap::new(),
            default_model: ModelSettings::default(),
            reserved_output_tokens: 1024,
            lease_seconds: 900,
        }
    }
}

impl Settings {
    /// The settings of a tenant, listed or not.
    pub fn tenant(&self, tenant: &TenantId) -> &TenantSettings {
        self.tenants.get(tenant).unwrap_or(&self.default_tenant)
    }

    /// The settings of a model, listed or not.
    pub fn model(&self, model: &ModelName) -> &ModelSettings {
        self.models.get(model).unwrap_or(&self.default_model)
    }
}

/// Rates and budgets of one scope. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a minute, as a bucket of that size that refills evenly.
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, in and out together, likewise.
    pub tokens_per_minute: Option<u64>,
    /// Streaming requests at the same time.
    pub concurrent_streams: Option<u32>,
    /// Tokens a UTC day.
    pub tokens_per_day: Option<u64>,
    /// Tokens a UTC calendar month.
    pub tokens_per_month: Option<u64>,
    /// Tokens for ever.
    pub tokens_total: Option<u64>,
    /// Dollars a UTC day.
    #[serde(deserialize_with = "dollars")]
    pub usd_per_day: Option<Money>,
    /// Dollars a UTC calendar month.
    #[serde(deserialize_with = "dollars")]
    pub usd_per_month: Option<Money>,
    /// Dollars for ever.
    #[serde(deserialize_with = "dollars")]
    pub usd_total: Option<Money>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Limits::default()
    }
}

/// How urgent work is. A class is served only when no higher one waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// What can wait: jobs, batches.
    Batch,
    /// A request somebody looks at.
    #[default]
    Normal,
    /// Before everybody else.
    High,
}

/// A tenant's standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSettings {
    /// Its share of a contended model beside other tenants' weights; at least 1.
    pub weight: u32,
    /// The class of its requests unless the request says otherwise.
    pub priority: Priority,
    /// Its rates and budgets.
    pub limits: Limits,
}

impl Default for TenantSettings {
    fn default() -> Self {
        TenantSettings { weight: 1, priority: Priority::Normal, limits: Limits::default() }
    }
}

/// A model's (or one endpoint's) concurrency and queue.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Never more requests at the same time than this; at least 1.
    pub max_concurrency: u32,
    /// Whether the limit adapts below `max_concurrency` to latency and to 429/503.
    pub adaptive: bool,
    /// Where an adaptive limit starts; `max_concurrency` when absent.
    pub initial_concurrency: Option<u32>,
    /// Tokens that may wait.
    pub queue_tokens: u64,
    /// Requests that may wait.
    pub queue_entries: usize,
    /// The longest expected wait of a caller's request, in milliseconds: who would wait longer is refused at once. When absent,
    /// as many may wait before it as half of what runs at once, and 16 at least.
    pub max_wait_ms: Option<u64>,
    /// What an output token counts in the fair queue, in input tokens.
    pub output_weight: f64,
    /// Its rates and budgets over all callers.
    pub limits: Limits,
}

impl Default for ModelSettings {
    fn default() -> Self {
        ModelSettings {
            max_concurrency: 256,
            adaptive: true,
            initial_concurrency: None,
            queue_tokens: 4_000_000,
            queue_entries: 4096,
            max_wait_ms: None,
            output_weight: 2.0,
            limits: Limits::default(),
        }
    }
}

/// Dollars as a person writes them: `20`, `0.02` or `"$0.02"`.
fn dollars<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Money>, D::Error> {
    struct Dollars;
    impl de::Visitor<'_> for Dollars {
        type Value = Option<Money>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an amount of dollars such as 0.02")
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_u64<E: de::Error>(self, n: u64) -> Result<Self::Value, E> {
            self.visit_str(&n.to_string())
        }
        fn visit_i64<E: de::Error>(self, n: i64) -> Result<Self::Value, E> {
            self.visit_str(&n.to_string())
        }
        fn visit_f64<E: de::Error>(self, n: f64) -> Result<Self::Value, E> {
            if n.is_finite() && n >= 0.0 {
                Ok(Some(Money::from_usd(n)))
            } else {
                Err(E::custom(format!("`{n}` is not an amount of dollars such as 0.02")))
            }
        }
        fn visit_str<E: de::Error>(self, s: &str) -> Result<Self::Value, E> {
            s.parse().map(Some).map_err(E::custom)
        }
    }
    d.deserialize_any(Dollars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_as_dollars_however_they_are_written() {
        for text in [r#"{"usd_per_day": 0.02}"#, r#"{"usd_per_day": "$0.02"}"#] {
            let limits: Limits = serde_json::from_str(text).unwrap();
            assert_eq!(limits.usd_per_day, Some(Money::from_nanos(20_000_000)));
        }
        let whole: Limits = serde_json::from_str(r#"{"usd_per_month": 20, "usd_total": null}"#).unwrap();
        assert_eq!(whole.usd_per_month, Some(Money::from_nanos(20_000_000_000)));
        assert_eq!(whole.usd_total, None);
        assert!(serde_json::from_str::<Limits>(r#"{"usd_per_day": -1}"#).is_err());
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(serde_json::from_str::<Settings>(r#"{"tenants": {"gold": {"wieght": 4}}}"#).is_err());
        let ok: Settings = serde_json::from_str(r#"{"tenants": {"gold": {"weight": 4}}}"#).unwrap();
        assert_eq!((ok.tenant(&"gold".into()).weight, ok.tenant(&"other".into()).weight), (4, 1));
    }
}
