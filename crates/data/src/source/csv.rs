//! Delimited text with a header line, as RFC 4180 has it. An empty line is no row, but where there is one column, whose null is
//! written so: there each empty line behind the header is a row, also at the end.

use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use csv::{ByteRecord, ErrorKind};

use crate::error::Place;
use crate::source::blank::Blank;
use crate::source::cells::{self, Cells};
use crate::source::decode::{self, NOT_UTF8};
use crate::source::guess::{Found, Guess};
use crate::source::starts::{Starts, TOO_LONG};
use crate::source::{BATCH_BYTES, BATCH_ROWS, Batches, Source, differing, packed};
use crate::{Error, Schema};

/// Texts that are null in a column that is not text, unless the source says otherwise.
const NULLS: [&str; 4] = ["NA", "N/A", "null", "NULL"];

/// A CSV whose header has been read.
struct Table {
    file: PathBuf,
    reader: csv::Reader<Starts<Blank<Box<dyn Read + Send>>>>,
    header: Vec<String>,
    nulls: Vec<String>,
    record: ByteRecord,
    /// The line that the record begins on.
    line: u64,
}

const UNCLOSED: &str = "close it, or write it twice in a field in quotes if it is one of the text's own";
const QUOTE: &str = "look for a quote that is opened and not closed, or for another delimiter";

impl Table {
    fn open(source: &Source, file: &Path) -> Result<Table, Error> {
        let tab = packed::inner(file)?.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv"));
        let delimiter = source.delimiter.unwrap_or(if tab { b'\t' } else { b',' });
        let text = Blank::new(decode::open(file, source.encoding)?, delimiter);
        let reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(1 << 16)
            .from_reader(Starts::new(text, delimiter));
        let nulls = source.nulls.clone();
        let (file, record) = (file.to_owned(), ByteRecord::new());
        let mut table = Table { file, reader, header: Vec::new(), nulls, record, line: 1 };
        table.read_header()?;
        Ok(table)
    }

    fn read_header(&mut self) -> Result<(), Error> {
        if !self.advance()? {
            let remedy = "give it a first line with the names of its columns";
            return Err(Error::source(Place::file(&self.file), "the file is empty", remedy));
        }
        if self.record.as_slice().contains(&0) {
            let at = self.here();
            return Err(Error::source(at, "it holds zero bytes: the text may be UTF-16", NOT_UTF8));
        }
        let mut header: Vec<String> = Vec::with_capacity(self.record.len());
        for (i, field) in self.record.iter().enumerate() {
            let name = self.utf8(field, || format!("number {}", i + 1))?.trim().to_owned();
            let at = self.here();
            if name.is_empty() {
                let problem = format!("column number {} has no name", i + 1);
                return Err(Error::source(at, problem, "name every column in the first line"));
            }
            if let Some(first) = header.iter().position(|n| *n == name) {
                let problem = format!("columns number {} and {} are both named `{name}`", first + 1, i + 1);
                return Err(Error::source(at, problem, "rename or remove one of them"));
            }
            header.push(name);
        }
        self.header = header;
        Ok(())
    }

    /// Reads the next row; false after the last.
    fn advance(&mut self) -> Result<bool, Error> {
        let from = self.reader.position().byte();
        self.reader.get_mut().begin(from);
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => Ok(false),
            Ok(true) => {
                let row = self.reader.get_mut().row();
                self.line = row.line;
                match row.open_quote {
                    None => Ok(true),
                    Some(line) => {
                        let at = Place::file(&self.file).line(line);
                        Err(Error::source(at, "the quote that is opened here is not closed", UNCLOSED))
                    }
                }
            }
            Err(error) => Err(match error.kind() {
                ErrorKind::Io(e) if e.to_string() == TOO_LONG => {
                    let line = self.reader.get_ref().line();
                    Error::source(Place::file(&self.file).line(line), TOO_LONG, QUOTE)
                }
                ErrorKind::Io(e) => decode::unreadable(&self.file, e),
                _ => Error::source(self.here(), error.to_string(), QUOTE),
            }),
        }
    }

    /// Reads the next row, which has to have as many fields as the header.
    fn row(&mut self) -> Result<bool, Error> {
        if !self.advance()? {
            return Ok(false);
        }
        let (has, wants) = (self.record.len(), self.header.len());
        if has != wants {
            let problem =
                format!("the row has {has} field{}, the header {wants}", if has == 1 { "" } else { "s" });
            let remedy = "correct the row: a field that holds the delimiter or a line break goes into quotes";
            return Err(Error::source(self.here(), problem, remedy));
        }
        Ok(true)
    }

    fn here(&self) -> Place {
        Place::file(&self.file).line(self.line)
    }

    fn utf8<'a>(&self, field: &'a [u8], name: impl Fn() -> String) -> Result<&'a str, Error> {
        std::str::from_utf8(field).map_err(|error| {
            let at = self.here().column(name());
            let byte = field.get(error.valid_up_to()).copied().unwrap_or_default();
            Error::source(at, format!("the byte 0x{byte:02x} is not UTF-8"), NOT_UTF8)
        })
    }

    fn is_null(nulls: &[String], field: &str, text: bool) -> bool {
        if nulls.is_empty() {
            field.is_empty() || (!text && NULLS.contains(&field.trim_ascii()))
        } else {
            field.is_empty() || nulls.iter().any(|null| null == field)
        }
    }

    fn name(&self, i: usize) -> String {
        self.header.get(i).cloned().unwrap_or_default()
    }
}

