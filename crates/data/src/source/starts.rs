//! Where the rows of delimited text begin, and whether its quotes are closed: what the reader of the format does not tell.
//!
//! The text goes through as it is. On its way it is taken apart as RFC 4180 has it, and as the reader behind does: a quote opens a
//! field only where a field begins, two of them in quotes are one, and a line without anything on it is no row. A line ends in
//! `\n`, `\r\n` or `\r`.
//!
//! **Invariant.** No row is swallowed without a word: a quote that is opened and never closed, or that is closed on another line
//! in the middle of a field, is told with the line that it was opened on.

use std::collections::VecDeque;
use std::io::{self, Read};

use memchr::memchr3;

use crate::source::ROW_BYTES;

/// The message of an error when a row is longer than [`ROW_BYTES`].
pub(super) const TOO_LONG: &str = "a row is longer than 16 MiB";

/// Reads on as it came, and keeps count of rows.
pub(super) struct Starts<R> {
    inner: R,
    delimiter: u8,
    at: At,
    /// The byte before, between quotes.
    last: u8,
    /// The last byte was a `\r`, which a `\n` may belong to.
    returned: bool,
    /// Bytes that were taken apart.
    offset: u64,
    /// The line of the next byte.
    line: u64,
    /// Where rows begin that nobody asked for yet: offset and line.
    rows: VecDeque<(u64, u64)>,
    /// Where the last of them begins.
    row: u64,
    /// The line on which the last quote was opened.
    quote: u64,
    /// The first row with a quote that is not closed as it has to be, and the line of the quote.
    open: Option<(u64, u64)>,
    /// Where the row begins that is being read.
    reading: u64,
}

/// Where the last byte left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A line begins.
    Line,
    /// On a line, and not in quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// After a quote in quotes: it is the last, or one of two.
    Quote,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// The line it begins on, counted from 1.
    pub(super) line: u64,
    /// The line of a quote in it that is not closed as it has to be.
    pub(super) open_quote: Option<u64>,
}

impl<R: Read> Starts<R> {
    pub(super) fn new(inner: R, delimiter: u8) -> Starts<R> {
        Starts {
            inner,
            delimiter,
            at: At::Line,
            last: delimiter,
            returned: false,
            offset: 0,
            line: 1,
            rows: VecDeque::new(),
            row: 0,
            quote: 0,
            open: None,
            reading: 0,
        }
    }

    /// What is read next is a row that begins at this offset or behind it.
    pub(super) fn begin(&mut self, from: u64) {
        self.reading = from;
    }

    /// The row that was read. Rows are asked for in their order, each once.
    pub(super) fn row(&mut self) -> Row {
        while self.rows.front().is_some_and(|(offset, _)| *offset < self.reading) {
            self.rows.pop_front();
        }
        let (offset, line) = self.rows.pop_front().unwrap_or((self.row, self.line));
        Row { line, open_quote: self.open.filter(|(row, _)| *row == offset).map(|(_, quote)| quote) }
    }

    /// The line of the quote that is open, or the one that the row being read begins on.
    pub(super) fn line(&self) -> u64 {
        let first = self.rows.iter().find(|(offset, _)| *offset >= self.reading);
        match self.at {
            At::Quoted => self.quote,
            _ => first.map_or(self.line, |(_, line)| *line),
        }
    }

    fn see(&mut self, bytes: &[u8]) {
        let mut from = 0;
        while let Some(rest) = bytes.get(from..).filter(|rest| !rest.is_empty()) {
            let taken = self.step(rest);
            self.offset += taken as u64;
            from += taken;
        }
    }

    /// Takes some bytes, or goes over to another state; says how many.
    fn step(&mut self, rest: &[u8]) -> usize {
        let Some(&next) = rest.first() else { return 0 };
        let ends = matches!(next, b'\n' | b'\r');
        match self.at {
            At::Line if ends => self.end_line(next),
            At::Line => {
                self.row = self.offset;
                self.rows.push_back((self.offset, self.line));
                (self.at, self.last, self.returned) = (At::Plain, self.delimiter, false);
                return 0;
            }
            At::Quote if next == b'"' => self.at = At::Quoted,
            At::Quote => {
                if !ends && next != self.delimiter && self.line > self.quote {
                    self.open.get_or_insert((self.row, self.quote));
                }
                (self.at, self.last) = (At::Plain, b'"');
                return 0;
            }
            At::Plain | At::Quoted => return self.run(rest),
        }
        1
    }

    /// Goes on to the next byte that means anything.
    fn run(&mut self, rest: &[u8]) -> usize {
        let quoted = self.at == At::Quoted;
        let Some((found, &byte)) = memchr3(b'"', b'\n', b'\r', rest).and_then(|at| Some((at, rest.get(at)?)))
        else {
            (self.last, self.returned) = (rest.last().copied().unwrap_or_default(), false);
            return rest.len();
        };
        if found > 0 {
            (self.last, self.returned) = (rest.get(found - 1).copied().unwrap_or_default(), false);
        }
        match byte {
            b'"' if quoted => (self.at, self.returned) = (At::Quote, false),
            b'"' if self.last == self.delimiter => {
                (self.at, self.quote) = (At::Quoted, self.line);
            }
            b'"' => self.last = b'"',
            byte => {
                self.end_line(byte);
                if !quoted {
                    self.at = At::Line;
                }
            }
        }
        found + 1
    }

