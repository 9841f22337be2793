//! What a person writes below `generate`. These docs are the manual.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

/// The configuration of a generate stage.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The model, by its name in `models`.
    #[schemars(extend("x-forebay-ref" = "model"))]
    pub(super) model: String,
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
    /// What becomes of an answer that reached that limit.
    #[serde(default)]
    pub(super) on_length: OnLength,
    /// Sampling temperature.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub(super) temperature: Option<f64>,
    /// Nucleus sampling: only the likeliest tokens that together have this probability.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) top_p: Option<f64>,
    /// Makes tokens less likely the more often they were used; small models repeat themselves without.
    #[serde(default)]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub(super) frequency_penalty: Option<f64>,
    /// Sampling seed, where the provider knows one.
    #[serde(default)]
    pub(super) seed: Option<i64>,
    /// Texts that end the output.
    #[serde(default)]
    pub(super) stop: Vec<String>,
    /// JSON Schema of the answer: the output is then JSON instead of text.
    #[serde(default)]
    pub(super) schema: Option<Json>,
    /// Keep answers and use them again for equal prompts.
    #[serde(default)]
    pub(super) cache: bool,
    /// Merge the elements of a list in groups, again and again, until the prompt fits the model's window.
    #[serde(default)]
    pub(super) collapse: Option<CollapseConfig>,
}

/// What becomes of an answer that reached its limit of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnLength {
    /// It is taken as it is.
    #[default]
    Keep,
    /// It is taken up to its last whole sentence (what was streamed already stays shown).
    Sentence,
    /// It is partial: the failure contract decides.
    Partial,
}

/// How a list that does not fit is merged.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CollapseConfig {
    /// The prompt file for a group, with the same variables; the stage's own prompt unless given.
    pub(super) prompt: Option<PathBuf>,
    /// Merge when the list has more tokens than this; unless given, when the prompt does not fit the model's window.
    #[schemars(range(min = 16))]
    pub(super) tokens: Option<u64>,
    /// How many groups at a time.
    #[schemars(range(min = 1, max = 64))]
    pub(super) parallel: usize,
}

impl Default for CollapseConfig {
    fn default() -> Self {
        CollapseConfig { prompt: None, tokens: None, parallel: 4 }
    }
}
