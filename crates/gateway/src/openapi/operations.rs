//! What each route takes and answers.

use utoipa::Modify;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder, Schema};

use super::jobs::deferrable;

/// Puts the operations, their errors and their headers into the document.
pub(super) struct Operations;

pub(super) const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const TEXT: &str = "text/plain";

/// What a call of a model or a pipeline may be refused or fail with.
pub(super) const CALL: &[u16] = &[400, 401, 402, 403, 404, 408, 409, 410, 413, 422, 429, 500, 502, 503, 504];

/// Whose shape an error has.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    OpenAi,
    Anthropic,
    Inference,
    /// That of the client which asks.
    Either,
}

impl Shape {
    const ALL: [Shape; 4] = [Shape::OpenAi, Shape::Anthropic, Shape::Inference, Shape::Either];

    fn name(self, status: u16) -> String {
        match self {
            Shape::OpenAi => format!("OpenAi{status}"),
            Shape::Anthropic => format!("Anthropic{status}"),
            Shape::Inference => format!("Inference{status}"),
            Shape::Either => format!("Either{status}"),
        }
    }

    fn schema(self) -> RefOr<Schema> {
        match self {
            Shape::OpenAi => schema("OpenAiError"),
            Shape::Anthropic => schema("AnthropicError"),
            Shape::Inference => schema("InferenceError"),
            Shape::Either => either("OpenAiError", "AnthropicError"),
        }
    }
}

const STATUSES: [(u16, &str); 15] = [
    (400, "The request is wrong: `param` says where"),
    (401, "No key, or one that is not valid"),
    (402, "Requests in flight hold the rest of a budget: try again"),
    (403, "A budget is spent, the key may not do this, or the provider filtered the content"),
    (404, "There is nothing of that name"),
    (408, "The body came too slowly"),
    (409, "The provider says that the request is in conflict"),
    (410, "What is to be read on from is not kept"),
    (413, "The body or the document is too large"),
    (422, "The idempotency key was used for another request, or the provider cannot process this one"),
    (429, "A rate or the queue is full: try again when `retry-after` says"),
    (500, "A defect of the server"),
    (502, "The provider or the model failed"),
    (503, "No provider can be reached, or the server is shutting down or cannot write"),
    (504, "The time ran out"),
];

/// Name, type and description of every header that an answer may have.
const HEADERS: [(&str, Type, &str); 29] = [
    ("location", Type::String, "Where the job is"),
    ("preference-applied", Type::String, "`respond-async`"),
    ("x-request-id", Type::String, "The request's id, for `GET /v1/requests/{id}`"),
    ("request-id", Type::String, "The same, where Anthropic's clients look"),
    ("x-ratelimit-limit-requests", Type::Integer, "Requests a minute"),
    ("x-ratelimit-remaining-requests", Type::Integer, "Requests that are left"),
    ("x-ratelimit-reset-requests", Type::String, "Until all are back, as Go writes durations: `6m0s`"),
    ("x-ratelimit-limit-tokens", Type::Integer, "Tokens a minute"),
    ("x-ratelimit-remaining-tokens", Type::Integer, "Tokens that are left"),
    ("x-ratelimit-reset-tokens", Type::String, "Until all are back, as Go writes durations: `6m0s`"),
    ("anthropic-ratelimit-requests-limit", Type::Integer, "Requests a minute"),
    ("anthropic-ratelimit-requests-remaining", Type::Integer, "Requests that are left"),
    ("anthropic-ratelimit-requests-reset", Type::String, "When all are back, in RFC 3339"),
    ("anthropic-ratelimit-tokens-limit", Type::Integer, "Tokens a minute"),
    ("anthropic-ratelimit-tokens-remaining", Type::Integer, "Tokens that are left"),
    ("anthropic-ratelimit-tokens-reset", Type::String, "When all are back, in RFC 3339"),
    ("retry-after", Type::Integer, "Seconds to wait before another try"),
    ("retry-after-ms", Type::Integer, "The same in milliseconds"),
    ("x-should-retry", Type::String, "`false` when the same request will always be refused"),
    ("forebay-limit-source", Type::String, "Whose limit it was: `tenant:gold`, `model:writer`"),
    ("idempotent-replayed", Type::String, "`true` when the answer is that of an equal request before"),
    ("forebay-resume", Type::String, "How long the answer goes on without a reader: `30000ms`"),
    ("forebay-overhead-us", Type::Integer, "What the gateway took itself, in µs"),
    ("forebay-attempts", Type::Integer, "How many calls to models were made"),
    ("forebay-model-version", Type::String, "The version that answered"),
    (
        "forebay-cost-nanousd",
        Type::Integer,
        "The cost in 10⁻⁹ dollars; not of a stream, whose end nobody knows",
    ),
    (
        "forebay-degraded",
        Type::String,
        "What a busy pipeline did instead of all of it: `cached`, `model`, `draft` or `job`",
    ),
    ("forebay-cache", Type::String, "`hit`, `miss`, `shared` or `bypass`, of a model whose answers are kept"),
    ("age", Type::Integer, "How old a kept answer is, in seconds"),
];

