//! OpenAI's newer surface: `POST /v1/responses`. Nothing is stored but what is made in the background, which is a job
//! ([`crate::jobs::background`]).

use bytes::BytesMut;
use contract::{Error, Surface};
use llm::surface::Call;
use llm::surface::responses::{Echo, Events, parse, render};
use llm::{Answer, Delta};

use crate::body::Encode;
use crate::chat::{Head, Protocol};

/// Responses.
pub(crate) struct Responses;

/// The part of a request's id that the ids of its response are made of.
fn serial(head: &Head) -> &str {
    head.id.strip_prefix("req_").unwrap_or(&head.id)
}

impl Protocol for Responses {
    const SURFACE: Surface = Surface::Responses;
    type Echo = Echo;
    type Stream = Events;

    fn is_background(echo: &Echo) -> bool {
        echo.is_background()
    }
    fn parse(body: &[u8]) -> Result<(Call, Echo), Error> {
        parse(body)
    }
    fn stream(head: &Head, echo: Echo) -> Events {
        Events::new(serial(head), head.created, &head.model, echo)
    }
    fn render(out: &mut BytesMut, head: &Head, echo: &Echo, answer: &Answer) {
        render(out, serial(head), head.created, &head.model, echo, answer);
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
    fn close(&mut self, out: &mut BytesMut, end: Result<(), &Error>) {
        match end {
            Ok(()) => self.end(out),
            Err(e) => self.error(out, e),
        }
    }
}
