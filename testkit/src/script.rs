//! What the fake upstream does with a request: pace, answer, usage, faults.
//!
//! One [`Script`] is active at a time. It is given at start, replaced by `POST /_fake/script`, and any field can be
//! overridden for one request by a header: `x-fake-first-token: 250`, `x-fake-tokens: 60`, `x-fake-text: hello`,
//! `x-fake-fault: S08` or `x-fake-fault: {"cut":{"after_tokens":3}}`. A header's value is JSON, or else taken as a string.
//! Nothing here reads a clock or a socket.

use std::time::Duration;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error,
    faults::{Fault, FaultRule, Scenario},
};

/// The longest answer a script may ask for, in tokens.
pub const MAX_TOKENS: usize = 1_000_000;
/// The answer's length when neither the script nor the request names one, in tokens.
pub const DEFAULT_TOKENS: usize = 64;
/// The longest answer given to a request's own `max_tokens` when the script names no length, in tokens.
pub const MAX_NATURAL_TOKENS: usize = 16_384;

/// The behaviour of a fake upstream. The default answers at once, with 64 words or as many as `max_tokens` says.
///
/// In JSON every delay is a number of milliseconds; fractions are allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Time from the request to its first token. Default 0.
    #[serde(with = "ms")]
    pub first_token: Duration,
    /// Time between two tokens; 0 sends as fast as the client reads. Default 0.
    #[serde(with = "ms")]
    pub token_interval: Duration,
    /// Each delay is multiplied by a value drawn from `1 ± jitter`. Between 0 and 1. Default 0.
    pub jitter: f64,
    /// Seed of the jitter and of the default words. Default 0.
    pub seed: u64,
    /// All delays, fault durations and `Retry-After` are divided by it. More than 0. Default 1.
    pub time_scale: f64,
    /// Send the status line and headers at once rather than with the first token. Streams only. Default false.
    pub early_headers: bool,
    /// Send a keep-alive (a comment; for Anthropic a `ping` event) whenever a started stream was silent for that long;
    /// 0 sends none. Default 0.
    #[serde(with = "ms")]
    pub keep_alive: Duration,
    /// Length of the answer in tokens (at most 1,000,000). A request's `max_tokens` below it cuts the answer, which then
    /// ends for `length`. Without it the answer is exactly `max_tokens` long (at most 16,384), or 64, and ends for `stop`.
    pub tokens: Option<usize>,
    /// A fixed answer instead of words. `tokens` does not lengthen it.
    pub text: Option<String>,
    /// Answer with the last words of the prompt's last message.
    pub echo: bool,
    /// Answer a request that carries tools with a call of one. `tool_choice: "none"` is respected, and a request that ends
    /// with a tool's result gets an answer.
    pub tool_call: Option<ToolCall>,
    /// Where an OpenAI stream reports its usage. Default `final_chunk`.
    pub usage: UsagePlace,
    /// How many requests it serves at once, and what becomes of more. Default: all that come.
    pub places: Option<Places>,
    /// Accept these keys only; empty accepts any key and none.
    pub require_key: Vec<String>,
    /// The models listed by `GET /v1/models`. Default `fake-large`, `fake-small`.
    pub models: Vec<String>,
    /// Answer 404 to a model that `models` lacks. Default false: any name is served.
    pub strict_models: bool,
    /// Whether requests are recorded. `bodies` keeps what was sent too; `off` is for benchmarks. Default `on`.
    pub log: LogMode,
    /// One of the sixteen faults by its code; its rules come before `faults`.
    pub scenario: Option<Scenario>,
    /// Faults by request number, counted since this script became active.
    pub faults: Vec<FaultRule>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            first_token: Duration::ZERO,
            token_interval: Duration::ZERO,
            jitter: 0.0,
            seed: 0,
            time_scale: 1.0,
            early_headers: false,
            keep_alive: Duration::ZERO,
            tokens: None,
            text: None,
            echo: false,
            tool_call: None,
            usage: UsagePlace::FinalChunk,
            places: None,
            require_key: Vec::new(),
            models: vec!["fake-large".to_owned(), "fake-small".to_owned()],
            strict_models: false,
            log: LogMode::On,
            scenario: None,
            faults: Vec::new(),
        }
    }
}

