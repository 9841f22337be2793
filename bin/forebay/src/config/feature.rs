//! The section `features`.

use contract::TenantId;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::units::Time;

/// Features: columns of datasets by entity, as they were at a time (`forebay features train`) and as they are now
/// (`POST /get-online-features`).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeaturesConfig {
    /// Feature views by name: up to 64 letters, digits and single `_`, a letter first.
    pub views: IndexMap<String, FeatureViewConfig>,
    /// Feature services by name: lists of features, each `view:feature`, or `view` for all of its features.
    pub services: IndexMap<String, Vec<String>>,
    /// How often a server takes over what is new in the datasets. `forebay features materialize` does so at once.
    pub refresh: Time,
}

impl Default for FeaturesConfig {
    fn default() -> Self {
        let refresh = Time(std::time::Duration::from_secs(60));
        FeaturesConfig { views: IndexMap::new(), services: IndexMap::new(), refresh }
    }
}

/// A feature view: which columns are features of which entity, and when each row happened. Its rows come from `dataset` or `sql`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureViewConfig {
    /// The dataset whose columns the features are.
    #[serde(default)]
    pub dataset: Option<String>,
    /// A query over datasets by their names, in double quotes where they hold `-`, `.` or capitals. Its result has the columns
    /// that the view names.
    #[serde(default)]
    pub sql: Option<String>,
    /// The columns that name the entity. Rows in which one of them is null belong to no entity.
    #[schemars(length(min = 1))]
    pub keys: Vec<String>,
    /// The column that says when a row happened: a `timestamp`, a `datetime` or a `date`, which counts as its midnight.
    pub event_time: String,
    /// The column that says when a row became known. Without it nobody can tell rows that came late.
    #[serde(default)]
    pub ingest_time: Option<String>,
    /// How long a row is valid after its event time, in whole seconds, the last instant included. For ever unless given.
    #[serde(default)]
    pub ttl: Option<Time>,
    /// The columns that are features, in the order they are wanted.
    #[schemars(length(min = 1))]
    pub features: Vec<String>,
    /// What times without a zone mean. Only views whose times are instants, or said to be in UTC, can be served.
    #[serde(default)]
    pub naive_times: NaiveTimesConfig,
    /// The name under which Feast's clients push to it, besides its own.
    #[serde(default)]
    pub push_source: Option<String>,
    /// The tenants that may ask for it and push to it. All of them unless given; to others it is not there.
    #[serde(default)]
    pub tenants: Option<Vec<TenantName>>,
}

/// The name of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TenantName(pub String);

impl TenantName {
    /// As the gateway knows it.
    pub fn id(&self) -> TenantId {
        self.0.as_str().into()
    }
}

/// What a time without a zone means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NaiveTimesConfig {
    /// Nobody knows: it is compared with other times without a zone alone.
    #[default]
    Refuse,
    /// It is in UTC.
    Utc,
}

impl FeatureViewConfig {
    /// As the data layer has it.
    pub fn view(&self) -> data::features::FeatureViewConfig {
        data::features::FeatureViewConfig {
            dataset: self.dataset.clone().unwrap_or_default(),
            sql: self.sql.clone(),
            keys: self.keys.clone(),
            event_time: self.event_time.clone(),
            ingest_time: self.ingest_time.clone(),
            ttl_seconds: self.ttl.map(|ttl| ttl.0.as_secs()),
            features: self.features.clone(),
            naive_times: match self.naive_times {
                NaiveTimesConfig::Refuse => data::features::NaiveTimes::Refuse,
                NaiveTimesConfig::Utc => data::features::NaiveTimes::Utc,
            },
        }
    }
}

/// How a predictive model's columns are looked up in a feature view, where a request leaves them out.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LookupConfig {
    /// The view. Unless given: the one of the same name.
    pub view: Option<String>,
    /// The column of a request for a key of the view, where they are called differently.
    pub keys: IndexMap<String, String>,
}

impl FeaturesConfig {
    /// Where the columns of a model are looked up.
    pub fn lookup(&self, uses: &IndexMap<String, LookupConfig>) -> gateway::Lookup {
        let one = |(name, own): (&String, &LookupConfig)| {
            let view = own.view.as_ref().unwrap_or(name);
            let FeatureViewConfig { keys, features, .. } = self.views.get(view)?;
            let key = |key: &String| (key.clone(), own.keys.get(key).unwrap_or(key).clone());
            Some(gateway::LookupUse {
                name: name.clone(),
                view: view.clone(),
                keys: keys.iter().map(key).collect(),
                features: features.clone(),
            })
        };
        gateway::Lookup { uses: uses.iter().filter_map(one).collect() }
    }
}
