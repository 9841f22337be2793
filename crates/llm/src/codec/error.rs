//! What an upstream's error means: status, headers and body become a [`contract::Error`] with a code and a retry hint.
//!
//! 400, 404, 413 and 422 keep the provider's own words, cut to 300 characters, for the caller to act on: as the error's
//! detail, since they may quote the prompt. Credential errors never keep them, for they may quote a key.

use std::time::Duration;

use contract::{Code, Error, RetryHint};
use serde_json::Value as Json;

/// The error an upstream's answer of this status means. `retry_after` is the header `retry-after`, in seconds.
pub fn from_response(status: u16, retry_after: Option<&str>, body: &[u8]) -> Error {
    let parsed: Json = serde_json::from_slice(body).unwrap_or(Json::Null);
    let after = retry_after
        .and_then(|s| s.trim().parse::<f64>().ok())
        .and_then(|s| (s >= 0.0).then(|| Duration::try_from_secs_f64(s).ok()).flatten());
    classify(status, after, parsed.get("error").unwrap_or(&parsed))
}

/// The error an in-band error object means: `{"type"|"code", "message"}`.
pub fn in_stream(error: &Json) -> Error {
    let text = |k: &str| error.get(k).and_then(Json::as_str).unwrap_or_default();
    let status = match (text("type"), text("code")) {
        ("overloaded_error", _) => 529,
        ("rate_limit_error" | "rate_limit_exceeded", _) | (_, "rate_limit_exceeded") => 429,
        ("invalid_request_error", _) | (_, "context_length_exceeded" | "content_filter") => 400,
        ("authentication_error" | "permission_error", _) => 401,
        ("not_found_error", _) => 404,
        _ => error.get("code").and_then(Json::as_u64).and_then(|c| u16::try_from(c).ok()).unwrap_or(500),
    };
    classify(status, None, error)
}

fn classify(status: u16, after: Option<Duration>, error: &Json) -> Error {
    let text = |k: &str| error.get(k).and_then(Json::as_str).unwrap_or_default();
    let said = error.as_str().unwrap_or_else(|| text("message"));
    let (code, kind) = (text("code"), text("type"));
    let hint = after.map_or(RetryHint::Elsewhere, RetryHint::After);
    let quoting =
        |code, lead: &str| Error::new(code, lead).detail(said.chars().take(300).collect::<String>());
    let e = match status {
        400 | 413 | 422 if is_context_length(code, said) => {
            Error::new(Code::ContextLengthExceeded, "the prompt does not fit the model's context window")
        }
        400 | 403 | 422 if is_content_filter(code, kind, said) => {
            Error::new(Code::ContentFiltered, "the provider filtered the content")
        }
        401..=403 => Error::new(
            Code::UpstreamCredentials,
            format!(
                "the provider refused our credentials with {status}: check the model's key and its credits"
            ),
        )
        .retry(RetryHint::Elsewhere),
        404 => quoting(Code::NotFound, "the provider does not know it"),
        408 => Error::new(Code::UpstreamTimeout, "the provider timed out").retry(hint),
        413 => quoting(Code::TooLarge, "the provider finds the request too large"),
        429 if code == "insufficient_quota" || kind == "insufficient_quota" => Error::new(
            Code::UpstreamCredentials,
            "the provider's quota is used up: check the account's billing",
        )
        .retry(RetryHint::Elsewhere),
        429 => Error::new(Code::RateLimited, "the provider's rate limit is reached")
            .retry(hint)
            .limit_source("upstream"),
        400..=499 => quoting(Code::InvalidRequest, "the provider refused the request"),
        _ => Error::new(Code::UpstreamError, format!("the provider answered with {status}")).retry(hint),
    };
    let e = e.upstream_status(status);
    match text("param") {
        "" => e,
        param => e.param(param),
    }
}

fn is_context_length(code: &str, said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    code == "context_length_exceeded"
        || [
            "maximum context length",
            "prompt is too long",
            "context window",
            "context size",
            "too many tokens",
        ]
        .iter()
        .any(|s| said.contains(s))
}

fn is_content_filter(code: &str, kind: &str, said: &str) -> bool {
    [code, kind].iter().any(|s| matches!(*s, "content_filter" | "content_policy_violation"))
        || [
            "content management policy",
            "content filtering policy",
            "violating our usage policy",
            "rejected as a result of our safety system",
            "rejected as a result of the safety system",
        ]
        .iter()
        .any(|s| said.to_ascii_lowercase().contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_map_to_codes_and_hints() {
        let after = |s| RetryHint::After(Duration::from_secs(s));
        let table: &[(u16, Option<&str>, &str, Code, RetryHint)] = &[
            (
                400,
                None,
                r#"{"error":{"message":"bad","param":"top_p"}}"#,
                Code::InvalidRequest,
                RetryHint::No,
            ),
            (
                400,
                None,
                r#"{"error":{"code":"context_length_exceeded"}}"#,
                Code::ContextLengthExceeded,
                RetryHint::No,
            ),
            (
                400,
                None,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}"#,
                Code::ContextLengthExceeded,
                RetryHint::No,
            ),
            (400, None, r#"{"error":{"code":"content_filter"}}"#, Code::ContentFiltered, RetryHint::No),
            (
                400,
                None,
                r#"{"error":{"code":"invalid_prompt","message":"Invalid prompt: your prompt was flagged as potentially violating our usage policy."}}"#,
                Code::ContentFiltered,
                RetryHint::No,
            ),
            (
                400,
                None,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#,
                Code::ContentFiltered,
                RetryHint::No,
            ),
            (
                401,
                None,
                r#"{"error":{"message":"bad key sk-1"}}"#,
                Code::UpstreamCredentials,
                RetryHint::Elsewhere,
            ),
            (404, None, "", Code::NotFound, RetryHint::No),
            (422, None, "{}", Code::InvalidRequest, RetryHint::No),
            (429, Some("2"), "{}", Code::RateLimited, after(2)),
            (
                429,
                None,
                r#"{"error":{"code":"insufficient_quota"}}"#,
                Code::UpstreamCredentials,
                RetryHint::Elsewhere,
            ),
            (500, None, "<html>", Code::UpstreamError, RetryHint::Elsewhere),
            (503, Some("1"), "", Code::UpstreamError, after(1)),
            (503, Some("-1"), "", Code::UpstreamError, RetryHint::Elsewhere),
        ];
        for (status, retry, body, code, hint) in table {
            let e = from_response(*status, *retry, body.as_bytes());
            assert_eq!(
                (e.code, e.retry, e.upstream_status),
                (*code, *hint, Some(*status)),
                "{status} {body}"
            );
            assert!(!e.message.contains("sk-1"));
        }
        let e = from_response(400, None, br#"{"error":{"message":"what is: my secret","param":"n"}}"#);
        assert_eq!(e.param.as_deref(), Some("n"));
        assert!(e.told().ends_with("my secret") && !e.message.contains("my secret"));
    }
}
