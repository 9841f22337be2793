//! The operations of Feast's feature server.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{Content, Required, ResponseBuilder};

use super::operations::{JSON, Shape, errors, headers, keyed, schema};

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::Post;
    let admin: &[u16] = &[400, 401, 403, 404, 408, 413, 503];
    let caller: &[u16] = &[400, 401, 404, 408, 413, 503];
    let one =
        |id, summary, body, answer, statuses| taking(keyed("features", id, summary), body, answer, statuses);
    vec![
        (
            "/get-online-features",
            Post,
            one(
                "get_online_features",
                "Features of entities, as they are now",
                "OnlineFeaturesRequest",
                "OnlineFeatures",
                caller,
            ),
        ),
        ("/push", Post, one("push_features", "Push rows to a view", "FeaturePush", "FeaturesTaken", caller)),
        (
            "/write-to-online-store",
            Post,
            one("write_features", "Push rows to a view online", "FeatureWrite", "FeaturesTaken", caller),
        ),
        (
            "/materialize",
            Post,
            one(
                "materialize_features",
                "Serve what the datasets hold",
                "FeatureMaterialize",
                "FeaturesMaterialized",
                admin,
            ),
        ),
        (
            "/materialize-incremental",
            Post,
            one(
                "materialize_features_incremental",
                "Serve what the datasets hold",
                "FeatureMaterialize",
                "FeaturesMaterialized",
                admin,
            ),
        ),
    ]
}

fn taking(o: OperationBuilder, body: &str, answer: &str, statuses: &[u16]) -> Operation {
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content(JSON, Content::new(Some(schema(body))))
        .build();
    let answer = ResponseBuilder::new().description(answer).content(JSON, Content::new(Some(schema(answer))));
    let o = o.request_body(Some(body)).response("200", headers(answer, &["x-request-id"]));
    errors(o, Shape::OpenAi, statuses).build()
}
