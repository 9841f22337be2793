//! A name that several models answer to: which of them does, somebody else says for each request.
//!
//! A choice is looked at before anything else of a call: behind it is a model like any other, with its own queue, endpoints, answers
//! that are kept, fallbacks and price. Invariant: within a request a choice is made once, and the record says how
//! [test: a_choice_is_made_once_for_a_request_and_noted].

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Context, Error, ModelName, Price};
use serde_json::Value;

use crate::ModelSettings;

/// Under what a record says who was chosen: `{CHOICE: {"model": …, …}}`.
pub const CHOICES: &str = "choices";

/// Says who answers. Quick: it is on the way of every request.
pub trait Chooser: Send + Sync {
    /// The model that answers a request that is about `who`; nothing when nobody has said anything yet, which means the first.
    ///
    /// # Errors
    /// It is out of service.
    fn choose(&self, who: &str) -> Result<Option<Chosen>, Error>;
}

/// A choice that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The model.
    pub model: ModelName,
    /// Whatever else the record is to say of it: an object.
    pub note: Value,
}

/// A name that several models answer to.
#[derive(Clone)]
pub struct Choice {
    /// The models, of which each takes whatever the others take.
    pub options: Vec<ModelName>,
    /// Who says which.
    pub chooser: Arc<dyn Chooser>,
}

/// A choice as the registry of models has it.
pub(crate) struct Listed {
    pub(crate) choice: Choice,
    /// What holds for whoever is chosen.
    pub(crate) settings: Arc<ModelSettings>,
}

impl Listed {
    /// Of options that there are; `None` when there is none of them.
    pub(crate) fn new(choice: Choice, models: &BTreeMap<ModelName, Arc<ModelSettings>>) -> Option<Listed> {
        let own: Vec<&Arc<ModelSettings>> = choice.options.iter().filter_map(|o| models.get(o)).collect();
        let mut settings = ModelSettings::over(Vec::new());
        settings.counter = own.first()?.counter.clone();
        settings.context_window = own.iter().filter_map(|m| m.context_window).min();
        settings.max_output_tokens = own.iter().filter_map(|m| m.max_output_tokens).min();
        settings.price = own.iter().map(|m| m.price).fold(Price::FREE, Price::dearest);
        Some(Listed { choice, settings: Arc::new(settings) })
    }

    /// Who answers a request. Noted in its record.
    pub(crate) fn choose(&self, name: &ModelName, cx: &Context) -> Result<ModelName, Error> {
        if let Some(before) = cx.meter.noted(CHOICES, name.as_str())
            && let Some(model) = before.get("model").and_then(Value::as_str)
        {
            return Ok(model.into());
        }
        let id = cx.request.to_string();
        let chosen = self.choice.chooser.choose(cx.user.as_ref().map_or(&id, |user| user.as_str()))?;
        // What was chosen under another configuration may be gone from this one.
        let chosen = chosen.filter(|chosen| self.choice.options.contains(&chosen.model));
        let first =
            || Chosen { model: self.choice.options.first().unwrap_or(name).clone(), note: Value::Null };
        let Chosen { model, note } = chosen.unwrap_or_else(first);
        let mut note = if let Value::Object(fields) = note { fields } else { serde_json::Map::new() };
        note.insert("model".to_owned(), model.as_str().into());
        // Of two stages that ask at once, the first one's stays.
        let stays = cx.meter.note(CHOICES, name.as_str(), Value::Object(note));
        Ok(stays.get("model").and_then(Value::as_str).map_or(model, Into::into))
    }
}
