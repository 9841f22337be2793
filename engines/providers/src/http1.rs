//! The answers of an HTTP/1 server, as a pure state machine: bytes in, a head and the pieces of its body out, whatever
//! the places where the bytes were split (RFC 9112).
//!
//! Strict where leniency would let one answer be taken for another: two lengths that differ, a chunk's size with a sign,
//! a line of chunks that ends in LF alone. What is refused closes the connection, and so does a length beside chunks.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// A head is at most this long, all interim ones of an answer together.
pub const HEAD_LIMIT: usize = 64 << 10;
/// Headers of one head.
const HEADERS: usize = 128;
/// Extensions of a chunk's size, and trailers, are read and thrown away up to here.
const IDLE_LIMIT: usize = 16 << 10;

/// The bytes are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no HTTP/1 response: {0}")]
pub struct Malformed(&'static str);

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status, never an interim one.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection can be used again behind the body's end.
    pub keep_alive: bool,
}

/// Reads a head from the beginning of `bytes`, interim ones (1xx) passed over: it and its length, or `None` while it is
/// not all there.
pub fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut passed = 0;
    loop {
        let Some((head, length)) = one(bytes.get(passed..).unwrap_or_default())? else {
            return if bytes.len() > HEAD_LIMIT { Err(Malformed("the head is too long")) } else { Ok(None) };
        };
        passed += length;
        if passed > HEAD_LIMIT {
            return Err(Malformed("the head is too long"));
        }
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS => return Err(Malformed("nobody asked for another protocol")),
            s if s.is_informational() => {}
            _ => return Ok(Some((head, passed))),
        }
    }
}

fn one(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut space = [const { std::mem::MaybeUninit::uninit() }; HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("its head cannot be read")),
    };
    let status = parsed.code.and_then(|c| StatusCode::from_u16(c).ok()).ok_or(Malformed("its status"))?;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for h in parsed.headers.iter() {
        let name =
            HeaderName::from_bytes(h.name.as_bytes()).map_err(|_| Malformed("the name of a header"))?;
        let value = HeaderValue::from_bytes(h.value).map_err(|_| Malformed("the value of a header"))?;
        headers.append(name, value);
    }
    if parsed.version == Some(0) && headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Malformed("HTTP/1.0 knows no chunks"));
    }
    let (framing, plain) = framing(status, &headers)?;
    let says = |word: &str| {
        let options = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
        options.flat_map(|v| v.split(',')).any(|o| o.trim().eq_ignore_ascii_case(word))
    };
    let lasts = if parsed.version == Some(1) { !says("close") } else { says("keep-alive") };
    let keep_alive = plain && lasts && framing != Framing::ToTheEnd;
    Ok(Some((Head { status, headers, framing, keep_alive }, length)))
}

/// How the body ends, and whether the headers agree about it (RFC 9112, 6.3).
fn framing(status: StatusCode, headers: &HeaderMap) -> Result<(Framing, bool), Malformed> {
    if status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok((Framing::Length(0), true));
    }
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_| Malformed("its length"))?;
        for part in text.split(',').map(str::trim) {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let n = part.parse::<u64>().ok().filter(|_| digits).ok_or(Malformed("its length"))?;
            if length.is_some_and(|other| other != n) {
                return Err(Malformed("it has two lengths"));
            }
            length = Some(n);
        }
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter().peekable();
    if codings.peek().is_some() {
        let last = codings.last().and_then(|v| v.to_str().ok()).and_then(|v| v.rsplit(',').next());
        let chunked = last.is_some_and(|c| c.trim().eq_ignore_ascii_case("chunked"));
        let framing = if chunked { Framing::Chunked(Chunk::Start) } else { Framing::ToTheEnd };
        // A length beside it: whoever stands between may have read another answer than this one.
        return Ok((framing, length.is_none()));
    }
    Ok((length.map_or(Framing::ToTheEnd, Framing::Length), true))
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Until the connection ends.
    ToTheEnd,
}

/// Where in the chunks the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// At the first digit of a size.
    Start,
    /// In a size of which this much was read, and so many digits.
    Size(u64, u8),
    /// In the blanks behind a size, so many.
    Blank(u64, usize),
    /// Behind a size, so far into what it is extended by.
    Extension(u64, usize),
    /// At the LF behind a size.
    SizeEnd(u64),
    /// So many bytes before a chunk's end.
    Data(u64),
    /// At the CR behind a chunk.
    DataCr,
    /// At the LF behind a chunk.
    DataLf,
    /// At the beginning of a line behind the last chunk, trailers so long behind it.
    Trailer(usize),
    /// In such a line.
    TrailerLine(usize),
    /// At the LF of such a line.
    TrailerLf(usize),
    /// At the LF of the last line.
    LastLf,
    /// Behind it all.
    End,
}

