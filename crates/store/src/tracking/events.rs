//! What the registry tells of: MLflow's events, and what each says.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{NewModelVersion, PROMPT, Pair};

/// The text of a prompt's version, and what else its tags say that is no tag of a user's.
const TEXT: &str = "mlflow.prompt.text";
const KIND: &str = "_mlflow_prompt_type";

/// Something that a webhook can be told of, by MLflow's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// What it happens to.
    pub entity: &'static str,
    /// What happens.
    pub action: &'static str,
}

/// All of them. A database keeps which a webhook listens to by their places here: they stay, and what is new comes last.
const EVENTS: [Event; 15] = [
    event("budget_policy", "exceeded"),
    event("model_version", "created"),
    event("model_version_alias", "created"),
    event("model_version_alias", "deleted"),
    event("model_version_tag", "deleted"),
    event("model_version_tag", "set"),
    event("prompt", "created"),
    event("prompt_alias", "created"),
    event("prompt_alias", "deleted"),
    event("prompt_tag", "deleted"),
    event("prompt_tag", "set"),
    event("prompt_version", "created"),
    event("prompt_version_tag", "deleted"),
    event("prompt_version_tag", "set"),
    event("registered_model", "created"),
];

const fn event(entity: &'static str, action: &'static str) -> Event {
    Event { entity, action }
}

impl Event {
    /// All there are.
    pub const ALL: &[Event] = &EVENTS;

    /// The one of these names.
    pub fn of(entity: &str, action: &str) -> Option<Event> {
        EVENTS.into_iter().find(|e| (e.entity, e.action) == (entity, action))
    }

    fn bit(self) -> i64 {
        EVENTS.iter().position(|e| *e == self).map_or(0, |n| 1 << n)
    }

    /// What a webhook is told to try it out, as MLflow's example of that event.
    pub fn example(self) -> Json {
        let of = if self.entity.starts_with("prompt") { "prompt" } else { "model" };
        let name = format!("example_{of}");
        let about = |what: &str| {
            let tags = json!({"example_key": "example_value"});
            json!({"name": name, "tags": tags, "description": format!("An example {what}")})
        };
        let with = |mut said: Json, more: Json| {
            if let (Json::Object(said), Json::Object(more)) = (&mut said, more) {
                said.extend(more);
            }
            said
        };
        let tag = |said: Json| with(said, json!({"key": "example_key"}));
        let tag = |said: Json| match self.action {
            "set" => with(tag(said), json!({"value": "example_value"})),
            _ => tag(said),
        };
        match self.entity {
            "registered_model" => about("registered model"),
            "prompt" => about("prompt"),
            "model_version" => {
                let more = json!({"version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678"});
                with(about("model version"), more)
            }
            "prompt_version" => {
                with(about("prompt version"), json!({"version": "1", "template": "Hello {{name}}!"}))
            }
            "prompt_tag" => tag(json!({"name": name})),
            "model_version_tag" | "prompt_version_tag" => tag(json!({"name": name, "version": "1"})),
            "model_version_alias" | "prompt_alias" => {
                let said = json!({"name": name, "alias": "example_alias"});
                if self.action == "created" { with(said, json!({"version": "1"})) } else { said }
            }
            _ => json!({
                "budget_policy_id": "bp-abc123", "budget_unit": "USD", "budget_amount": 100.0, "current_spend": 105.5,
                "duration_unit": "MONTHS", "duration_value": 1, "target_scope": "ENDPOINT", "workspace": "default",
                "target_value": "ep-abc123", "window_start": 1_704_067_200_000_i64,
            }),
        }
    }

    /// A message: the event, when it was, and what it says.
    pub fn message(self, now: i64, data: &Json) -> String {
        #[derive(Serialize)]
        struct Message<'a> {
            entity: &'a str,
            action: &'a str,
            timestamp: String,
            data: &'a Json,
        }
        // As Python writes a time of UTC, which its older versions read too.
        let at = contract::UnixMillis(now).rfc3339();
        let timestamp = format!("{}.{:03}+00:00", at.trim_end_matches('Z'), now.rem_euclid(1_000));
        let said = Message { entity: self.entity, action: self.action, timestamp, data };
        serde_json::to_string(&said).unwrap_or_default()
    }
}

/// Events as a database keeps them.
pub(super) fn bits(events: &[Event]) -> i64 {
    events.iter().fold(0, |bits, e| bits | e.bit())
}

/// The same back, by name.
pub(super) fn of_bits(bits: i64) -> Vec<Event> {
    let mut events: Vec<Event> = EVENTS.into_iter().filter(|e| bits & e.bit() != 0).collect();
    events.sort_unstable();
    events
}

