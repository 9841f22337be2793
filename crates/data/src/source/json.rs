//! JSON: an object a line, or one array of objects, an object at a time. A number is what is written: it goes to its column with
//! all its digits, or not at all.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::Place;
use crate::source::cells::Cells;
use crate::source::guess::{Found, Guess};
use crate::source::{BATCH_BYTES, BATCH_ROWS, Batches, ROW_BYTES, Source, csv, decode};
use crate::{Error, Schema};

/// The members of an object, in their order. A name that comes twice is an error: which one counts, nobody can say.
struct Members<'a>(Vec<(String, Member<'a>)>);

/// The value of a member.
enum Member<'a> {
    /// As it is written.
    Number(&'a str),
    /// Anything else.
    Other(Value),
}

impl<'a> Member<'a> {
    fn of(raw: &'a RawValue) -> Result<Member<'a>, serde_json::Error> {
        match raw.get().as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Ok(Member::Number(raw.get())),
            _ => serde_json::from_str(raw.get()).map(Member::Other),
        }
    }

    fn shown(&self) -> String {
        match self {
            Member::Number(number) => (*number).to_owned(),
            Member::Other(value) => value.to_string(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Members<'a>, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, Member<'de>)> =
                    Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some((name, raw)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.iter().any(|(n, _)| *n == name) {
                        return Err(A::Error::custom(format!(
                            "the member `{name}` comes twice in one object"
                        )));
                    }
                    let value = Member::of(raw).map_err(|e| {
                        // Of the value the place means nothing.
                        let said = e.to_string();
                        let why = said.split_once(" at line ").map_or(said.as_str(), |(why, _)| why);
                        A::Error::custom(format!("the member `{name}`: {why}"))
                    })?;
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Object)
    }
}

/// Counts the lines of what was read.
struct Lines<R> {
    inner: R,
    line: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next byte that is not white space, which stays to be read.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.inner.fill_buf()?;
            let blank = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let next = buffer.get(blank).copied();
            let ended = buffer.is_empty();
            self.consume(blank);
            if next.is_some() || ended {
                return Ok(next);
            }
        }
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let buffer = self.inner.fill_buf()?;
        let n = buffer.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..n), buffer.get(..n)) {
            to.copy_from_slice(from);
        }
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Lines<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        if let Ok(buffer) = self.inner.fill_buf() {
            let lines = buffer.get(..n).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
            self.line += lines as u64;
        }
        self.inner.consume(n);
    }
}

/// Objects of a file.
struct Objects {
    file: PathBuf,
    text: Lines<BufReader<Box<dyn Read + Send>>>,
    /// In an array, and not just lines.
    array: bool,
    first: bool,
    ended: bool,
    /// The bytes of the object being read, so that serde_json reads from memory: several times as fast as from a reader.
    row: Vec<u8>,
}

impl Objects {
    fn open(source: &Source, file: &Path) -> Result<Objects, Error> {
        let inner = BufReader::with_capacity(1 << 16, decode::open(file, source.encoding)?);
        let mut text = Lines { inner, line: 1 };
        let array = text.peek().map_err(|e| decode::unreadable(file, &e))? == Some(b'[');
        if array {
            text.consume(1);
        }
        Ok(Objects { file: file.to_owned(), text, array, first: true, ended: false, row: Vec::new() })
    }

    fn failed(&self, line: u64, problem: impl Into<String>, remedy: &str) -> Error {
        Error::source(Place::file(&self.file).line(line), problem, remedy)
    }

    /// The next object and the line it begins on.
    fn next(&mut self) -> Result<Option<(u64, Members<'_>)>, Error> {
        if self.ended {
            return Ok(None);
        }
        let io = |e: io::Error| decode::unreadable(&self.file, &e);
        let mut next = self.text.peek().map_err(io)?;
        if self.array {
            if next == Some(b']') {
                self.text.consume(1);
                self.ended = true;
                return match self.text.peek().map_err(io)? {
                    None => Ok(None),
                    Some(_) => Err(self.failed(
                        self.text.line,
                        "something follows the end of the array",
                        "keep one array in the file, or an object a line",
                    )),
                };
            }
            if !self.first {
                if next != Some(b',') {
                    let remedy = "the file may be truncated: fetch it again";
                    return Err(self.failed(
                        self.text.line,
                        "a comma or the end of the array is missing",
                        remedy,
                    ));
                }
                self.text.consume(1);
                next = self.text.peek().map_err(io)?;
            }
        }
        self.first = false;
        match next {
            None if !self.array => {
                self.ended = true;
                Ok(None)
            }
            Some(b'{') => self.object().map(Some),
            None => Err(self.failed(
                self.text.line,
                "the array does not end",
                "the file may be truncated: fetch it again",
            )),
            Some(_) => {
                let remedy = "take an array of objects, or an object a line";
                Err(self.failed(self.text.line, "a row is not an object", remedy))
            }
        }
    }

