//! The operations of `/v1/files`.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Content, RefOr, Required, ResponseBuilder, Schema};

use super::operations::{JSON, Shape, errors, headers, keyed, of, path_parameter, schema};

pub(super) fn operations() -> Vec<(&'static str, HttpMethod, Operation)> {
    use HttpMethod::{Delete, Get, Post};
    let one = |id, summary| keyed("openai", id, summary).parameter(path_parameter("id", "The file's id"));
    let missing = [401, 404, 503];
    let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
    let bytes = ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build();
    let bytes = Content::new(Some(RefOr::T(Schema::Object(bytes))));
    let content = ResponseBuilder::new().description("The bytes").content("application/octet-stream", bytes);
    let content = one("read_file", "Read a file").response("200", headers(content, &["x-request-id"]));
    vec![
        ("/v1/files", Post, upload()),
        ("/v1/files", Get, list()),
        ("/v1/files/{id}", Get, answers(one("get_file", "Show a file"), "FileObject", &missing)),
        ("/v1/files/{id}", Delete, answers(one("delete_file", "Remove a file"), "FileDeleted", &missing)),
        ("/v1/files/{id}/content", Get, errors(content, Shape::OpenAi, &[401, 404, 429, 503]).build()),
    ]
}

fn upload() -> Operation {
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("multipart/form-data", Content::new(Some(schema("FileForm"))))
        .build();
    let o = keyed("openai", "upload_file", "Leave a file")
        .description(Some(
            "It belongs to the tenant, whose files together have a limit (`server.limits.files`).",
        ))
        .request_body(Some(body));
    answers(o, "FileObject", &[400, 401, 408, 413, 429, 503])
}

fn list() -> Operation {
    let query = |name: &str, what: &str, kind| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(what))
            .schema(Some(of(kind)))
            .build()
    };
    let o = keyed("openai", "list_files", "List files")
        .parameter(query("purpose", "Only those for this", Type::String))
        .parameter(query("after", "Those behind the file of this id", Type::String))
        .parameter(query("limit", "At most so many, up to 10000", Type::Integer))
        .parameter(query(
            "order",
            "By when they came: `asc` or `desc`, which it is unless told",
            Type::String,
        ));
    answers(o, "Files", &[400, 401, 503])
}

fn answers(o: OperationBuilder, name: &str, statuses: &[u16]) -> Operation {
    let answer = ResponseBuilder::new().description(name).content(JSON, Content::new(Some(schema(name))));
    errors(o.response("200", headers(answer, &["x-request-id"])), Shape::OpenAi, statuses).build()
}
