//! The only place that knows status codes: one table from error codes to statuses and to each surface's body.

use std::sync::Arc;

use admission::{Cause, Refusal};
use axum::response::Response;
use bytes::BytesMut;
use contract::{Code, Error, PipelineName, RequestId, RetryHint, Surface, UnixMillis};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::app::App;
use crate::headers::{self, Rates};
use crate::inside;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const LIMIT_SOURCE: HeaderName = HeaderName::from_static("forebay-limit-source");

/// A request that ends before its first byte, with what its answer says beside the error itself.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// The id in the answer.
    pub(crate) request: Option<RequestId>,
    /// The caller's rates, once they are known.
    pub(crate) rates: Option<Rates>,
    budget: Option<Budget>,
    http: Option<Http>,
    /// It would rather be a job of this pipeline.
    job: Option<PipelineName>,
}

/// Rides with an answer whose request would rather be a job; the error is what is said when it cannot be.
#[derive(Debug, Clone)]
pub(crate) struct RatherAJob {
    pub(crate) pipeline: PipelineName,
    pub(crate) refusal: Error,
}

/// What HTTP has a status of its own for, whatever the code's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Http {
    /// The request itself came too slowly.
    SlowBody,
    /// The address is there, but not for this method.
    WrongMethod,
}

/// The budget that said no.
#[derive(Debug)]
struct Budget {
    /// Requests in flight hold the rest, and may give it back soon.
    in_flight: bool,
    facts: Vec<(&'static str, Json)>,
}

impl From<Error> for Box<Failure> {
    fn from(error: Error) -> Self {
        Box::new(Failure { error, request: None, rates: None, budget: None, http: None, job: None })
    }
}

impl From<&Error> for Box<Failure> {
    fn from(error: &Error) -> Self {
        error.clone().into()
    }
}

impl From<Box<Failure>> for Error {
    fn from(failure: Box<Failure>) -> Self {
        failure.error
    }
}

impl Failure {
    /// What admission said at `at`.
    pub(crate) fn refused(refusal: Refusal, at: UnixMillis) -> Box<Failure> {
        let (windows, budget) = (refusal.headers, Budget::of(&refusal.cause));
        let rates = Some(Rates { windows, at });
        Box::new(Failure { error: refusal.into(), request: None, rates, budget, http: None, job: None })
    }

    /// The body stood still or trickled.
    pub(crate) fn slow_body() -> Box<Failure> {
        let m = "the body arrived too slowly and was given up";
        let mut failure = Box::<Failure>::from(Error::new(Code::DeadlineExceeded, m));
        failure.http = Some(Http::SlowBody);
        failure
    }

    /// The pipeline would do all of it as a job; refused with this where it cannot be one.
    pub(crate) fn job(error: Error, pipeline: PipelineName) -> Box<Failure> {
        let mut failure = Box::<Failure>::from(error);
        failure.job = Some(pipeline);
        failure
    }

    /// An address that is asked the wrong way.
    pub(crate) fn wrong_method(method: &Method, path: &str) -> Box<Failure> {
        let m = format!("{method} is not for {path}");
        let mut failure = Box::<Failure>::from(Error::new(Code::InvalidRequest, m));
        failure.http = Some(Http::WrongMethod);
        failure
    }

