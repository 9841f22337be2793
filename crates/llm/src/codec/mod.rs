//! Protocols of upstreams, as pure state machines: bytes to deltas, requests to bytes. No I/O, no clock.
//!
//! Invariant: the deltas do not depend on where the bytes were split.

pub mod anthropic;
pub mod error;
mod like;
pub mod openai;
pub mod sse;

use std::collections::VecDeque;

use contract::{Code, Error, RetryHint};
use like::Like;
use sse::SseParser;

use crate::Delta;

/// Where a decoder puts what it reads.
pub type Deltas = VecDeque<Result<Delta, Error>>;

/// A streamed answer, bytes to deltas. After an `Err` it gives nothing more.
pub trait Decoder: Send {
    /// Takes the next bytes of the body.
    fn feed(&mut self, bytes: &[u8], out: &mut Deltas);
    /// The body ended.
    fn end(&mut self, out: &mut Deltas);
    /// Whether the protocol's last event was read: nothing after it matters.
    fn done(&self) -> bool;
    /// How many malformed events were skipped.
    fn skipped(&self) -> u64;
}

/// How far the reading of a stream has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// The protocol's last event was read.
    done: bool,
    /// Malformed events that were passed over.
    skipped: u64,
}

/// What the events of a protocol mean.
pub trait Events: Default + Send {
    /// Reads the data of one event. Not called once `progress` is done.
    fn event(&mut self, data: &[u8], progress: &mut Progress, out: &mut Deltas);
}

/// Decodes a streamed answer whose events are server-sent.
#[derive(Debug, Default)]
pub struct Streamed<E> {
    sse: SseParser,
    like: Like,
    events: E,
    progress: Progress,
}

impl<E: Events> Streamed<E> {
    /// The parser, and what reads one event of it.
    fn parts<'a>(
        &'a mut self,
        out: &'a mut Deltas,
    ) -> (&'a mut SseParser, impl FnMut(&str, &[u8]) + use<'a, E>) {
        let Streamed { sse, like, events, progress } = self;
        let on = move |_: &str, data: &[u8]| {
            if !progress.done {
                like.or_parse(data, out, |out| events.event(data, progress, out));
            }
        };
        (sse, on)
    }
}

impl<E: Events> Decoder for Streamed<E> {
    fn feed(&mut self, bytes: &[u8], out: &mut Deltas) {
        let (sse, on) = self.parts(out);
        if let Err(e) = sse.feed(bytes, on)
            && !std::mem::replace(&mut self.progress.done, true)
        {
            out.push_back(Err(nonsense(e.to_string())));
        }
    }

    fn end(&mut self, out: &mut Deltas) {
        let (sse, on) = self.parts(out);
        sse.end(on);
    }

    fn done(&self) -> bool {
        self.progress.done
    }

    fn skipped(&self) -> u64 {
        self.progress.skipped
    }
}

/// A reason of the provider's own, cut to what a name may take.
fn own_reason(reason: &str) -> Box<str> {
    reason.chars().take(64).collect::<String>().into()
}

fn nonsense(message: impl Into<String>) -> Error {
    Error::new(Code::UpstreamError, message).retry(RetryHint::Elsewhere)
}
