//! How a model is kept answering when an upstream does not: more endpoints, second attempts, fallbacks. These docs are the
//! manual, as those of `model.rs`.

use contract::Secret;
use llm::FallbackOn;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value as Json;

use super::units::{Count, Time, Usd};

/// One more endpoint of the same model: another address, another key, or both.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointConfig {
    /// As records and metrics name it. Unless given: the model's name and its place, such as `gpt#2`.
    pub name: Option<String>,
    /// The model's name there. Unless given: as for the model itself.
    pub model: Option<String>,
    /// The address. Unless given: the model's own.
    pub base_url: Option<String>,
    /// The key. Unless given: the model's own.
    #[serde(deserialize_with = "super::model::secret")]
    #[schemars(with = "Option<String>")]
    pub api_key: Option<Secret>,
    /// The most requests at once here; what it bears is found below this. Unless given: as for the model, which no sum exceeds.
    pub max_concurrency: Option<Count>,
}

/// A second attempt beside one that is slow to begin: whichever has its first output first is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HedgeConfig {
    /// How long the first attempt may take before its first output.
    pub after: Time,
    /// The most second attempts, as a share of the calls.
    #[serde(default = "a_twentieth")]
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
    /// The most dollars a day for the prompts of second attempts. Unless given: what the share allows.
    #[serde(default)]
    pub usd_per_day: Option<Usd>,
}

fn a_twentieth() -> f64 {
    0.05
}

/// When an endpoint rests after failures, and for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures in a row that let it rest. Unless given: 3.
    pub failures: Option<Count>,
    /// The share of failures, of ten requests or more, that lets it rest. Unless given: 0.5.
    #[schemars(range(min = 0, max = 1))]
    pub share: Option<f64>,
    /// The first rest; each further one is twice as long. Unless given: 2s.
    pub rest: Option<Time>,
    /// The longest rest. Unless given: 30s.
    pub max_rest: Option<Time>,
}

impl BreakerConfig {
    /// The same in the words of admission.
    pub fn settings(&self) -> admission::BreakerSettings {
        let own = admission::BreakerSettings::default();
        admission::BreakerSettings {
            consecutive: self.failures.map_or(own.consecutive, |n| u32::try_from(n.0).unwrap_or(u32::MAX)),
            share: self.share.unwrap_or(own.share),
            rest: self.rest.map_or(own.rest, |t| t.0),
            max_rest: self.max_rest.map_or(own.max_rest, |t| t.0),
            ..own
        }
    }
}

/// Whether and how an upstream goes on behind the beginning of an answer (`mid_stream: continue`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-expected" = "off, plain, vllm or prefix"))]
pub enum PrefillConfig {
    /// It does not.
    Off,
    /// When the last message is the assistant's: Anthropic's protocol (where the model allows it), llama.cpp.
    Plain,
    /// By `continue_final_message`: vLLM, SGLang.
    Vllm,
    /// By `prefix: true` in the message: Mistral, DeepSeek.
    Prefix,
}

/// What happens when a streamed answer breaks off after its first output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-expected" = "error, restart or continue"))]
pub enum MidStreamConfig {
    /// It ends with an error, after what came.
    #[default]
    Error,
    /// It begins anew; a reset tells the reader to forget what came. For readers that know of it.
    Restart,
    /// It is gone on with behind its last word, by a model whose `prefill` allows it; elsewhere as `error`.
    Continue,
}

impl From<MidStreamConfig> for contract::MidStream {
    fn from(c: MidStreamConfig) -> Self {
        match c {
            MidStreamConfig::Error => Self::Error,
            MidStreamConfig::Restart => Self::Restart,
            MidStreamConfig::Continue => Self::Continue,
        }
    }
}

/// What a fallback is for, as it is written.
const CAUSES: [(&str, FallbackOn); 7] = [
    ("error", FallbackOn::Error),
    ("timeout", FallbackOn::Timeout),
    ("rate_limit", FallbackOn::RateLimit),
    ("credentials", FallbackOn::Credentials),
    ("overloaded", FallbackOn::Overloaded),
    ("context_length", FallbackOn::ContextLength),
    ("content_filter", FallbackOn::ContentFilter),
];

/// A model to ask when another cannot answer: its name, or its name and what it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct FallbackConfig {
    /// The model.
    pub model: String,
    /// What it is for. Unless given: everything but filtered content.
    pub on: Option<Vec<FallbackOn>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    model: String,
    on: Vec<String>,
}

impl<'de> Deserialize<'de> for FallbackConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let written = match Json::deserialize(d)? {
            Json::String(model) => return Ok(FallbackConfig { model, on: None }),
            other => serde_json::from_value::<Detailed>(other).map_err(D::Error::custom)?,
        };
        let cause = |name: &String| CAUSES.iter().find(|(n, _)| n == name).map(|(_, c)| *c);
        let on: Option<Vec<FallbackOn>> = written.on.iter().map(cause).collect();
        let on = on.ok_or_else(|| D::Error::custom("`on` names something that no fallback is for"))?;
        Ok(FallbackConfig { model: written.model, on: Some(on) })
    }
}

impl JsonSchema for FallbackConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fallback".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let causes: Vec<&str> = CAUSES.iter().map(|(name, _)| *name).collect();
        json_schema!({
            "description": "A model's name; or `{model: NAME, on: [CAUSE, …]}`, for these causes alone. `content_filter` is one only where it is named.",
            "x-expected": "a model's name, or {model: NAME, on: [error, timeout, rate_limit, credentials, overloaded, context_length, content_filter]}",
            "anyOf": [
                {"type": "string"},
                {"type": "object", "additionalProperties": false, "required": ["model", "on"],
                 "properties": {
                    "model": {"type": "string"},
                    "on": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": causes}}
                 }}
            ]
        })
    }
}
