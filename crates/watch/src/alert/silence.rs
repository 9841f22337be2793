//! A silence: from then to then, of whatever its matchers name, nothing is sent.

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::AlertKey;

/// A label and the value that it has to have; the label `rule` is the rule's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// Its value.
    pub value: String,
}

/// A silence. One without matchers is of nothing: silencing everything is not to happen by leaving something out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// Its id: a second one with the same takes its place.
    pub id: String,
    /// All of them have to match.
    pub matchers: Vec<Matcher>,
    /// From then on, inclusive.
    pub starts: UnixMillis,
    /// Until then, exclusive.
    pub ends: UnixMillis,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub why: String,
}

impl Silence {
    /// Whether it holds now.
    pub fn active(&self, now: UnixMillis) -> bool {
        (self.starts..self.ends).contains(&now)
    }

    /// Whether it is of this alert.
    pub fn of(&self, key: &AlertKey) -> bool {
        let value = |label: &str| match label {
            "rule" => Some(key.rule.as_str()),
            label => key.labels.get(label).map(String::as_str),
        };
        !self.matchers.is_empty() && self.matchers.iter().all(|m| value(&m.label) == Some(&m.value))
    }
}
