//! The operations of `/v1/batches`, and of responses that are made in the background.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder};
use utoipa::openapi::{Content, ResponseBuilder};

use super::jobs::paged;
use super::operations::{
    JSON, Shape, errors, header_parameter, headers, json_body, keyed, path_parameter, schema,
};

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::{Delete, Get, Post};
    let own = |id, summary| keyed("openai", id, summary);
    let any = |id, summary| keyed("admin", id, summary);
    let one = |o: OperationBuilder| o.parameter(path_parameter("id", "The batch's id"));
    let response = |id, summary| own(id, summary).parameter(path_parameter("id", "The response's id"));
    let kept = "One that was made in the `background` is kept as long as a job.";
    let (read, admin) = ([400, 401, 404, 503], [400, 401, 403, 404, 503]);
    let made = own("create_batch", "Have a file of requests answered")
        .description(Some(
            "Its lines wait behind live traffic. What is wrong with the batch itself is said at once, what is wrong with the \
             lines of its file in `errors` of a batch that has `failed`.",
        ))
        .parameter(header_parameter("forebay-webhook", "Who is told when it has ended"))
        .request_body(Some(json_body("BatchRequest")));
    vec![
        (
            "/v1/responses/{id}",
            Get,
            answers(response("get_response", "Show a response").description(Some(kept)), "Response", &read),
        ),
        (
            "/v1/responses/{id}",
            Delete,
            answers(response("delete_response", "End and remove a response"), "ResponseDeleted", &read),
        ),
        (
            "/v1/responses/{id}/cancel",
            Post,
            answers(response("cancel_response", "End a response"), "Response", &read),
        ),
        ("/v1/batches", Post, answers(made, "Batch", &[400, 401, 404, 408, 413, 429, 503])),
        ("/v1/batches", Get, answers(paged(own("list_batches", "List batches")), "Batches", &read)),
        ("/v1/batches/{id}", Get, answers(one(own("get_batch", "Show a batch")), "Batch", &read)),
        ("/v1/batches/{id}/cancel", Post, answers(one(own("cancel_batch", "End a batch")), "Batch", &read)),
        (
            "/v1/batches/{id}/deliveries",
            Get,
            answers(
                one(own("list_batch_deliveries", "List the webhooks about a batch")),
                "Deliveries",
                &read,
            ),
        ),
        (
            "/v1/batches/{id}/redeliver",
            Post,
            answers(
                one(own("redeliver_batch", "Send the webhooks about a batch again")),
                "Deliveries",
                &read,
            ),
        ),
        (
            "/v1/admin/batches",
            Get,
            answers(paged(any("list_any_batches", "List everybody's batches")), "Batches", &admin),
        ),
        (
            "/v1/admin/batches/{id}",
            Get,
            answers(one(any("get_any_batch", "Show anybody's batch")), "Batch", &admin),
        ),
        (
            "/v1/admin/batches/{id}/cancel",
            Post,
            answers(one(any("cancel_any_batch", "End anybody's batch")), "Batch", &admin),
        ),
    ]
}

fn answers(o: OperationBuilder, name: &str, statuses: &[u16]) -> Operation {
    let answer =
        ResponseBuilder::new().description("As it is now").content(JSON, Content::new(Some(schema(name))));
    errors(o.response("200", headers(answer, &["x-request-id"])), Shape::OpenAi, statuses).build()
}
