//! OpenAI's surface: `POST /v1/chat/completions`, and the forms of answers that all surfaces share.

use axum::body::Body;
use axum::response::Response;
use bytes::BytesMut;
use contract::{Error, Surface};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use llm::surface::Call;
use llm::surface::openai::{Chunks, parse, render};
use llm::{Answer, Delta};

use crate::body::Encode;
use crate::chat::{Head, Protocol};
use crate::headers::MANY;

/// Chat completions.
pub(crate) struct OpenAi;

impl Protocol for OpenAi {
    const SURFACE: Surface = Surface::Openai;
    type Echo = ();
    type Stream = Chunks;

    fn parse(body: &[u8]) -> Result<(Call, ()), Error> {
        Ok((parse(body)?, ()))
    }
    fn stream(head: &Head, (): ()) -> Chunks {
        Chunks::new(&head.id, head.created, &head.model, head.include_usage)
    }
    fn render(out: &mut BytesMut, head: &Head, (): &(), answer: &Answer) {
        render(out, &head.id, head.created, &head.model, answer);
    }
}

impl Encode<Delta> for Chunks {
    fn open(&mut self, out: &mut BytesMut) {
        self.start(out);
    }
    fn item(&mut self, out: &mut BytesMut, delta: Delta) -> bool {
        self.delta(out, &delta);
        delta.is_output()
    }
    fn close(&mut self, out: &mut BytesMut, end: Result<(), &Error>) {
        match end {
            Ok(()) => self.end(out),
            Err(e) => self.error(out, e),
        }
    }
}

/// An answer in JSON.
pub(crate) fn json_response(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut r = Response::new(Body::from(value.to_string()));
    *r.status_mut() = status;
    r.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    r
}

/// An event stream that no proxy holds back.
pub(crate) fn event_stream(body: Body) -> Response {
    let mut r = Response::new(body);
    let headers = r.headers_mut();
    headers.reserve(MANY);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    r
}
