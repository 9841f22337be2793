//! What is told and taken of answers.

use serde_json::json;

use super::same;
use crate::feedback;
use crate::openapi::schemas;

#[test]
fn what_is_told_of_answers_is_described() {
    same::<schemas::FeedbackTaken>(&feedback::taken(2));
    let one =
        json!({"id": "r", "row": 1, "label": "late", "score": 0.5, "comment": "c", "key": "judge", "at": 12});
    same::<schemas::FeedbackBody>(&one);
    same::<schemas::FeedbackBody>(&json!([one, {"id": "r", "label": true}, {"id": "r", "label": 1.5}]));
}