    fn status(&self) -> StatusCode {
        match (&self.budget, self.http) {
            // Reservations in flight hold it: it may come back. A spent period does not.
            (Some(b), _) if b.in_flight => StatusCode::PAYMENT_REQUIRED,
            (_, Some(Http::SlowBody)) => StatusCode::REQUEST_TIMEOUT,
            (_, Some(Http::WrongMethod)) => StatusCode::METHOD_NOT_ALLOWED,
            _ => status(&self.error),
        }
    }
}

impl Budget {
    fn of(cause: &Cause) -> Option<Budget> {
        let (in_flight, resets_at, mut facts) = match cause {
            Cause::TokenBudget { limit, spent, resets_at, in_flight, .. } => {
                (*in_flight, resets_at, vec![("limit_tokens", json!(limit)), ("spend_tokens", json!(spent))])
            }
            Cause::MoneyBudget { limit, spent, resets_at, in_flight, .. } => {
                let facts = vec![("limit_usd", json!(limit.as_usd())), ("spend_usd", json!(spent.as_usd()))];
                (*in_flight, resets_at, facts)
            }
            _ => return None,
        };
        facts.push(("resets_at", resets_at.map_or(Json::Null, |at| at.rfc3339().into())));
        Some(Budget { in_flight, facts })
    }
}

/// The status of an error before the first byte.
pub(crate) fn status(e: &Error) -> StatusCode {
    let number = match (e.code, e.upstream_status) {
        // What the provider finds wrong with the request keeps its own status where clients have a class for it.
        (Code::InvalidRequest, Some(same @ (409 | 422))) => same,
        (Code::InvalidRequest | Code::InvalidDocument | Code::ContextLengthExceeded, _) => 400,
        (Code::ExpectationsFailed, _) => 422,
        (Code::InvalidKey, _) => 401,
        (Code::BudgetExhausted | Code::Forbidden | Code::ContentFiltered, _) => 403,
        (Code::NotApproved | Code::GateRefused, _) => 403,
        (Code::NotFound, _) => 404,
        // As draft-ietf-httpapi-idempotency-key-header has it.
        (Code::IdempotencyKeyReused, _) => 422,
        (Code::NotResumable, _) => 410,
        (Code::TooLarge, _) => 413,
        // Our own limits and the provider's: `limit_source` says whose.
        (Code::RateLimited | Code::Overloaded, _) => 429,
        (Code::Cancelled, _) => 499,
        // Every endpoint of the model was asked, and none can answer now: nothing is wrong with what was said.
        (Code::UpstreamUnreachable, _) | (Code::UpstreamError, Some(503 | 529)) => 503,
        (Code::UpstreamError | Code::UpstreamTruncated | Code::UpstreamCredentials, _) => 502,
        (Code::WorkerCrashed | Code::PartFailed | Code::CommandFailed, _) => 502,
        (Code::Draining | Code::StorageUnavailable, _) => 503,
        (Code::DeadlineExceeded | Code::UpstreamTimeout, _) => 504,
        _ => 500,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The `type` of OpenAI's error body, which its SDKs turn into exception classes together with the status.
fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 | 403 => "permission_error",
        404 => "not_found_error",
        // Our patience ended, as with any deadline.
        408 => "server_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Anthropic's error type.
pub(crate) fn anthropic_type(e: &Error) -> &'static str {
    llm::surface::anthropic::error_type(e)
}

/// The answer of a request that failed before its first byte, with an id: it gets one here if it has none.
pub(crate) fn answer(app: &App, surface: Surface, failure: impl Into<Box<Failure>>) -> Response {
    let mut failure = failure.into();
    failure.request.get_or_insert_with(|| app.request_id());
    response(surface, failure)
}

/// The same with the id that it has, if any.
pub(crate) fn response(surface: Surface, failure: impl Into<Box<Failure>>) -> Response {
    let failure = failure.into();
    let (e, status) = (&failure.error, failure.status());
    let facts = failure.budget.as_ref().map_or(&[][..], |b| &b.facts);
    let mut body = BytesMut::with_capacity(256);
    match surface {
        Surface::Anthropic => {
            let kind = match status {
                StatusCode::PAYMENT_REQUIRED => "billing_error",
                _ => anthropic_type(e),
            };
            let id = failure.request.map(|id| id.to_string());
            llm::surface::anthropic::render_error(&mut body, kind, e, facts, id.as_deref());
        }
        Surface::Inference => {
            body.extend_from_slice(json!({"error": e.told()}).to_string().as_bytes());
        }
        _ => llm::surface::openai::render_error(&mut body, openai_type(status), e, facts),
    }
    let mut response = Response::new(axum::body::Body::from(body.freeze()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(headers::MANY);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match e.retry {
        RetryHint::After(d) => {
            // Whole seconds, rounded up: coming back early would be refused again.
            headers.insert(RETRY_AFTER, HeaderValue::from(d.as_secs() + u64::from(d.subsec_nanos() > 0)));
            let ms = u64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
        }
        // The request alone is larger than the limit. Clients try a 429 again unless they are told.
        RetryHint::No if matches!(e.code, Code::RateLimited | Code::Overloaded) => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        RetryHint::No | RetryHint::Elsewhere => {}
    }
    if let Some(Ok(source)) = e.limit_source.as_deref().map(HeaderValue::from_str) {
        headers.insert(LIMIT_SOURCE, source);
    }
    if let Some(rates) = &failure.rates {
        rates.put(surface, headers);
    }
    if let Some(id) = failure.request {
        headers::request_id(id, surface, headers);
    }
    if let Some(pipeline) = failure.job {
        let refusal = failure.error.clone();
        response.extensions_mut().insert(RatherAJob { pipeline, refusal });
    }
    if inside::is_behalf() {
        response.extensions_mut().insert(Said(Arc::new(failure.error)));
    }
    response
}

/// The error that an answer tells, for whoever makes the call on somebody's behalf.
#[derive(Debug, Clone)]
pub(crate) struct Said(pub(crate) Arc<Error>);

#[cfg(test)]
mod tests {
    use super::*;
    use admission::{Period, RateHeaders, Scope, Window};
    use contract::Money;
    use std::time::Duration;

    #[test]
    fn every_code_has_a_status_of_its_class() {
        use contract::Class;
        for code in Code::ALL {
            let s = status(&Error::new(*code, "x")).as_u16();
            let fits = match code.class() {
                Class::Invalid => (400..=422).contains(&s),
                Class::Denied => (401..=403).contains(&s),
                Class::Overloaded => s == 429 || s == 503,
                Class::Deadline => s == 499 || s == 504,
                Class::Upstream => (502..=504).contains(&s),
                Class::Internal => s == 500 || s == 503,
            };
            assert!(fits, "{code} is {s}");
        }
    }

    #[test]
    fn the_table_of_statuses_and_types() {
        let of = |code, upstream: Option<u16>| {
            let e = Error::new(code, "x");
            match upstream {
                Some(s) => e.upstream_status(s),
                None => e,
            }
        };
        for (code, upstream, wanted, openai, anthropic) in [
            (Code::InvalidRequest, None, 400, "invalid_request_error", "invalid_request_error"),
            (Code::InvalidRequest, Some(400), 400, "invalid_request_error", "invalid_request_error"),
            (Code::InvalidRequest, Some(409), 409, "invalid_request_error", "invalid_request_error"),
            (Code::InvalidRequest, Some(422), 422, "invalid_request_error", "invalid_request_error"),
            (Code::InvalidDocument, None, 400, "invalid_request_error", "invalid_request_error"),
            (Code::ContextLengthExceeded, Some(400), 400, "invalid_request_error", "invalid_request_error"),
            (Code::InvalidKey, None, 401, "authentication_error", "authentication_error"),
            (Code::Forbidden, None, 403, "permission_error", "permission_error"),
            (Code::BudgetExhausted, None, 403, "permission_error", "permission_error"),
            (Code::ContentFiltered, Some(400), 403, "permission_error", "permission_error"),
            (Code::NotFound, None, 404, "not_found_error", "not_found_error"),
            (Code::TooLarge, None, 413, "invalid_request_error", "request_too_large"),
            (Code::IdempotencyKeyReused, None, 422, "invalid_request_error", "invalid_request_error"),
            (Code::NotResumable, None, 410, "invalid_request_error", "invalid_request_error"),
            (Code::RateLimited, None, 429, "rate_limit_error", "rate_limit_error"),
            (Code::RateLimited, Some(429), 429, "rate_limit_error", "rate_limit_error"),
            (Code::Overloaded, None, 429, "rate_limit_error", "overloaded_error"),
            (Code::Cancelled, None, 499, "invalid_request_error", "api_error"),
            (Code::Internal, None, 500, "server_error", "api_error"),
            (Code::UpstreamError, Some(500), 502, "server_error", "api_error"),
            (Code::UpstreamError, None, 502, "server_error", "api_error"),
            (Code::UpstreamTruncated, None, 502, "server_error", "api_error"),
            (Code::UpstreamCredentials, Some(401), 502, "server_error", "api_error"),
            (Code::WorkerCrashed, None, 502, "server_error", "api_error"),
            (Code::PartFailed, None, 502, "server_error", "api_error"),
            (Code::CommandFailed, None, 502, "server_error", "api_error"),
            (Code::NotApproved, None, 403, "permission_error", "permission_error"),
            (Code::GateRefused, None, 403, "permission_error", "permission_error"),
            (Code::ExpectationsFailed, None, 422, "invalid_request_error", "invalid_request_error"),
            (Code::UpstreamError, Some(503), 503, "server_error", "overloaded_error"),
            (Code::UpstreamError, Some(529), 503, "server_error", "overloaded_error"),
            (Code::UpstreamUnreachable, None, 503, "server_error", "api_error"),
            (Code::Draining, None, 503, "server_error", "overloaded_error"),
            (Code::StorageUnavailable, None, 503, "server_error", "api_error"),
            (Code::DeadlineExceeded, None, 504, "server_error", "timeout_error"),
            (Code::UpstreamTimeout, Some(408), 504, "server_error", "timeout_error"),
        ] {
            let e = of(code, upstream);
            let s = status(&e);
            assert_eq!(
                (s.as_u16(), openai_type(s), anthropic_type(&e)),
                (wanted, openai, anthropic),
                "{code} {upstream:?}"
            );
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
        assert!(!r.headers().contains_key("x-should-retry"));
        let never = response(Surface::Openai, Error::new(Code::RateLimited, "too large for the limit"));
        assert_eq!(never.headers()["x-should-retry"], "false");
    }

    #[test]
    fn what_http_has_a_status_for_keeps_its_surface_s_shape() {
        for (failure, wanted, openai, anthropic) in [
            (Failure::slow_body as fn() -> Box<Failure>, 408, "server_error", "timeout_error"),
            (
                || Failure::wrong_method(&Method::PUT, "/x"),
                405,
                "invalid_request_error",
                "invalid_request_error",
            ),
        ] {
            let status = failure().status();
            assert_eq!((status.as_u16(), openai_type(status)), (wanted, openai));
            assert_eq!(anthropic_type(&failure().error), anthropic);
            assert_eq!(response(Surface::Openai, failure()).status(), status);
        }
    }

    fn budget(in_flight: bool) -> Box<Failure> {
        let (limit, spent) = (Money::from_nanos(2_000_000_000), Money::from_nanos(1_500_000_000));
        let resets_at = Some(UnixMillis(86_400_000));
        let cause = Cause::MoneyBudget { period: Period::Day, limit, spent, resets_at, in_flight };
        let window = Window { limit: 9, remaining: 4, reset: Duration::from_secs(1) };
        let refusal = Refusal {
            cause,
            scope: Scope::Tenant("gold".into()),
            retry: RetryHint::After(Duration::from_secs(1)),
            headers: RateHeaders { requests: Some(window), tokens: None },
        };
        Failure::refused(refusal, UnixMillis(0))
    }

    async fn json(r: Response) -> Json {
        serde_json::from_slice(&axum::body::to_bytes(r.into_body(), 1 << 16).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_spent_period_names_its_limit_what_is_spent_and_when_it_ends() {
        let r = response(Surface::Openai, budget(false));
        assert_eq!(
            (r.status().as_u16(), &r.headers()["x-ratelimit-remaining-requests"]),
            (403, &"4".parse().unwrap())
        );
        let body = json(r).await;
        let error = &body["error"];
        assert_eq!((&error["limit_usd"], &error["spend_usd"]), (&json!(2.0), &json!(1.5)));
        assert_eq!(
            (&error["resets_at"], &error["limit_source"]),
            (&json!("1970-01-02T00:00:00Z"), &json!("tenant:gold"))
        );

        let r = response(Surface::Anthropic, budget(false));
        assert_eq!(r.headers()["anthropic-ratelimit-requests-remaining"], "4");
        let body = json(r).await;
        assert_eq!(
            (&body["error"]["type"], &body["error"]["limit_usd"]),
            (&json!("permission_error"), &json!(2.0))
        );
        assert_eq!(body["error"]["limit_source"], "tenant:gold");
    }

    #[tokio::test]
    async fn a_budget_held_by_requests_in_flight_is_402_and_worth_another_try() {
        for (surface, kind) in [(Surface::Openai, "permission_error"), (Surface::Anthropic, "billing_error")]
        {
            let r = response(surface, budget(true));
            assert_eq!((r.status().as_u16(), &r.headers()[RETRY_AFTER]), (402, &HeaderValue::from(1)));
            assert_eq!(json(r).await["error"]["type"], kind);
        }
    }
}
