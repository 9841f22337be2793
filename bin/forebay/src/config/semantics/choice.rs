//! Names that several chat models or pipelines answer to, and prompts that have versions: each option is there, once, and can be asked as
//! the others are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::PipelineName;
use pipeline::PipelineSpec;
use serde_json::Value as Json;

use super::{Semantics, map, texts};
use crate::config::problem::suggest;
use crate::config::tree::join;

/// What to write where another kind of model stands.
pub(super) const CHAT: &str = "name a chat model of its own: one with `openai`, `anthropic` or `local`";

impl Semantics<'_> {
    /// A name that several chat models answer to.
    pub(super) fn choice(&mut self, pointer: &str, name: &str, model: &Json) {
        self.nothing_but((pointer, model), "choice", &["choice", "rollout", "alias"]);
        let json = self.json;
        self.registered_name(pointer, name);
        let options: Vec<&str> = texts(model, "choice").collect();
        self.options((&join(pointer, "choice"), "model"), &options, "/models");
        for (i, option) in options.iter().enumerate() {
            if let Some(what) = no_chat_model(json, option) {
                let message = format!("the model `{option}` {what}");
                self.at_value(&format!("{pointer}/choice/{i}"), message, CHAT.into());
            }
        }
        self.rollout(pointer, model);
    }

    /// Names that several pipelines answer to.
    pub(super) fn pipeline_choices(&mut self, specs: &BTreeMap<PipelineName, PipelineSpec>) {
        let json = self.json;
        for (name, choice) in map(json, "/choices") {
            let pointer = join("/choices", name);
            self.registered_name(&pointer, name);
            for section in ["model", "pipeline"] {
                if json.pointer(&join(&format!("/{section}s"), name)).is_some() {
                    let message = format!("`{name}` is a {section} and a choice");
                    self.at_key(&pointer, message, "rename one: a choice is called like them".into());
                }
            }
            if self.is_registered(name) {
                let message = format!("`{name}` is a choice and the registered name of a model");
                self.at_key(&pointer, message, "rename one: the registry has one of each name".into());
            }
            let own = join(&pointer, "pipelines");
            let options: Vec<&str> = texts(choice, "pipelines").collect();
            self.options((&own, "pipeline"), &options, "/pipelines");
            let first = options.first().and_then(|name| specs.get(*name));
            for (i, option) in options.iter().enumerate() {
                let (Some(first), Some(spec)) = (first, specs.get(*option)) else { continue };
                let own = format!("{own}/{i}");
                if pipeline::is_durable(spec, self.registry) {
                    let message = format!("the pipeline `{option}` runs durably and answers no request");
                    self.at_value(&own, message, "name pipelines that answer requests".into());
                } else if (&spec.input, &spec.output) != (&first.input, &first.output) {
                    let message = format!(
                        "the pipeline `{option}` takes {} and gives {}, and the first one takes {} and gives {}",
                        spec.input, spec.output, first.input, first.output
                    );
                    let remedy = "let all of them take and give the same, by `input` and `output`";
                    self.at_value(&own, message, remedy.into());
                }
            }
            self.rollout(&pointer, choice);
        }
    }

    /// Prompts that have versions.
    pub(super) fn prompts(&mut self) {
        let json = self.json;
        let mut files: BTreeMap<PathBuf, &str> = BTreeMap::new();
        for (name, prompt) in map(json, "/prompts") {
            let pointer = join("/prompts", name);
            self.registered_name(&pointer, name);
            let taken = ["/models", "/pipelines", "/choices"].into_iter();
            let taken = taken.filter(|section| json.pointer(&join(section, name)).is_some());
            if taken.count() > 0 || self.is_registered(name) {
                let message = format!("`{name}` is a prompt and something else that answers");
                self.at_key(
                    &pointer,
                    message,
                    "rename one: the registry and records have one of each name".into(),
                );
            }
            self.rollout(&pointer, prompt);
            let own = join(&pointer, "file");
            let Some(file) = prompt.get("file").and_then(Json::as_str) else {
                let message = format!("the prompt `{name}` has no `file`");
                self.at_key(&pointer, message, "add `file: prompts/NAME.md`".into());
                continue;
            };
            if let Some(other) = files.insert(llm::prompts::plain(Path::new(file)), name) {
                let message = format!("`{file}` is the prompt `{other}` already");
                self.at_value(&own, message, "remove one of them: a file has one name".into());
            } else if !pipeline::is_below(Path::new(file)) {
                let message = format!("`{file}` leaves the project folder");
                self.at_value(&own, message, "name a file inside the project folder".into());
            } else if let Err(why) = self.prompt_file(file) {
                self.at_value(&own, why, "create the file, or correct it or its path".into());
            }
        }
    }

    fn prompt_file(&self, file: &str) -> Result<(), String> {
        let path = self.folder.join(file);
        if !path.is_file() {
            return Err(format!("there is no prompt file `{file}`"));
        }
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|e| format!("the prompt file `{file}` cannot be read: {}", e.kind()))?;
        llm::Prompt::parse(&text).map(drop).map_err(|e| e.to_string())
    }

    /// Whether a predictive model of the registry has that name there.
    fn is_registered(&self, name: &str) -> bool {
        map(self.json, "/models").any(|(_, m)| m.get("registry").and_then(Json::as_str) == Some(name))
    }

    fn registered_name(&mut self, pointer: &str, name: &str) {
        if let Err(refused) = ::models::check::model_name(name) {
            let message = format!("no registered model can be called `{name}`: {}", refused.message);
            let remedy = "give it another name: the registry keeps it under this one";
            self.at_key(pointer, message, remedy.into());
        }
    }

    /// What may answer is there, and once.
    fn options(&mut self, (pointer, what): (&str, &str), options: &[&str], section: &str) {
        let json = self.json;
        if options.is_empty() {
            let remedy = format!("name the {what}s, the one that answers now first");
            self.at_key(pointer, "there is nothing to choose".into(), remedy);
        }
        for (i, option) in options.iter().enumerate() {
            let own = format!("{pointer}/{i}");
            if options.iter().take(i).any(|before| before == option) {
                self.at_value(&own, format!("`{option}` is there twice"), "name it once".into());
            } else if json.pointer(&join(section, option)).is_none() {
                let known = map(json, section).map(|(name, _)| name.as_str());
                let remedy = suggest(option, &format!("the {what}s are"), known);
                self.at_value(&own, format!("there is no {what} `{option}`"), remedy);
            }
        }
    }

    fn rollout(&mut self, pointer: &str, of: &Json) {
        let rollout = of.get("rollout").cloned();
        let Some(Ok(rollout)) = rollout.map(serde_json::from_value::<::models::rollout::RolloutConfig>)
        else {
            return;
        };
        let own = join(pointer, "rollout");
        if rollout.shadow.is_some() {
            let message =
                "an answer that nobody hears costs what one costs that is heard, and is not asked for";
            let remedy = "remove it, and begin the canary with a small share";
            self.at_key(&join(&own, "shadow"), message.into(), remedy.into());
        }
        for problem in ::models::rollout::Settings::new(&rollout).err().into_iter().flatten() {
            self.at_key(&format!("{own}{}", problem.pointer), problem.message, problem.remedy);
        }
    }
}

/// Why a model of the configuration is none that can be asked in another's place.
pub(super) fn no_chat_model(json: &Json, name: &str) -> Option<&'static str> {
    let model = json.pointer(&join("/models", name))?;
    let is = |kind: &str| model.get(kind).is_some();
    match () {
        () if is("onnx") || is("registry") => Some("predicts and does not write"),
        () if is("choice") => Some("is itself a choice"),
        () => None,
    }
}
