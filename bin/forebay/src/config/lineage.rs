//! The section `lineage`.

use std::time::Duration;

use contract::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::units::Time;

/// What other programs are told of what was made of what, as OpenLineage events. What is known here is kept in any case:
/// `forebay lineage` shows it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LineageConfig {
    /// What the project is called: the namespace of its jobs and datasets, in events that are sent and in those that are taken.
    #[schemars(length(min = 1))]
    pub namespace: String,
    /// An address that takes an event at a time, such as `http://127.0.0.1:5000/api/v1/lineage`.
    pub url: Option<String>,
    /// The key that is sent there as a bearer token.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub api_key: Option<Secret>,
    /// A file relative to this one, of which each event is a line.
    pub file: Option<String>,
    /// How long is known what was made of what. Older facts are removed.
    pub keep: Time,
}

impl Default for LineageConfig {
    fn default() -> Self {
        LineageConfig {
            namespace: "forebay".to_owned(),
            url: None,
            api_key: None,
            file: None,
            keep: Time(Duration::from_secs(2 * 365 * 86_400)),
        }
    }
}

fn secret<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.map(Secret::new))
}
