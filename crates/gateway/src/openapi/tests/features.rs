//! What is shown of features.

use serde_json::Value;

use super::same;
use crate::features::{FeaturesMaterialized, wire};
use crate::openapi::schemas;

#[test]
fn what_is_shown_of_features_is_described() {
    let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    same::<schemas::OnlineFeatures>(&read(wire::tests::example()));
    same::<schemas::FeaturesTaken>(&read(wire::taken(3)));
    let done = FeaturesMaterialized {
        view: "weather".into(),
        versions: vec![("weather".into(), 4)],
        rows: 10,
        entities: 3,
    };
    same::<schemas::FeaturesMaterialized>(&read(wire::done(&[done])));
}