impl Framing {
    /// Whether the body is complete.
    pub fn is_complete(&self) -> bool {
        matches!(self, Framing::Length(0) | Framing::Chunked(Chunk::End))
    }

    /// Whether a body that the connection's end cuts off here is complete.
    pub fn may_end(&self) -> bool {
        matches!(self, Framing::ToTheEnd) || self.is_complete()
    }

    /// Takes the next bytes and hands over the body's. How many were taken: all, unless the body ends before.
    pub fn take(&mut self, bytes: &[u8], mut on: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        match self {
            Framing::ToTheEnd => {
                on(bytes);
                Ok(bytes.len())
            }
            Framing::Length(left) => {
                let data = up_to(bytes, *left);
                *left -= data.len() as u64;
                if !data.is_empty() {
                    on(data);
                }
                Ok(data.len())
            }
            Framing::Chunked(at) => {
                let mut rest = bytes;
                while let Some((&first, behind)) = rest.split_first() {
                    match *at {
                        Chunk::End => break,
                        Chunk::Data(left) => {
                            let data = up_to(rest, left);
                            let left = left - data.len() as u64;
                            *at = if left == 0 { Chunk::DataCr } else { Chunk::Data(left) };
                            rest = rest.get(data.len()..).unwrap_or_default();
                            on(data);
                        }
                        _ => {
                            *at = at.byte(first)?;
                            rest = behind;
                        }
                    }
                }
                Ok(bytes.len() - rest.len())
            }
        }
    }
}

fn up_to(bytes: &[u8], n: u64) -> &[u8] {
    let n = usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(..n).unwrap_or_default()
}

