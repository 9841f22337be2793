//! Bytes in, a document out: text without markup, and where its sections are.
//!
//! Pure: no I/O, no model, no clock. Invariants: whatever the bytes are, the answer is a document or an error, never a
//! panic; what is kept in memory is bounded by [`Limits`]; spans lie on character boundaries, in order, not overlapping.

mod builder;
mod html;
mod markdown;
mod pdf;
mod plain;

use contract::{Code, Document, Error, Media};

use builder::Builder;

/// How much of a document is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the document as it came.
    pub max_bytes: usize,
    /// Bytes of text taken out.
    pub max_text_bytes: usize,
    /// Pages, of a PDF.
    pub max_pages: usize,
    /// Bytes that all compressed streams of a PDF which are looked at may grow to.
    pub max_decompressed_bytes: usize,
    /// Bytes that a page of a PDF may grow to: while it grows, it takes up to four times as much memory.
    pub max_page_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bytes: 32 << 20,
            max_text_bytes: 16 << 20,
            max_pages: 2_000,
            max_decompressed_bytes: 128 << 20,
            max_page_bytes: 32 << 20,
        }
    }
}

/// Takes the text out of a document. Without a declared type, the bytes are looked at ([`sniff`]).
///
/// Errors: `invalid_document` when the bytes are not what they claim to be or hold no text, `too_large` when a limit
/// is passed. May occupy a core for as long as the limits let it: run it aside.
pub fn extract(bytes: &[u8], media: Option<Media>, limits: &Limits) -> Result<Document, Error> {
    if bytes.len() > limits.max_bytes {
        return Err(too_large("the document", limits.max_bytes, "bytes"));
    }
    if bytes.is_empty() {
        return Err(invalid("the document is empty: send its bytes as the body or as the file of a form"));
    }
    let media = media.unwrap_or_else(|| sniff(bytes));
    let mut out = Builder::new(limits.max_text_bytes);
    match media {
        Media::Plain => plain::extract(&decode(bytes)?, &mut out)?,
        Media::Markdown => markdown::extract(&decode(bytes)?, &mut out)?,
        Media::Html => html::extract(&decode(bytes)?, &mut out)?,
        Media::Pdf => pdf::extract(bytes, limits, &mut out)?,
    }
    let doc = out.finish(media);
    if doc.text.trim().is_empty() {
        return Err(invalid(match media {
            Media::Pdf => {
                "the PDF holds no text, only images perhaps: run it through text recognition (OCR) first"
            }
            Media::Html => "the HTML page shows no text: if a script writes it, send the page as rendered",
            Media::Plain | Media::Markdown => "the document holds nothing but blanks",
        }));
    }
    Ok(doc)
}

/// The type of a document by its `Content-Type`; parameters are ignored, an unknown type is `None`.
pub fn media_of(content_type: &str) -> Option<Media> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Some(match essence.as_str() {
        "text/plain" => Media::Plain,
        "text/markdown" | "text/x-markdown" => Media::Markdown,
        "text/html" | "application/xhtml+xml" => Media::Html,
        "application/pdf" | "application/x-pdf" => Media::Pdf,
        _ => return None,
    })
}

/// The type of a document by the ending of its file's name.
pub fn media_of_name(name: &str) -> Option<Media> {
    let (_, ending) = name.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "txt" | "text" | "log" => Media::Plain,
        "md" | "markdown" => Media::Markdown,
        "html" | "htm" | "xhtml" => Media::Html,
        "pdf" => Media::Pdf,
        _ => return None,
    })
}

/// The type of a document by its first bytes: PDF by its header (which may stand within the first kilobyte), HTML by
/// its first tag, Markdown by a heading line; else plain text.
pub fn sniff(bytes: &[u8]) -> Media {
    let head = bytes.get(..bytes.len().min(1024)).unwrap_or_default();
    if memchr::memmem::find(head, b"%PDF-").is_some() {
        return Media::Pdf;
    }
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let start = head.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(head.len());
    let lower: Vec<u8> = head.iter().skip(start).map(u8::to_ascii_lowercase).collect();
    const TAGS: [&[u8]; 8] =
        [b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<!--", b"<div", b"<h1"];
    if TAGS.iter().any(|t| lower.starts_with(t)) && memchr::memchr(b'>', &lower).is_some() {
        return Media::Html;
    }
    let heading = |line: &[u8]| {
        let hashes = line.iter().take_while(|b| **b == b'#').count();
        (1..=6).contains(&hashes) && line.get(hashes) == Some(&b' ')
    };
    if head.split(|b| *b == b'\n').any(heading) { Media::Markdown } else { Media::Plain }
}

/// UTF-8, or UTF-16 when a byte order mark says so. The mark is not part of the text.
fn decode(bytes: &[u8]) -> Result<String, Error> {
    let wide = |rest: &[u8], from: fn([u8; 2]) -> u16| {
        let mut offset = 2;
        let units = rest.as_chunks::<2>().0.iter().map(|c| from(*c));
        let mut text = String::with_capacity(rest.len() / 2);
        for c in char::decode_utf16(units) {
            match c {
                Ok(c) => {
                    offset += c.len_utf16() * 2;
                    text.push(c);
                }
                Err(_) => return Err(offset),
            }
        }
        if rest.len() % 2 == 1 { Err(bytes.len() - 1) } else { Ok(text) }
    };
    let (name, decoded) = if let Some(rest) = bytes.strip_prefix(b"\xFF\xFE") {
        ("UTF-16", wide(rest, u16::from_le_bytes))
    } else if let Some(rest) = bytes.strip_prefix(b"\xFE\xFF") {
        ("UTF-16", wide(rest, u16::from_be_bytes))
    } else {
        let rest = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let skipped = bytes.len() - rest.len();
        ("UTF-8", std::str::from_utf8(rest).map(str::to_owned).map_err(|e| skipped + e.valid_up_to()))
    };
    let text = decoded.map_err(|at| {
        invalid(format!(
            "the document is not valid {name} at byte {at}: convert it to UTF-8, or declare its type"
        ))
    })?;
    if let Some(at) = memchr::memchr(0, text.as_bytes()) {
        return Err(invalid(format!(
            "the document is binary, not text (a zero at byte {at}): send text, Markdown, HTML or PDF"
        )));
    }
    Ok(text)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidDocument, message)
}

fn too_large(what: &str, limit: usize, unit: &str) -> Error {
    Error::new(
        Code::TooLarge,
        format!("{what} is over the limit of {limit} {unit}: send a shorter one or split it"),
    )
}

#[cfg(test)]
mod tests;
