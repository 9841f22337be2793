//! The lines of a batch's file: read piece by piece, and checked one by one.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::{Buf, Bytes, BytesMut};
use contract::{TenantId, UnixMillis};
use serde::Deserialize;
use serde_json::value::RawValue;
use store::FileStore;

use super::object::Problem;

/// How much of a file is read at once, in bytes.
const PIECE: usize = 256 << 10;
/// The longest `custom_id`, in bytes.
const MAX_CUSTOM_ID: usize = 512;

/// A line that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Where in the file it ends.
    pub(super) end: u64,
    pub(super) text: Bytes,
}

/// What is read next.
#[derive(Debug)]
pub(super) enum Next {
    Line(Line),
    /// The line of that number is longer than may be. The next one is that behind it.
    TooLong(u64),
    End,
    /// There is no such file any more.
    Gone,
}

/// Reads the lines of a file. It holds a piece of it, or a line when that is longer.
pub(super) struct Lines<'a> {
    pub(super) files: &'a dyn FileStore,
    pub(super) tenant: &'a TenantId,
    pub(super) file: &'a str,
    /// The longest line, in bytes without its end.
    pub(super) longest: usize,
    /// Lines before, and where they end.
    pub(super) number: u64,
    pub(super) offset: u64,
    buffer: BytesMut,
    /// Searched so far without the end of a line.
    searched: usize,
    /// In a line that is too long.
    skips: bool,
    ended: bool,
}

impl<'a> Lines<'a> {
    /// From behind line `number`, which ends at `offset`.
    pub(super) fn new(
        files: &'a dyn FileStore,
        tenant: &'a TenantId,
        file: &'a str,
        longest: usize,
        (number, offset): (u64, u64),
    ) -> Self {
        let buffer = BytesMut::new();
        Lines {
            files,
            tenant,
            file,
            longest,
            number,
            offset,
            buffer,
            searched: 0,
            skips: false,
            ended: false,
        }
    }

    /// The next line that is not blank. Whether one is too long is decided by its own length, wherever the reading began.
    pub(super) async fn next(&mut self, now: UnixMillis) -> Result<Next, store::Error> {
        loop {
            let unread = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = unread.iter().position(|b| *b == b'\n') {
                let length = self.searched + at;
                let text = self.take(length);
                self.buffer.advance(1);
                self.offset += 1;
                match text {
                    _ if std::mem::take(&mut self.skips) => continue,
                    _ if length > self.longest => return Ok(Next::TooLong(self.number)),
                    Some(line) => return Ok(Next::Line(Line { end: self.offset, ..line })),
                    None => continue,
                }
            }
            if self.skips || self.buffer.len() > self.longest {
                // Its number is counted with its end.
                let begins = !std::mem::replace(&mut self.skips, true);
                self.offset += self.buffer.len() as u64;
                self.buffer.clear();
                self.searched = 0;
                if begins {
                    return Ok(Next::TooLong(self.number + 1));
                }
            }
            self.searched = self.buffer.len();
            if self.ended {
                let rest = self.buffer.len();
                return Ok(match rest {
                    0 => Next::End,
                    _ => self.take(rest).map_or(Next::End, Next::Line),
                });
            }
            let from = self.offset + self.buffer.len() as u64;
            let Some(piece) = self.files.read_at(self.tenant, self.file, from, PIECE, now).await? else {
                return Ok(Next::Gone);
            };
            self.ended = piece.is_empty();
            self.buffer.extend_from_slice(&piece);
        }
    }

    /// The next `length` bytes as a line, unless they are blank.
    fn take(&mut self, length: usize) -> Option<Line> {
        self.searched = 0;
        self.number += 1;
        self.offset += length as u64;
        let text = self.buffer.split_to(length).freeze();
        let blank = text.iter().all(u8::is_ascii_whitespace);
        (!blank).then_some(Line { number: self.number, end: self.offset, text })
    }
}

/// A sound line.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) custom_id: Cow<'a, str>,
    pub(super) body: &'a RawValue,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    custom_id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Body {
    model: Option<serde_json::Value>,
    stream: Option<serde_json::Value>,
    background: Option<serde_json::Value>,
}