/// The columns of a CSV and the types that all of its values fit.
pub(super) fn find(source: &Source, file: &Path) -> Result<Found, Error> {
    let mut table = Table::open(source, file)?;
    let mut guesses = vec![Guess::default(); table.header.len()];
    while table.row()? {
        for (i, (field, guess)) in table.record.iter().zip(&mut guesses).enumerate() {
            let field = table.utf8(field, || table.name(i))?;
            if !Table::is_null(&table.nulls, field, false) {
                guess.see(field);
            }
        }
    }
    Ok(Found::seen(table.header.into_iter().zip(guesses).collect(), false))
}

/// Reads a CSV as `schema`; its columns may stand in another order.
pub(super) fn open(source: &Source, file: &Path, schema: &Schema) -> Result<CsvBatches, Error> {
    let table = Table::open(source, file)?;
    let missing: Vec<&str> = schema.names().filter(|n| !table.header.iter().any(|h| h == n)).collect();
    let extra: Vec<&str> =
        table.header.iter().map(String::as_str).filter(|h| schema.column(h).is_none()).collect();
    if let Some(error) = differing(file, &missing, &extra) {
        return Err(error);
    }
    let mut columns = Vec::with_capacity(schema.columns.len());
    for column in &schema.columns {
        let cells = Cells::new(&column.ty).ok_or_else(|| {
            let problem = format!("a column of type {} cannot be read from CSV", column.ty);
            Error::source(Place::file(file).column(&column.name), problem, "declare it text, or take Parquet")
        })?;
        let at = table.header.iter().position(|h| *h == column.name).unwrap_or_default();
        columns.push((at, column.ty.to_string(), cells));
    }
    Ok(CsvBatches { table, schema: schema.clone(), columns, lines: Vec::new() })
}

pub(super) struct CsvBatches {
    table: Table,
    schema: Schema,
    /// Per column of the schema: its place in the row, its type as text, its values.
    columns: Vec<(usize, String, Cells)>,
    /// The lines of the last batch's rows.
    lines: Vec<u64>,
}

impl Batches for CsvBatches {
    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let (mut rows, mut bytes) = (0, 0);
        self.lines.clear();
        while rows < BATCH_ROWS && bytes < BATCH_BYTES && self.table.row()? {
            rows += 1;
            bytes += self.table.record.as_slice().len();
            self.lines.push(self.table.line);
            for (at, ty, cells) in &mut self.columns {
                let field = self.table.record.get(*at).unwrap_or_default();
                let field = self.table.utf8(field, || self.table.name(*at))?;
                if Table::is_null(&self.table.nulls, field, cells.is_text()) {
                    cells.push_null();
                } else if cells.push(field).is_none() {
                    return Err(misfit(self.table.here().column(self.table.name(*at)), field, ty));
                }
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = self.columns.iter_mut().map(|(_, _, cells)| cells.finish()).collect();
        batch(&self.schema, columns, &self.table.file).map(Some)
    }

    fn lines(&self) -> &[u64] {
        &self.lines
    }
}

/// The error of a value that is not of its column's type.
pub(super) fn misfit(at: Place, value: &str, ty: &str) -> Error {
    let shown: String = value.chars().take(40).collect();
    let more = if shown.len() < value.len() { "…" } else { "" };
    let remedy = match (ty, cells::parse_float(value.trim_ascii())) {
        ("float", Some(_)) => {
            "declare the column decimal(p, s) or text, which keep all its digits".to_owned()
        }
        _ => format!("correct the value, or declare the column text instead of {ty}"),
    };
    Error::source(at, format!("`{shown}{more}` is not of type {ty}"), remedy)
}

/// A batch of columns that were built by this schema.
pub(super) fn batch(
    schema: &Schema,
    columns: Vec<arrow::array::ArrayRef>,
    file: &Path,
) -> Result<RecordBatch, Error> {
    RecordBatch::try_new(schema.to_arrow(), columns).map_err(|e| {
        Error::source(Place::file(file), e.to_string(), "this is a defect of Forebay: report it")
    })
}
