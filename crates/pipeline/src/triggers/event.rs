//! Events from outside, as CloudEvents 1.0 has them, and which of them start a pipeline.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What tells it from others of its source.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// All other attributes, by name: `subject`, `time`, `datacontenttype`, and extensions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Json>,
    /// What it says. Bytes that are no text are in base64.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub data: Json,
}

impl Event {
    /// The same for every copy of one event: its source and its id.
    pub fn identity(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for field in [&self.source, &self.id] {
            hash.update(&(field.len() as u64).to_le_bytes());
            hash.update(field.as_bytes());
        }
        hash.finalize().to_hex().chars().take(24).collect()
    }

    /// As one JSON object, in CloudEvents' own form.
    pub fn to_json(&self) -> Json {
        let mut all = Map::new();
        all.insert("specversion".into(), "1.0".into());
        all.insert("id".into(), self.id.clone().into());
        all.insert("source".into(), self.source.clone().into());
        all.insert("type".into(), self.kind.clone().into());
        all.extend(self.attributes.iter().map(|(k, v)| (k.clone(), v.clone())));
        if !self.data.is_null() {
            all.insert("data".into(), self.data.clone());
        }
        all.into()
    }

    /// An attribute by its name, or what lies at `data.a.b`.
    fn at(&self, path: &str) -> Option<Json> {
        let Some(inner) = path.strip_prefix("data") else {
            return match path {
                "id" => Some(self.id.clone().into()),
                "source" => Some(self.source.clone().into()),
                "type" => Some(self.kind.clone().into()),
                other => self.attributes.get(other).cloned(),
            };
        };
        let mut value = &self.data;
        for segment in inner.split('.').skip(1) {
            value = match value {
                Json::Array(items) => items.get(segment.parse::<usize>().ok()?)?,
                other => other.get(segment)?,
            };
        }
        Some(value.clone())
    }
}

/// Which events start a pipeline: those that all of it fits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventRule {
    /// What happened; a `*` at the end stands for anything.
    pub kind: Option<String>,
    /// Where; a `*` at the end stands for anything.
    pub source: Option<String>,
    /// What else must be so: an attribute, or a place in the data such as `data.kind`, and its value, or several that it may
    /// have.
    pub matches: BTreeMap<String, Json>,
}

impl EventRule {
    /// Whether it fits.
    pub fn takes(&self, event: &Event) -> bool {
        let fits = |rule: &Option<String>, found: &str| match rule {
            None => true,
            Some(rule) => match rule.strip_suffix('*') {
                Some(beginning) => found.starts_with(beginning),
                None => found == rule,
            },
        };
        let holds = |(path, wanted): (&String, &Json)| {
            event.at(path).is_some_and(|found| match wanted {
                Json::Array(several) => several.contains(&found) || *wanted == found,
                one => *one == found,
            })
        };
        fits(&self.kind, &event.kind) && fits(&self.source, &event.source) && self.matches.iter().all(holds)
    }
}

impl fmt::Display for EventRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_deref().unwrap_or("*"))?;
        if let Some(source) = &self.source {
            write!(f, " from {source}")?;
        }
        for (n, (path, value)) in self.matches.iter().enumerate() {
            write!(f, "{}{path}={value}", if n == 0 { " where " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_takes_the_events_that_all_of_it_fits() {
        let event = Event {
            id: "1".into(),
            source: "/shop/berlin".into(),
            kind: "com.example.order.paid".into(),
            attributes: [("subject".to_owned(), json!("order-7"))].into(),
            data: json!({"total": 12, "lines": [{"sku": "a"}]}),
        };
        let rule = |kind: &str, source: &str, matches: Json| EventRule {
            kind: Some(kind.into()),
            source: Some(source.into()),
            matches: serde_json::from_value(matches).unwrap(),
        };
        for (fits, rule) in [
            (true, EventRule::default()),
            (true, rule("com.example.order.*", "/shop/*", json!({}))),
            (true, rule("com.example.order.paid", "*", json!({"data.total": 12, "subject": "order-7"}))),
            (true, rule("*", "*", json!({"data.lines.0.sku": ["a", "b"]}))),
            (false, rule("com.example.order", "*", json!({}))),
            (false, rule("*", "/shop", json!({}))),
            (false, rule("*", "*", json!({"data.total": "12"}))),
            (false, rule("*", "*", json!({"data.none": null}))),
        ] {
            assert_eq!(rule.takes(&event), fits, "{rule}");
        }
    }
}
