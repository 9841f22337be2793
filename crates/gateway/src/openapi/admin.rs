//! The operations of `/v1/admin/`.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, RefOr, Required, ResponseBuilder, Schema};

use super::operations::{JSON, Shape, errors, json_body, keyed, of, path_parameter, request_id, schema};

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::{Delete, Get, Post};
    let get = |id, summary, name, statuses: &[u16]| answers(operator(id, summary), "200", name, statuses);
    let revoke = operator("revoke_key", "Revoke a key")
        .description(Some("It is refused when the answer is there."))
        .parameter(path_parameter("id", "The key's id"));
    let create = operator("create_key", "Make a key")
        .description(Some("It is good when the answer is there."))
        .request_body(Some(json_body("KeyWanted")));
    let costs = operator("sum_costs", "Sum what was spent").parameter(by()).parameter(since());
    let request =
        operator("get_any_request", "Show what happened to anybody's request").parameter(request_id());
    let refused = ResponseBuilder::new()
        .description("The file is refused, and what was in force still is")
        .content(JSON, Content::new(Some(schema("ReloadRefused"))));
    let reload = operator("reload_config", "Load the configuration again")
        .description(Some(
            "Requests under way go on with what they began with. What cannot change without a restart is named.",
        ))
        .response("422", refused);
    vec![
        (
            "/v1/admin/config",
            Get,
            get("get_config", "Show which configuration is in force", "ConfigState", &[401, 403, 404]),
        ),
        ("/v1/admin/reload", Post, answers(reload, "200", "Reloaded", &[401, 403, 404, 503])),
        ("/v1/admin/keys", Get, get("list_keys", "List keys", "Keys", &[401, 403, 503])),
        ("/v1/admin/keys", Post, answers(create, "201", "KeyMade", &[400, 401, 403, 408, 413, 500, 503])),
        ("/v1/admin/keys/{id}", Delete, answers(revoke, "200", "KeyInfo", &[401, 403, 404, 503])),
        ("/v1/admin/costs", Get, answers(costs, "200", "Costs", &[400, 401, 403, 503])),
        (
            "/v1/admin/models",
            Get,
            get("list_model_states", "List models with their prices and states", "ModelInfos", &[401, 403]),
        ),
        (
            "/v1/admin/requests/{id}",
            Get,
            answers(request, "200", "RequestRecord", &[400, 401, 403, 404, 503]),
        ),
    ]
}

/// It takes an administrator's key, or a caller from this machine where no key is asked for.
fn operator(id: &str, summary: &str) -> OperationBuilder {
    keyed("admin", id, summary)
}

fn answers(o: OperationBuilder, status: &str, name: &str, statuses: &[u16]) -> Operation {
    let answer = ResponseBuilder::new().description(name).content(JSON, Content::new(Some(schema(name))));
    errors(o.response(status, answer), Shape::OpenAi, statuses).build()
}

fn by() -> ParameterBuilder {
    let by = ["tenant", "model", "pipeline", "key", "user", "day"];
    let words = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(by)).build();
    ParameterBuilder::new()
        .name("by")
        .parameter_in(ParameterIn::Query)
        .required(Required::True)
        .description(Some("What is summed by; a day is named as whole days since the epoch"))
        .schema(Some(RefOr::T(Schema::Object(words))))
}

fn since() -> ParameterBuilder {
    ParameterBuilder::new()
        .name("since")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("From when on, in milliseconds since the epoch"))
        .schema(Some(of(Type::Integer)))
}
