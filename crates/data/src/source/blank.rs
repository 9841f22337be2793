//! Empty lines of a CSV file with one column, which are rows: what reads the format passes over lines without anything on them,
//! and a null of the only column is written as nothing.
//!
//! After the header such a line becomes a quoted nothing. Lines before the header stay nothing, lines in quotes stay as they are,
//! and a file with more columns comes through as it is. Line breaks are neither added nor taken away.

use std::io::{self, Read};

/// Reads on as it came, with empty lines marked.
pub(super) struct Blank<R> {
    inner: R,
    delimiter: u8,
    at: At,
    header: Header,
    read: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
}

/// Where the last byte left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A line begins.
    Line,
    /// The same, after a `\r` that a `\n` may belong to.
    Return,
    /// A field begins behind a delimiter.
    Field,
    /// In a field.
    Plain,
    /// In quotes.
    Quoted,
    /// After a quote in quotes: it is the last, or one of two.
    Quote,
}

/// What is known of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// No line with anything on it came yet.
    Before,
    /// So far there is one column.
    One,
    /// The header was read, and it is one column.
    Known,
    /// There are several.
    Several,
}

impl<R: Read> Blank<R> {
    pub(super) fn new(inner: R, delimiter: u8) -> Blank<R> {
        let (at, header) = (At::Line, Header::Before);
        Blank { inner, delimiter, at, header, read: vec![0; 1 << 16], out: Vec::new(), sent: 0 }
    }

    fn take(&mut self, byte: u8) {
        let ends = matches!(byte, b'\n' | b'\r') && self.at != At::Quoted;
        if ends {
            let begins = self.at == At::Line || (self.at == At::Return && byte == b'\r');
            if begins && self.header == Header::Known {
                self.out.extend_from_slice(b"\"\"");
            }
            if self.header == Header::One {
                self.header = Header::Known;
            }
            self.at = if byte == b'\r' { At::Return } else { At::Line };
        } else {
            if self.header == Header::Before {
                self.header = Header::One;
            }
            self.at = match (self.at, byte) {
                (At::Quoted, b'"') => At::Quote,
                (At::Quoted, _) | (At::Quote | At::Line | At::Return | At::Field, b'"') => At::Quoted,
                (_, byte) if byte == self.delimiter => At::Field,
                _ => At::Plain,
            };
            if self.at == At::Field && self.header == Header::One {
                self.header = Header::Several;
            }
        }
        self.out.push(byte);
    }
}

impl<R: Read> Read for Blank<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.sent == self.out.len() {
            if self.header == Header::Several {
                return self.inner.read(to);
            }
            self.out.clear();
            self.sent = 0;
            let mut read = std::mem::take(&mut self.read);
            let n = self.inner.read(&mut read);
            if let Ok(n) = n {
                read.iter().take(n).for_each(|byte| self.take(*byte));
            }
            self.read = read;
            n?;
        }
        let rest = self.out.get(self.sent..).unwrap_or_default();
        let n = rest.len().min(to.len());
        for (to, byte) in to.iter_mut().zip(rest) {
            *to = *byte;
        }
        self.sent += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marked(text: &str) -> String {
        let mut out = String::new();
        Blank::new(text.as_bytes(), b',').read_to_string(&mut out).unwrap();
        out
    }

    #[test]
    fn empty_lines_after_a_header_of_one_column_are_marked() {
        assert_eq!(marked("\n\na\n\n1\n\n"), "\n\na\n\"\"\n1\n\"\"\n");
        assert_eq!(marked("a\r\n\r\n1\r\n"), "a\r\n\"\"\r\n1\r\n");
        assert_eq!(marked("a\r\r1\r"), "a\r\"\"\r1\r");
        assert_eq!(marked("a\n\"x\n\ny \"\" z\n\"\n\n"), "a\n\"x\n\ny \"\" z\n\"\n\"\"\n");
        assert_eq!(marked("\"a,b\"\n\n1"), "\"a,b\"\n\"\"\n1");
        assert_eq!(marked("a\nx\"y\n\n"), "a\nx\"y\n\"\"\n");
        assert_eq!(marked("a,b\n\n1,2\n"), "a,b\n\n1,2\n");
    }

    proptest! {
        #[test]
        fn every_row_of_one_column_is_read(rows in proptest::collection::vec("[ab\" \n\r,]{0,4}", 0..12)) {
            let quoted = |row: &String| match row.as_str() {
                "" => String::new(),
                row => format!("\"{}\"", row.replace('"', "\"\"")),
            };
            let text: String = rows.iter().map(|row| format!("{}\n", quoted(row))).collect();
            let blank = Blank::new(io::Cursor::new(format!("k\n{text}")), b',');
            let mut reader = csv::ReaderBuilder::new().from_reader(blank);
            let read: Vec<String> = reader.records().map(|r| r.unwrap()[0].to_owned()).collect();
            prop_assert_eq!(read, rows);
        }
    }
}