impl Chunk {
    /// Behind one byte that is no data.
    fn byte(self, b: u8) -> Result<Chunk, Malformed> {
        let digit = || char::from(b).to_digit(16).map(u64::from);
        let size = |so_far: u64, digits: u8| -> Result<Chunk, Malformed> {
            let d = digit().ok_or(Malformed("the size of a chunk"))?;
            // Four bits for each digit, and no more than fit.
            if digits >= 16 {
                return Err(Malformed("a chunk is too large"));
            }
            Ok(Chunk::Size(so_far << 4 | d, digits + 1))
        };
        let idle =
            |n: usize| if n < IDLE_LIMIT { Ok(n + 1) } else { Err(Malformed("too much beside the body")) };
        let lf = |next: Chunk| if b == b'\n' { Ok(next) } else { Err(Malformed("the end of a line")) };
        match self {
            Chunk::Start => size(0, 0),
            Chunk::Size(n, digits) => match b {
                b'\r' => Ok(Chunk::SizeEnd(n)),
                b';' => Ok(Chunk::Extension(n, 0)),
                b' ' | b'\t' => Ok(Chunk::Blank(n, 0)),
                _ => size(n, digits),
            },
            Chunk::Blank(n, so_far) => match b {
                b'\r' => Ok(Chunk::SizeEnd(n)),
                b';' => Ok(Chunk::Extension(n, so_far)),
                b' ' | b'\t' => Ok(Chunk::Blank(n, idle(so_far)?)),
                _ => Err(Malformed("the size of a chunk")),
            },
            Chunk::Extension(n, so_far) => match b {
                b'\r' => Ok(Chunk::SizeEnd(n)),
                b'\n' => Err(Malformed("the end of a line")),
                _ => Ok(Chunk::Extension(n, idle(so_far)?)),
            },
            Chunk::SizeEnd(n) => lf(if n == 0 { Chunk::Trailer(0) } else { Chunk::Data(n) }),
            Chunk::DataCr if b == b'\r' => Ok(Chunk::DataLf),
            Chunk::DataCr => Err(Malformed("a chunk is longer than its size")),
            Chunk::DataLf => lf(Chunk::Start),
            Chunk::Trailer(_) if b == b'\r' => Ok(Chunk::LastLf),
            Chunk::Trailer(so_far) | Chunk::TrailerLine(so_far) => match b {
                b'\r' => Ok(Chunk::TrailerLf(so_far)),
                b'\n' => Err(Malformed("the end of a line")),
                _ => Ok(Chunk::TrailerLine(idle(so_far)?)),
            },
            Chunk::TrailerLf(so_far) => lf(Chunk::Trailer(so_far)),
            Chunk::LastLf => lf(Chunk::End),
            Chunk::Data(_) | Chunk::End => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole body, the bytes behind it, and whether it is complete.
    fn body(pieces: &[&[u8]], mut framing: Framing) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
        let (mut out, mut behind) = (Vec::new(), Vec::new());
        for piece in pieces {
            let taken = framing.take(piece, |data| out.extend_from_slice(data))?;
            behind.extend_from_slice(&piece[taken..]);
        }
        Ok((out, behind, framing.is_complete()))
    }

    const CHUNKS: &[u8] = b"5;name=\"x\"\r\nhello\r\n0A \r\n, world!!!\r\n0\r\nx: y\r\nz: 1\r\n\r\nHTTP";

    #[test]
    fn chunks_give_the_same_body_wherever_they_are_split() {
        let start = Framing::Chunked(Chunk::Start);
        let want = (b"hello, world!!!".to_vec(), b"HTTP".to_vec(), true);
        for at in 0..=CHUNKS.len() {
            let (a, b) = CHUNKS.split_at(at);
            assert_eq!(body(&[a, b], start).unwrap(), want, "split at {at}");
        }
        let bytes: Vec<&[u8]> = CHUNKS.chunks(1).collect();
        assert_eq!(body(&bytes, start).unwrap(), want);
        for end in 0..CHUNKS.len() - 4 {
            assert!(!body(&[&CHUNKS[..end]], start).unwrap().2, "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bad in [
            "\r\n",
            "+5\r\nhello",
            "-1\r\n",
            "0x5\r\nhello",
            "5\nhello",
            "5\r\rhello",
            "5\r\nhelloo\r\n",
            "5\r\nhello\n0\r\n",
            "5;a\nhello",
            "5 6\r\nhello",
            "5 zz\r\nhello",
            "00000000000000005\r\nhello",
            "ffffffffffffffffff\r\n",
            "0\r\na: b\n",
            "g\r\n",
            "5\r\nhello\r\n\r\n",
        ] {
            assert!(body(&[bad.as_bytes()], Framing::Chunked(Chunk::Start)).is_err(), "{bad:?}");
        }
        let long = format!("1;{}", "x".repeat(IDLE_LIMIT + 1));
        assert!(body(&[long.as_bytes()], Framing::Chunked(Chunk::Start)).is_err());
    }

    #[test]
    fn a_length_ends_a_body_and_the_rest_is_left() {
        let got = body(&[b"hel", b"lo", b"more"], Framing::Length(5)).unwrap();
        assert_eq!(got, (b"hello".to_vec(), b"more".to_vec(), true));
        assert!(!body(&[b"hel"], Framing::Length(5)).unwrap().2);
        assert!(!body(&[b"hel"], Framing::ToTheEnd).unwrap().2);
        assert!(Framing::ToTheEnd.may_end() && !Framing::Length(1).may_end());
    }

    fn read(text: &str) -> Result<(u16, Framing, bool), Malformed> {
        let (h, n) = head(text.as_bytes())?.expect("all of it is there");
        assert_eq!(n, text.len());
        Ok((h.status.as_u16(), h.framing, h.keep_alive))
    }

    #[test]
    fn a_head_says_how_its_body_ends_and_whether_the_connection_lasts() {
        let chunked = Framing::Chunked(Chunk::Start);
        for (text, want) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", (200, Framing::Length(5), true)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\nContent-Length: 5\r\n\r\n",
                (200, Framing::Length(5), true),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close\r\n\r\n",
                (200, Framing::Length(5), false),
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", (200, Framing::Length(5), false)),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n",
                (200, Framing::Length(5), true),
            ),
            ("HTTP/1.1 429 \r\ntransfer-encoding: gzip, chunked\r\n\r\n", (429, chunked, true)),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n",
                (200, chunked, false),
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", (200, Framing::ToTheEnd, false)),
            ("HTTP/1.1 200 OK\r\n\r\n", (200, Framing::ToTheEnd, false)),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", (204, Framing::Length(0), true)),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                (200, Framing::Length(0), true),
            ),
        ] {
            assert_eq!(read(text).unwrap(), want, "{text}");
            for at in 0..text.len() {
                let part = head(&text.as_bytes()[..at]).unwrap();
                assert!(part.is_none(), "{text} cut at {at}");
            }
        }
    }

    #[test]
    fn a_head_that_can_be_read_in_two_ways_is_refused() {
        for bad in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 99 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n",
        ] {
            assert!(head(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(HEAD_LIMIT));
        assert!(head(long.as_bytes()).is_err());
        let interim = "HTTP/1.1 103 x\r\n\r\n".repeat(HEAD_LIMIT / 16);
        assert!(head(interim.as_bytes()).is_err());
    }
}
