//! How a request's bytes come in. Who calls is known before the first byte of a body is read; the size is checked
//! before and while it is read; a body that stands still or trickles ends. Every refusal has its surface's shape.
//!
//! Invariant: a caller without a valid key makes the server keep no byte of a body.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use contract::{BoxFuture, Code, Deadline, Error, Surface, Tick};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http_body::Body as _;
use pipeline::task;

use crate::app::App;
use crate::auth::{self, Caller};
use crate::body::in_frames;
use crate::came::Taken;
use crate::errors::{self, Failure, RatherAJob};
use crate::inside;
use crate::jobs;
use crate::replay;
use crate::room::{Pace, Place};

/// How long the rest of a refused body is taken and thrown away, so that its sender lives to read the refusal.
const LINGER: Duration = Duration::from_secs(5);

/// A key that was checked so long before the last byte of its body is checked again: it may have been revoked since.
const KNOWN: Duration = Duration::from_secs(1);

/// What a request is handed on to once its body is there.
pub(crate) trait Behind: Send + 'static {
    /// Answers it.
    fn run(self, request: Request) -> BoxFuture<'static, Response>;
}

impl Behind for Next {
    fn run(self, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(Next::run(self, request))
    }
}

/// A layer over every route: see [`take_in`].
pub(crate) async fn whole(State(app): State<App>, request: Request, next: Next) -> Response {
    take_in(app, request, next).await
}

/// What is behind it gets the whole body at once, or is not reached.
pub(crate) async fn take_in(app: App, mut request: Request, next: impl Behind) -> Response {
    let arrived = app.inner.clock.now();
    let surface = surface(request.uri().path());
    if !is_text(request.uri().path()) {
        return errors::answer(&app, surface, Error::new(Code::NotFound, "there is nothing of that name"));
    }
    if request.body().is_end_stream() {
        request.extensions_mut().insert(Taken { arrived, caller: None, body: Bytes::new() });
        return in_frames(next.run(request).await);
    }
    let (parts, mut body) = request.into_parts();
    match take(&app, &parts.headers, &mut body, arrived).await {
        Ok((caller, bytes)) => {
            // Its place in the connection's memory is given back before the answer is made.
            drop(body);
            // What is done on somebody's behalf is kept by whoever does it, and must stay in the task that says on whose.
            if jobs::is_wanted(&app, &parts) {
                return jobs::submit(&app, caller, parts, bytes).await;
            }
            if replay::is_asked(&parts.headers) && !inside::is_behalf() {
                let (own, same) = (app.clone(), caller.clone());
                let call =
                    move |parts, body| run(own, next, parts, Taken { arrived, caller: Some(same), body });
                return in_frames(replay::answer(&app, surface, &caller, parts, bytes, call).await);
            }
            let taken = Taken { arrived, caller: Some(caller), body: bytes };
            if jobs::is_possible(&app, &parts) {
                return in_frames(or_a_job(app, next, parts, taken).await);
            }
            in_frames(next.run(behind(parts, taken)).await)
        }
        Err(failure) => {
            // A caller that waits for `100 Continue` has sent nothing, and a slow one was waited for already.
            if !parts.headers.contains_key(EXPECT) && failure.error.code != Code::DeadlineExceeded {
                task::spawn("linger", linger(app.clone(), body)).detach();
            }
            errors::answer(&app, surface, failure)
        }
    }
}

/// The request for what is behind it. Its body is not in its place, where it would be read once more.
fn behind(mut parts: Parts, taken: Taken) -> Request {
    parts.extensions.insert(taken);
    Request::from_parts(parts, Body::empty())
}

/// What is behind it, or a job in its place.
async fn run(app: App, next: impl Behind, parts: Parts, taken: Taken) -> Response {
    if jobs::is_possible(&app, &parts) {
        return or_a_job(app, next, parts, taken).await;
    }
    next.run(behind(parts, taken)).await
}

/// What is behind it; should that say so, a job in its place.
async fn or_a_job(app: App, next: impl Behind, parts: Parts, taken: Taken) -> Response {
    let (again, same) = (parts.clone(), taken.clone());
    let response = next.run(behind(parts, taken)).await;
    match same.caller {
        Some(caller) if response.extensions().get::<RatherAJob>().is_some() => {
            jobs::submit_instead(&app, caller, again, same.body, response).await
        }
        _ => response,
    }
}

