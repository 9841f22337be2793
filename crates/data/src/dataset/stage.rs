//! Rows on their way into a table: written as its files, and invisible until a commit names them.

use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use deltalake::DeltaTable;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::Add;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use tokio::sync::mpsc;

use crate::batch::physically;
use crate::dataset::{Dataset, Rows};
use crate::fingerprint::{Adder, Fingerprint, Key};
use crate::source::{Batches, Source};
use crate::{Error, Schema, store};

/// Batches between the one who reads and the one who writes.
const AHEAD: usize = 2;

/// Files that are written and not committed.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) files: Vec<Add>,
    pub(super) fingerprint: Fingerprint,
}

/// Writes batches as files of a table.
pub(super) struct Stager {
    writer: DeltaWriter,
    /// The columns as the table has them: another writer's table may keep an `int` in 32 bits, and its files have to.
    physical: SchemaRef,
    store: Arc<dyn ObjectStore>,
    adder: Option<Adder>,
}

impl Stager {
    /// A stager of rows under `schema`: the table's own, or what a commit will put in its place.
    ///
    /// # Errors
    /// [`Error::Table`] when the table has rules that only its other writers know how to keep.
    pub(super) fn new(
        dataset: &Dataset,
        table: &DeltaTable,
        schema: &Schema,
        add_up: bool,
    ) -> Result<Stager, Error> {
        let store = table.log_store().object_store(None);
        let (physical, partitions) = match table.version() {
            Some(_) => dataset.physical(table, schema)?,
            None => (schema.to_arrow(), Vec::new()),
        };
        let properties = properties(&physical);
        let config = WriterConfig::new(
            Arc::clone(&physical),
            partitions,
            Some(properties),
            NonZeroU64::new(dataset.warehouse.inner.settings.file_bytes),
            None,
            Default::default(),
            None,
        );
        let adder = add_up.then(|| Adder::new(Key::default()));
        Ok(Stager { writer: DeltaWriter::new(Arc::clone(&store), config), physical, store, adder })
    }

    pub(super) async fn write(&mut self, batch: &RecordBatch, dataset: &str) -> Result<(), Error> {
        if let Some(adder) = &mut self.adder {
            adder.add(batch);
        }
        let written = match physically(batch, &self.physical) {
            Ok(batch) => self.writer.write(&batch).await,
            Err((column, why)) => {
                let why = format!("the column `{column}` cannot take it: {why}");
                return Err(Error::Table { doing: "write rows to", dataset: dataset.to_owned(), why });
            }
        };
        written.map_err(|e| store::table("write the files of", dataset, &e))
    }

    pub(super) async fn finish(self, dataset: &str) -> Result<Staged, Error> {
        let fingerprint = self.adder.map(|adder| adder.total()).unwrap_or_default();
        let files = self.writer.close().await.map_err(|e| store::table("write the files of", dataset, &e))?;
        Ok(Staged { files, fingerprint })
    }

    /// Takes back what was written, as far as that is possible: what stays belongs to no version, and `gc` removes it.
    pub(super) async fn discard(self) {
        if let Ok(files) = self.writer.close().await {
            remove(&*self.store, &files).await;
        }
    }
}

/// How files are written. Numbers and times that do not repeat are kept as differences, which takes less room than the bytes of
/// them compressed and is read faster.
pub(super) fn properties(columns: &arrow::datatypes::Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(3).unwrap_or_default();
    let all = WriterProperties::builder().set_compression(Compression::ZSTD(level));
    let whole = |field: &&FieldRef| {
        matches!(
            field.data_type(),
            DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(..)
        )
    };
    let columns = columns.fields().iter().filter(whole);
    let path = |field: &FieldRef| ColumnPath::new(vec![field.name().clone()]);
    columns
        .fold(all, |all, field| all.set_column_encoding(path(field), Encoding::DELTA_BINARY_PACKED))
        .build()
}

/// Removes files that no version names.
pub(super) async fn remove(store: &dyn ObjectStore, files: &[Add]) {
    for file in files {
        if let Err(error) = store.delete(&Path::from(file.path.as_str())).await {
            tracing::warn!(%error, "a file that no version names stays until gc");
        }
    }
}

