//! What is said of predictive models.

use serde_json::json;

use super::same;
use crate::openapi::schemas;

#[test]
fn what_is_shown_of_models_is_described() {
    same::<schemas::InferenceError>(&json!({"error": "there is no model `m`"}));
    same::<schemas::InferenceServer>(&crate::inference::described());
    let output = json!({"name": "y", "datatype": "FP32", "shape": [1], "data": [0.5]});
    let answer = json!({"model_name": "m", "model_version": "1", "id": "7", "outputs": [output]});
    same::<schemas::InferenceAnswer>(&answer);
    same::<schemas::Predictions>(&json!({"predictions": [0.5]}));
}
