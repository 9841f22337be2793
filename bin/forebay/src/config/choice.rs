//! What is chosen for each request: which chat model or pipeline answers to a name, and which version of a prompt.

use ::models::rollout::RolloutConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Config;

/// The alias that answers where none is named.
pub(super) const CHAMPION: &str = "champion";

/// A name that several pipelines answer to, which take and give the same. It is called as they are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineChoiceConfig {
    /// The pipelines. Which of them answers is kept in the registry under the choice's name and moved by `forebay models choose`; the
    /// first one until somebody does.
    pub pipelines: Vec<String>,
    /// How another one comes to answer: some users first, compared with those who are answered as before. Without it, whoever is chosen
    /// answers everybody at once.
    pub rollout: Option<RolloutConfig>,
    /// The alias whose version answers. Unless given: `champion`.
    pub alias: Option<String>,
    /// A path of its own for requests, besides `/v1/pipelines/NAME`.
    #[schemars(regex(pattern = r"^/[A-Za-z0-9._~/-]*$"), extend("x-expected" = "a path such as /summarize"))]
    pub http: Option<String>,
}

/// A prompt whose versions are kept in the registry, under its name here.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptConfig {
    /// The file that stages name by `prompt`. It says which variables there are, and is the first version; what answers then is what
    /// the registry says, and `forebay models choose NAME FILE` brings another text.
    pub file: String,
    /// How another version comes to answer: some users first, compared with those who are answered as before. Without it, whatever is
    /// chosen answers everybody at once.
    pub rollout: Option<RolloutConfig>,
    /// The alias whose version answers. Unless given: `champion`.
    pub alias: Option<String>,
}

/// A choice of any kind.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceOf<'a> {
    /// Its name, here and in the registry.
    pub name: &'a str,
    /// What may answer.
    pub among: Among<'a>,
    /// The alias whose version answers.
    pub alias: &'a str,
    /// How another comes to answer.
    pub rollout: Option<&'a RolloutConfig>,
}

/// What may answer to a choice.
#[derive(Debug, Clone, Copy)]
pub enum Among<'a> {
    /// Chat models, by their names.
    Models(&'a [String]),
    /// Pipelines, by their names.
    Pipelines(&'a [String]),
    /// Versions of a prompt, whose file this is.
    Prompt(&'a str),
}

impl Config {
    /// All choices.
    pub fn all_choices(&self) -> impl Iterator<Item = ChoiceOf<'_>> {
        fn of<'a>(
            name: &'a str,
            among: Among<'a>,
            alias: Option<&'a str>,
            rollout: Option<&'a RolloutConfig>,
        ) -> ChoiceOf<'a> {
            ChoiceOf { name, among, alias: alias.unwrap_or(CHAMPION), rollout }
        }
        let models = self
            .models
            .iter()
            .filter(|(_, m)| m.is_choice())
            .map(|(name, m)| of(name, Among::Models(&m.choice), m.alias.as_deref(), m.rollout.as_ref()));
        let pipelines = self.choices.iter().map(|(name, c)| {
            of(name, Among::Pipelines(&c.pipelines), c.alias.as_deref(), c.rollout.as_ref())
        });
        let prompts = self
            .prompts
            .iter()
            .map(|(name, p)| of(name, Among::Prompt(&p.file), p.alias.as_deref(), p.rollout.as_ref()));
        models.chain(pipelines).chain(prompts)
    }
}
