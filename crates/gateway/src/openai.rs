//! OpenAI's surface: `POST /v1/chat/completions`, `GET /v1/models`.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use contract::{Error, Surface};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use llm::surface::openai::{Chunks, parse, render};
use llm::{Answer, Delta};
use serde_json::json;

use crate::app::App;
use crate::body::{Encode, StreamBody};
use crate::deltas::Deltas;
use crate::request::Request;
use crate::{auth, errors, router};

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    match answer(&app, &headers, &body).await {
        Ok(r) => r,
        Err(e) => errors::response(Surface::Openai, &e),
    }
}

async fn answer(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<Response, Error> {
    let arrived = app.inner.clock.now();
    let caller = auth::caller(app, headers)?;
    let call = parse(body)?;
    let (stream, usage) = (call.request.stream, call.include_usage);
    let model = call.model.clone();
    let created = app.inner.clock.wall().0 / 1_000;
    let (request, deltas) = router::call(app, caller, call, Surface::Openai, arrived).await?;
    let id = request.id().to_string();
    let mut response = if stream {
        let encode = OpenAi(Chunks::new(&id, created, model.as_str(), usage));
        let body = StreamBody::new(deltas, encode, request, app.inner.settings.ping, finish);
        event_stream(Body::new(body))
    } else {
        let (answer, request) = collect(request, deltas).await?;
        let mut out = BytesMut::with_capacity(256 + answer.text.len());
        render(&mut out, &id, created, model.as_str(), &answer);
        json_with_headers(&request, out)
    };
    id_header(&mut response, &id);
    Ok(response)
}

/// The whole answer of a call that does not stream.
///
/// When the caller leaves, `deltas` is dropped before `request`: what an attempt used is known before it settles.
pub(crate) async fn collect(mut request: Request, mut deltas: Deltas) -> Result<(Answer, Settled), Error> {
    let mut answer = Answer::default();
    while let Some(next) = deltas.next().await {
        match next {
            Ok(delta) => answer.push(delta),
            Err(e) => {
                request.failed(&e, false);
                return Err(e);
            }
        }
    }
    request.first_output();
    let settled = Settled::of(&request);
    finish(deltas, request);
    Ok((answer, settled))
}

/// What the headers of a whole answer say, taken before the request ends.
pub(crate) struct Settled {
    cost: i64,
    attempts: usize,
    version: Option<String>,
    rates: admission::RateHeaders,
}

impl Settled {
    fn of(request: &Request) -> Self {
        let meter = &request.cx.meter;
        Settled {
            cost: meter.spent().cost.nanos(),
            attempts: meter.attempts(),
            version: meter.model_version(),
            rates: request.rates(),
        }
    }
}

/// Ends the request as its answer ended.
pub(crate) fn finish(deltas: Deltas, request: Request) {
    match &deltas {
        Deltas::Pipeline(p, _) => match p.outcome() {
            Some(outcome) => request.outcome(outcome),
            None => drop(request),
        },
        Deltas::Model(..) => request.complete(),
    }
}

struct OpenAi(Chunks);

impl Encode<Delta> for OpenAi {
    fn open(&mut self, out: &mut BytesMut) {
        self.0.start(out);
    }
    fn item(&mut self, out: &mut BytesMut, delta: Delta) -> bool {
        self.0.delta(out, &delta);
        delta.is_output()
    }
    fn ping(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b": ping\n\n");
    }
    fn close(&mut self, out: &mut BytesMut, end: Result<(), &Error>) {
        match end {
            Ok(()) => self.0.end(out),
            Err(e) => self.0.error(out, e),
        }
    }
}

/// `GET /v1/models`.
pub(crate) async fn models(State(app): State<App>, headers: HeaderMap) -> Response {
    if let Err(e) = auth::caller(&app, &headers) {
        return errors::response(Surface::Openai, &e);
    }
    let created = app.inner.clock.wall().0 / 1_000;
    let entry = |id: &str, by: &str| json!({"id": id, "object": "model", "created": created, "owned_by": by});
    let pipelines = app.inner.pipelines.load();
    let data: Vec<_> = app
        .inner
        .models
        .names()
        .iter()
        .map(|n| entry(n.as_str(), "model"))
        .chain(pipelines.keys().map(|n| entry(n.as_str(), "pipeline")))
        .collect();
    json_response(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// An answer in JSON.
pub(crate) fn json_response(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut r = Response::new(Body::from(value.to_string()));
    *r.status_mut() = status;
    r.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    r
}

/// A whole answer with what it took in its headers.
pub(crate) fn json_with_headers(settled: &Settled, body: BytesMut) -> Response {
    let mut r = Response::new(Body::from(body.freeze()));
    let headers = r.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("forebay-cost-nanousd", HeaderValue::from(settled.cost));
    headers.insert("forebay-attempts", HeaderValue::from(settled.attempts));
    if let Some(Ok(v)) = settled.version.as_deref().map(HeaderValue::from_str) {
        headers.insert("forebay-model-version", v);
    }
    router::rate_headers(headers, &settled.rates);
    r
}

/// An event stream that no proxy holds back.
pub(crate) fn event_stream(body: Body) -> Response {
    let mut r = Response::new(body);
    let headers = r.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    r
}

/// `x-request-id`.
pub(crate) fn id_header(r: &mut Response, id: &str) {
    if let Ok(v) = HeaderValue::from_str(id) {
        r.headers_mut().insert("x-request-id", v);
    }
}