    fn end_line(&mut self, byte: u8) {
        self.line += u64::from(!(byte == b'\n' && self.returned));
        self.returned = byte == b'\r';
    }
}

impl<R: Read> Read for Starts<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.offset.saturating_sub(self.reading) > ROW_BYTES {
            return Err(io::Error::other(TOO_LONG));
        }
        let n = self.inner.read(out)?;
        if n == 0 && !out.is_empty() && self.at == At::Quoted {
            self.open.get_or_insert((self.row, self.quote));
        }
        self.see(out.get(..n).unwrap_or_default());
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives as many bytes at once as it is told.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(out.len());
            let (now, later) = self.0.split_at(n);
            out[..n].copy_from_slice(now);
            self.0 = later;
            Ok(n)
        }
    }

    /// The rows as the reader of the format has them, with what is told of each.
    fn read(text: &str, piece: usize) -> Vec<(Vec<String>, Row)> {
        let starts = Starts::new(Pieces(text.as_bytes(), piece), b',');
        let mut builder = csv::ReaderBuilder::new();
        let mut reader = builder.has_headers(false).flexible(true).from_reader(starts);
        let (mut rows, mut record) = (Vec::new(), csv::StringRecord::new());
        loop {
            let from = reader.position().byte();
            reader.get_mut().begin(from);
            if !reader.read_record(&mut record).unwrap() {
                return rows;
            }
            rows.push((record.iter().map(str::to_owned).collect(), reader.get_mut().row()));
        }
    }

    fn told(text: &str) -> Vec<(u64, Option<u64>)> {
        read(text, 1 << 16).into_iter().map(|(_, row)| (row.line, row.open_quote)).collect()
    }

    #[test]
    fn a_row_is_on_the_line_that_it_begins_on() {
        assert_eq!(told("a,b\n\n\n1,x\n\n2,y"), [(1, None), (4, None), (6, None)]);
        assert_eq!(told("a\r\n1\r\n\r\n2\r\n"), [(1, None), (2, None), (4, None)]);
        assert_eq!(told("a\r1\r\r2\r"), [(1, None), (2, None), (4, None)]);
        assert_eq!(
            told("a,b\n1,\"x\ny\r\nz\"\n\n2,\"\"\"\n\"\n3,z"),
            [(1, None), (2, None), (6, None), (8, None)]
        );
        assert_eq!(told("\n\na\n1\n"), [(3, None), (4, None)]);
    }

    #[test]
    fn a_quote_that_swallows_rows_is_told_with_its_line() {
        assert_eq!(told("a,b\n1,x\n\"2,y\n3,z\n"), [(1, None), (2, None), (3, Some(3))]);
        assert_eq!(told("a,b\n1,\"x\ny\"\n\n2,\"y\n3,z"), [(1, None), (2, None), (5, Some(5))]);
        // It meets the quote of another field.
        assert_eq!(told("a,b\n1,\"x\n2,y\n3,\"z\n4,w\n"), [(1, None), (2, Some(2)), (5, None)]);
        // Text behind a quote on the same line takes no row with it, and a quote in a field is text.
        assert_eq!(told("a,b\n1,\"x\" y\n2,5\" disk\n"), [(1, None), (2, None), (3, None)]);
        assert_eq!(told("a,b\n1,\"\n"), [(1, None), (2, Some(2))]);
        assert_eq!(told("a,b\n1,\"\""), [(1, None), (2, None)]);
    }

    proptest! {
        #[test]
        fn where_a_text_is_cut_into_reads_changes_nothing(text in "[ab,\"\n\r]{0,40}", piece in 1usize..8) {
            prop_assert_eq!(read(&text, piece), read(&text, 1 << 16));
        }

        #[test]
        fn every_row_is_told_its_line(
            rows in proptest::collection::vec((proptest::collection::vec(("[ab \"\n\r,]{0,5}", any::<bool>()), 2..4), 0usize..3), 1..10),
            end in proptest::sample::select(vec!["\n", "\r\n", "\r"]),
        ) {
            let (mut text, mut expected, mut line) = (String::new(), Vec::new(), 1);
            for (fields, blank) in &rows {
                expected.push((fields.iter().map(|(f, _)| f.clone()).collect::<Vec<_>>(), Row { line, open_quote: None }));
                let quoted = |(field, plain): &(String, bool)| {
                    let plain = *plain && !field.contains([',', '"', '\n', '\r']);
                    if plain { field.clone() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
                };
                let fields: Vec<String> = fields.iter().map(quoted).collect();
                let row = fields.join(",");
                let inside = row.replace("\r\n", "\n").matches(['\n', '\r']).count() as u64;
                text.push_str(&row);
                text.push_str(&end.repeat(1 + blank));
                line += 1 + inside + *blank as u64;
            }
            prop_assert_eq!(read(&text, 1 << 16), expected);
        }
    }
}
