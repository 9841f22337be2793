//! A name that several models, pipelines or versions of a prompt answer to: which of them does, somebody else says for each request.
//!
//! A choice of models is looked at before anything else of a call: behind it is a model like any other, with its own queue, endpoints,
//! answers that are kept, fallbacks and price. Invariant: within a request a choice is made once, and the record says how
//! [test: a_choice_is_made_once_for_a_request_and_noted].

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Context, Error, ModelName, Price};
use serde_json::Value;

use crate::ModelSettings;

/// Under what a record says who was chosen: `{CHOICE: {"model": …, …}}`, and `"pipeline"` or `"prompt"` in place of `"model"`.
pub const CHOICES: &str = "choices";

/// Says who answers. Quick: it is on the way of every request.
pub trait Chooser: Send + Sync {
    /// Which option answers a request that is about `who`; nothing when nobody has said anything yet, which means the first.
    ///
    /// # Errors
    /// It is out of service.
    fn choose(&self, who: &str) -> Result<Option<Chosen>, Error>;
}

/// A choice that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The option: the name of a model or a pipeline, or the number of a prompt's version.
    pub option: String,
    /// Whatever else the record is to say of it: an object.
    pub note: Value,
}

/// A choice as whoever needs an option sees it.
pub struct Options<'a> {
    /// Its name.
    pub name: &'a str,
    /// What an option is, as the record calls it.
    pub what: &'static str,
    /// Who says which.
    pub chooser: &'a dyn Chooser,
    /// What answers as long as nobody has said anything.
    pub first: &'a str,
}

impl Options<'_> {
    /// Which option answers a request that is about `who`, and what its record is to say of it. What was chosen and is not `known` here
    /// (it is of another configuration) is the first.
    ///
    /// # Errors
    /// It is out of service.
    pub fn choose(&self, who: &str, known: impl Fn(&str) -> bool) -> Result<(String, Value), Error> {
        let chosen = self.chooser.choose(who)?.filter(|chosen| known(&chosen.option));
        let first = || Chosen { option: self.first.to_owned(), note: Value::Null };
        let Chosen { option, note } = chosen.unwrap_or_else(first);
        let mut note = if let Value::Object(fields) = note { fields } else { serde_json::Map::new() };
        note.insert(self.what.to_owned(), option.as_str().into());
        Ok((option, Value::Object(note)))
    }

    /// The same within a request: chosen once, and noted in its record.
    ///
    /// # Errors
    /// As of [`Options::choose`].
    pub fn choose_for(&self, cx: &Context, known: impl Fn(&str) -> bool) -> Result<String, Error> {
        let said = |note: &Value| Some(note.get(self.what)?.as_str()?.to_owned());
        if let Some(before) = cx.meter.noted(CHOICES, self.name).as_ref().and_then(said) {
            return Ok(before);
        }
        let id = cx.request.to_string();
        let (option, note) = self.choose(cx.user.as_ref().map_or(&id, |user| user.as_str()), known)?;
        // Of two stages that ask at once, the first one's stays.
        Ok(said(&cx.meter.note(CHOICES, self.name, note)).unwrap_or(option))
    }
}

/// A name that several chat models answer to.
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
        let Choice { options, chooser } = &self.choice;
        let first = options.first().unwrap_or(name).as_str();
        let all = Options { name: name.as_str(), what: "model", chooser: &**chooser, first };
        let known = |option: &str| options.iter().any(|own| own.as_str() == option);
        Ok(all.choose_for(cx, known)?.as_str().into())
    }
}