/// The call a scripted answer makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolCall {
    /// Name of the tool; by default the first of the request.
    pub name: Option<String>,
    /// The arguments, as the JSON text the model would write. Default `{}`. It is not validated: rehearse bad ones.
    pub arguments: String,
}

impl Default for ToolCall {
    fn default() -> Self {
        Self { name: None, arguments: "{}".to_owned() }
    }
}

/// The capacity of a fake: its pace at full load is `count` ÷ the time an answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// Requests that are served at once; at least 1.
    pub count: u32,
    /// What becomes of more. Default `refuse`.
    #[serde(default)]
    pub beyond: Beyond,
    /// The `Retry-After` of those that are refused; 0 names none. Default 0.
    #[serde(default, with = "ms")]
    pub retry_after: Duration,
}

/// What a fake does with requests beyond its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// Answers 429, as a provider's rate limit does.
    #[default]
    Refuse,
    /// Lets them wait in the order of their coming, as a model server of one's own does.
    Wait,
}

/// Where an OpenAI stream reports its usage. Anthropic streams report it where the protocol says, unless `absent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsagePlace {
    /// As OpenAI does: when `stream_options.include_usage` asks for it, in one extra chunk without choices.
    FinalChunk,
    /// Always in the chunk that carries the finish reason, as some compatible servers do.
    InLastChoice,
    /// Never, streaming or not.
    Absent,
}

/// Whether requests are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogMode {
    /// The last requests are kept.
    On,
    /// So are their bodies of up to 64 KiB: to see what a gateway in between really sends.
    Bodies,
    /// Nothing is kept: [`Handle::wait_for_end`](crate::Handle::wait_for_end) answers [`Error::NotLogged`].
    Off,
}

impl Script {
    /// Reads a script from JSON and validates it.
    ///
    /// # Errors
    /// [`Error::Script`] names the field.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let script: Self = serde_json::from_slice(json).map_err(|e| Error::Script(e.to_string()))?;
        script.validate()?;
        Ok(script)
    }

    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// [`Error::Script`] names the field.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::Script(what.to_owned()));
        if !(0.0..=1.0).contains(&self.jitter) {
            return refuse("jitter must be between 0 and 1");
        }
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return refuse("time_scale must be a positive number");
        }
        if self.tokens.is_some_and(|n| n > MAX_TOKENS) {
            return refuse("tokens must be at most 1000000");
        }
        if self.places.is_some_and(|p| p.count == 0) {
            return refuse("places.count must be at least 1");
        }
        self.faults.iter().try_for_each(FaultRule::validate)
    }

    /// The rules in force: those of the scenario, then the listed ones.
    pub(crate) fn rules(&self) -> Vec<FaultRule> {
        let mut rules = self.scenario.map(Scenario::primary).unwrap_or_default();
        rules.extend(self.faults.iter().cloned());
        rules
    }

    /// A duration as this script lets it pass.
    pub(crate) fn scaled(&self, delay: Duration) -> Duration {
        scale(delay, 1.0 / self.time_scale)
    }

    /// This script with the `x-fake-*` headers of one request applied; `None` when there are none.
    ///
    /// # Errors
    /// [`Error::Script`] for an unknown header or a bad value.
    pub(crate) fn with_headers(&self, headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let mut fields = None;
        let mut faults = Vec::new();
        for (name, value) in headers {
            let Some(field) = name.as_str().strip_prefix("x-fake-") else { continue };
            let text = value.to_str().map_err(|_| Error::Script(format!("x-fake-{field} must be ASCII")))?;
            if field == "fault" {
                faults.extend(fault_header(text)?);
                continue;
            }
            let json = match field {
                "text" => Value::String(text.to_owned()),
                _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
            };
            fields.get_or_insert_with(serde_json::Map::new).insert(field.replace('-', "_"), json);
        }
        if fields.is_none() && faults.is_empty() {
            return Ok(None);
        }
        let mut script = self.clone();
        if let Some(fields) = fields {
            let mut all = serde_json::to_value(&script).map_err(|e| Error::Script(e.to_string()))?;
            if let Value::Object(all) = &mut all {
                all.extend(fields);
            }
            script =
                serde_json::from_value(all).map_err(|e| Error::Script(format!("x-fake headers: {e}")))?;
        }
        script.faults.extend(faults);
        script.validate()?;
        Ok(Some(script))
    }
}