/// Something that happened to a registered model or to a prompt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happened<'a> {
    /// It was made.
    Made { name: &'a str, description: Option<&'a str>, tags: &'a [Pair] },
    /// A version of it was made.
    Version(&'a NewModelVersion, i64),
    /// A tag of it, or of a version, was set to a value or removed.
    Tag { name: &'a str, version: Option<i64>, key: &'a str, value: Option<&'a str> },
    /// An alias of it stands for a version from now on, or for none.
    Alias { name: &'a str, alias: &'a str, version: Option<i64> },
}

impl Happened<'_> {
    /// Which event that is of a prompt, or of a model; nothing when nobody is told of it.
    pub(super) fn event(&self, prompt: bool) -> Option<Event> {
        let (model, of_prompt) = match self {
            Happened::Made { .. } => ("registered_model", "prompt"),
            Happened::Version(..) => ("model_version", "prompt_version"),
            Happened::Tag { version: Some(_), .. } => ("model_version_tag", "prompt_version_tag"),
            // MLflow has no event of a registered model's own tags.
            Happened::Tag { .. } => ("", "prompt_tag"),
            Happened::Alias { .. } => ("model_version_alias", "prompt_alias"),
        };
        let action = match self {
            Happened::Tag { value: Some(_), .. } => "set",
            Happened::Tag { .. } | Happened::Alias { version: None, .. } => "deleted",
            _ => "created",
        };
        Event::of(if prompt { of_prompt } else { model }, action)
    }

    /// Whoever listens to it, whatever it happens to, as a database keeps that.
    pub(super) fn either(&self) -> i64 {
        bits(&[true, false].into_iter().filter_map(|prompt| self.event(prompt)).collect::<Vec<_>>())
    }

    /// What is said of it.
    pub(super) fn data(&self, prompt: bool) -> Json {
        match *self {
            Happened::Made { name, description, tags } => {
                let own = |key: &str| prompt && matches!(key, PROMPT | KIND);
                json!({"name": name, "tags": map(tags, own), "description": description})
            }
            Happened::Version(new, number) => {
                let own = |key: &str| prompt && matches!(key, PROMPT | KIND | TEXT);
                let description = new.description.as_deref().filter(|d| !d.is_empty());
                let mut said = json!({
                    "name": new.name, "version": number.to_string(), "tags": map(&new.tags, own), "description": description,
                });
                if let Json::Object(said) = &mut said {
                    if prompt {
                        let text = new.tags.iter().rev().find(|(k, _)| k == TEXT).map(|(_, v)| v);
                        said.insert("template".to_owned(), json!(text));
                    } else {
                        let run = new.run.as_deref().filter(|r| !r.is_empty());
                        said.insert("source".to_owned(), json!(new.source));
                        said.insert("run_id".to_owned(), json!(run));
                    }
                }
                said
            }
            Happened::Tag { name, version, key, value } => {
                let mut said =
                    Map::from_iter([("name".to_owned(), json!(name)), ("key".to_owned(), json!(key))]);
                said.extend(version.map(|v| ("version".to_owned(), json!(v.to_string()))));
                said.extend(value.map(|v| ("value".to_owned(), json!(v))));
                Json::Object(said)
            }
            Happened::Alias { name, alias, version } => {
                let mut said =
                    Map::from_iter([("name".to_owned(), json!(name)), ("alias".to_owned(), json!(alias))]);
                said.extend(version.map(|v| ("version".to_owned(), json!(v.to_string()))));
                Json::Object(said)
            }
        }
    }
}

/// Tags, the last of each key, but those that are `own` to their keeper.
fn map(tags: &[Pair], own: impl Fn(&str) -> bool) -> Map<String, Json> {
    tags.iter().filter(|(k, _)| !own(k)).map(|(k, v)| (k.clone(), json!(v))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn events_are_kept_and_come_back_by_name() {
        assert_eq!(of_bits(bits(Event::ALL)), Event::ALL);
        let two = [event("prompt", "created"), event("model_version_tag", "set")];
        assert_eq!(of_bits(bits(&two)), [two[1], two[0]]);
        // A database has these numbers.
        assert_eq!((bits(&two[..1]), bits(&two[1..])), (1 << 6, 1 << 5));
        assert_eq!(Event::of("prompt", "deleted"), None);
    }

    #[test]
    fn what_happens_has_the_same_fields_as_the_example_of_its_event() {
        let tags = [("t".to_owned(), "u".to_owned())];
        let new = NewModelVersion { name: "n".into(), tags: tags.to_vec(), ..NewModelVersion::default() };
        let tag = |version, value| Happened::Tag { name: "n", version, key: "k", value };
        let alias = |version| Happened::Alias { name: "n", alias: "a", version };
        let mut seen = Vec::new();
        for what in [
            Happened::Made { name: "n", description: None, tags: &tags },
            Happened::Version(&new, 3),
            tag(Some(1), Some("v")),
            tag(Some(1), None),
            tag(None, Some("v")),
            tag(None, None),
            alias(Some(1)),
            alias(None),
        ] {
            for prompt in [true, false] {
                let Some(event) = what.event(prompt) else { continue };
                let keys = |of: &Json| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
                assert_eq!(keys(&what.data(prompt)), keys(&event.example()), "{event:?}");
                assert_ne!(what.either() & bits(&[event]), 0);
                seen.push(event);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, Event::ALL[1..], "each but the budgets', which are MLflow's own");
    }

    #[test]
    fn a_message_says_its_event_and_its_time_as_python_writes_it() {
        let said = event("prompt", "created").message(1_700_000_000_123, &json!({"name": "n"}));
        let timed = r#""timestamp":"2023-11-14T22:13:20.123+00:00""#;
        assert_eq!(
            said,
            format!(r#"{{"entity":"prompt","action":"created",{timed},"data":{{"name":"n"}}}}"#)
        );
    }
}
