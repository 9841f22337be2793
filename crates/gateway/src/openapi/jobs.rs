//! The operations of `/v1/jobs`, and what makes a call a job.

use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, RefOr, Required, ResponseBuilder, Schema};

use super::operations::{
    JSON, Shape, either, errors, header_parameter, headers, keyed, of, path_parameter, schema,
};

const READ: &[u16] = &[400, 401, 404, 503];

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::{Delete, Get, Post};
    let own = |id, summary| keyed("native", id, summary).parameter(job_id());
    let any = |id, summary| keyed("admin", id, summary);
    let admin: &[u16] = &[400, 401, 403, 404, 503];
    let list = |o: OperationBuilder| paged(o);
    vec![
        ("/v1/jobs", Get, answers(list(keyed("native", "list_jobs", "List jobs")), schema("Jobs"), READ)),
        ("/v1/jobs/{id}", Get, answers(own("get_job", "Show a job"), schema("Job"), READ)),
        (
            "/v1/jobs/{id}",
            Delete,
            answers(
                own("delete_job", "End a job, or remove one that has ended"),
                either("Job", "JobRemoved"),
                READ,
            ),
        ),
        ("/v1/jobs/{id}/cancel", Post, answers(own("cancel_job", "End a job"), schema("Job"), READ)),
        (
            "/v1/jobs/{id}/deliveries",
            Get,
            answers(own("list_deliveries", "List the webhooks about a job"), schema("Deliveries"), READ),
        ),
        (
            "/v1/jobs/{id}/redeliver",
            Post,
            answers(own("redeliver", "Send the webhooks about a job again"), schema("Deliveries"), READ),
        ),
        (
            "/v1/admin/jobs",
            Get,
            answers(list(any("list_any_jobs", "List everybody's jobs")), schema("Jobs"), admin),
        ),
        (
            "/v1/admin/jobs/{id}",
            Get,
            answers(any("get_any_job", "Show anybody's job").parameter(job_id()), schema("Job"), admin),
        ),
        (
            "/v1/admin/jobs/{id}/cancel",
            Post,
            answers(any("cancel_any_job", "End anybody's job").parameter(job_id()), schema("Job"), admin),
        ),
    ]
}

/// What a call can say to become a job, and the answer that it then has.
pub(super) fn deferrable(o: OperationBuilder) -> OperationBuilder {
    let accepted = ResponseBuilder::new()
        .description("The request is stored and will be answered by the job")
        .content(JSON, Content::new(Some(schema("Job"))));
    o.parameter(header_parameter("prefer", "`respond-async`: answer later, by a job"))
        .parameter(header_parameter(
            "forebay-accept",
            "`job`: a busy pipeline may answer later, by a job; `answer`: it may not. Unless given: pipelines' own calls take a job",
        ))
        .parameter(header_parameter("forebay-webhook", "Of a job: who is told when it has ended"))
        .response("202", headers(accepted, &["location", "preference-applied", "forebay-degraded", "x-request-id"]))
}

fn answers(o: OperationBuilder, body: RefOr<Schema>, statuses: &[u16]) -> Operation {
    let answer = ResponseBuilder::new().description("As it is now").content(JSON, Content::new(Some(body)));
    errors(o.response("200", answer), Shape::OpenAi, statuses).build()
}

fn job_id() -> Parameter {
    let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^run_[0-9a-f]{32}$")).build();
    let mut p = path_parameter("id", "The job's id");
    p.schema = Some(RefOr::T(Schema::Object(id)));
    p
}

pub(super) fn paged(o: OperationBuilder) -> OperationBuilder {
    let query = |name: &str, what: &str, kind| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(what))
            .schema(Some(of(kind)))
    };
    o.parameter(query("after", "Those before this one: `last_id` of the page before", Type::String))
        .parameter(query("limit", "How many: 20 unless given, 100 at most", Type::Integer))
}
