//! Errors as MLflow's clients read them: `{"error_code", "message"}`, and the status that goes with each code. One table.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use contract::{Code, Error};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use store::tracking::{Refused, Why};

use crate::errors::Failure;

/// A request that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    code: &'static str,
    message: String,
    /// In seconds.
    retry_after: Option<u64>,
}

/// Codes and their statuses.
const STATUSES: [(&str, StatusCode); 13] = [
    ("INVALID_PARAMETER_VALUE", StatusCode::BAD_REQUEST),
    ("RESOURCE_ALREADY_EXISTS", StatusCode::BAD_REQUEST),
    ("BAD_REQUEST", StatusCode::BAD_REQUEST),
    ("UNAUTHENTICATED", StatusCode::UNAUTHORIZED),
    ("PERMISSION_DENIED", StatusCode::FORBIDDEN),
    ("RESOURCE_DOES_NOT_EXIST", StatusCode::NOT_FOUND),
    ("ENDPOINT_NOT_FOUND", StatusCode::NOT_FOUND),
    ("DEADLINE_EXCEEDED", StatusCode::REQUEST_TIMEOUT),
    ("RESOURCE_EXHAUSTED", StatusCode::TOO_MANY_REQUESTS),
    ("INVALID_STATE", StatusCode::INTERNAL_SERVER_ERROR),
    ("INTERNAL_ERROR", StatusCode::INTERNAL_SERVER_ERROR),
    ("NOT_IMPLEMENTED", StatusCode::NOT_IMPLEMENTED),
    ("TEMPORARILY_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
];

impl Failed {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Failed { code, message: message.into(), retry_after: None }
    }

    /// There is nothing at that address.
    pub(super) fn no_endpoint(method: &Method, path: &str) -> Self {
        Failed::new("ENDPOINT_NOT_FOUND", format!("There is no endpoint {method} {path} on this server."))
    }

    /// A defect.
    pub(super) fn internal(e: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %e, "a request of tracking failed");
        Failed::new("INTERNAL_ERROR", "Internal error")
    }

    /// It is not for whoever asks.
    pub(super) fn denied(message: impl Into<String>) -> Self {
        Failed::new("PERMISSION_DENIED", message)
    }

    /// It is not done here.
    pub(super) fn unsupported(message: &str) -> Self {
        Failed::new("NOT_IMPLEMENTED", message)
    }

    /// The request is none.
    pub(super) fn bad_request(message: &str) -> Self {
        Failed::new("BAD_REQUEST", message)
    }

    /// Something in the request is wrong.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Refused::invalid(message).into()
    }

    pub(super) fn status(&self) -> StatusCode {
        let found = STATUSES.iter().find(|(code, _)| *code == self.code);
        found.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
    }
}

impl From<Refused> for Failed {
    fn from(r: Refused) -> Self {
        let code = match r.why {
            Why::Invalid => "INVALID_PARAMETER_VALUE",
            Why::Missing => "RESOURCE_DOES_NOT_EXIST",
            Why::Exists => "RESOURCE_ALREADY_EXISTS",
            Why::State => "INVALID_STATE",
            Why::Internal => "INTERNAL_ERROR",
        };
        Failed::new(code, r.message)
    }
}

impl From<store::Error> for Failed {
    fn from(e: store::Error) -> Self {
        match e {
            store::Error::Refused(r) => r.into(),
            other => {
                tracing::error!(error = %other, "failed to read or write what is tracked");
                let mut failed = Failed::new("TEMPORARILY_UNAVAILABLE", "The storage is not available now");
                failed.retry_after = Some(1);
                failed
            }
        }
    }
}

impl From<::models::Error> for Failed {
    fn from(e: ::models::Error) -> Self {
        match e {
            ::models::Error::Refused(r) => r.into(),
            ::models::Error::Store(e) => e.into(),
            other => {
                tracing::error!(error = %other, "failed to keep or read an artifact");
                Failed::new("INTERNAL_ERROR", "The artifact cannot be kept or read now")
            }
        }
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        let code = match e.code {
            Code::InvalidKey => "UNAUTHENTICATED",
            Code::Forbidden => "PERMISSION_DENIED",
            Code::NotFound => "RESOURCE_DOES_NOT_EXIST",
            Code::Draining | Code::StorageUnavailable => "TEMPORARILY_UNAVAILABLE",
            Code::Overloaded | Code::RateLimited => "RESOURCE_EXHAUSTED",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::InvalidRequest | Code::TooLarge => "INVALID_PARAMETER_VALUE",
            _ => "INTERNAL_ERROR",
        };
        let retry_after = matches!(code, "TEMPORARILY_UNAVAILABLE" | "RESOURCE_EXHAUSTED").then_some(1);
        Failed { retry_after, ..Failed::new(code, e.message) }
    }
}

impl From<Box<Failure>> for Failed {
    fn from(failure: Box<Failure>) -> Self {
        Error::from(failure).into()
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let body = json!({"error_code": self.code, "message": self.message});
        let mut r = Response::new(Body::from(body.to_string()));
        *r.status_mut() = self.status();
        r.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            r.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        r
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_tracking_has_its_code_and_status() {
        let of = |failed: Failed| (failed.code, failed.status().as_u16());
        let refused = |why| Failed::from(Refused { why, message: String::new() });
        let error = |code| Failed::from(Error::new(code, "x"));
        for (failed, code, status) in [
            (refused(Why::Invalid), "INVALID_PARAMETER_VALUE", 400),
            (refused(Why::Missing), "RESOURCE_DOES_NOT_EXIST", 404),
            (refused(Why::Exists), "RESOURCE_ALREADY_EXISTS", 400),
            (refused(Why::State), "INVALID_STATE", 500),
            (refused(Why::Internal), "INTERNAL_ERROR", 500),
            (store::Error::Contended.into(), "TEMPORARILY_UNAVAILABLE", 503),
            (Failed::no_endpoint(&Method::GET, "/x"), "ENDPOINT_NOT_FOUND", 404),
            (Failed::unsupported("x"), "NOT_IMPLEMENTED", 501),
            (Failed::bad_request("x"), "BAD_REQUEST", 400),
            (error(Code::InvalidKey), "UNAUTHENTICATED", 401),
            (error(Code::Forbidden), "PERMISSION_DENIED", 403),
            (error(Code::Draining), "TEMPORARILY_UNAVAILABLE", 503),
            (error(Code::TooLarge), "INVALID_PARAMETER_VALUE", 400),
            (error(Code::RateLimited), "RESOURCE_EXHAUSTED", 429),
            (error(Code::DeadlineExceeded), "DEADLINE_EXCEEDED", 408),
            (error(Code::Internal), "INTERNAL_ERROR", 500),
        ] {
            assert_eq!(of(failed), (code, status));
        }
    }
}
