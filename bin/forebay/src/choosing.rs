//! The choices of a project: which model or pipeline answers to a name, and which text a prompt is, as the registry says and its rollouts
//! divide.
//!
//! What is known of a choice is one pointer that requests read; whoever follows its alias ([`crate::following`]) stores another. It outlives
//! configurations. Before anything is known the first option answers, and of a prompt its file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use contract::{Code, Error, TenantId};
use gateway::Fits;
use llm::{Chooser, Chosen, Prompt, Prompts, Texts};
use models::choice::{Stand, option_of, prompt_of};
use models::stages::{Tracked, find};
use parking_lot::Mutex;
use predict::observe::Place;
use predict::served::Router;
use serde_json::json;
use store::tracking::ModelVersion;

use crate::config::Config;
use crate::config::choice::{Among, ChoiceOf, PromptConfig};

/// Lines of the log of aliases that are looked through.
const LINES: u32 = 1_000;

/// What may answer to a choice.
#[derive(Debug, Clone)]
pub(crate) enum Options {
    /// Models or pipelines of the configuration, as it calls them.
    Named(&'static str, Vec<String>),
    /// Texts of a prompt that use no other variables than its file.
    Prompt {
        /// The text of the file.
        text: String,
        /// Its variables.
        variables: BTreeSet<String>,
    },
}

/// What a version stands for.
pub(crate) enum Stands {
    /// A model or a pipeline.
    Named(String),
    /// A text.
    Text(Box<Prompt>),
}

impl Options {
    /// Those of a choice.
    ///
    /// # Errors
    /// The file of a prompt cannot be read, or is none.
    pub(crate) fn of(project: &Path, among: Among<'_>) -> Result<Options, String> {
        Ok(match among {
            Among::Models(names) => Options::Named("model", names.to_vec()),
            Among::Pipelines(names) => Options::Named("pipeline", names.to_vec()),
            Among::Prompt(file) => {
                let unread =
                    |e: &dyn std::fmt::Display| format!("the prompt file `{file}` cannot be read: {e}");
                let text = std::fs::read_to_string(project.join(file)).map_err(|e| unread(&e))?;
                let variables = Prompt::parse(&text).map_err(|e| unread(&e))?;
                let variables = variables.variables().map(str::to_owned).collect();
                Options::Prompt { text, variables }
            }
        })
    }

    /// What answers until somebody chooses.
    pub(crate) fn first(&self) -> Option<Stand<'_>> {
        match self {
            Options::Named(_, names) => names.first().map(|name| Stand::Named(name)),
            Options::Prompt { text, .. } => Some(Stand::Prompt(text)),
        }
    }

    /// What a version stands for, when that may answer.
    ///
    /// # Errors
    /// It may not, or the version says nothing of it.
    pub(crate) fn stands_for(&self, version: &ModelVersion) -> Result<Stands, String> {
        let Options::Named(what, names) = self else {
            let text = prompt_of(version).map_err(|e| e.to_string())?;
            return Ok(Stands::Text(Box::new(self.prompt(&text)?)));
        };
        let option = option_of(version).map_err(|e| e.to_string())?;
        if names.iter().any(|own| own == option) {
            return Ok(Stands::Named(option.to_owned()));
        }
        let all = names.join(", ");
        Err(format!("`{option}` is none of the {what}s that the configuration lets answer: {all}"))
    }

    /// A text of the prompt.
    ///
    /// # Errors
    /// It is no prompt, or is given what the file is not.
    pub(crate) fn prompt(&self, text: &str) -> Result<Prompt, String> {
        let prompt = Prompt::parse(text).map_err(|e| e.to_string())?;
        let Options::Prompt { variables, .. } = self else { return Err("it is no prompt".to_owned()) };
        if let Some(more) = prompt.variables().find(|name| !variables.contains(*name)) {
            return Err(format!("it uses the variable `{more}`, which the prompt's file does not"));
        }
        Ok(prompt)
    }
}

impl Fits for Options {
    fn fits(&self, version: &ModelVersion) -> Result<(), String> {
        self.stands_for(version).map(drop)
    }
}

/// What is known of a choice.
#[derive(Clone, Default)]
struct Known {
    /// What versions stand for: the names of models or pipelines, and of a prompt the numbers of its versions.
    options: BTreeMap<i64, Arc<str>>,
    /// The texts of a prompt's versions.
    prompts: BTreeMap<i64, Arc<Prompt>>,
    /// Whether its alias was looked at, and the version that it stands for.
    served: Option<Option<i64>>,
    /// Who divides requests, while a rollout is under way.
    way: Option<Arc<dyn Router>>,
}

/// A choice.
pub(crate) struct Choice {
    name: String,
    known: ArcSwap<Known>,
}

impl Choice {
    fn change(&self, change: impl Fn(&mut Known)) {
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            change(&mut known);
            known
        });
    }

    /// Takes in what a version says, when that may answer.
    ///
    /// # Errors
    /// It may not, or the version says nothing of it.
    pub(crate) fn learn(&self, version: &ModelVersion, options: &Options) -> Result<(), String> {
        let number = version.version;
        match options.stands_for(version)? {
            Stands::Named(option) => self.stands_for(number, &option),
            Stands::Text(prompt) => {
                let prompt = Arc::new(*prompt);
                self.change(|known| _ = known.prompts.insert(number, prompt.clone()));
                self.stands_for(number, &number.to_string());
            }
        }
        Ok(())
    }

    fn stands_for(&self, version: i64, option: &str) {
        self.change(|known| _ = known.options.insert(version, option.into()));
    }

    /// The alias stands for that version, or for none.
    pub(crate) fn serve(&self, version: Option<i64>) {
        self.change(|known| known.served = Some(version));
    }

    /// Whoever divides its requests.
    pub(crate) fn route_by(&self, way: Option<Arc<dyn Router>>) {
        self.change(|known| known.way.clone_from(&way));
    }
}

