//! Text files as UTF-8, whatever they are written in.
//!
//! A byte order mark is believed. Without one the text is UTF-8 unless another encoding is declared: nothing is guessed from
//! the bytes, because a wrong guess is silent and an error is not.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use encoding_rs::{Decoder, DecoderResult};

use crate::Error;
use crate::error::Place;
use crate::source::packed;

/// An encoding of text that somebody declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

impl FromStr for Encoding {
    type Err = Error;

    /// By any label of the WHATWG's list: `utf-8`, `utf-16le`, `latin1`, `windows-1252`, `shift_jis`, …
    fn from_str(label: &str) -> Result<Encoding, Error> {
        encoding_rs::Encoding::for_label(label.as_bytes()).map(Encoding).ok_or_else(|| {
            Error::invalid(
                format!("the encoding `{label}`"),
                "take a label of the WHATWG's list, as utf-8, utf-16le, latin1, windows-1252 or shift_jis",
            )
        })
    }
}

/// What is said about bytes that are not UTF-8.
pub(super) const NOT_UTF8: &str =
    "declare its encoding (`--encoding latin1`, `utf-16le`, `windows-1252`, …), or save it as UTF-8";

/// Opens a text file. What it yields is UTF-8 when an encoding was declared or marked, and the file's bytes otherwise.
pub(super) fn open(path: &Path, declared: Option<Encoding>) -> Result<Box<dyn Read + Send>, Error> {
    let failed = |e: io::Error| unreadable(path, &e);
    let mut file = BufReader::with_capacity(1 << 16, packed::open(path)?);
    let mut start = [0; 4];
    let mut filled = 0;
    while let Some(rest) = start.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(failed)? {
            0 => break,
            n => filled += n,
        }
    }
    let start = start.get(..filled).unwrap_or_default().to_vec();
    let marked = encoding_rs::Encoding::for_bom(&start);
    let encoding = match (marked, declared) {
        (Some((marked, _)), Some(Encoding(declared))) if marked != declared => {
            let problem =
                format!("it is declared {}, and its byte order mark says {}", declared.name(), marked.name());
            return Err(Error::source(
                Place::file(path),
                problem,
                "declare what it is, or leave it to the mark",
            ));
        }
        (Some((marked, _)), _) => marked,
        (None, Some(Encoding(declared))) => declared,
        (None, None) => encoding_rs::UTF_8,
    };
    let skipped = marked.map_or(0, |(_, length)| length);
    let bytes = io::Cursor::new(start.get(skipped..).unwrap_or_default().to_vec()).chain(file);
    if encoding == encoding_rs::UTF_8 {
        return Ok(Box::new(bytes));
    }
    Ok(Box::new(Decoded {
        inner: bytes,
        decoder: encoding.new_decoder_without_bom_handling(),
        name: encoding.name(),
        input: vec![0; 1 << 15],
        pending: 0..0,
        output: vec![0; 1 << 17],
        ready: 0..0,
        offset: skipped as u64,
        ended: false,
    }))
}

/// The error of a file that cannot be opened or read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "give this user read access to it",
        io::ErrorKind::InvalidData => NOT_UTF8,
        io::ErrorKind::UnexpectedEof => "the file may be truncated or damaged: fetch it again",
        _ => "check the file and its disk",
    };
    Error::source(Place::file(path), error.to_string(), remedy)
}

struct Decoded<R> {
    inner: R,
    decoder: Decoder,
    name: &'static str,
    input: Vec<u8>,
    /// What of `input` is not decoded yet.
    pending: std::ops::Range<usize>,
    output: Vec<u8>,
    /// What of `output` nobody has read yet.
    ready: std::ops::Range<usize>,
    /// Where in the file `pending` begins.
    offset: u64,
    ended: bool,
}

impl<R: Read> Decoded<R> {
    fn fill(&mut self) -> io::Result<()> {
        while self.ready.is_empty() && !(self.ended && self.pending.is_empty()) {
            if self.pending.is_empty() {
                let n = self.inner.read(&mut self.input)?;
                self.pending = 0..n;
                self.ended = n == 0;
            }
            let source = self.input.get(self.pending.clone()).unwrap_or_default();
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(source, &mut self.output, self.ended);
            self.pending.start += read;
            self.offset += read as u64;
            self.ready = 0..written;
            if let DecoderResult::Malformed(..) = result {
                let said = format!("the bytes before offset {} are not {}", self.offset, self.name);
                return Err(io::Error::new(io::ErrorKind::InvalidData, said));
            }
            if self.ended && matches!(result, DecoderResult::InputEmpty) {
                break;
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let ready = self.output.get(self.ready.clone()).unwrap_or_default();
        let n = ready.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.ready.start += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], declared: Option<&str>) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, bytes).unwrap();
        let declared = declared.map(|label| label.parse().unwrap());
        let mut text = String::new();
        let mut reader = open(&path, declared).map_err(|e| e.to_string())?;
        reader.read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok(text)
    }

    fn utf16(text: &str, mark: bool) -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_byte_order_mark_is_believed(text in "\\PC{0,40}") {
            prop_assume!(!text.starts_with('\u{feff}'));
            prop_assert_eq!(read(&utf16(&text, true), None), Ok(text.clone()));
            let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
            prop_assert_eq!(read(&marked, None), Ok(text.clone()));
            prop_assert_eq!(read(&utf16(&text, false), Some("utf-16le")), Ok(text));
        }
    }

    #[test]
    fn a_declared_encoding_is_decoded_over_the_edges_of_its_buffers() {
        let text = "é".repeat(100_000);
        let latin: Vec<u8> = vec![0xe9; 100_000];
        assert_eq!(read(&latin, Some("latin1")), Ok(text));
    }

    #[test]
    fn bytes_that_are_not_the_declared_encoding_are_an_error_with_their_offset() {
        let said = read(b"ab\xff\xff", Some("shift_jis")).unwrap_err();
        assert!(said.contains("offset") && said.contains("Shift_JIS"), "{said}");
    }

    #[test]
    fn a_mark_that_contradicts_the_declaration_is_an_error() {
        let said = read(&utf16("x", true), Some("latin1")).unwrap_err();
        assert!(said.contains("UTF-16LE") && said.contains("windows-1252"), "{said}");
    }
}
