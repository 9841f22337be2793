//! The operations of `/v1/runs`.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, RefOr, Required, ResponseBuilder, Schema};

use super::jobs::paged;
use super::operations::{JSON, Shape, errors, header_parameter, keyed, path_parameter, query, schema};

const READ: &[u16] = &[400, 401, 404, 503];
const ASK: &[u16] = &[400, 401, 404, 409, 422, 429, 503];

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::{Get, Post};
    let own = |id, summary| keyed("native", id, summary).parameter(run_id());
    let ask = keyed("native", "create_run", "Ask for a durable run of a pipeline")
        .parameter(header_parameter("idempotency-key", "The same run for the same key"))
        .request_body(Some(json("RunWanted")));
    let list = paged(keyed("native", "list_runs", "List durable runs")).parameter(query(
        "pipeline",
        "Those of this pipeline",
        Type::String,
        Required::False,
    ));
    let log = own("get_run_log", "Read what a stage of a run said")
        .parameter(query("stage", "The stage", Type::String, Required::True))
        .parameter(query(
            "from",
            "The byte to read on from: `next` of the answer before",
            Type::Integer,
            Required::False,
        ));
    let output = own("get_run_output", "Read what a stage of a run made").parameter(query(
        "stage",
        "The stage; unless given, the last of the pipeline",
        Type::String,
        Required::False,
    ));
    let decide = own("approve_stage", "Say whether a stage may start that waits for that")
        .request_body(Some(json("RunDecision")));
    vec![
        ("/v1/runs", Get, answers(list, "200", "Runs", READ)),
        ("/v1/runs", Post, answers(ask, "202", "Run", ASK)),
        ("/v1/runs/{id}", Get, answers(own("get_run", "Show a run"), "200", "Run", READ)),
        ("/v1/runs/{id}/cancel", Post, answers(own("cancel_run", "End a run"), "200", "Run", READ)),
        (
            "/v1/runs/{id}/retry",
            Post,
            answers(own("retry_run", "Run again what a run did not bring to its end"), "202", "Run", ASK),
        ),
        ("/v1/runs/{id}/approve", Post, answers(decide, "200", "Run", READ)),
        ("/v1/runs/{id}/logs", Get, answers(log, "200", "RunLog", READ)),
        ("/v1/runs/{id}/output", Get, answers(output, "200", "RunOutput", READ)),
    ]
}

fn json(name: &str) -> utoipa::openapi::request_body::RequestBody {
    RequestBodyBuilder::new()
        .content(JSON, Content::new(Some(schema(name))))
        .required(Some(Required::True))
        .build()
}

fn answers(o: OperationBuilder, status: &str, body: &str, statuses: &[u16]) -> Operation {
    let answer =
        ResponseBuilder::new().description("As it is now").content(JSON, Content::new(Some(schema(body))));
    errors(o.response(status, answer), Shape::OpenAi, statuses).build()
}

fn run_id() -> Parameter {
    let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^run_[0-9a-f]{32}$")).build();
    let mut p = path_parameter("id", "The run's id");
    p.schema = Some(RefOr::T(Schema::Object(id)));
    p
}
