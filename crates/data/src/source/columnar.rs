//! Parquet and Arrow IPC files: their own schema, brought to the types of a dataset.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::batch::conform;
use crate::error::Place;
use crate::source::guess::Found;
use crate::source::{BATCH_ROWS, Batches, decode, differing, packed};
use crate::{Error, Schema};

const TRUNCATED: &str = "the file may be truncated or damaged: fetch it again";

/// These formats are read in any order, so a packed one would have to be unpacked first; they are packed in themselves.
fn plain(file: &Path) -> Result<File, Error> {
    if packed::is_packed(file) {
        let problem = "a Parquet or Arrow file inside a packed file is not read";
        return Err(Error::source(Place::file(file), problem, "unpack it, and name the file"));
    }
    File::open(file).map_err(|e| decode::unreadable(file, &e))
}

fn parquet(file: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, Error> {
    let opened = plain(file)?;
    ParquetRecordBatchReaderBuilder::try_new(opened)
        .map_err(|e| Error::source(Place::file(file), format!("it is not a Parquet file: {e}"), TRUNCATED))
}

fn arrow(file: &Path) -> Result<FileReader<std::io::BufReader<File>>, Error> {
    let opened = plain(file)?;
    FileReader::try_new_buffered(opened, None)
        .map_err(|e| Error::source(Place::file(file), format!("it is not an Arrow IPC file: {e}"), TRUNCATED))
}

fn found(schema: &SchemaRef, file: &Path) -> Result<Found, Error> {
    for (i, field) in schema.fields().iter().enumerate() {
        if schema.fields().iter().take(i).any(|f| f.name() == field.name()) {
            let problem = format!("two columns are named `{}`", field.name());
            return Err(Error::source(Place::file(file), problem, "rename or remove one of them"));
        }
    }
    let schema = Schema::from_arrow(schema).map_err(|(column, ty)| {
        let at = Place::file(file).column(column);
        Error::source(
            at,
            format!("a dataset has no type for {ty}"),
            "cast the column before, to text or a number",
        )
    })?;
    Ok(Found::said(schema))
}

pub(super) fn find_parquet(file: &Path) -> Result<Found, Error> {
    found(parquet(file)?.schema(), file)
}

pub(super) fn find_arrow(file: &Path) -> Result<Found, Error> {
    found(&arrow(file)?.schema(), file)
}

pub(super) fn open_parquet(file: &Path, schema: &Schema) -> Result<Columnar, Error> {
    let builder = parquet(file)?;
    check(builder.schema(), file, schema)?;
    let reader = builder
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|e| Error::source(Place::file(file), e.to_string(), TRUNCATED))?;
    Ok(Columnar::over(reader, file, schema))
}

pub(super) fn open_arrow(file: &Path, schema: &Schema) -> Result<Columnar, Error> {
    let reader = arrow(file)?;
    check(&reader.schema(), file, schema)?;
    Ok(Columnar::over(reader, file, schema))
}

fn check(theirs: &SchemaRef, file: &Path, schema: &Schema) -> Result<(), Error> {
    let missing: Vec<&str> = schema.names().filter(|n| theirs.field_with_name(n).is_err()).collect();
    let extra: Vec<&str> =
        theirs.fields().iter().map(|f| f.name().as_str()).filter(|n| schema.column(n).is_none()).collect();
    found(theirs, file)?;
    differing(file, &missing, &extra).map_or(Ok(()), Err)
}

/// Batches of a columnar file.
pub(super) struct Columnar {
    file: PathBuf,
    inner: Box<dyn RecordBatchReader<Item = Result<RecordBatch, ArrowError>> + Send>,
    schema: Schema,
    /// Rows read so far: columnar files have no lines to name.
    rows: u64,
    /// What is left of a batch that was larger than a batch may be.
    rest: Option<RecordBatch>,
}

impl Columnar {
    fn over(reader: impl RecordBatchReader + Send + 'static, file: &Path, schema: &Schema) -> Self {
        Columnar {
            file: file.to_owned(),
            inner: Box::new(reader),
            schema: schema.clone(),
            rows: 0,
            rest: None,
        }
    }
}

impl Batches for Columnar {
    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match self.inner.next() {
                None => return Ok(None),
                Some(Ok(batch)) => batch,
                Some(Err(e)) => {
                    let problem = format!("after row {}: {e}", self.rows);
                    return Err(Error::source(Place::file(&self.file), problem, TRUNCATED));
                }
            },
        };
        let now = batch.num_rows().min(BATCH_ROWS);
        if now < batch.num_rows() {
            self.rest = Some(batch.slice(now, batch.num_rows() - now));
        }
        let conformed = conform(&batch.slice(0, now), &self.schema).map_err(|(column, why)| {
            let at = Place::file(&self.file).column(column);
            let problem = format!("in rows {} to {}: {why}", self.rows + 1, self.rows + now as u64);
            Error::source(at, problem, "cast the column before, or declare its type")
        })?;
        self.rows += now as u64;
        Ok(Some(conformed))
    }
}
