//! The operations of predictive models.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, Required, ResponseBuilder};

use super::operations::{JSON, Shape, errors, headers, json_body, keyed, path_parameter, schema};

/// What a call of a model may be refused or fail with.
const ASKED: &[u16] = &[400, 401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 504];
const SHOWN: &[u16] = &[404, 503];
const BINARY: &str = "application/octet-stream";

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::{Get, Post};
    let mut all = vec![
        ("/v2", Get, shown("server_metadata", "What the server is", "InferenceServer", &[])),
        ("/v2/health/live", Get, shown("server_live", "Whether the server answers", "InferenceLive", &[])),
        (
            "/v2/health/ready",
            Get,
            shown("server_ready", "Whether all models can be asked", "InferenceReady", &[503]),
        ),
        (
            "/v2/models/stats",
            Get,
            shown("models_statistics", "What became of requests", "InferenceStatistics", &[404]),
        ),
        ("/v2/repository/index", Post, index()),
        (
            "/v2/repository/models/{name}/load",
            Post,
            named(operate("load_model", "Load a model into memory"), false),
        ),
        (
            "/v2/repository/models/{name}/unload",
            Post,
            named(operate("unload_model", "Take a model out of memory"), false),
        ),
        ("/invocations", Post, invocations()),
    ];
    for (version, at) in [(false, 0), (true, 1)] {
        let path = |own: [&'static str; 2]| if at == 0 { own[0] } else { own[1] };
        let id = |own: &str| if version { format!("{own}_of_version") } else { own.to_owned() };
        let show = |own: &str, what: &str, answer| named(show(&id(own), what, answer, SHOWN), version);
        all.extend([
            (
                path(["/v2/models/{name}", "/v2/models/{name}/versions/{version}"]),
                Get,
                show("model_metadata", "What a model takes and gives", "InferenceModel"),
            ),
            (
                path(["/v2/models/{name}/ready", "/v2/models/{name}/versions/{version}/ready"]),
                Get,
                show("model_ready", "Whether a model can be asked", "InferenceModelReady"),
            ),
            (
                path(["/v2/models/{name}/config", "/v2/models/{name}/versions/{version}/config"]),
                Get,
                show("model_config", "A model in Triton's words", "InferenceConfig"),
            ),
            (
                path(["/v2/models/{name}/stats", "/v2/models/{name}/versions/{version}/stats"]),
                Get,
                show("model_statistics", "What became of requests to a model", "InferenceStatistics"),
            ),
            (
                path(["/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"]),
                Post,
                named(infer(&id("infer")), version),
            ),
        ]);
    }
    all
}

fn named(o: OperationBuilder, version: bool) -> Operation {
    let o = o.parameter(path_parameter("name", "The model"));
    if version { o.parameter(path_parameter("version", "The version")).build() } else { o.build() }
}

fn show(id: &str, what: &str, answer: &str, statuses: &[u16]) -> OperationBuilder {
    let o = OperationBuilder::new().tag("inference").operation_id(Some(id)).summary(Some(what));
    let answer = ResponseBuilder::new().description(what).content(JSON, Content::new(Some(schema(answer))));
    errors(o.response("200", answer), Shape::Inference, statuses)
}

fn shown(id: &str, what: &str, answer: &str, statuses: &[u16]) -> Operation {
    show(id, what, answer, statuses).build()
}

fn index() -> Operation {
    let body =
        RequestBodyBuilder::new().content(JSON, Content::new(Some(schema("InferenceIndexRequest")))).build();
    show("repository_index", "All versions of all models", "InferenceIndex", &[])
        .request_body(Some(body))
        .build()
}

fn operate(id: &str, what: &str) -> OperationBuilder {
    let done =
        ResponseBuilder::new().description(what).content(JSON, Content::new(Some(schema("InferenceDone"))));
    errors(keyed("admin", id, what).response("200", done), Shape::Inference, &[400, 401, 403, 404, 503])
}

fn infer(id: &str) -> OperationBuilder {
    let o = keyed("inference", id, "Ask a model").description(Some(
        "Elements are JSON, or binary behind it: then `Inference-Header-Content-Length` is the length of the JSON. The same is served \
         as `inference.GRPCInferenceService` on this port.",
    ));
    let binary = || Content::new(Some(ObjectBuilder::new().schema_type(Type::String).build()));
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content(JSON, Content::new(Some(schema("InferenceRequest"))))
        .content(BINARY, binary())
        .build();
    let answer = ResponseBuilder::new()
        .description("The outputs that were asked for")
        .content(JSON, Content::new(Some(schema("InferenceAnswer"))))
        .content(BINARY, binary());
    let answer = headers(answer, &["x-request-id", "forebay-model-version"]);
    errors(o.request_body(Some(body)).response("200", answer), Shape::Inference, ASKED)
}

fn invocations() -> Operation {
    let query = |name: &str, what: &str| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(what))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
            .build()
    };
    let answer = ResponseBuilder::new()
        .description("By row, or by output for `inputs`")
        .content(JSON, Content::new(Some(schema("Predictions"))));
    let answer = headers(answer, &["x-request-id", "forebay-model-version"]);
    let o =
        keyed("inference", "score", "Ask a model as MLflow's scoring server is asked; also as `text/csv`")
            .parameter(query("model", "The model, unless there is only one"))
            .parameter(query("version", "The version, unless it is the one that is served"))
            .request_body(Some(json_body("ScoringRequest")))
            .response("200", answer);
    errors(o, Shape::Inference, ASKED).build()
}
