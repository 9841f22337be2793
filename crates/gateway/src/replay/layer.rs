//! Requests that are to be answered once, however often they are sent, or to be read on from where a reader was cut off:
//! `Idempotency-Key`, `forebay-resume` and `Last-Event-ID` over HTTP.
//!
//! What is kept is what goes over the wire, whatever surface writes it: no surface knows of it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use contract::{Code, Error, RequestId, Surface, TenantId};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pipeline::task;

use super::answer::{Answer, Broken, Phase, Reader};
use super::drive::Driven;
use super::reader_body::ReaderBody;
use super::said::{self, Said};
use super::store::{self, Entered, Key, Wish};
use super::told::Told;
use crate::app::App;
use crate::auth::{self, Caller};
use crate::errors;
use crate::metrics::Repeat;

const RESUME: HeaderName = HeaderName::from_static("forebay-resume");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Answers a request with a whole body that [wants it to be kept](said::is_asked).
pub(crate) async fn answer<F>(
    app: &App,
    surface: Surface,
    caller: &Caller,
    parts: Parts,
    body: Bytes,
    call: impl FnOnce(Parts, Bytes) -> F,
) -> Response
where
    F: Future<Output = Response> + Send + 'static,
{
    // What administers the server is said once and its answers are secret.
    if parts.uri.path().starts_with("/v1/admin/") {
        return call(parts, body).await;
    }
    let asked = said::asked(&parts, &body);
    let found =
        Said::of(&parts.headers).and_then(|said| enter(app, caller, asked, said, || call(parts, body)));
    match found {
        Ok((reader, how)) => respond(app, surface, reader, how).await,
        Err(e) => errors::answer(app, surface, e),
    }
}

/// Whose answer a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Its own.
    Own,
    /// That of an equal one.
    Replayed,
    /// The rest of one that it had the beginning of.
    Resumed,
}

/// Finds the answer of a request, or has it made.
pub(super) fn enter<F>(
    app: &App,
    caller: &Caller,
    asked: [u8; 32],
    said: Said,
    call: impl FnOnce() -> F,
) -> Result<(Reader, How), Error>
where
    F: Future<Output = Response> + Send + 'static,
{
    let inner = &app.inner;
    let own =
        |word: String| Key { tenant: caller.tenant.clone(), key: caller.key.clone(), word: word.into() };
    let resumes = said.last.is_some();
    let window = said.window.unwrap_or_default().min(inner.replays.settings().resume);
    let wish = Wish { tenant: caller.tenant.clone(), key: said.key.map(own), asked, last: said.last, window };
    let entered = inner.replays.enter(wish, inner.clock.now()).inspect_err(|e| {
        inner.metrics.replayed(Repeat::Refused);
        if e.code == Code::Overloaded {
            inner.metrics.refused(crate::metrics::At::Gate, &caller.tenant, e);
        }
    })?;
    match entered {
        Entered::Leads(reader) => {
            lead(
                app,
                caller.tenant.clone(),
                Arc::clone(reader.answer()),
                said.window,
                Arc::default(),
                call(),
            );
            Ok((reader, How::Own))
        }
        Entered::Joins(reader) => {
            let how = if resumes { How::Resumed } else { How::Replayed };
            inner.metrics.replayed(match (how, reader.answer().phase()) {
                (How::Resumed, _) => Repeat::Resumed,
                (_, Phase::Running) => Repeat::Joined,
                _ => Repeat::Replayed,
            });
            Ok((reader, how))
        }
    }
}

fn lead(
    app: &App,
    tenant: TenantId,
    answer: Arc<Answer>,
    window: Option<Duration>,
    told: Arc<Told>,
    call: impl Future<Output = Response> + Send + 'static,
) {
    let driven = Driven { app: app.clone(), tenant, answer, window, told };
    // It bounds itself: by the call's deadline, and by its readers.
    task::spawn("answer", driven.drive(call)).detach();
}

/// A pipeline's stream of events goes on for a while without a reader, and can be read again by its id, because the
/// pipeline says so. Where there is no room to keep it, it is answered as ever.
pub(crate) async fn resumable(
    app: &App,
    tenant: &TenantId,
    told: Arc<Told>,
    window: Duration,
    response: Response,
) -> Response {
    let inner = &app.inner;
    let window = window.min(inner.replays.settings().resume);
    let wish = Wish { tenant: tenant.clone(), key: None, asked: [0; 32], last: None, window };
    let Ok(Entered::Leads(reader)) = inner.replays.enter(wish, inner.clock.now()) else { return response };
    let call = std::future::ready(response);
    lead(app, tenant.clone(), Arc::clone(reader.answer()), Some(window), told, call);
    respond(app, app.generation.settings.surface, reader, How::Own).await
}

/// `GET /v1/requests/{id}/events`: the events of the caller's own request behind `Last-Event-ID`.
pub(crate) async fn events(Path(id): Path<String>, State(app): State<App>, headers: HeaderMap) -> Response {
    let found = auth::caller(&app, &headers).and_then(|caller| {
        let id = id.parse().map_err(|e: String| Error::new(Code::InvalidRequest, e).param("id"))?;
        by_id(&app, &caller, id, said::last(&headers)?)
    });
    match found {
        // Browsers come back until they are told that there is nothing more.
        Ok(reader) if reader.has_had_all() => {
            let mut r = Response::new(axum::body::Body::empty());
            *r.status_mut() = StatusCode::NO_CONTENT;
            r
        }
        Ok(reader) => respond(&app, Surface::Native, reader, How::Resumed).await,
        Err(e) => errors::answer(&app, Surface::Native, e),
    }
}

/// A reader of the caller's own request, behind the last event that he has.
pub(super) fn by_id(app: &App, caller: &Caller, id: RequestId, last: Option<u64>) -> Result<Reader, Error> {
    let inner = &app.inner;
    // A tenant finds its own requests alone, and cannot tell whether others exist.
    let found = inner.replays.find(&caller.tenant, id, inner.clock.now()).ok_or_else(store::unknown);
    let reader = found.and_then(|answer| match last {
        Some(last) => store::behind(&answer, last),
        None => answer.attach(0).map_err(|_| store::not_resumable()),
    });
    inner.metrics.replayed(if reader.is_ok() { Repeat::Resumed } else { Repeat::Refused });
    reader
}

async fn respond(app: &App, surface: Surface, reader: Reader, how: How) -> Response {
    let head = match reader.head().await {
        Ok(head) => head,
        Err(Broken) => {
            let m = "the answer was given up before it began; this is a defect";
            return errors::answer(app, surface, Error::new(Code::Internal, m));
        }
    };
    let window = reader.answer().window();
    let body = axum::body::Body::new(app.inner.readers.watch(ReaderBody::new(app, reader)));
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    let headers = response.headers_mut();
    headers.clone_from(&head.headers);
    if how != How::Own {
        // They say how it was then.
        let old: Vec<HeaderName> =
            headers.keys().filter(|n| n.as_str().contains("ratelimit-")).cloned().collect();
        old.iter().for_each(|name| _ = headers.remove(name));
    }
    if how == How::Replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if head.events
        && !window.is_zero()
        && let Ok(v) = HeaderValue::from_str(&format!("{}ms", window.as_millis()))
    {
        headers.insert(RESUME, v);
    }
    response
}
