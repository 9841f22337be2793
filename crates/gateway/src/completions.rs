//! OpenAI's older surface: `POST /v1/completions`.

use bytes::BytesMut;
use contract::{Error, Surface};
use llm::surface::Call;
use llm::surface::completions::{Chunks, parse, render};
use llm::{Answer, Delta};

use crate::body::Encode;
use crate::chat::{Head, Protocol};

/// Completions of a prompt.
pub(crate) struct Completions;

impl Protocol for Completions {
    const SURFACE: Surface = Surface::Completions;
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
    fn open(&mut self, _: &mut BytesMut) {}
    fn item(&mut self, out: &mut BytesMut, delta: Delta) -> bool {
        self.delta(out, &delta);
        matches!(delta, Delta::Text(t) if !t.is_empty())
    }
    fn close(&mut self, out: &mut BytesMut, end: Result<(), &Error>) {
        match end {
            Ok(()) => self.end(out),
            Err(e) => self.error(out, e),
        }
    }
}