impl Modify for Operations {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        for (name, kind, what) in HEADERS {
            components.headers.insert(name.to_owned(), RefOr::T(header(kind, what)));
        }
        for shape in Shape::ALL {
            for (status, what) in STATUSES {
                components.responses.insert(shape.name(status), RefOr::T(refusal(shape, status, what)));
            }
        }
        for (path, method, operation) in operations()
            .into_iter()
            .chain(super::files::operations())
            .chain(super::batches::operations())
            .chain(super::features::operations())
            .chain(super::inference::operations())
            .chain(super::feedback::operations())
            .chain(super::jobs::operations())
            .chain(super::events::operations())
            .chain(super::runs::operations())
            .chain(super::lineage::operations())
            .chain(super::admin::operations())
        {
            let item = PathItem::new(method, operation);
            match api.paths.paths.get_mut(path) {
                Some(there) => there.merge_operations(item),
                None => {
                    api.paths.paths.insert(path.to_owned(), item);
                }
            }
        }
        // An `Either` is needed by few.
        let used = serde_json::to_string(&api.paths).unwrap_or_default();
        if let Some(components) = &mut api.components {
            components.responses.retain(|name, _| used.contains(&format!("/{name}\"")));
        }
    }
}

fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::{Get, Post};
    vec![
        ("/v1/chat/completions", Post, chat_completions()),
        ("/v1/completions", Post, completions()),
        ("/v1/responses", Post, responses()),
        ("/v1/models", Get, list_models()),
        ("/v1/models/{id}", Get, get_model()),
        ("/v1/messages", Post, messages()),
        ("/v1/messages/count_tokens", Post, count_tokens()),
        (super::PIPELINE, Post, run_pipeline()),
        (super::PIPELINE, Get, open_socket()),
        ("/v1/requests/{id}", Get, get_request()),
        ("/v1/requests/{id}/events", Get, get_events()),
        ("/healthz", Get, healthz()),
        ("/readyz", Get, readyz()),
        ("/metrics", Get, metrics()),
        ("/openapi.json", Get, openapi()),
    ]
}

fn chat_completions() -> Operation {
    let o = keyed("openai", "create_chat_completion", "Ask a model or a pipeline").description(Some(
        "With `stream` the answer is events: each has a `ChatChunk` for its data, the last `[DONE]`. A stream that breaks \
         ends with a chunk that has `error`.",
    ));
    call(o, Shape::OpenAi, ["ChatCompletionRequest", "ChatCompletion", "ChatChunk"])
}

fn completions() -> Operation {
    let o = keyed("openai", "create_completion", "Let a model or a pipeline answer a prompt").description(Some(
        "With `stream` the answer is events: each has a `TextChunk` for its data, the last `[DONE]`. A stream that breaks \
         ends with a chunk that has `error`.",
    ));
    call(o, Shape::OpenAi, ["CompletionRequest", "TextCompletion", "TextChunk"])
}

fn responses() -> Operation {
    let o = keyed("openai", "create_response", "Ask a model or a pipeline by items").description(Some(
        "Nothing is stored but what is made in the `background`. With `stream` the answer is events: each has a `ResponseEvent` for its data, from \
         `response.created` to `response.completed` or `response.incomplete`. A stream that breaks ends with an `error` and \
         `response.failed`.",
    ));
    call(o, Shape::OpenAi, ["ResponseRequest", "Response", "ResponseEvent"])
}

