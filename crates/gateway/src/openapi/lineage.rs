//! The operations of `/v1/lineage`.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{Content, Required, ResponseBuilder};

use super::operations::{JSON, Shape, errors, json_body, keyed, query, schema};

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::{Get, Post};
    let own = asked(keyed("native", "get_lineage", "Show what a thing was made of, and what was made of it"));
    let any = asked(keyed("admin", "get_any_lineage", "The same of what anybody's runs made"));
    let take = |id| {
        let o = keyed("native", id, "Take an OpenLineage event")
            .description(Some(
                "Spec 2-0-2, of a run or of a job. The same event is kept once. An event about a dataset alone is acknowledged and \
                 not kept. A tenant's key tells of what is the project's own only that it was read.",
            ))
            .request_body(Some(json_body("LineageEvent")));
        let taken = ResponseBuilder::new()
            .description("It outlives a crash")
            .content(JSON, Content::new(Some(schema("LineageTaken"))));
        errors(o.response("201", taken), Shape::OpenAi, &[400, 401, 403, 408, 413, 429, 503]).build()
    };
    vec![
        ("/v1/lineage", Get, graph(own, &[400, 401, 404, 503])),
        ("/v1/lineage", Post, take("take_lineage")),
        ("/api/v1/lineage", Post, take("take_openlineage")),
        ("/v1/admin/lineage", Get, graph(any, &[400, 401, 403, 404, 503])),
    ]
}

fn asked(o: OperationBuilder) -> OperationBuilder {
    let thing = "A dataset, `DATASET@VERSION`, `DATASET.COLUMN`, a run, `PIPELINE.STAGE`, a file, a hash";
    o.parameter(query("of", thing, Type::String, Required::True))
        .parameter(query("direction", "`up`, `down` or `both`", Type::String, Required::False))
        .parameter(query("depth", "How many jobs away, 1 to 100", Type::Integer, Required::False))
        .parameter(query("columns", "Whether links tell columns", Type::Boolean, Required::False))
}

fn graph(o: OperationBuilder, statuses: &[u16]) -> Operation {
    let answer = ResponseBuilder::new()
        .description("Nodes, and links from what is read to what is written")
        .content(JSON, Content::new(Some(schema("Lineage"))));
    errors(o.response("200", answer), Shape::OpenAi, statuses).build()
}
