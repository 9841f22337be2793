//! Anthropic's surface: `POST /v1/messages`, `POST /v1/messages/count_tokens`.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use contract::{Error, Surface};
use http::{HeaderMap, StatusCode};
use llm::Delta;
use llm::surface::anthropic::{Events, parse, parse_count, render};
use serde_json::json;

use crate::app::App;
use crate::body::{Encode, StreamBody};
use crate::openai::{collect, event_stream, finish, id_header, json_response, json_with_headers};
use crate::{auth, errors, router};

/// `POST /v1/messages`.
pub(crate) async fn messages(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    match answer(&app, &headers, &body).await {
        Ok(r) => r,
        Err(e) => errors::response(Surface::Anthropic, &e),
    }
}

async fn answer(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<Response, Error> {
    let arrived = app.inner.clock.now();
    let caller = auth::caller(app, headers)?;
    let call = parse(body)?;
    let stream = call.request.stream;
    let model = call.model.clone();
    let input = router::input_tokens(app, &call);
    let (request, deltas) = router::call(app, caller, call, Surface::Anthropic, arrived).await?;
    let id = request.id().to_string();
    let mut response = if stream {
        let encode = Anthropic(Events::new(&id, model.as_str(), input));
        let body = StreamBody::new(deltas, encode, request, app.inner.settings.ping, finish);
        event_stream(Body::new(body))
    } else {
        let (answer, settled) = collect(request, deltas).await?;
        let mut out = BytesMut::with_capacity(256 + answer.text.len());
        render(&mut out, &id, model.as_str(), &answer);
        json_with_headers(&settled, out)
    };
    id_header(&mut response, &id);
    Ok(response)
}

struct Anthropic(Events);

impl Encode<Delta> for Anthropic {
    fn open(&mut self, out: &mut BytesMut) {
        self.0.start(out);
    }
    fn item(&mut self, out: &mut BytesMut, delta: Delta) -> bool {
        self.0.delta(out, &delta);
        delta.is_output()
    }
    fn ping(&mut self, out: &mut BytesMut) {
        self.0.ping(out);
    }
    fn close(&mut self, out: &mut BytesMut, end: Result<(), &Error>) {
        match end {
            Ok(()) => self.0.end(out),
            Err(e) => self.0.error(out, errors::anthropic_type(e), e),
        }
    }
}

/// `POST /v1/messages/count_tokens`.
pub(crate) async fn count_tokens(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let counted = auth::caller(&app, &headers).and_then(|_| parse_count(&body)).and_then(|call| {
        router::target(&app, &call.model)?;
        Ok(router::input_tokens(&app, &call))
    });
    match counted {
        Ok(n) => json_response(StatusCode::OK, &json!({"input_tokens": n})),
        Err(e) => errors::response(Surface::Anthropic, &e),
    }
}