fn messages() -> Operation {
    let o = keyed("anthropic", "create_message", "Ask a model or a pipeline").description(Some(
        "With `stream` the answer is events: each has a `MessageEvent` for its data, from `message_start` to \
         `message_stop`. A stream that breaks ends with an `error`.",
    ));
    call(o, Shape::Anthropic, ["MessagesRequest", "Message", "MessageEvent"])
}

/// A call of a model or a pipeline: the names of its body, its whole answer and its events.
fn call(o: OperationBuilder, shape: Shape, [body, whole, event]: [&str; 3]) -> Operation {
    let o = deferrable(kept(o.parameter(traceparent()))).request_body(Some(json_body(body)));
    let answer = ResponseBuilder::new()
        .description("The answer, or its events")
        .content(JSON, Content::new(Some(schema(whole))))
        .content(EVENTS, events(event));
    errors(o.response("200", answered(answer, shape)), shape, CALL).build()
}

fn count_tokens() -> Operation {
    let o = keyed("anthropic", "count_tokens", "Count the input tokens of a request")
        .description(Some("No provider is asked, and nothing is charged."))
        .request_body(Some(json_body("CountTokensRequest")));
    let counted = ResponseBuilder::new()
        .description("How many")
        .content(JSON, Content::new(Some(schema("InputTokens"))));
    let counted = headers(counted, &["x-request-id", "request-id"]);
    errors(o.response("200", counted), Shape::Anthropic, &[400, 401, 404, 408, 413]).build()
}

fn list_models() -> Operation {
    let o = keyed("openai", "list_models", "List models and pipelines")
        .description(Some("All of them, on one page. With `anthropic-version` in Anthropic's form."))
        .parameter(anthropic_version());
    let all = ResponseBuilder::new()
        .description("All that can be asked")
        .content(JSON, Content::new(Some(either("Models", "AnthropicModels"))));
    errors(o.response("200", all), Shape::Either, &[401]).build()
}

fn get_model() -> Operation {
    let o = keyed("openai", "get_model", "Show a model or a pipeline")
        .description(Some("With `anthropic-version` in Anthropic's form."))
        .parameter(anthropic_version())
        .parameter(path_parameter("id", "The name, which may hold `/`"));
    let one = ResponseBuilder::new()
        .description("The model")
        .content(JSON, Content::new(Some(either("Model", "AnthropicModel"))));
    errors(o.response("200", one), Shape::Either, &[401, 404]).build()
}

fn run_pipeline() -> Operation {
    let o = keyed("native", "run_pipeline", "Run a pipeline").description(Some(
        "The input is JSON, a form, or a document in the body. An answer that is not all there is a 200 that says so. With \
         `stream`, or when `Accept` has `text/event-stream`, the answer is events: each has a `RunEvent` for its data.",
    ));
    let stream = ParameterBuilder::new()
        .name("stream")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("Answer by events"))
        .schema(Some(of(Type::Boolean)))
        .build();
    let document = |o: ObjectBuilder| Content::new(Some(RefOr::T(Schema::from(o))));
    let text = || document(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)));
    let binary = || {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        document(ObjectBuilder::new().schema_type(Type::String).format(Some(format)))
    };
    let body = RequestBodyBuilder::new()
        .description(Some("The input"))
        .required(Some(Required::True))
        .content(JSON, Content::new(Some(schema("PipelineInput"))))
        .content("multipart/form-data", Content::new(Some(schema("PipelineForm"))))
        .content(TEXT, text())
        .content("text/markdown", text())
        .content("text/html", text())
        .content("application/pdf", binary())
        .content("application/octet-stream", binary())
        .build();
    let o = o.parameter(path_parameter("name", "The pipeline")).parameter(stream).parameter(traceparent());
    let o = deferrable(kept(o)).request_body(Some(body));
    let answer = ResponseBuilder::new()
        .description("The output, or the run's events")
        .content(JSON, Content::new(Some(schema("PipelineOutput"))))
        .content(EVENTS, events("RunEvent"));
    errors(o.response("200", answered(answer, Shape::OpenAi)), Shape::OpenAi, CALL).build()
}