    /// Reads from `{` to the `}` that closes it.
    fn object(&mut self) -> Result<(u64, Members<'_>), Error> {
        let line = self.text.line;
        self.row.clear();
        let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
        loop {
            let buffer = self.text.fill_buf().map_err(|e| decode::unreadable(&self.file, &e))?;
            if buffer.is_empty() {
                let remedy = "the file may be truncated: fetch it again";
                return Err(self.failed(line, "the object that begins here does not end", remedy));
            }
            let mut end = None;
            for (i, byte) in buffer.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    b'{' if !quoted => depth += 1,
                    b'}' if !quoted => {
                        depth = depth.saturating_sub(1);
                        if depth == 0 {
                            end = Some(i + 1);
                            break;
                        }
                    }
                    _ => {}
                }
            }
            let taken = end.unwrap_or(buffer.len());
            self.row.extend_from_slice(buffer.get(..taken).unwrap_or_default());
            self.text.consume(taken);
            if end.is_some() {
                break;
            }
            if self.row.len() as u64 > ROW_BYTES {
                let remedy = "look for a quote or a brace that is not closed";
                return Err(self.failed(line, "an object is longer than 16 MiB", remedy));
            }
        }
        match serde_json::from_slice(&self.row) {
            Ok(members) => Ok((line, members)),
            Err(error) => {
                let remedy = if std::str::from_utf8(&self.row).is_err() {
                    decode::NOT_UTF8
                } else {
                    "correct the object"
                };
                // The parser counts lines from the object's own first.
                let line = line + (error.line() as u64).saturating_sub(1);
                Err(self.failed(line, error.to_string(), remedy))
            }
        }
    }
}

/// The members of all objects and the types that all of their values fit.
pub(super) fn find(source: &Source, file: &Path) -> Result<Found, Error> {
    let mut objects = Objects::open(source, file)?;
    let mut columns: Vec<(String, Guess)> = Vec::new();
    while let Some((_, Members(members))) = objects.next()? {
        for (i, (name, value)) in members.into_iter().enumerate() {
            // Objects of one file mostly have their members in one order.
            let known = match columns.get(i) {
                Some((n, _)) if *n == name => Some(i),
                _ => columns.iter().position(|(n, _)| *n == name),
            };
            let at = known.unwrap_or_else(|| {
                columns.push((name, Guess::default()));
                columns.len() - 1
            });
            if let Some((_, guess)) = columns.get_mut(at) {
                see(guess, &value, &source.nulls);
            }
        }
    }
    Ok(Found::seen(columns, true))
}

fn see(guess: &mut Guess, member: &Member<'_>, nulls: &[String]) {
    match member {
        Member::Number(number) => guess.see_number(number),
        Member::Other(Value::Null) => {}
        Member::Other(Value::Bool(b)) => guess.see(if *b { "true" } else { "false" }),
        Member::Other(Value::String(s)) if nulls.contains(s) => {}
        Member::Other(Value::String(s)) => guess.see_string(s),
        Member::Other(_) => guess.see_text(),
    }
}

/// Reads JSON as `schema`. A member that is missing is null; one that the schema lacks is an error.
pub(super) fn open(source: &Source, file: &Path, schema: &Schema) -> Result<JsonBatches, Error> {
    let mut columns = Vec::with_capacity(schema.columns.len());
    for column in &schema.columns {
        let cells = Cells::new(&column.ty).ok_or_else(|| {
            let problem = format!("a column of type {} cannot be read from JSON", column.ty);
            Error::source(Place::file(file).column(&column.name), problem, "declare it text, or take Parquet")
        })?;
        columns.push((column.ty.to_string(), cells));
    }
    let seen = vec![false; columns.len()];
    let rows = Growing { schema: schema.clone(), columns, seen, nulls: source.nulls.clone() };
    Ok(JsonBatches { objects: Objects::open(source, file)?, rows, lines: Vec::new() })
}

pub(super) struct JsonBatches {
    objects: Objects,
    rows: Growing,
    /// The lines of the last batch's rows.
    lines: Vec<u64>,
}

/// Rows on their way into columns.
struct Growing {
    schema: Schema,
    /// Per column of the schema: its type as text, its values.
    columns: Vec<(String, Cells)>,
    seen: Vec<bool>,
    nulls: Vec<String>,
}

impl Batches for JsonBatches {
    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let mut bytes = 0;
        self.lines.clear();
        let file = self.objects.file.clone();
        while self.lines.len() < BATCH_ROWS && bytes < BATCH_BYTES {
            let Some((line, members)) = self.objects.next()? else { break };
            self.rows.push(&Place::file(&file).line(line), members)?;
            self.lines.push(line);
            bytes += self.objects.row.len();
        }
        if self.lines.is_empty() {
            return Ok(None);
        }
        let columns = self.rows.columns.iter_mut().map(|(_, cells)| cells.finish()).collect();
        csv::batch(&self.rows.schema, columns, &file).map(Some)
    }

    fn lines(&self) -> &[u64] {
        &self.lines
    }
}

impl Growing {
    fn push(&mut self, at: &Place, Members(members): Members<'_>) -> Result<(), Error> {
        self.seen.fill(false);
        for (i, (name, member)) in members.into_iter().enumerate() {
            let place = || at.clone().column(&name);
            let at = match self.schema.columns.get(i) {
                Some(column) if column.name == name => Some(i),
                _ => self.schema.columns.iter().position(|c| c.name == name),
            };
            let Some(((ty, cells), seen)) =
                at.and_then(|at| self.columns.get_mut(at).zip(self.seen.get_mut(at)))
            else {
                let remedy = "remove the member, or overwrite the dataset with the new columns";
                return Err(Error::source(place(), "the dataset has no such column", remedy));
            };
            *seen = true;
            let pushed = match &member {
                Member::Number(number) => cells.push_number(number),
                Member::Other(Value::String(s)) if self.nulls.contains(s) => {
                    cells.push_null();
                    Some(())
                }
                Member::Other(value) => cells.push_json(value),
            };
            if pushed.is_none() {
                return Err(csv::misfit(place(), &member.shown(), ty));
            }
        }
        for ((_, cells), seen) in self.columns.iter_mut().zip(&self.seen) {
            if !seen {
                cells.push_null();
            }
        }
        Ok(())
    }
}
