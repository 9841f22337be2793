//! Server-sent events as bytes: which is a ping, how they get numbers, and where those behind a number begin. Pure.
//!
//! The answers of all surfaces are written by this crate, so that not every stream of events has to be understood: each
//! event ends with an empty line, and its number, if it has one, is its first line, `id: N`. Numbers count up by one.

use std::borrow::Cow;

use bytes::{Buf as _, Bytes, BytesMut};

/// Whether a frame is a keep-alive and nothing else.
pub(crate) fn is_ping(frame: &[u8]) -> bool {
    let one = frame.windows(2).position(|w| w == b"\n\n") == frame.len().checked_sub(2);
    one && (frame.starts_with(b":") || frame.starts_with(b"event: ping\n"))
}

/// Whether a stream numbers its events itself, seen from its first bytes.
pub(crate) fn is_numbered(first: &[u8]) -> bool {
    first.starts_with(b"id: ")
}

/// Gives every event of a stream a number.
#[derive(Debug)]
pub(crate) struct Numbers {
    next: u64,
    /// Line ends that came one after the other; `None` in front of the first event.
    ends: Option<u8>,
}

impl Numbers {
    /// The first event has the number `first`.
    pub(crate) fn from(first: u64) -> Numbers {
        Numbers { next: first, ends: None }
    }

    /// The next bytes of the stream, each event that begins in them with its number.
    pub(crate) fn number(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(frame.len() + 16);
        for &b in frame {
            if self.ends.is_none_or(|n| n >= 2) {
                out.extend_from_slice(format!("id: {}\n", self.next).as_bytes());
                self.next += 1;
                self.ends = Some(0);
            }
            let ends = self.ends.unwrap_or(0);
            self.ends = Some(if b == b'\n' { ends.saturating_add(1) } else { 0 });
            out.push(b);
        }
        out
    }
}

/// Where the events behind a number begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// At this offset.
    At(u64),
    /// Some of them are no longer there.
    Dropped,
    /// The event itself is not there yet.
    Ahead,
    /// The events have no numbers.
    Unnumbered,
}

/// Looks for the first event behind number `last` in the bytes of a stream from offset `start` on.
pub(crate) fn behind(start: u64, pieces: &[Bytes], last: u64) -> Behind {
    let mut scan = Scan::from(start);
    for &b in pieces.iter().flat_map(|p| p.iter()) {
        if let Some((at, id)) = scan.byte(b)
            && id > last
        {
            return if last.checked_add(1) == Some(id) { Behind::At(at) } else { Behind::Dropped };
        }
    }
    match scan.whole {
        Some(id) if id == last => Behind::At(scan.event),
        Some(_) => Behind::Ahead,
        None if scan.unnumbered => Behind::Unnumbered,
        None => Behind::Ahead,
    }
}

/// What a stream of events has told so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The number of its last event.
    pub(crate) last: Option<u64>,
    /// Whether something of use was among them.
    pub(crate) useful: bool,
}

/// Looks through the bytes of a native stream from offset `start` on.
pub(crate) fn told(start: u64, pieces: &[Bytes]) -> Told {
    let mut scan = Scan::from(start);
    for &b in pieces.iter().flat_map(|p| p.iter()) {
        scan.byte(b);
    }
    Told { last: scan.whole, useful: scan.useful }
}

/// Reads a stream byte by byte.
struct Scan {
    /// The offset of the next byte.
    at: u64,
    /// Where the event that goes on began; before the first one that is whole, nowhere.
    event: u64,
    inside: bool,
    /// Whether the line may have begun before the window.
    torn: bool,
    /// Whether this is the event's first line.
    first: bool,
    /// The beginning of the line.
    line: Vec<u8>,
    /// The number of the event that goes on, and of the last one that ended.
    id: Option<u64>,
    whole: Option<u64>,
    unnumbered: bool,
    useful: bool,
}

