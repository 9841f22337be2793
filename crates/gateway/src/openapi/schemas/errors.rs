//! Errors, in the shape of each protocol.

use contract::Code;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// The codes of errors, as the code has them.
pub(super) fn codes() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(Code::ALL.iter().map(|c| c.as_str())))
        .description(Some("What happened: each code has a page in docs/errors"))
        .build()
}

/// Why a request was refused or failed, in OpenAI's shape. The pipelines' own surface has the same.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct OpenAiError {
    error: OpenAiErrorDetail,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct OpenAiErrorDetail {
    /// What is wrong, and what to do. Never what the caller said.
    message: String,
    #[serde(rename = "type")]
    kind: OpenAiErrorType,
    /// The parameter at fault.
    #[schema(required)]
    param: Option<String>,
    #[schema(schema_with = codes)]
    code: String,
    #[serde(flatten)]
    limit: Limit,
}

/// The class of an error.
#[derive(Serialize, Deserialize, ToSchema)]
#[expect(clippy::enum_variant_names, reason = "OpenAI's words")]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum OpenAiErrorType {
    InvalidRequestError,
    AuthenticationError,
    PermissionError,
    NotFoundError,
    RateLimitError,
    ServerError,
}

/// Whose limit or budget it was, when it was one.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Limit {
    /// `key:…`, `tenant:gold`, `model:writer`, `pipeline:summarize`.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spend_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spend_usd: Option<f64>,
    /// When a budget's period ends; null when it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::some")]
    #[schema(value_type = Option<String>, format = DateTime)]
    resets_at: Option<Option<String>>,
}

/// Why a request was refused or failed, in Anthropic's shape.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct AnthropicError {
    /// `error`
    #[serde(rename = "type")]
    #[schema(pattern = "^error$")]
    kind: String,
    error: ErrorDetail,
    /// The request's id: `req_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = AnthropicErrorDetail)]
pub(in crate::openapi) struct ErrorDetail {
    #[serde(rename = "type")]
    kind: AnthropicErrorType,
    /// What is wrong, and what to do. Never what the caller said.
    message: String,
    #[schema(schema_with = codes)]
    code: String,
    #[serde(flatten)]
    limit: Limit,
}

/// The class of an error.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum AnthropicErrorType {
    InvalidRequestError,
    AuthenticationError,
    BillingError,
    PermissionError,
    NotFoundError,
    RequestTooLarge,
    RateLimitError,
    TimeoutError,
    OverloadedError,
    ApiError,
}
