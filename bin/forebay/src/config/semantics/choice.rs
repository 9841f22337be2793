//! Names that several chat models answer to: each of them is there, once, and can be asked as the others are.

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
        if let Err(refused) = ::models::check::model_name(name) {
            let message = format!("no registered model can be called `{name}`: {}", refused.message);
            self.at_key(
                pointer,
                message,
                "give the choice another name: the registry keeps it under this one".into(),
            );
        }
        let options: Vec<&str> = texts(model, "choice").collect();
        if options.is_empty() {
            let remedy = "name the models, the one that answers now first";
            self.at_key(&join(pointer, "choice"), "there is nothing to choose".into(), remedy.into());
        }
        for (i, option) in options.iter().enumerate() {
            let own = format!("{pointer}/choice/{i}");
            if options.iter().take(i).any(|before| before == option) {
                self.at_value(&own, format!("`{option}` is there twice"), "name it once".into());
            } else if json.pointer(&join("/models", option)).is_none() {
                let models = map(json, "/models").map(|(name, _)| name.as_str());
                let remedy = suggest(option, "the models are", models);
                self.at_value(&own, format!("there is no model `{option}`"), remedy);
            } else if let Some(what) = no_chat_model(json, option) {
                let message = format!("the model `{option}` {what}");
                self.at_value(&own, message, CHAT.into());
            }
        }
        let rollout = model.get("rollout").cloned();
        let Some(Ok(rollout)) = rollout.map(serde_json::from_value::<::models::rollout::RolloutConfig>)
        else {
            return;
        };
        let own = join(pointer, "rollout");
        if rollout.shadow.is_some() {
            let message =
                "a chat model that nobody hears costs what one costs that is heard, and is not asked";
            self.at_key(
                &join(&own, "shadow"),
                message.into(),
                "remove it, and begin the canary with a small share".into(),
            );
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