impl Scan {
    /// From `start` on: inside of an event, unless it is the very beginning.
    fn from(start: u64) -> Scan {
        Scan {
            at: start,
            event: start,
            inside: start == 0,
            torn: start > 0,
            first: true,
            line: Vec::new(),
            id: None,
            whole: None,
            unnumbered: false,
            useful: false,
        }
    }

    /// Takes a byte; gives where an event began and its number, once its first line is read.
    fn byte(&mut self, b: u8) -> Option<(u64, u64)> {
        self.at += 1;
        if b != b'\n' {
            // Longer than any line that matters here.
            if self.line.len() < 32 {
                self.line.push(b);
            }
            return None;
        }
        let line = std::mem::take(&mut self.line);
        if std::mem::replace(&mut self.torn, false) {
            return None;
        }
        if line.is_empty() {
            if self.inside {
                self.whole = self.id.take().or(self.whole);
            }
            (self.event, self.inside, self.first) = (self.at, true, true);
            return None;
        }
        if !self.inside {
            return None;
        }
        self.useful |= line == b"event: delta" || line == b"event: draft";
        if !std::mem::replace(&mut self.first, false) {
            return None;
        }
        self.id = line.strip_prefix(b"id: ").and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
        self.unnumbered |= self.id.is_none();
        self.id.map(|id| (self.event, id))
    }
}

/// A native event, as it goes over a socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: u64,
    /// A JSON object.
    pub(crate) data: String,
}

/// Takes native events out of their stream.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    rest: BytesMut,
    /// What of it has been looked through.
    seen: usize,
}

impl Messages {
    /// More of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next event that is whole.
    pub(crate) fn next(&mut self) -> Option<Message> {
        loop {
            let from = self.seen.saturating_sub(1);
            let Some(end) = self.rest.get(from..)?.windows(2).position(|w| w == b"\n\n") else {
                self.seen = self.rest.len();
                return None;
            };
            let event = self.rest.split_to(from + end);
            self.rest.advance(2.min(self.rest.len()));
            self.seen = 0;
            let text = String::from_utf8_lossy(&event);
            let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
            // A chat's stream has `[DONE]` among its data.
            if let (Some(Ok(id)), Some(data)) = (field("id: ").map(str::parse), field("data: "))
                && data.starts_with('{')
            {
                return Some(Message { id, data: data.to_owned() });
            }
        }
    }
}

