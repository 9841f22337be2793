//! Protocols of upstreams, as pure state machines: bytes to deltas, requests to bytes. No I/O, no clock.
//!
//! Invariant: the deltas do not depend on where the bytes were split.

pub mod anthropic;
pub mod error;
pub mod openai;
pub mod sse;

use std::collections::VecDeque;

use contract::{Code, Error, RetryHint};

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

/// A reason of the provider's own, cut to what a name may take.
fn own_reason(reason: &str) -> Box<str> {
    reason.chars().take(64).collect::<String>().into()
}

fn nonsense(message: impl Into<String>) -> Error {
    Error::new(Code::UpstreamError, message).retry(RetryHint::Elsewhere)
}
