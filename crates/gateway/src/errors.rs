//! The only place that knows status codes: one table from error codes to statuses and to each surface's body.

use axum::response::Response;
use bytes::BytesMut;
use contract::{Code, Error, RetryHint, Surface};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

/// The status of an error before the first byte.
pub(crate) fn status(e: &Error) -> StatusCode {
    let number = match e.code {
        Code::InvalidRequest | Code::InvalidDocument | Code::ContextLengthExceeded => 400,
        Code::InvalidKey => 401,
        // Reservations in flight hold it: it may come back. A spent period does not.
        Code::BudgetExhausted if matches!(e.retry, RetryHint::After(d) if d.as_secs() < 300) => 402,
        Code::BudgetExhausted | Code::Forbidden | Code::ContentFiltered => 403,
        Code::NotFound => 404,
        Code::TooLarge => 413,
        Code::RateLimited | Code::Overloaded => 429,
        Code::Cancelled => 499,
        Code::UpstreamError
        | Code::UpstreamUnreachable
        | Code::UpstreamTruncated
        | Code::UpstreamCredentials
        | Code::WorkerCrashed
        | Code::PartFailed => 502,
        Code::Draining | Code::StorageUnavailable => 503,
        Code::DeadlineExceeded | Code::UpstreamTimeout => 504,
        _ => 500,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The `type` of OpenAI's error body, which its SDKs turn into exception classes together with the status.
fn openai_type(e: &Error) -> &'static str {
    match status(e).as_u16() {
        401 => "authentication_error",
        402 | 403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// The whole answer of a request that failed before its first byte.
pub(crate) fn response(surface: Surface, e: &Error) -> Response {
    let mut body = BytesMut::new();
    match surface {
        Surface::Anthropic => llm::surface::anthropic::render_error(&mut body, anthropic_type(e), e),
        _ => llm::surface::openai::render_error(&mut body, openai_type(e), e),
    }
    let mut response = Response::new(axum::body::Body::from(body.freeze()));
    *response.status_mut() = status(e);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let RetryHint::After(d) = e.retry {
        // Whole seconds, rounded up: coming back early would be refused again.
        headers.insert(RETRY_AFTER, HeaderValue::from(d.as_secs() + u64::from(d.subsec_nanos() > 0)));
        let ms = u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        headers.insert("retry-after-ms", HeaderValue::from(ms));
    }
    if let Some(Ok(source)) = e.limit_source.as_deref().map(HeaderValue::from_str) {
        headers.insert("forebay-limit-source", source);
    }
    response
}

/// Anthropic's error type.
pub(crate) fn anthropic_type(e: &Error) -> &'static str {
    llm::surface::anthropic::error_type(e.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_code_has_a_status_of_its_class() {
        use contract::Class;
        for code in Code::ALL {
            let s = status(&Error::new(*code, "x")).as_u16();
            let fits = match code.class() {
                Class::Invalid => (400..=413).contains(&s),
                Class::Denied => (401..=403).contains(&s),
                Class::Overloaded => s == 429 || s == 503,
                Class::Deadline => s == 499 || s == 504,
                Class::Upstream => s == 502 || s == 504,
                Class::Internal => s == 500 || s == 503,
            };
            assert!(fits, "{code} is {s}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds_and_given_in_milliseconds_too() {
        let e =
            Error::new(Code::RateLimited, "slow down").retry(RetryHint::After(Duration::from_millis(1_200)));
        let r = response(Surface::Openai, &e);
        assert_eq!(r.status(), 429);
        assert_eq!(r.headers()[RETRY_AFTER], "2");
        assert_eq!(r.headers()["retry-after-ms"], "1200");
    }
}