/// A frame as it is kept.
pub(crate) fn kept<'a>(numbers: &mut Option<Numbers>, frame: &'a [u8]) -> Cow<'a, [u8]> {
    match numbers {
        Some(n) => n.number(frame).into(),
        None => frame.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Events with these data, numbered from 0, and where each begins; the end is the last.
    fn numbered(all: &[String]) -> (Vec<u8>, Vec<u64>) {
        let (mut out, mut starts) = (Vec::new(), vec![0]);
        for (n, data) in all.iter().enumerate() {
            out.extend_from_slice(format!("id: {n}\nevent: delta\ndata: {data}\n\n").as_bytes());
            starts.push(out.len() as u64);
        }
        (out, starts)
    }

    fn data() -> impl Strategy<Value = Vec<String>> {
        // No line ends: JSON has none.
        prop::collection::vec("(id: [0-9]|[a-z:]){0,40}", 1..20)
    }

    fn cut(bytes: &[u8], at: &[prop::sample::Index]) -> Vec<Bytes> {
        let mut at: Vec<usize> = at.iter().map(|i| i.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|w| Bytes::copy_from_slice(&bytes[w[0]..w[1]])).collect()
    }

    proptest! {
        #[test]
        fn the_events_behind_a_number_are_found_wherever_the_window_begins_and_however_it_is_cut(
            all in data(), at: Vec<prop::sample::Index>, from: prop::sample::Index, last in 0u64..24,
        ) {
            let (bytes, starts) = numbered(&all);
            let from = from.index(bytes.len() + 1);
            let found = behind(from as u64, &cut(&bytes[from..], &at), last);
            let next = starts.get(last as usize + 1).copied();
            // The first event that is whole in the window.
            let first = starts.iter().copied().find(|s| *s == 0 && from == 0 || *s >= from as u64 + 2);
            match next {
                None => prop_assert!(matches!(found, Behind::Ahead), "{found:?}"),
                Some(next) if first.is_some_and(|f| f < *starts.last().unwrap() && next >= f) => {
                    prop_assert_eq!(found, Behind::At(next));
                }
                // Dropped in part: whatever is said, it is no place with a gap.
                Some(next) => match found {
                    Behind::At(at) => prop_assert_eq!(at, next),
                    Behind::Dropped | Behind::Ahead => {}
                    Behind::Unnumbered => prop_assert!(false, "every event has a number"),
                },
            }
        }

        #[test]
        fn numbers_are_given_the_same_however_a_stream_is_cut(all in data(), at: Vec<prop::sample::Index>) {
            let (wanted, _) = numbered(&all);
            let plain: String = all.iter().map(|d| format!("event: delta\ndata: {d}\n\n")).collect();
            let mut numbers = Numbers::from(0);
            let out: Vec<u8> = cut(plain.as_bytes(), &at).iter().flat_map(|p| numbers.number(p)).collect();
            prop_assert_eq!(out, wanted);
        }

        #[test]
        fn messages_are_the_same_however_a_stream_is_cut(all in data(), at: Vec<prop::sample::Index>) {
            let all: Vec<String> = all.iter().map(|d| format!("{{{d}}}")).collect();
            let (bytes, _) = numbered(&all);
            let (mut messages, mut out) = (Messages::default(), Vec::new());
            for piece in cut(&bytes, &at) {
                messages.push(&piece);
                out.extend(std::iter::from_fn(|| messages.next()));
            }
            let wanted = all.iter().enumerate().map(|(n, d)| Message { id: n as u64, data: d.clone() });
            prop_assert_eq!(out, wanted.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_stream_without_numbers_is_told_from_one_that_has_not_come_so_far() {
        let of = |text: &'static str, last| behind(0, &[Bytes::from_static(text.as_bytes())], last);
        assert_eq!(of("", 0), Behind::Ahead);
        assert_eq!(of("data: {}\n\n", 0), Behind::Unnumbered);
        assert_eq!(of("id: 0\ndata: {}\n\n", 0), Behind::At(16));
        assert_eq!(
            of("id: 0\ndata: {}\n\nid: 1\ndata: {}", 1),
            Behind::Ahead,
            "half an event was not received"
        );
        assert_eq!(of("id: 0\ndata: {}\n\n", u64::MAX), Behind::Ahead);
    }

    #[test]
    fn pings_of_every_surface_are_known_and_nothing_else_is_one() {
        for (frame, ping) in [
            (": ping\n\n", true),
            ("event: ping\ndata: {\"type\":\"ping\"}\n\n", true),
            ("event: ping\ndata: {}\n\nevent: delta\ndata: {}\n\n", false),
            ("data: {}\n\n", false),
            ("data: : ping\n\n", false),
            ("", false),
            ("{\"a\":\n\n1}", false),
        ] {
            assert_eq!(is_ping(frame.as_bytes()), ping, "{frame:?}");
        }
    }

    #[test]
    fn what_was_told_is_read_from_the_stream() {
        let of = |text: &'static str| told(0, &[Bytes::from_static(text.as_bytes())]);
        assert_eq!(of(""), Told::default());
        let accepted = "id: 0\nevent: accepted\ndata: {\"x\":\"event: delta\"}\n\n";
        assert_eq!(of(accepted), Told { last: Some(0), useful: false });
        let draft = "id: 0\nevent: accepted\ndata: {}\n\nid: 1\nevent: draft\ndata: {}\n\n";
        assert_eq!(of(draft), Told { last: Some(1), useful: true });
    }
}
