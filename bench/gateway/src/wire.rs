//! The least of HTTP/1.1 that a mock and its clients need: where a head ends, how long a body is, chunks.

use memchr::memmem;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes(usize),
    Chunked,
}

/// A head that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its bytes, the blank line included.
    pub(crate) end: usize,
    /// The status of an answer; 0 for a request.
    pub(crate) status: u16,
    pub(crate) length: Length,
}

/// The head at the start of `bytes`, once it is whole.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    let end = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = bytes.get(..end)?;
    let status = match text.strip_prefix(b"HTTP/1.1 ") {
        Some(rest) => std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?,
        None => 0,
    };
    let mut length = Length::Bytes(0);
    for line in text.split(|b| *b == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Length::Bytes(std::str::from_utf8(value).ok()?.parse().ok()?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            length = Length::Chunked;
        }
    }
    Some(Head { end, status, length })
}

/// Takes a chunked body apart, whatever the places where it is cut.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// Bytes still to come of this chunk, its line end included.
    left: usize,
    size: Vec<u8>,
    last: bool,
    /// Whether the last chunk was read.
    pub(crate) ended: bool,
}

impl Chunks {
    /// Appends what `bytes` hold of the body to `out`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = bytes.first()
            && !self.ended
        {
            if self.left > 0 {
                let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
                // The last two of a chunk are its line end.
                let text = self.left.saturating_sub(2).min(part.len());
                out.extend_from_slice(part.get(..text).unwrap_or_default());
                self.left -= part.len();
                bytes = rest;
                if self.left == 0 && self.last {
                    self.ended = true;
                }
                continue;
            }
            bytes = bytes.get(1..).unwrap_or_default();
            if first != b'\n' {
                self.size.push(first);
                continue;
            }
            let digits = self.size.split(|b| *b == b';').next().unwrap_or_default();
            let digits = std::str::from_utf8(digits.trim_ascii()).unwrap_or("0");
            let size = usize::from_str_radix(digits, 16).unwrap_or(0);
            self.size.clear();
            self.last = size == 0;
            self.left = size + 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_wherever_they_are_cut() {
        let wire = b"3\r\nabc\r\na;x=1\r\n0123456789\r\n0\r\n\r\n";
        for cut in 0..=wire.len() {
            let (mut chunks, mut out) = (Chunks::default(), Vec::new());
            let (a, b) = wire.split_at(cut);
            chunks.feed(a, &mut out);
            chunks.feed(b, &mut out);
            assert_eq!((out.as_slice(), chunks.ended), (b"abc0123456789".as_slice(), true), "cut at {cut}");
        }
    }

    #[test]
    fn a_head_has_a_status_and_a_length() {
        let h = head(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello").unwrap();
        assert_eq!((h.status, h.length), (200, Length::Bytes(12)));
        let h = head(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        assert_eq!((h.status, h.length), (0, Length::Chunked));
        assert_eq!(head(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
