//! A version as a file: CSV, JSON lines, Parquet or Arrow, written a batch at a time, and there in full or not at all. In text
//! binary is base64, in which it is read too; what CSV has no null for (an empty text, no bytes) comes back as one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;

use crate::Error;
use crate::dataset::{At, Dataset, Rows, Select};
use crate::source::Format;

enum Writer<W: Write + Send> {
    Csv(Box<arrow::csv::Writer<W>>),
    Json(W),
    Parquet(Box<parquet::arrow::ArrowWriter<W>>),
    Arrow(Box<arrow::ipc::writer::FileWriter<W>>),
}

fn other(e: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(e.to_string())
}

/// The batch with binary as text.
fn printable(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        match column.as_binary_opt::<i32>() {
            None => {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(column));
            }
            Some(bytes) => {
                fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
                let texts: StringArray = bytes.iter().map(|b| b.map(|b| STANDARD.encode(b))).collect();
                columns.push(Arc::new(texts) as ArrayRef);
            }
        }
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &rows)
}

impl<W: Write + Send> Writer<W> {
    fn new(file: W, format: Format, schema: &SchemaRef) -> std::io::Result<Writer<W>> {
        Ok(match format {
            Format::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(file);
                // The header also of a file without rows.
                writer
                    .write(&printable(&RecordBatch::new_empty(schema.clone())).map_err(other)?)
                    .map_err(other)?;
                Writer::Csv(Box::new(writer))
            }
            Format::Json => Writer::Json(file),
            Format::Parquet => {
                let writer = parquet::arrow::ArrowWriter::try_new(file, schema.clone(), None);
                Writer::Parquet(Box::new(writer.map_err(other)?))
            }
            Format::Arrow => {
                Writer::Arrow(Box::new(arrow::ipc::writer::FileWriter::try_new(file, schema).map_err(other)?))
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> std::io::Result<()> {
        match self {
            Writer::Csv(writer) => printable(batch).and_then(|batch| writer.write(&batch)).map_err(other),
            Writer::Json(file) => {
                for row in super::Batch::of(batch.clone()).to_json() {
                    serde_json::to_writer(&mut *file, &row)?;
                    file.write_all(b"\n")?;
                }
                Ok(())
            }
            Writer::Parquet(writer) => writer.write(batch).map_err(other),
            Writer::Arrow(writer) => writer.write(batch).map_err(other),
        }
    }

    fn finish(self) -> std::io::Result<W> {
        Ok(match self {
            Writer::Csv(writer) => writer.into_inner(),
            Writer::Json(file) => file,
            Writer::Parquet(writer) => writer.into_inner().map_err(other)?,
            Writer::Arrow(writer) => writer.into_inner().map_err(other)?,
        })
    }
}

impl Dataset {
    /// Writes a version to a file, and says how many rows that were. The file appears when it is complete.
    ///
    /// # Errors
    /// As [`Dataset::read`]; [`Error::Storage`] when the file cannot be written.
    pub async fn export(&self, at: &At, select: &Select, to: &Path, format: Format) -> Result<u64, Error> {
        self.read(at, select).await?.write(to, format).await
    }
}

impl Rows {
    /// Writes the rows to wherever, a batch at a time, and says how many that were. It blocks as long as that takes to write.
    ///
    /// # Errors
    /// As [`Rows::next`]; [`Error::Storage`] when it cannot be written.
    pub async fn print(mut self, to: impl Write + Send, format: Format) -> Result<u64, Error> {
        let failed = |e: std::io::Error| Error::Storage { doing: "write the rows", why: e.to_string() };
        let mut writer = Writer::new(to, format, &self.schema().to_arrow()).map_err(failed)?;
        let mut written = 0;
        while let Some(batch) = self.next_arrow().await? {
            writer.write(&batch).map_err(failed)?;
            written += batch.num_rows() as u64;
        }
        writer.finish().and_then(|mut to| to.flush()).map_err(failed)?;
        Ok(written)
    }

    /// Writes the rows to a file, and says how many that were. The file appears when it is complete.
    ///
    /// # Errors
    /// As [`Rows::next`]; [`Error::Storage`] when the file cannot be written.
    pub async fn write(mut self, to: &Path, format: Format) -> Result<u64, Error> {
        let rows = &mut self;
        let schema = rows.schema().to_arrow();
        let (sender, mut batches) = mpsc::channel::<RecordBatch>(2);
        let to = to.to_owned();
        let mut partial = to.clone().into_os_string();
        partial.push(format!(".{}.partial", uuid::Uuid::now_v7()));
        let partial = std::path::PathBuf::from(partial);
        let writing = {
            let (to, partial) = (to.clone(), partial.clone());
            pipeline::task::blocking("data-export", move || {
                let mut writer =
                    Writer::new(BufWriter::with_capacity(1 << 16, File::create(&partial)?), format, &schema)?;
                let mut written = 0;
                loop {
                    // The sender says that it is through by an empty batch: when it is only gone, the file is not complete.
                    let Some(batch) = batches.blocking_recv() else {
                        return Err(other("reading ended early"));
                    };
                    if batch.num_rows() == 0 {
                        break;
                    }
                    writer.write(&batch)?;
                    written += batch.num_rows() as u64;
                }
                writer.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
                std::fs::rename(&partial, &to)?;
                Ok(written)
            })
        };
        let writing = pipeline::task::spawn("data-export", writing);
        let read = async {
            while let Some(batch) = rows.next_arrow().await? {
                if batch.num_rows() > 0 && sender.send(batch).await.is_err() {
                    return Ok(());
                }
            }
            let _ = sender.send(RecordBatch::new_empty(rows.schema().to_arrow())).await;
            Ok(())
        }
        .await;
        drop(sender);
        let written = match writing.await {
            Ok(Ok(written)) => written,
            Ok(Err(crashed)) | Err(crashed) => Err(other(crashed)),
        };
        if written.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        read?;
        written
            .map_err(|e| Error::Storage { doing: "write the file", why: format!("`{}`: {e}", to.display()) })
    }
}
