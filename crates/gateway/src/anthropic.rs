//! Anthropic's surface: `POST /v1/messages`, `POST /v1/messages/count_tokens`.

use axum::extract::State;
use axum::response::Response;
use bytes::BytesMut;
use contract::{Error, Surface};
use http::StatusCode;
use llm::surface::Call;
use llm::surface::anthropic::{Events, parse, parse_count, render};
use llm::{Answer, Delta};
use serde_json::json;

use crate::app::App;
use crate::body::Encode;
use crate::came::Came;
use crate::chat::{Head, Protocol};
use crate::errors::Failure;
use crate::openai::json_response;
use crate::{errors, headers, router};

/// Messages.
pub(crate) struct Anthropic;

impl Protocol for Anthropic {
    const SURFACE: Surface = Surface::Anthropic;
    type Echo = ();
    type Stream = Events;

    fn parse(body: &[u8]) -> Result<(Call, ()), Error> {
        Ok((parse(body)?, ()))
    }
    fn stream(head: &Head, (): ()) -> Events {
        Events::new(&head.id, &head.model, head.input_tokens)
    }
    fn render(out: &mut BytesMut, head: &Head, (): &(), answer: &Answer) {
        render(out, &head.id, &head.model, answer);
    }
}

impl Encode<Delta> for Events {
    fn open(&mut self, out: &mut BytesMut) {
        self.start(out);
    }
    fn item(&mut self, out: &mut BytesMut, delta: Delta) -> bool {
        self.delta(out, &delta);
        delta.is_output()
    }
    fn ping(&mut self, out: &mut BytesMut) {
        Events::ping(self, out);
    }
    fn close(&mut self, out: &mut BytesMut, end: Result<(), &Error>) {
        match end {
            Ok(()) => self.end(out),
            Err(e) => self.error(out, errors::anthropic_type(e), e),
        }
    }
}

/// `POST /v1/messages/count_tokens`. Counts here: no provider is asked and nothing is charged.
pub(crate) async fn count_tokens(State(app): State<App>, mut came: Came) -> Response {
    let mut count = || -> Result<u64, Error> {
        came.caller(&app)?;
        let call = parse_count(&came.body)?;
        router::target(&app, &call.model)?;
        Ok(router::input_tokens(&app, &call))
    };
    let id = app.request_id();
    match count() {
        Ok(n) => {
            let mut response = json_response(StatusCode::OK, &json!({"input_tokens": n}));
            headers::request_id(id, Surface::Anthropic, response.headers_mut());
            response
        }
        Err(e) => {
            let mut failure = Box::<Failure>::from(e);
            failure.request = Some(id);
            errors::response(Surface::Anthropic, failure)
        }
    }
}