fn open_socket() -> Operation {
    let o = keyed("native", "open_pipeline_socket", "Run a pipeline over a WebSocket")
        .description(Some(
            "The first message is the input: a `PipelineInput`, or a document. Then every message from the server is a \
             `RunEvent` with an `event_id`. `{\"type\":\"cancel\"}` stops the run. In place of an input \
             `{\"type\":\"resume\",\"id\":\"req_…\",\"last_event_id\":7}` reads on in one that is kept.",
        ))
        .parameter(path_parameter("name", "The pipeline"))
        .parameter(traceparent());
    let o = kept(o).response("101", ResponseBuilder::new().description("The socket is open"));
    errors(o, Shape::OpenAi, &[400, 401, 404]).build()
}

fn get_request() -> Operation {
    let o = keyed("native", "get_request", "Show what happened to a request")
        .description(Some("The ledger's record of one of the caller's own requests, once it has ended."))
        .parameter(request_id());
    let record = ResponseBuilder::new()
        .description("The record")
        .content(JSON, Content::new(Some(schema("RequestRecord"))));
    errors(o.response("200", record), Shape::OpenAi, &[400, 401, 404, 503]).build()
}

fn get_events() -> Operation {
    let o = keyed("native", "get_request_events", "Read on in the events of a request")
        .description(Some(
            "The events of one of the caller's own requests behind `Last-Event-ID`, or from the first, and on to its last. They \
             are kept of streams that were asked for with `Idempotency-Key` or `forebay-resume`, and of pipelines with `resume`.",
        ))
        .parameter(request_id())
        .parameter(last_event_id());
    let rest = ResponseBuilder::new()
        .description("The events, in the form of the surface that was asked")
        .content(EVENTS, events("RunEvent"));
    let rest = headers(rest, &["x-request-id", "forebay-resume"]);
    let o = o
        .response("200", rest)
        .response("204", ResponseBuilder::new().description("It is over, and the caller has all of it"));
    errors(o, Shape::OpenAi, &[400, 401, 410]).build()
}

fn healthz() -> Operation {
    let alive = ResponseBuilder::new().description("It does: `ok`").content(TEXT, string());
    open("healthz", "Whether the process answers").response("200", alive).build()
}

fn readyz() -> Operation {
    let says = |what: &str| {
        ResponseBuilder::new().description(what).content(JSON, Content::new(Some(schema("Readiness"))))
    };
    open("readyz", "Whether new requests are taken")
        .response("200", says("They are"))
        .response("503", says("They are not, and why"))
        .build()
}

fn metrics() -> Operation {
    let all = ResponseBuilder::new()
        .description("All metrics, as `Accept` asks for them")
        .content(TEXT, string())
        .content("application/openmetrics-text", string());
    open("metrics", "Metrics for Prometheus").response("200", all).build()
}

fn openapi() -> Operation {
    let document = ResponseBuilder::new()
        .description("OpenAPI 3.1, with the paths of this project's pipelines")
        .content(JSON, Content::new(Some(of(Type::Object))));
    open("openapi", "This document").response("200", document).build()
}

fn open(id: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new().tag("operations").operation_id(Some(id)).summary(Some(summary))
}

pub(super) fn keyed(tag: &str, id: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(tag)
        .operation_id(Some(id))
        .summary(Some(summary))
        .security(SecurityRequirement::new::<_, [String; 0], String>("bearer", []))
        .security(SecurityRequirement::new::<_, [String; 0], String>("x-api-key", []))
}

pub(super) fn errors(mut o: OperationBuilder, shape: Shape, statuses: &[u16]) -> OperationBuilder {
    for status in statuses {
        o = o.response(status.to_string(), Ref::from_response_name(shape.name(*status)));
    }
    o
}

fn refusal(shape: Shape, status: u16, what: &str) -> Response {
    let r = ResponseBuilder::new().description(what).content(JSON, Content::new(Some(shape.schema())));
    let r = headers(r, &["x-request-id", "forebay-limit-source"]);
    let r = if matches!(shape, Shape::OpenAi | Shape::Inference) { r } else { headers(r, &["request-id"]) };
    // Who was not let in has no rates.
    if matches!(shape, Shape::Either) || matches!(status, 401 | 408 | 413) {
        return r.build();
    }
    headers(rates(r, shape), &["retry-after", "retry-after-ms", "x-should-retry"]).build()
}

