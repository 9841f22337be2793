//! What a pipeline does when its models are busy. These docs are the manual, as those of `model.rs`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value as Json;

use super::units::Time;

/// What a pipeline does when a request would wait too long for a model: less, at once.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenBusyConfig {
    /// The longest wait that is no reason to do less. Unless given: the budget of the first output; where a draft serves that,
    /// half of the total.
    #[serde(default)]
    pub wait: Option<Time>,
    /// What is done instead: the first that helps.
    #[schemars(length(min = 1))]
    pub then: Vec<RungConfig>,
}

/// One thing to do instead: `{cached: AGE}`, `{model: NAME}`, `draft`, `job` or `shed`.
#[derive(Debug, Clone, PartialEq)]
pub enum RungConfig {
    /// The complete answer that the very same request of its tenant had before, if it is no older than this.
    Cached(Time),
    /// The same with this model in every stage that asks one, where its wait is short enough.
    Model(String),
    /// Only the draft, which needs no model.
    Draft,
    /// All of it, later: the request becomes a job, and the answer is 202 with its address, for callers who take that.
    Job,
    /// A refusal that says when to come again.
    Shed,
}

const EXPECTED: &str = "{cached: AGE}, {model: NAME}, draft, job or shed";

impl<'de> Deserialize<'de> for RungConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let read = match Json::deserialize(d)? {
            Json::String(s) if s == "draft" => Some(RungConfig::Draft),
            Json::String(s) if s == "job" => Some(RungConfig::Job),
            Json::String(s) if s == "shed" => Some(RungConfig::Shed),
            Json::Object(mut map) => match map.remove("cached") {
                Some(age) => Some(RungConfig::Cached(Time::deserialize(age).map_err(D::Error::custom)?)),
                None => map.get("model").and_then(Json::as_str).map(|m| RungConfig::Model(m.to_owned())),
            },
            _ => None,
        };
        read.ok_or_else(|| D::Error::custom(format!("expected {EXPECTED}")))
    }
}

impl JsonSchema for RungConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rung".into()
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`{cached: AGE}`: the complete answer that the very same request of its tenant had before, if it is no older than this. `{model: NAME}`: the same with this model, where its wait is short enough. `draft`: only what needs no model. `job`: all of it, later: 202 with the job's address, for callers who take that. `shed`: a refusal that says when to come again.",
            "x-expected": EXPECTED,
            "anyOf": [
                {"type": "string", "enum": ["draft", "job", "shed"]},
                {"type": "object", "additionalProperties": false, "required": ["cached"],
                 "properties": {"cached": g.subschema_for::<Time>()}},
                {"type": "object", "additionalProperties": false, "required": ["model"],
                 "properties": {"model": {"type": "string"}}}
            ]
        })
    }
}
