//! The operation of `/v1/events`.

use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{Content, Required, ResponseBuilder};

use super::operations::{JSON, Shape, errors, header_parameter, keyed, schema};

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    let one = || Content::new(Some(schema("CloudEvent")));
    let body = RequestBodyBuilder::new()
        .description(Some("An event, several, or the data of one whose attributes are `ce-` headers"))
        .required(Some(Required::True))
        .content("application/cloudevents+json", one())
        .content("application/cloudevents-batch+json", Content::new(Some(schema("CloudEvents"))))
        .build();
    let o = keyed("native", "send_events", "Send events that start pipelines")
        .description(Some(
            "CloudEvents 1.0, in structured, batch or binary mode. An event that was sent before, by its `source` and `id`, is \
             acknowledged again and starts nothing more. An event of the type `forebay.alert` fires the alert that its `subject` \
             names: an administrator's key is needed for it.",
        ))
        .parameter(header_parameter("ce-specversion", "`1.0`: the attributes are headers, `ce-id`, `ce-source`, `ce-type` and others"))
        .request_body(Some(body));
    let taken = ResponseBuilder::new()
        .description("What each starts is decided, and outlives a crash")
        .content(JSON, Content::new(Some(schema("EventsTaken"))));
    let o = errors(o.response("202", taken), Shape::OpenAi, &[400, 401, 403, 408, 413, 429, 503]);
    vec![("/v1/events", HttpMethod::Post, o.build())]
}
