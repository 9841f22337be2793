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

/// So many malformed events of a stream are passed over.
const SKIPPED: u64 = 1;

/// The same JSON with U+FFFD for each escaped half of a surrogate pair, which servers send that cut a text between the
/// halves; `None` when there is none.
fn without_halves(data: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| -> Option<u32> {
        let hex = data.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    let (mut out, mut found, mut at) = (Vec::new(), false, 0);
    while let Some(&b) = data.get(at) {
        let (text, taken): (&[u8], usize) = match (unit(at), unit(at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (data.get(at..at + 12)?, 12),
            (Some(0xD800..=0xDFFF), _) => {
                found = true;
                (b"\\ufffd", 6)
            }
            // An escaped backslash is no beginning of another escape.
            _ if b == b'\\' => (data.get(at..at + 2)?, 2),
            _ => (data.get(at..=at)?, 1),
        };
        out.extend_from_slice(text);
        at += taken;
    }
    found.then_some(out)
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
            // One may be noise; with more of them it is the answer that is lost.
            if progress.skipped > SKIPPED && !std::mem::replace(&mut progress.done, true) {
                out.push_back(Err(nonsense("the provider sent more than one event that cannot be read")));
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

#[cfg(test)]
mod tests {
    use super::*;
    use super::{anthropic::AnthropicDecoder, openai::OpenAiDecoder};

    fn read(mut decoder: impl Decoder, events: &[String]) -> (String, Option<Code>) {
        let (mut out, mut text, mut code) = (Deltas::new(), String::new(), None);
        for e in events {
            decoder.feed(format!("data: {e}\n\n").as_bytes(), &mut out);
        }
        for delta in out {
            match delta {
                Ok(Delta::Text(t)) => text.push_str(&t),
                Ok(_) => {}
                Err(e) => code = Some(e.code),
            }
        }
        (text, code)
    }

    fn openai(text: &str) -> String {
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#)
    }

    fn anthropic(text: &str) -> String {
        format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
        )
    }

    #[test]
    fn half_a_character_is_marked_and_never_takes_its_event_with_it() {
        let want = ("a\u{fffd}\u{fffd}b \u{1f600} \\ud83d".to_owned(), None);
        let cut = |event: fn(&str) -> String| [event("a\\ud83d"), event("\\ude00b \\ud83d\\ude00 \\\\ud83d")];
        assert_eq!(read(OpenAiDecoder::default(), &cut(openai)), want);
        assert_eq!(read(AnthropicDecoder::default(), &cut(anthropic)), want);
    }

    #[test]
    fn one_event_that_cannot_be_read_is_passed_over_and_a_second_ends_the_answer() {
        let bad = || r#"{"bad"#.to_owned();
        let one = [openai("a"), bad(), openai("b")];
        assert_eq!(read(OpenAiDecoder::default(), &one), ("ab".to_owned(), None));
        let two = [openai("a"), bad(), openai("b"), bad(), openai("c")];
        assert_eq!(read(OpenAiDecoder::default(), &two), ("ab".to_owned(), Some(Code::UpstreamError)));
        let two = [anthropic("a"), bad(), bad(), anthropic("c")];
        assert_eq!(read(AnthropicDecoder::default(), &two), ("a".to_owned(), Some(Code::UpstreamError)));
        let unknown = r#"{"type":"something_new"}"#.to_owned();
        let many = [unknown.clone(), unknown.clone(), unknown, anthropic("a")];
        assert_eq!(read(AnthropicDecoder::default(), &many), ("a".to_owned(), None));
    }
}
