//! Events that are the one before but for their text: nearly all of a stream. They are read without a JSON parser.
//!
//! Invariant: what is read this way is what the parser would have read. The events agree in every byte outside of one
//! string, and inside of it there is nothing that could end or change the string.

use memchr::memmem;

use super::Deltas;
use crate::Delta;

/// A longer event is not worth remembering.
const LONGEST: usize = 2048;

/// What the last event was around its text.
#[derive(Debug, Default)]
pub(super) struct Like {
    before: Vec<u8>,
    after: Vec<u8>,
    reasoning: bool,
}

impl Like {
    /// The delta of an event that is like the last one.
    pub(super) fn read(&self, event: &[u8]) -> Option<Delta> {
        if self.before.is_empty() {
            return None;
        }
        let text = event.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        if text.is_empty() || text.iter().any(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?.to_owned();
        Some(if self.reasoning { Delta::Reasoning(text) } else { Delta::Text(text) })
    }

    /// Looks at an event and the deltas that were read from it.
    pub(super) fn learn<'a>(&mut self, event: &[u8], mut read: impl Iterator<Item = &'a Delta>) {
        let (text, reasoning) = match (read.next(), read.next()) {
            (Some(Delta::Text(t)), None) => (t, false),
            (Some(Delta::Reasoning(t)), None) => (t, true),
            _ => return,
        };
        // Without escapes every string stands as it reads; standing there once, it can only be this one.
        if event.len() > LONGEST || memchr::memchr(b'\\', event).is_some() {
            return;
        }
        let quoted = [b"\"", text.as_bytes(), b"\""].concat();
        let mut places = memmem::find_iter(event, &quoted);
        let (Some(at), None) = (places.next(), places.next()) else { return };
        // Found one after another they do not overlap; one that does could be the true one.
        let overlaps = event.get(at + 1..).is_some_and(|rest| memmem::find(rest, &quoted).is_some());
        let (Some(before), Some(after)) = (event.get(..=at), event.get(at + 1 + text.len()..)) else {
            return;
        };
        if !overlaps {
            (self.reasoning, self.before, self.after) = (reasoning, before.to_vec(), after.to_vec());
        }
    }

    /// Reads an event from its likeness to the last one, or by `parse`.
    pub(super) fn or_parse(&mut self, event: &[u8], out: &mut Deltas, parse: impl FnOnce(&mut Deltas)) {
        if let Some(delta) = self.read(event) {
            out.push_back(Ok(delta));
            return;
        }
        let had = out.len();
        parse(out);
        let new = out.range(had.min(out.len())..);
        if new.clone().all(Result::is_ok) {
            self.learn(event, new.flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Decoder, anthropic::AnthropicDecoder, openai::OpenAiDecoder};
    use proptest::prelude::*;

    fn event(form: usize, text: &str, other: &str) -> String {
        let (text, other) = (serde_json::to_string(text).unwrap(), serde_json::to_string(other).unwrap());
        match form {
            0 => format!(r#"{{"model":"m","choices":[{{"index":0,"delta":{{"content":{text}}}}}]}}"#),
            1 => format!(
                r#"{{"id":{other},"choices":[{{"index":0,"delta":{{"content":{text}}}}}],"usage":null}}"#
            ),
            2 => format!(r#"{{"choices":[{{"index":0,"delta":{{"reasoning_content":{text}}}}}]}}"#),
            3 => format!(
                r#"{{"choices":[{{"index":1,"delta":{{"content":{other}}}}},{{"index":0,"delta":{{"content":{text}}}}}]}}"#
            ),
            4 => format!(r#"{{"choices":[{{"index":0,"delta":{{"content":{text},"refusal":{other}}}}}]}}"#),
            5 => format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":{text}}}}}"#
            ),
            6 => format!(
                r#"{{"type":"content_block_delta","index":1,"delta":{{"type":"thinking_delta","thinking":{text}}}}}"#
            ),
            // What no parser takes, and what says the same in other words.
            7 => format!(r#"{{"choices":[{{"index":0,"delta":{{"content":{text}x}}}}]}}"#),
            8 => r#"{"choices":[{"index":0,"delta":{"content":"\u0061"}}],"note":"a"}"#.to_owned(),
            9 => format!(
                r#"{{"id": {other}, "n": 1, "model":"m", "choices":[{{"delta":{{"content":{text}}}}}],"usage":{{"prompt_tokens":1}}}}"#
            ),
            10 => format!(
                r#"{{"id": {other}, "n": 1, "model":"m", "choices":[{{"delta":{{"role":{text}}}}}],"model":"o"}}"#
            ),
            11 => format!(
                r#"{{"id": {other}, "n": 1, "model":"m", "choices":[],"usage":{{"completion_tokens":7}}}}"#
            ),
            12 => format!(r#"{{"note":["choices":],"n":{{}},"choices":[{text}]}}"#),
            _ => r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
        }
    }

    /// Each event alone, by a decoder that has seen nothing but what it says.
    fn one_by_one<D: Decoder>(events: &[String], new: impl Fn() -> D) -> Vec<String> {
        let mut named = false;
        let mut all = Vec::new();
        for e in events {
            let (mut decoder, mut out) = (new(), Deltas::new());
            decoder.feed(format!("data: {e}\n\n").as_bytes(), &mut out);
            for delta in out {
                let version = matches!(delta, Ok(Delta::Version(_)));
                if !version || !std::mem::replace(&mut named, true) {
                    all.push(format!("{delta:?}"));
                }
            }
        }
        all
    }

    fn together<D: Decoder>(events: &[String], mut decoder: D) -> Vec<String> {
        let mut out = Deltas::new();
        let stream: String = events.iter().map(|e| format!("data: {e}\n\n")).collect();
        decoder.feed(stream.as_bytes(), &mut out);
        out.iter().map(|d| format!("{d:?}")).collect()
    }

    proptest! {
        #[test]
        fn an_event_reads_the_same_whatever_came_before(
            events in prop::collection::vec((0usize..14, "([a-c\",:\\\\é\n]|content|text){0,3}", "[a-c]{0,2}"), 1..12)
        ) {
            let mut broken = 0;
            let (mut openai, mut anthropic) = (Vec::new(), Vec::new());
            for (form, text, other) in &events {
                broken += usize::from(matches!(form, 7 | 10 | 12));
                match form {
                    5 | 6 => anthropic.push(event(*form, text, other)),
                    // More than one would end the stream.
                    7 | 10 | 12 if broken > 1 => {}
                    _ => openai.push(event(*form, text, other)),
                }
            }
            prop_assert_eq!(together(&openai, OpenAiDecoder::default()), one_by_one(&openai, OpenAiDecoder::default));
            prop_assert_eq!(
                together(&anthropic, AnthropicDecoder::default()),
                one_by_one(&anthropic, AnthropicDecoder::default)
            );
        }
    }

    #[test]
    fn most_of_a_stream_is_read_without_a_parser() {
        for form in [0, 1, 2, 5, 6] {
            let mut like = Like::default();
            let first = event(form, "Hello", "x");
            let delta = if matches!(form, 2 | 6) { Delta::Reasoning } else { Delta::Text };
            like.learn(first.as_bytes(), [delta("Hello".to_owned())].iter());
            assert_eq!(like.read(event(form, " world", "x").as_bytes()), Some(delta(" world".to_owned())));
            assert_eq!(like.read(event(form, "a\"b", "x").as_bytes()), None);
            assert_eq!(like.read(event(form, "", "x").as_bytes()), None);
        }
    }
}