impl Chooser for Choice {
    fn choose(&self, who: &str) -> Result<Option<Chosen>, Error> {
        let known = self.known.load();
        if known.served == Some(None) {
            let m = format!(
                "`{}` was taken out of service: `forebay models choose {} …` or `forebay models rollback {}` brings it back",
                self.name, self.name, self.name
            );
            return Err(Error::new(Code::UpstreamUnreachable, m).param("model"));
        }
        if let Some(routed) = known.way.as_ref().and_then(|way| way.route(who))
            && let Some(option) =
                routed.version.parse().ok().and_then(|version: i64| known.options.get(&version))
        {
            let (version, arm) = (&*routed.version, routed.arm.as_str());
            let note = match &routed.place {
                None => json!({"version": version, "arm": arm}),
                Some(Place { challenger, step }) => {
                    json!({"version": version, "arm": arm, "challenger": &**challenger, "step": step})
                }
            };
            return Ok(Some(Chosen { option: option.to_string(), note }));
        }
        let Some(version) = known.served.flatten() else { return Ok(None) };
        let chosen = |option: &Arc<str>| Chosen {
            option: option.to_string(),
            note: json!({"version": version.to_string()}),
        };
        Ok(known.options.get(&version).map(chosen))
    }
}

impl Texts for Choice {
    fn prompt(&self, option: &str) -> Option<Arc<Prompt>> {
        self.known.load().prompts.get(&option.parse().ok()?).cloned()
    }
}

/// The choices of a project, by name. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Choices(Arc<Mutex<BTreeMap<String, Arc<Choice>>>>);

impl Choices {
    /// A choice; made when it is asked for first.
    pub(crate) fn of(&self, name: &str) -> Arc<Choice> {
        let fresh = || Arc::new(Choice { name: name.to_owned(), known: ArcSwap::default() });
        self.0.lock().entry(name.to_owned()).or_insert_with(fresh).clone()
    }

    /// Forgets those that are not kept.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| keep(name));
    }

    /// The prompts that have versions.
    pub(crate) fn prompts(&self, config: &Config) -> Prompts {
        let with = |all: Prompts, (name, p): (&String, &PromptConfig)| {
            all.with(Path::new(&p.file), name, self.of(name))
        };
        config.prompts.iter().fold(Prompts::default(), with)
    }

    /// Looks once at what the registry says, for whoever does not follow it, and before anybody is answered.
    pub(crate) async fn look(&self, project: &Path, config: &Config, tracked: &Tracked) {
        for ChoiceOf { name, among, alias, .. } in config.all_choices() {
            let choice = self.of(name);
            let instead = |error: &dyn std::fmt::Display| {
                tracing::error!(choice = %name, %error, "what answered first answers");
            };
            match find(tracked, &TenantId::of_the_project(), name, Ok(alias)).await {
                Ok(Some(version)) => {
                    let learned =
                        Options::of(project, among).and_then(|options| choice.learn(&version, &options));
                    match learned {
                        Ok(()) => choice.serve(Some(version.version)),
                        Err(error) => instead(&error),
                    }
                }
                Ok(None) if was_taken_out(tracked, name, alias).await => choice.serve(None),
                // Something else has the name: whoever follows says what.
                Ok(None) => {}
                // Nobody ever chose.
                Err(error) if error.is_missing() => {}
                Err(error) => instead(&error),
            }
        }
    }
}

/// Whether an alias stood for something once: then whoever took it away meant that.
async fn was_taken_out(tracked: &Tracked, name: &str, alias: &str) -> bool {
    let log = tracked.tracking.of(&TenantId::of_the_project()).alias_history(name, LINES).await;
    log.is_ok_and(|log| log.iter().any(|line| line.alias == alias))
}

#[cfg(test)]
mod tests {
    use predict::observe::Arm;
    use predict::served::Routed;

    use super::*;

    /// Sends everybody to one version.
    struct To(&'static str);

    impl Router for To {
        fn route(&self, _: &str) -> Option<Routed> {
            Some(Routed { version: self.0.into(), arm: Arm::Canary, place: None })
        }
    }

    #[test]
    fn out_of_service_goes_before_any_division_and_a_choice_that_comes_back_knows_nothing() {
        let choices = Choices::default();
        let choice = choices.of("writer");
        assert_eq!(choice.choose("ann").unwrap(), None, "nobody has said anything");
        choice.stands_for(1, "small");
        choice.stands_for(2, "large");
        choice.serve(Some(1));
        let model = || choice.choose("ann").unwrap().unwrap().option;
        assert_eq!(model(), "small");
        choice.route_by(Some(Arc::new(To("2"))));
        assert_eq!(model(), "large");
        choice.route_by(Some(Arc::new(To("3"))));
        assert_eq!(model(), "small", "of a version that nobody knows nothing is said");
        choice.serve(None);
        assert_eq!(choice.choose("ann").unwrap_err().code, Code::UpstreamUnreachable);
        choice.serve(Some(1));
        assert!(Arc::ptr_eq(&choice, &choices.of("writer")));
        choices.retain(|name| name != "writer");
        assert_eq!(
            choices.of("writer").choose("ann").unwrap(),
            None,
            "one that comes back knows nothing of before"
        );
    }
}