/// The body and who sends it, once that is known to be somebody who may.
pub(crate) async fn take(
    app: &App,
    headers: &HeaderMap,
    body: &mut Body,
    arrived: Tick,
) -> Result<(Caller, Bytes), Box<Failure>> {
    let caller = auth::caller(app, headers)?;
    let declared = fits(app, headers)?;
    let (bytes, last) = read(app, body, declared, arrived).await?;
    let caller = if last.since(arrived) < KNOWN { caller } else { auth::caller(app, headers)? };
    Ok((caller, bytes))
}

/// Whether a path is UTF-8 once its escapes are read: what is not can name nothing.
fn is_text(path: &str) -> bool {
    let mut bytes = path.bytes();
    let mut plain = Vec::new();
    if !path.contains('%') {
        return true;
    }
    while let Some(b) = bytes.next() {
        let hex = |b: Option<u8>| char::from(b?).to_digit(16);
        let mut ahead = bytes.clone();
        match (b, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                plain.extend(u8::try_from(high * 16 + low));
                bytes = ahead;
            }
            _ => plain.push(b),
        }
    }
    std::str::from_utf8(&plain).is_ok()
}

/// Which protocol a path belongs to: what its errors look like.
pub(crate) fn surface(path: &str) -> Surface {
    match path {
        p if p.starts_with("/v2") || p == "/invocations" => Surface::Inference,
        p if p.starts_with("/v1/messages") => Surface::Anthropic,
        p if p.starts_with("/v1/completions") => Surface::Completions,
        p if p.starts_with("/v1/responses") => Surface::Responses,
        p if ["/v1/chat/", "/v1/files", "/v1/batches", "/v1/models"].iter().any(|own| p.starts_with(own)) => {
            Surface::Openai
        }
        _ => Surface::Native,
    }
}

/// A body that says it is too large is refused unread. How long it says it is, or nothing.
fn fits(app: &App, headers: &HeaderMap) -> Result<usize, Error> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let limit = app.generation.settings.limits.body_bytes;
    let declared = usize::try_from(declared.unwrap_or(0)).unwrap_or(usize::MAX);
    if declared > limit { Err(too_large(limit)) } else { Ok(declared) }
}

fn too_large(limit: usize) -> Error {
    let m = format!("the body is over the limit of {limit} bytes: send a shorter one or split it");
    Error::new(Code::TooLarge, m)
}

/// The whole body, and when the last of it came.
async fn read(
    app: &App,
    body: &mut Body,
    declared: usize,
    start: Tick,
) -> Result<(Bytes, Tick), Box<Failure>> {
    let limits = app.generation.settings.limits;
    let clock = &*app.inner.clock;
    let mut pace = Pace::new(start, limits.read);
    // However steady it is, it may not take longer than an answer may.
    let last = Deadline::from_now(start, app.generation.settings.total);
    let mut place = Place::default();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let so_far = first.len() + rest.len();
        let next = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let frame = match task::within(clock, pace.deadline().min(last), next).await {
            Err(task::Elapsed) => return Err(Failure::slow_body()),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Error::new(Code::InvalidRequest, "the body cannot be read to its end").into());
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let came = clock.now();
        let Ok(data) = frame.into_data() else { continue };
        if so_far + data.len() > limits.body_bytes {
            return Err(too_large(limits.body_bytes).into());
        }
        // Most bodies come in one piece, and are neither counted nor copied.
        if so_far == 0 && body.is_end_stream() {
            return Ok((data, came));
        }
        app.generation.room.take(clock, data.len(), &mut place).await?;
        let now = clock.now();
        pace.piece(now, data.len(), now.since(came));
        if so_far == 0 {
            first = data;
        } else {
            let whole = so_far + data.len();
            if rest.capacity() < whole {
                // Twice what came, which is counted above, and no more than it says it is.
                rest.reserve((whole * 2).min(declared.max(whole)) - rest.len());
            }
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok((place.hold(if rest.is_empty() { first } else { rest.freeze() }), clock.now()))
}

async fn linger(app: App, mut body: Body) {
    let rest = async { while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {} };
    let clock = &*app.inner.clock;
    let _ = task::within(clock, Deadline::from_now(clock.now(), LINGER), rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_text_or_names_nothing() {
        for (path, text) in [
            ("/a", true),
            ("/%41%2f", true),
            ("/%c3%bc", true),
            ("/%c3", false),
            ("/%ff%fe", false),
            ("/%", true),
            ("/%zz%4", true),
        ] {
            assert_eq!(is_text(path), text, "{path}");
        }
    }
}
