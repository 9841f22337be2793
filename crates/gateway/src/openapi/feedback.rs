//! The operation of `/v1/feedback`.

use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{Content, ResponseBuilder};

use super::operations::{JSON, Shape, errors, headers, json_body, keyed, schema};

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    let o = keyed("native", "send_feedback", "Say what turned out to be true of answers")
        .description(Some(
            "One or a list of at most ten thousand; all are taken or none. An answer is named by its `x-request-id`; of gRPC by the \
             parameter `request_id` of the answer. Monitors and rollouts judge by it.",
        ))
        .request_body(Some(json_body("FeedbackBody")));
    let taken = ResponseBuilder::new()
        .description("Whoever looks at answers has it")
        .content(JSON, Content::new(Some(schema("FeedbackTaken"))));
    let o = o.response("202", headers(taken, &["x-request-id"]));
    let o = errors(o, Shape::OpenAi, &[400, 401, 408, 413, 429, 503]);
    vec![("/v1/feedback", HttpMethod::Post, o.build())]
}