/// The headers of an answer to a call.
fn answered(r: ResponseBuilder, shape: Shape) -> ResponseBuilder {
    let facts = [
        "x-request-id",
        "idempotent-replayed",
        "forebay-resume",
        "forebay-overhead-us",
        "forebay-attempts",
        "forebay-model-version",
        "forebay-cost-nanousd",
        "forebay-degraded",
        "forebay-cache",
        "age",
    ];
    rates(headers(r, &facts), shape)
}

fn rates(r: ResponseBuilder, shape: Shape) -> ResponseBuilder {
    let prefix = match shape {
        Shape::Anthropic => "anthropic-ratelimit-",
        Shape::OpenAi | Shape::Inference | Shape::Either => "x-ratelimit-",
    };
    let r = if matches!(shape, Shape::Anthropic) { headers(r, &["request-id"]) } else { r };
    let names = HEADERS.iter().map(|(name, ..)| *name).filter(|name| name.starts_with(prefix));
    headers(r, &names.collect::<Vec<_>>())
}

pub(super) fn headers(mut r: ResponseBuilder, names: &[&str]) -> ResponseBuilder {
    for name in names {
        r = r.header_ref(*name, Ref::new(format!("#/components/headers/{name}")));
    }
    r
}

fn header(kind: Type, what: &str) -> Header {
    HeaderBuilder::new().schema(Some(of(kind))).description(Some(what)).build()
}

pub(super) fn json_body(name: &str) -> RequestBody {
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content(JSON, Content::new(Some(schema(name))))
        .build()
}

/// A stream of events. OpenAPI 3.1 has no word for what each holds but this, and readers differ on what a schema here is
/// about: the whole text or one event.
fn events(name: &str) -> Content {
    let what = format!("Server-sent events. The data of each is a `{name}` of `#/components/schemas`.");
    let stream = ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(what)).build();
    Content::new(Some(RefOr::T(Schema::Object(stream))))
}

fn string() -> Content {
    Content::new(Some(of(Type::String)))
}

pub(super) fn of(kind: Type) -> RefOr<Schema> {
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(kind).build()))
}

pub(super) fn schema(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

pub(super) fn either(one: &str, other: &str) -> RefOr<Schema> {
    let both = OneOfBuilder::new().item(Ref::from_schema_name(one)).item(Ref::from_schema_name(other));
    RefOr::T(Schema::OneOf(both.build()))
}

pub(super) fn path_parameter(name: &str, what: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(what))
        .schema(Some(of(Type::String)))
        .build()
}

pub(super) fn request_id() -> Parameter {
    let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^req_[0-9a-f]{32}$")).build();
    let mut p = path_parameter("id", "As in `x-request-id`");
    p.schema = Some(RefOr::T(Schema::Object(id)));
    p
}

pub(super) fn header_parameter(name: &str, what: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(what))
        .schema(Some(of(Type::String)))
        .build()
}

fn traceparent() -> Parameter {
    header_parameter("traceparent", "The W3C trace context that the request is part of")
}

fn last_event_id() -> Parameter {
    header_parameter("last-event-id", "The id of the last event that came: the answer begins behind it")
}

/// What a request may say about its answer being kept.
fn kept(o: OperationBuilder) -> OperationBuilder {
    o.parameter(header_parameter(
        "idempotency-key",
        "Up to 255 characters, of the caller's choice: an equal request under the same key gets the same answer, which is made once; with `prefer: respond-async` it is the same job. Another request under it is a 422",
    ))
    .parameter(header_parameter(
        "forebay-resume",
        "`30s`: the answer goes on for so long without a reader, and its events have ids to read on from",
    ))
    .parameter(last_event_id())
}

fn anthropic_version() -> Parameter {
    header_parameter("anthropic-version", "Sent by Anthropic's clients: it decides the form of the answer")
}

/// What may stand in a query.
pub(super) fn query(name: &str, what: &str, kind: Type, required: Required) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(required)
        .description(Some(what))
        .schema(Some(of(kind)))
        .build()
}
