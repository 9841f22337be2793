//! Features, as Feast's feature server has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

/// Which features of which entities.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct OnlineFeaturesRequest {
    /// Each as `view:feature`; or `feature_service`.
    #[schema(nullable = false)]
    features: Option<Vec<String>>,
    /// A list of features that the configuration names.
    #[schema(nullable = false)]
    feature_service: Option<String>,
    /// For each key, the values of all entities.
    entities: BTreeMap<String, Vec<Json>>,
    /// Names as `view__feature`.
    #[serde(default)]
    full_feature_names: bool,
}

/// One entry of `results` for each name: the keys first, then the features as they were asked for.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct OnlineFeatures {
    metadata: OnlineFeaturesMetadata,
    results: Vec<FeatureVector>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct OnlineFeaturesMetadata {
    feature_names: Vec<String>,
}

/// A name, entity after entity.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct FeatureVector {
    /// Null where the status is not `PRESENT`.
    values: Vec<Json>,
    statuses: Vec<FieldStatus>,
    /// When each row happened, in RFC 3339; the epoch where there is none.
    event_timestamps: Vec<String>,
}

/// What is known of a value.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(in crate::openapi) enum FieldStatus {
    Present,
    NotFound,
    NullValue,
    OutsideMaxAge,
}

/// Rows for a view.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct FeaturePush {
    /// The view, or the push source that it names.
    push_source_name: String,
    /// A list for each column: keys, event time, every feature.
    df: BTreeMap<String, Vec<Json>>,
    #[schema(nullable = false)]
    to: Option<FeaturePushTo>,
}

/// Where rows go: they are served, or added to the view's dataset, or both.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum FeaturePushTo {
    Online,
    Offline,
    OnlineAndOffline,
}

/// Rows for a view, to be served.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct FeatureWrite {
    feature_view_name: String,
    /// A list for each column: keys, event time, every feature.
    df: BTreeMap<String, Vec<Json>>,
}

/// Up to which time, and which views.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct FeatureMaterialize {
    /// In ISO 8601. Rows of later times are left for the next time.
    #[schema(nullable = false)]
    end_ts: Option<String>,
    /// Taken and not used: a view is never materialised in part.
    #[schema(nullable = false)]
    start_ts: Option<String>,
    /// All of them when it is not given.
    #[schema(nullable = false)]
    feature_views: Option<Vec<String>>,
    /// Up to now, without `end_ts`.
    #[serde(default)]
    disable_event_timestamp: bool,
}

/// What was taken.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct FeaturesTaken {
    rows: u64,
}

/// What is online now.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct FeaturesMaterialized {
    feature_views: Vec<FeatureViewMaterialized>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct FeatureViewMaterialized {
    view: String,
    /// The version of each dataset.
    versions: BTreeMap<String, u64>,
    /// Rows that were read.
    rows: u64,
    /// Entities that they are of.
    entities: u64,
}
