//! `Prefer: respond-async`: the request becomes a job, and the answer is 202.

use axum::response::Response;
use bytes::Bytes;
use contract::{Code, Error, RunId};
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use store::Submitted;

use super::{Job, Jobs};
use crate::app::App;
use crate::auth::Caller;
use crate::errors::{self, Failure, RatherAJob};
use crate::headers::DEGRADED;
use crate::intake::surface;
use crate::{drain, headers, inside, ladder, replay, router};

/// Routes whose calls can be jobs, besides pipelines.
const ROUTES: &[&str] = &["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"];
/// The longest address of a webhook, in bytes.
const MAX_URL: usize = 2_048;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const WEBHOOK: HeaderName = HeaderName::from_static("forebay-webhook");

/// Whether a request is to be answered later. Somewhere else, or where no jobs are kept, the preference is not applied.
pub(crate) fn is_wanted(app: &App, parts: &Parts) -> bool {
    parts.method == Method::POST
        && parts.headers.contains_key(PREFER)
        && app.jobs().is_some()
        && prefers_async(&parts.headers)
        && can_be_a_job(app, parts.uri.path())
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|v| v.to_str().ok());
    let words =
        values.flat_map(|v| v.split(',')).map(|p| p.split(['=', ';']).next().unwrap_or_default().trim());
    words.into_iter().any(|w| w.eq_ignore_ascii_case("respond-async"))
}

fn can_be_a_job(app: &App, path: &str) -> bool {
    let named =
        path.strip_prefix("/v1/pipelines/").is_some_and(|name| !name.is_empty() && !name.contains('/'));
    let own = || app.generation.paths().any(|(_, own)| own == path);
    named || ROUTES.contains(&path) || own()
}

/// Whether a call of this pipeline may turn out to be a job although nobody asked for one.
pub(crate) fn is_possible(app: &App, parts: &Parts) -> bool {
    app.generation.defers
        && parts.method == Method::POST
        && inside::priority().is_none()
        && app.jobs().is_some()
        && can_be_a_job(app, parts.uri.path())
}

/// Stores a request whose pipeline is busy, and answers 202; `busy`, its refusal, where that cannot be.
pub(crate) async fn submit_instead(
    app: &App,
    caller: Caller,
    parts: Parts,
    body: Bytes,
    busy: Response,
) -> Response {
    let Some(RatherAJob { pipeline, refusal }) = busy.extensions().get().cloned() else { return busy };
    let surface = surface(parts.uri.path());
    let tenant = caller.tenant.clone();
    let made = accept(app, caller, parts, body, true).await;
    ladder::became(app, &tenant, &pipeline, made.is_ok(), &refusal);
    match made {
        Ok(mut response) => {
            // Nobody preferred this.
            response.headers_mut().remove(PREFERENCE_APPLIED);
            response.headers_mut().insert(DEGRADED, HeaderValue::from_static(ladder::JOB));
            response
        }
        // Asked again, these would be wrong again.
        Err(failure) if is_about_headers(&failure.error) => errors::answer(app, surface, failure),
        Err(_) => busy,
    }
}

/// Whether an error is about what a request says of its job by headers.
fn is_about_headers(e: &Error) -> bool {
    [WEBHOOK.as_str(), "idempotency-key"].contains(&e.param.as_deref().unwrap_or_default())
}

/// Stores the request and answers 202, or says what is wrong with it.
pub(crate) async fn submit(app: &App, caller: Caller, parts: Parts, body: Bytes) -> Response {
    let surface = surface(parts.uri.path());
    match accept(app, caller, parts, body, false).await {
        Ok(response) => response,
        Err(failure) => errors::answer(app, surface, failure),
    }
}

async fn accept(
    app: &App,
    caller: Caller,
    parts: Parts,
    body: Bytes,
    busy: bool,
) -> Result<Response, Box<Failure>> {
    if app.is_draining() {
        return Err(drain::refusal().into());
    }
    let jobs = app.jobs().ok_or_else(|| Error::new(Code::Internal, "no jobs are kept here"))?;
    check(app, &parts, &body)?;
    let path = parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string);
    let mut headers = kept(&parts.headers);
    if busy {
        // Its record says why it was one.
        headers.insert(DEGRADED, HeaderValue::from_static(ladder::JOB));
    }
    let job = Job { headers, ..Job::json(caller.tenant.clone(), caller.key, path, body) };
    let id = store(app, &parts.headers, job).await?;
    let mut response =
        super::routes::written(StatusCode::ACCEPTED, jobs.show(id, Some(&caller.tenant)).await?);
    let out = response.headers_mut();
    out.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{id}")) {
        out.insert(LOCATION, location);
    }
    headers::request_id(id.request(), surface(parts.uri.path()), out);
    Ok(response)
}

/// Keeps a job with what the headers of its request say of it, or finds the one that it was before. Its id.
pub(super) async fn store(app: &App, headers: &HeaderMap, job: Job) -> Result<RunId, Box<Failure>> {
    let jobs = app.jobs().ok_or_else(|| Error::new(Code::Internal, "no jobs are kept here"))?;
    let (webhook, idempotency_key) = (jobs.webhook(headers)?, replay::key(headers)?);
    let job = Job { webhook, idempotency_key, ..job };
    let made = jobs.submit(vec![(RunId::of(app.request_id()), job)]).await?;
    match made.first() {
        Some((id, Submitted::New)) => Ok(*id),
        Some((_, Submitted::Known(id))) => Ok(*id),
        Some((_, Submitted::Other)) | None => Err(replay::reused().into()),
    }
}

