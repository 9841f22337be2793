//! What a person writes below `cascade`. These docs are the manual.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::super::config as generate;

/// The configuration of a cascade stage.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The models, by their names in `models`, the one to ask first at the top: the cheapest. Each next one is asked when the
    /// answer before it is not accepted, or its model fails. The last one's answer is taken as it is.
    #[schemars(length(min = 2, max = 8), extend("items" = {"type": "string", "x-forebay-ref": "model"}))]
    pub(super) models: Vec<String>,
    /// When an answer of any but the last model is accepted.
    #[serde(default)]
    pub(super) accept: AcceptConfig,
    /// The prompt file, relative to the project folder.
    #[serde(default)]
    pub(super) prompt: Option<PathBuf>,
    /// The prompt itself, instead of a file.
    #[serde(default)]
    pub(super) prompt_text: Option<String>,
    /// At most this many tokens of output.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(super) max_output_tokens: Option<u64>,
    /// Sampling temperature.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub(super) temperature: Option<f64>,
    /// Nucleus sampling: only the likeliest tokens that together have this probability.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) top_p: Option<f64>,
    /// Sampling seed, where the provider knows one.
    #[serde(default)]
    pub(super) seed: Option<i64>,
    /// Texts that end the output.
    #[serde(default)]
    pub(super) stop: Vec<String>,
    /// JSON Schema of the answer: the output is then JSON instead of text, and an answer that does not fit is not accepted.
    #[serde(default)]
    pub(super) schema: Option<Json>,
}

impl Config {
    /// The same as the configuration of a generate stage on one of the models.
    pub(super) fn generate(&self, model: &str) -> generate::Config {
        generate::Config {
            model: model.to_owned(),
            prompt: self.prompt.clone(),
            prompt_text: self.prompt_text.clone(),
            max_output_tokens: self.max_output_tokens,
            on_length: generate::OnLength::Keep,
            temperature: self.temperature,
            top_p: self.top_p,
            frequency_penalty: None,
            seed: self.seed,
            stop: self.stop.clone(),
            schema: self.schema.clone(),
            cache: false,
            collapse: None,
        }
    }
}

/// When an answer is accepted. An empty one, and one that was cut by its limit of tokens, never is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AcceptConfig {
    /// The least mean probability of its tokens, by the log probabilities of its model. A model that gives none, as those of
    /// Anthropic's protocol, is never confident.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_confidence: Option<f64>,
    /// At least this many characters, blanks around it aside.
    pub(super) min_chars: Option<u64>,
    /// At most this many characters, blanks around it aside.
    pub(super) max_chars: Option<u64>,
    /// A regular expression that is found in it.
    pub(super) must_match: Option<String>,
    /// A regular expression that is not found in it.
    pub(super) must_not_match: Option<String>,
    /// Whether one that begins like a refusal ("I'm sorry, but I can't …", in English) is accepted too.
    pub(super) refusals: bool,
}