/// Reads a line of a batch for `endpoint`, or says what is wrong with it.
pub(super) fn read<'a>(line: &'a Line, endpoint: &str) -> Result<Request<'a>, Problem> {
    let wrong = |code: &str, param: Option<&str>, message: String| Problem {
        code: code.to_owned(),
        message,
        param: param.map(str::to_owned),
        line: Some(line.number),
    };
    let no_object =
        || wrong("invalid_json_line", None, "This line is not parseable as a JSON object.".to_owned());
    // A list of the members would do for the parser.
    if line.text.trim_ascii_start().first() != Some(&b'{') {
        return Err(no_object());
    }
    let parsed: Members<'a> = serde_json::from_slice(&line.text).map_err(|_| no_object())?;
    let text = |name: &'static str, value: Option<&'a RawValue>| {
        let value = value.ok_or_else(|| {
            wrong("missing_required_parameter", Some(name), format!("Missing required parameter: '{name}'."))
        })?;
        // Escapes make it another text than what stands there.
        let borrowed = serde_json::from_str::<&str>(value.get()).map(Cow::Borrowed);
        borrowed.or_else(|_| serde_json::from_str::<String>(value.get()).map(Cow::Owned)).map_err(|_| {
            wrong("invalid_type", Some(name), format!("The parameter '{name}' must be a string."))
        })
    };
    let custom_id = text("custom_id", parsed.custom_id)?;
    if custom_id.is_empty() || custom_id.len() > MAX_CUSTOM_ID {
        let m = format!("The custom_id must have from 1 to {MAX_CUSTOM_ID} bytes.");
        return Err(wrong("invalid_custom_id", Some("custom_id"), m));
    }
    if text("method", parsed.method)? != "POST" {
        return Err(wrong("invalid_method", Some("method"), "The method must be POST.".to_owned()));
    }
    let url = text("url", parsed.url)?;
    if url != endpoint {
        let m = format!("The URL of this line must be the endpoint of the batch, '{endpoint}'.");
        return Err(wrong("invalid_url", Some("url"), m));
    }
    let body = parsed.body.ok_or_else(|| {
        wrong("missing_required_parameter", Some("body"), "Missing required parameter: 'body'.".to_owned())
    })?;
    let object = body.get().starts_with('{').then(|| serde_json::from_str(body.get()).ok()).flatten();
    let members: Body = object.ok_or_else(|| {
        wrong("invalid_type", Some("body"), "The parameter 'body' must be a JSON object.".to_owned())
    })?;
    if !members.model.is_some_and(|m| m.is_string()) {
        let m = "Missing required parameter: 'body.model', a string.".to_owned();
        return Err(wrong("missing_required_parameter", Some("body.model"), m));
    }
    let on = |flag: &Option<serde_json::Value>| flag.as_ref().is_some_and(|v| v == true);
    for (name, flag) in [("body.stream", &members.stream), ("body.background", &members.background)] {
        if on(flag) {
            let m = format!("A line of a batch is answered as a whole and later: leave out '{name}'.");
            return Err(wrong("invalid_value", Some(name), m));
        }
    }
    Ok(Request { custom_id, body })
}

/// The `custom_id`s of a file so far, by 16 bytes of a hash.
#[derive(Debug, Default)]
pub(super) struct Known(HashSet<[u8; 16]>);

impl Known {
    /// Whether it is a new one.
    pub(super) fn insert(&mut self, custom_id: &str) -> bool {
        let hash = blake3::hash(custom_id.as_bytes());
        self.0.insert(*hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { number: 7, end: 0, text: Bytes::copy_from_slice(text.as_bytes()) }
    }

    #[test]
    fn a_sound_line_is_read_with_its_body_as_it_stands() {
        let of = line(
            r#"{"custom_id":"a\"b","method":"POST","url":"/v1/responses","body":{ "model":"m", "x":1.50 }, "more":1}"#,
        );
        let read = read(&of, "/v1/responses").unwrap();
        assert_eq!((&*read.custom_id, read.body.get()), ("a\"b", r#"{ "model":"m", "x":1.50 }"#));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named_with_its_number() {
        let with = |custom_id: &str, method: &str, url: &str, body: &str| {
            format!(r#"{{"custom_id":{custom_id},"method":{method},"url":{url},"body":{body}}}"#)
        };
        let url = r#""/v1/responses""#;
        for (text, code, param) in [
            ("{".to_owned(), "invalid_json_line", None),
            ("[1]".to_owned(), "invalid_json_line", None),
            ("{}".to_owned(), "missing_required_parameter", Some("custom_id")),
            (with("7", "\"POST\"", url, "{}"), "invalid_type", Some("custom_id")),
            (with("\"\"", "\"POST\"", url, "{}"), "invalid_custom_id", Some("custom_id")),
            (with("\"a\"", "\"GET\"", url, "{}"), "invalid_method", Some("method")),
            (with("\"a\"", "\"POST\"", "\"/v1/messages\"", "{}"), "invalid_url", Some("url")),
            (with("\"a\"", "\"POST\"", url, "[]"), "invalid_type", Some("body")),
            (with("\"a\"", "\"POST\"", url, "{}"), "missing_required_parameter", Some("body.model")),
            (
                with("\"a\"", "\"POST\"", url, r#"{"model":"m","stream":true}"#),
                "invalid_value",
                Some("body.stream"),
            ),
        ] {
            let problem = read(&line(&text), "/v1/responses").unwrap_err();
            assert_eq!(
                (problem.code.as_str(), problem.param.as_deref(), problem.line),
                (code, param, Some(7)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_id_is_known_from_its_first_line_on() {
        let mut known = Known::default();
        assert!(known.insert("a") && known.insert("b") && !known.insert("a"));
    }
}