/// The text of a header, if there is one.
fn text(headers: &HeaderMap, name: &HeaderName, most: usize) -> Result<Option<String>, Error> {
    match headers.get(name) {
        None => Ok(None),
        Some(v) => match v.to_str() {
            Ok(t) if !t.is_empty() && t.len() <= most => Ok(Some(t.to_owned())),
            _ => {
                let m = format!("`{name}` must be text of 1 to {most} characters");
                Err(Error::new(Code::InvalidRequest, m).param(name.as_str()))
            }
        },
    }
}

impl Jobs {
    /// Who is told about what a request leaves to be done: whom it names, else whom the settings name.
    pub(crate) fn webhook(&self, headers: &HeaderMap) -> Result<Option<String>, Error> {
        let webhook = text(headers, &WEBHOOK, MAX_URL)?.or_else(|| self.inner.settings.webhook.clone());
        if let (Some(url), Some(deliver)) = (&webhook, &self.inner.deliver) {
            deliver.check(url).map_err(|why| {
                Error::new(Code::InvalidRequest, format!("the webhook cannot be called: {why}"))
                    .param(WEBHOOK.as_str())
            })?;
        }
        Ok(webhook)
    }
}

/// The headers that decide the answer. Who calls is stored apart; what speaks of this connection or of how the answer is read
/// (`forebay-resume`, `accept`, a proxy's words) means nothing to a job.
pub(super) fn kept(headers: &HeaderMap) -> HeaderMap {
    const KEPT: [&str; 5] =
        ["content-type", "cache-control", "forebay-mid-stream", "anthropic-version", "anthropic-beta"];
    let kept = |name: &HeaderName| KEPT.contains(&name.as_str());
    headers.iter().filter(|(n, _)| kept(n)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// What can be said of a request at once: better now than by a failed job.
fn check(app: &App, parts: &Parts, body: &Bytes) -> Result<(), Error> {
    let path = parts.uri.path();
    let call = match path {
        "/v1/chat/completions" => Some(llm::surface::openai::parse(body)?),
        "/v1/messages" => Some(llm::surface::anthropic::parse(body)?),
        "/v1/completions" => Some(llm::surface::completions::parse(body)?),
        "/v1/responses" => Some(llm::surface::responses::parse(body)?.0),
        _ => None,
    };
    if let Some(call) = &call {
        router::target(app, &call.model)?;
    }
    if let Some(name) = path.strip_prefix("/v1/pipelines/") {
        app.pipeline(name).ok_or_else(crate::native::unknown)?;
    }
    #[derive(Deserialize)]
    struct Streams {
        stream: Option<bool>,
    }
    let json =
        parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("json"));
    if json && call.is_none() {
        llm::surface::bounded(body)?;
        if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
            return Err(Error::new(Code::InvalidRequest, "the body is not JSON"));
        }
    }
    let in_body = || serde_json::from_slice::<Streams>(body).is_ok_and(|s| s.stream == Some(true));
    let in_query = parts.uri.query().is_some_and(|q| q.split('&').any(|p| p == "stream=true"));
    if in_query || ((json || call.is_some()) && in_body()) {
        return Err(streams());
    }
    // A pipeline answers by a stream who accepts one; the other routes look at the body alone.
    let accepts = |v: &HeaderValue| v.to_str().is_ok_and(|v| v.contains("text/event-stream"));
    if call.is_none() && parts.headers.get(ACCEPT).is_some_and(accepts) {
        let m = "a job has no stream: accept `application/json`, or leave out the preference to be answered later";
        return Err(Error::new(Code::InvalidRequest, m).param(ACCEPT.as_str()));
    }
    Ok(())
}

pub(super) fn streams() -> Error {
    let m = "a job has no stream: leave out `stream`, or the preference to be answered later";
    Error::new(Code::InvalidRequest, m).param("stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_found_among_others_and_in_any_case() {
        let prefers = |values: &[&'static str]| {
            let all = values.iter().map(|v| (PREFER, HeaderValue::from_static(v)));
            let mut headers = HeaderMap::new();
            all.for_each(|(n, v)| _ = headers.append(n, v));
            prefers_async(&headers)
        };
        assert!(
            prefers(&["respond-async"])
                && prefers(&["wait=10, Respond-Async"])
                && prefers(&["a", "respond-async; x"])
        );
        assert!(!prefers(&["respond-asynchronously"]) && !prefers(&["return=minimal"]) && !prefers(&[]));
    }

    #[test]
    fn nothing_that_says_who_calls_is_stored_with_the_request() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer fbk_secret"),
            ("x-api-key", "fbk_secret"),
            ("cookie", "a=b"),
            ("forwarded", "for=1.2.3.4"),
            ("content-type", "text/plain"),
            ("anthropic-version", "2023-06-01"),
            ("forebay-webhook", "https://a.example"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let kept = kept(&headers);
        let mut names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["anthropic-version", "content-type"]);
    }
}