impl Dataset {
    /// The columns of a table as its files hold them, and those it is partitioned by.
    fn physical(&self, table: &DeltaTable, schema: &Schema) -> Result<(SchemaRef, Vec<String>), Error> {
        let state = table.snapshot().map_err(|e| store::table("open", &self.name, &e))?;
        let rules = ["delta.constraints.", "delta.columnMapping.mode", "delta.identity", "delta.appendOnly"];
        let rule = state.metadata().configuration().iter().find(|(key, value)| {
            let off = matches!(value.as_str(), "none" | "false");
            rules.iter().any(|rule| key.starts_with(rule)) && !off
        });
        let arrow = state.snapshot().arrow_schema();
        let generated = arrow.fields().iter().find(|f| f.metadata().keys().any(|k| k.starts_with("delta.")));
        if let Some(rule) = rule.map(|(key, _)| key.as_str()).or(generated.map(|f| f.name().as_str())) {
            let why = format!(
                "`{rule}` is a rule that another writer set and that is not kept here; write to a copy"
            );
            return Err(self.defect("write to", &why));
        }
        let partitions = state.metadata().partition_columns().to_vec();
        let own = self.schema_of(table)?;
        if own == *schema {
            return Ok((arrow, partitions));
        }
        // Replaced columns: the table keeps its partitions, so their columns have to stay.
        match partitions.iter().find(|p| schema.column(p) != own.column(p)) {
            Some(gone) => {
                Err(self.defect("write to", &format!("it is partitioned by `{gone}`, which has to stay")))
            }
            None => Ok((schema.to_arrow(), partitions)),
        }
    }

    /// Writes rows, which have the columns of the table, into files of it. After an error there are none.
    pub(super) async fn stage_rows(&self, base: &DeltaTable, mut rows: Rows) -> Result<Staged, Error> {
        let mut stager = Stager::new(self, base, rows.schema(), true)?;
        loop {
            let step = match rows.next_arrow().await {
                Ok(None) => break,
                Ok(Some(batch)) => stager.write(&batch, &self.name).await,
                Err(error) => Err(error),
            };
            if let Err(error) = step {
                stager.discard().await;
                return Err(error);
            }
        }
        stager.finish(&self.name).await
    }

    /// Reads a source as `schema` into files of the table. After an error there are none.
    pub(super) async fn stage(
        &self,
        table: &DeltaTable,
        source: &Source,
        schema: &Schema,
    ) -> Result<Staged, Error> {
        let (sender, mut batches) = mpsc::channel::<Result<RecordBatch, Error>>(AHEAD);
        let (source, wanted) = (source.clone(), schema.clone());
        // Reads and adds up on one core while this task encodes and writes on another.
        let reading = pipeline::task::blocking("data-read", move || {
            let mut adder = Adder::new(Key::default());
            let mut reader = match source.open(&wanted) {
                Ok(reader) => reader,
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    return Fingerprint::default();
                }
            };
            loop {
                let next = reader.next();
                if let Ok(Some(batch)) = &next {
                    adder.add(batch);
                }
                let Some(next) = next.transpose() else { break };
                let failed = next.is_err();
                if sender.blocking_send(next).is_err() || failed {
                    break;
                }
            }
            adder.total()
        });
        let reading = pipeline::task::spawn("data-read", reading);
        let mut stager = Stager::new(self, table, schema, false)?;
        while let Some(batch) = batches.recv().await {
            let written = match batch {
                Ok(batch) => stager.write(&batch, &self.name).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                batches.close();
                stager.discard().await;
                return Err(error);
            }
        }
        let fingerprint = match reading.await {
            Ok(Ok(fingerprint)) => fingerprint,
            Ok(Err(crashed)) | Err(crashed) => {
                stager.discard().await;
                return Err(Error::Table {
                    doing: "read the source for",
                    dataset: self.name.to_string(),
                    why: crashed.to_string(),
                });
            }
        };
        let staged = stager.finish(&self.name).await?;
        Ok(Staged { fingerprint, ..staged })
    }
}
