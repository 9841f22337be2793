//! What is shown of batches, and of responses that were removed.

use serde_json::json;

use super::same;
use crate::openapi::schemas;

#[test]
fn what_is_shown_of_batches_is_described() {
    let id = contract::RunId::of(contract::RequestId::from_parts(contract::UnixMillis(5), 7));
    let batch = |full: bool| {
        let at = full.then_some(1_000);
        let error = json!({"code": "empty_file", "message": "no", "param": full.then_some("x"), "line": full.then_some(3)});
        let kept = json!({
            "endpoint": "/v1/responses", "input_file": "file-1", "window": "24h",
            "metadata": full.then(|| json!({"a": "b"})), "key": null, "webhook": null, "stays": null,
            "status": if full { "in_progress" } else { "failed" },
            "errors": if full { json!([]) } else { json!([error]) },
            "output_file": full.then_some("file-2"), "error_file": full.then_some("file-3"), "expires_at": 2_000,
            "in_progress_at": at, "finalizing_at": at, "completed_at": at, "failed_at": at, "expired_at": at,
            "cancelling_at": at, "cancelled_at": at, "total": 3, "completed": 2, "failed": 1, "fed": 3, "line": 3,
            "offset": 90,
        });
        let batch = crate::batches::object::Batch::read(&kept.to_string()).unwrap();
        crate::batches::object::shown(id, contract::UnixMillis(9_000), &batch)
    };
    same::<schemas::Batch>(&batch(true));
    same::<schemas::Batch>(&batch(false));
    let page =
        json!({"object": "list", "data": [batch(true)], "first_id": null, "last_id": "x", "has_more": true});
    same::<schemas::Batches>(&page);
    same::<schemas::ResponseDeleted>(&json!({"id": "resp_1", "object": "response", "deleted": true}));
}