/// A fault named by a header applies to its request, whatever the number.
fn fault_header(text: &str) -> Result<Vec<FaultRule>, Error> {
    let bad = |e: serde_json::Error| Error::Script(format!("x-fake-fault: {e}"));
    if text.starts_with(['S', 's']) {
        let scenario: Scenario = serde_json::from_value(Value::String(text.to_uppercase())).map_err(bad)?;
        return Ok(scenario.primary().into_iter().map(|rule| FaultRule::always(rule.fault)).collect());
    }
    let fault: Fault = serde_json::from_str(text).map_err(bad)?;
    Ok(vec![FaultRule::always(fault)])
}

/// Multiplies a duration, saturating at a day: no fake sleeps longer.
pub(crate) fn scale(delay: Duration, factor: f64) -> Duration {
    const DAY: f64 = 86_400.0;
    if delay.is_zero() || factor.is_nan() || factor <= 0.0 {
        return Duration::ZERO;
    }
    Duration::from_secs_f64((delay.as_secs_f64() * factor).min(DAY))
}

/// Durations as JSON numbers of milliseconds.
pub(crate) mod ms {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(delay: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(delay.as_secs_f64() * 1e3)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let millis = f64::deserialize(deserializer)?;
        if !(0.0..=86_400_000.0).contains(&millis) {
            return Err(D::Error::custom("a delay must be between 0 and 86400000 ms"));
        }
        Ok(Duration::from_secs_f64(millis / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = Script::from_json(br#"{"first_tokn": 3}"#).unwrap_err();
        assert!(error.to_string().contains("first_tokn"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for json in [
            r#"{"jitter": 2}"#,
            r#"{"time_scale": 0}"#,
            r#"{"tokens": 1000001}"#,
            r#"{"places": {"count": 0}}"#,
            r#"{"first_token": -1}"#,
            r#"{"faults": [{"fault": {"status": {"status": 42}}}]}"#,
            r#"{"faults": [{"fault": {"reset": {}}, "from": 0}]}"#,
        ] {
            assert!(Script::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn headers_override_single_fields() {
        let script = Script { tokens: Some(9), ..Script::default() };
        let changed = script
            .with_headers(&headers(&[
                ("x-fake-first-token", "12.5"),
                ("x-fake-text", "42"),
                ("x-fake-fault", "s08"),
                ("x-fake-usage", "absent"),
            ]))
            .unwrap()
            .unwrap();
        assert_eq!(changed.first_token, Duration::from_micros(12_500));
        assert_eq!(changed.text.as_deref(), Some("42"));
        assert_eq!(changed.usage, UsagePlace::Absent);
        assert_eq!(changed.tokens, Some(9));
        assert_eq!(changed.faults.len(), 1);
        assert_eq!(script.with_headers(&headers(&[("accept", "x")])).unwrap(), None);
        assert!(script.with_headers(&headers(&[("x-fake-nonsense", "1")])).is_err());
        assert!(script.with_headers(&headers(&[("x-fake-fault", "S17")])).is_err());
    }

    proptest! {
        #[test]
        fn a_script_survives_its_own_json(first in 0u64..10_000_000, tokens: Option<u16>, echo: bool, seed: u64) {
            let script = Script {
                first_token: Duration::from_millis(first / 1000),
                tokens: tokens.map(usize::from),
                echo,
                seed,
                scenario: Some(Scenario::S08),
                faults: Scenario::ALL.into_iter().flat_map(Scenario::primary).collect(),
                ..Script::default()
            };
            let json = serde_json::to_vec(&script).unwrap();
            prop_assert_eq!(Script::from_json(&json).unwrap(), script);
        }

        #[test]
        fn scaling_never_overflows(millis: u64, factor in 0.0f64..1e12) {
            prop_assert!(scale(Duration::from_millis(millis), factor) <= Duration::from_secs(86_400));
        }
    }
}
