//! Server-sent events, incrementally: bytes in, events out, whatever the places where the bytes are split.
//!
//! Takes LF, CRLF and CR, comments, multi-line data and a byte-order mark. Keeps at most `limit` bytes of one event.
//! No allocation per event once its buffers have grown.

use memchr::memchr2;

/// One event was larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one event is larger than {limit} bytes")]
pub struct TooLong {
    /// The limit in bytes.
    pub limit: usize,
}

/// The parser. Feed it bytes; it hands over `(event name, data)`.
#[derive(Debug)]
pub struct SseParser {
    line: Vec<u8>,
    name: String,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    started: bool,
    limit: usize,
}

impl Default for SseParser {
    /// At most 4 MiB an event.
    fn default() -> Self {
        SseParser::with_limit(4 << 20)
    }
}

impl SseParser {
    /// A parser that refuses events of more than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        SseParser {
            line: Vec::new(),
            name: String::new(),
            data: Vec::new(),
            has_data: false,
            after_cr: false,
            started: false,
            limit,
        }
    }

    /// Takes the next bytes and calls `on(name, data)` for each event they complete. The name is empty unless given.
    pub fn feed(&mut self, mut bytes: &[u8], mut on: impl FnMut(&str, &[u8])) -> Result<(), TooLong> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                self.line.extend_from_slice(bytes);
                return self.check(0);
            };
            let (head, tail) = bytes.split_at(end);
            // The whole line counts, wherever it was split.
            self.check(head.len())?;
            self.after_cr = tail.first() == Some(&b'\r');
            bytes = tail.get(1..).unwrap_or_default();
            if let Some(rest) = self.whole(head, tail, &mut on) {
                bytes = rest;
            } else if self.line.is_empty() {
                self.take_line(head, &mut on);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(head);
                self.take_line(&line, &mut on);
                line.clear();
                self.line = line;
            }
        }
        Ok(())
    }

    /// The bytes ended: hands over what an upstream that forgot the last blank line left behind.
    pub fn end(&mut self, mut on: impl FnMut(&str, &[u8])) {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, &mut on);
        }
        self.take_line(b"", &mut on);
    }

    fn check(&self, more: usize) -> Result<(), TooLong> {
        if self.line.len() + self.data.len() + more > self.limit {
            Err(TooLong { limit: self.limit })
        } else {
            Ok(())
        }
    }

    /// An event of one line that is there with the blank line behind it, as nearly all are: nothing is copied. What
    /// follows it.
    fn whole<'a>(
        &mut self,
        line: &[u8],
        tail: &'a [u8],
        on: &mut impl FnMut(&str, &[u8]),
    ) -> Option<&'a [u8]> {
        let rest = tail.strip_prefix(b"\n\n")?;
        let value = line.strip_prefix(b"data:")?;
        if self.has_data || !self.line.is_empty() || !self.started {
            return None;
        }
        on(&self.name, value.strip_prefix(b" ").unwrap_or(value));
        self.name.clear();
        Some(rest)
    }

    fn take_line(&mut self, mut line: &[u8], on: &mut impl FnMut(&str, &[u8])) {
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                on(&self.name, &self.data);
            }
            self.data.clear();
            self.name.clear();
            return;
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(0) => return,
            Some(at) => {
                let (field, value) = line.split_at(at);
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.name.clear();
                self.name.push_str(&String::from_utf8_lossy(value));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut p = SseParser::default();
        let mut on = |n: &str, d: &[u8]| out.push((n.to_owned(), String::from_utf8_lossy(d).into_owned()));
        for piece in pieces {
            p.feed(piece, &mut on).unwrap();
        }
        p.end(&mut on);
        out
    }

    const MESSY: &[u8] = b"\xef\xbb\xbf: hello\r\nevent: a\r\ndata: one\r\ndata:two\r\n\r\n:ping\n\nid: 3\ndata\rdata: x\r\rdata: \xc3\xa9\n\nevent: lost\n\ndata: last";

    #[test]
    fn reads_comments_crlf_multi_line_data_and_a_missing_last_blank_line() {
        let got = events(&[MESSY]);
        let want = [("a", "one\ntwo"), ("", "\nx"), ("", "é"), ("", "last")];
        assert_eq!(got, want.map(|(n, d)| (n.to_owned(), d.to_owned())));
    }

    #[test]
    fn splits_anywhere_give_equal_events() {
        let whole = events(&[MESSY]);
        for at in 0..=MESSY.len() {
            let (a, b) = MESSY.split_at(at);
            assert_eq!(events(&[a, b]), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = MESSY.chunks(1).collect();
        assert_eq!(events(&bytes), whole);
    }

    #[test]
    fn refuses_an_event_over_the_limit_even_without_any_line_end() {
        let mut p = SseParser::with_limit(10);
        assert_eq!(p.feed(b"data: 0123456789", |_, _| {}), Err(TooLong { limit: 10 }));
    }

    #[test]
    fn a_line_over_the_limit_is_refused_wherever_it_is_split() {
        for stream in [&b": a comment of many words\n\n"[..], b"data: 1234\ndata: 5678\n\n"] {
            for at in 0..=stream.len() {
                let (a, b) = stream.split_at(at);
                let mut p = SseParser::with_limit(10);
                let taken = p.feed(a, |_, _| {}).and_then(|()| p.feed(b, |_, _| {}));
                assert_eq!(taken, Err(TooLong { limit: 10 }), "split at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_a_panic_and_splits_do_not_matter(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>()) {
            let at = if bytes.is_empty() { 0 } else { at.index(bytes.len()) };
            let (a, b) = bytes.split_at(at);
            prop_assert_eq!(events(&[a, b]), events(&[&bytes]));
        }
    }
}
