//! Rows of a version, a batch at a time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{DataFrame, ParquetReadOptions, SessionContext, ident};
use deltalake::DeltaTable;
use deltalake::kernel::Add;
use futures_util::StreamExt;
use serde_json::{Map, Value};

use crate::batch::conform;
use crate::dataset::{At, Dataset, explained, number};
use crate::{Error, Schema, store};

/// What of a version to read.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// The columns, in this order; all of them when it is empty.
    pub columns: Vec<String>,
    /// The condition of a row, in SQL.
    pub filter: Option<String>,
    /// At most so many rows.
    pub limit: Option<usize>,
}

/// Rows that are read as they are asked for. Dropped, the reading ends.
pub struct Rows {
    schema: Schema,
    stream: SendableRecordBatchStream,
    /// The versions they are read of, as far as that is known.
    of: Vec<(Dataset, u64)>,
}

/// Some rows, at most 8192.
pub struct Batch(RecordBatch);

impl Dataset {
    /// Reads a version. A dataset has no order, and neither do these rows: they come as its files are read, several at once.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::NoVersion`], [`Error::Invalid`] for a column that is not there, [`Error::Query`] for
    /// a filter that cannot be understood.
    pub async fn read(&self, at: &At, select: &Select) -> Result<Rows, Error> {
        let version = self.resolve(at).await?;
        let table = self.at_version(version).await?;
        self.scan(&table, select).await
    }

    /// All rows of a version in an order that is the same whenever it is read: as they stand in its file where there is one, and
    /// sorted by their columns, nulls first, where there are several.
    pub(crate) async fn in_order(&self, version: u64) -> Result<Rows, Error> {
        let table = self.at_version(version).await?;
        let schema = self.schema_of(&table)?;
        let session = self.warehouse.session_of_one();
        let mut frame = self.frame(&session, &table).await?;
        let state = table.snapshot().map_err(|e| store::table("read", &self.name, &e))?;
        if state.snapshot().log_data().iter().nth(1).is_some() {
            let by = schema.names().map(|name| ident(name).sort(true, true)).collect();
            frame = frame.sort(by).map_err(|e| store::query("read rows", &e))?;
        }
        Rows::run_of(frame, schema, vec![(self.clone(), version)]).await
    }

    pub(crate) async fn scan(&self, table: &DeltaTable, select: &Select) -> Result<Rows, Error> {
        let mut schema = self.schema_of(table)?;
        let session = self.warehouse.session();
        let mut frame = self.frame(&session, table).await?;
        let failed = |e| store::query("read rows", &e);
        if let Some(filter) = &select.filter {
            let condition = frame.parse_sql_expr(filter).map_err(failed)?;
            frame = frame.filter(condition).map_err(failed)?;
        }
        if !select.columns.is_empty() {
            let mut columns = Vec::with_capacity(select.columns.len());
            for name in &select.columns {
                columns.push(schema.named(name, &self.name)?.clone());
            }
            let names: Vec<&str> = select.columns.iter().map(String::as_str).collect();
            // Names as they are, and not as SQL folds their case.
            let exprs: Vec<_> = names.iter().map(|n| datafusion::prelude::ident(*n)).collect();
            frame = frame.select(exprs).map_err(failed)?;
            schema = Schema { columns };
        }
        if let Some(limit) = select.limit {
            frame = frame.limit(0, Some(limit)).map_err(failed)?;
        }
        Rows::run_of(frame, schema, vec![(self.clone(), number(table))]).await
    }

    /// A version as a table of a query.
    pub(crate) async fn frame(
        &self,
        session: &SessionContext,
        table: &DeltaTable,
    ) -> Result<DataFrame, Error> {
        table
            .update_datafusion_session(&session.state())
            .map_err(|e| store::table("read", &self.name, &e))?;
        let provider = table.table_provider().await.map_err(|e| store::query("read rows", &e))?;
        session.read_table(provider).map_err(|e| store::query("read rows", &e))
    }

    /// Files that are not committed as a table of a query.
    pub(super) async fn staged_frame(
        &self,
        session: &SessionContext,
        files: &[Add],
        schema: &Schema,
    ) -> Result<DataFrame, Error> {
        self.paths_frame(session, files.iter().map(|file| file.path.as_str()), schema).await
    }

    /// Files of the dataset's folder as a table of a query.
    pub(super) async fn paths_frame(
        &self,
        session: &SessionContext,
        files: impl ExactSizeIterator<Item = &str>,
        schema: &Schema,
    ) -> Result<DataFrame, Error> {
        let failed = |e| store::query("read rows", &e);
        let arrow = schema.to_arrow();
        if files.len() == 0 {
            let none = RecordBatch::new_empty(arrow);
            return session.read_batch(none).map_err(failed);
        }
        let root = self.warehouse.inner.root.clone();
        session.register_object_store(&root, Arc::clone(&self.warehouse.inner.store));
        let paths: Vec<String> = files.map(|file| format!("{}{}/{file}", root, self.name)).collect();
        session.read_parquet(paths, ParquetReadOptions::default().schema(&arrow)).await.map_err(failed)
    }
}

impl Rows {
    pub(crate) async fn run(frame: DataFrame, schema: Schema) -> Result<Rows, Error> {
        Rows::run_of(frame, schema, Vec::new()).await
    }

    /// Rows that are read of these versions.
    pub(crate) async fn run_of(
        frame: DataFrame,
        schema: Schema,
        of: Vec<(Dataset, u64)>,
    ) -> Result<Rows, Error> {
        match frame.execute_stream().await {
            Ok(stream) => Ok(Rows { schema, stream, of }),
            Err(e) => Err(explained(&of, store::query("read rows", &e)).await),
        }
    }

    /// Rows that are made a batch at a time, in the types of the columns.
    pub(crate) fn made(
        schema: Schema,
        batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
    ) -> Rows {
        let batches = batches.map(|batch| batch.map_err(DataFusionError::from));
        let stream = RecordBatchStreamAdapter::new(schema.to_arrow(), futures_util::stream::iter(batches));
        Rows { schema, stream: Box::pin(stream), of: Vec::new() }
    }

    /// The rows that a function makes of each batch, with the same columns.
    pub(crate) fn mapped(
        self,
        mut each: impl FnMut(RecordBatch) -> Result<RecordBatch, ArrowError> + Send + 'static,
    ) -> Rows {
        let Rows { schema, stream, of } = self;
        let arrow = schema.to_arrow();
        let own = schema.clone();
        let batches = stream.map(move |batch| {
            let batch = conform(&batch?, &own)
                .map_err(|(column, why)| ArrowError::CastError(format!("`{column}`: {why}")))?;
            each(batch).map_err(DataFusionError::from)
        });
        Rows { schema, stream: Box::pin(RecordBatchStreamAdapter::new(arrow, batches)), of }
    }

    /// The columns.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The next rows, `None` after the last. Cancel-safe: what was not returned is returned by the next call.
    ///
    /// # Errors
    /// [`Error::Gone`] for a version whose files are gone, [`Error::Storage`] for a data file that is damaged, [`Error::Memory`].
    pub async fn next(&mut self) -> Result<Option<Batch>, Error> {
        Ok(self.next_arrow().await?.map(Batch))
    }

    pub(crate) async fn next_arrow(&mut self) -> Result<Option<RecordBatch>, Error> {
        match self.stream.next().await {
            None => Ok(None),
            Some(Err(e)) => Err(explained(&self.of, store::query("read rows", &e)).await),
            Some(Ok(batch)) => conform(&batch, &self.schema).map(Some).map_err(|(column, why)| {
                Error::Query(format!("the column `{column}` cannot be read: {why}"))
            }),
        }
    }

    /// All rows as JSON objects. For few rows: they are all in memory.
    ///
    /// # Errors
    /// As [`Rows::next`].
    pub async fn all(mut self) -> Result<Vec<Map<String, Value>>, Error> {
        let mut all = Vec::new();
        while let Some(batch) = self.next().await? {
            all.extend(batch.to_json());
        }
        Ok(all)
    }
}

impl Batch {
    pub(crate) fn of(batch: RecordBatch) -> Batch {
        Batch(batch)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.num_rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as JSON objects: numbers, bools and texts as such, dates and times in ISO 8601, decimals as text so that
    /// no digit is lost, binary in base64, floats that JSON has no number for as `"NaN"`, `"inf"` and `"-inf"`.
    pub fn to_json(&self) -> Vec<Map<String, Value>> {
        let schema = self.0.schema();
        let mut rows = vec![Map::new(); self.len()];
        for (field, array) in schema.fields().iter().zip(self.0.columns()) {
            for (row, object) in rows.iter_mut().enumerate() {
                object.insert(field.name().clone(), cell(array, row));
            }
        }
        rows
    }
}

pub(crate) fn cell(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Binary => STANDARD.encode(array.as_binary::<i32>().value(row)).into(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|item| cell(&items, item)).collect::<Vec<_>>().into()
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let members = fields.iter().zip(array.columns());
            Value::Object(members.map(|(f, column)| (f.name().clone(), cell(column, row))).collect())
        }
        _ => ArrayFormatter::try_new(array, &FormatOptions::default())
            .map_or(Value::Null, |formatter| formatter.value(row).to_string().into()),
    }
}

/// The words are those of CSV, and what a source of JSON reads as a float.
fn float(x: f64) -> Value {
    match x {
        x if x.is_finite() => x.into(),
        x if x.is_nan() => "NaN".into(),
        x if x > 0.0 => "inf".into(),
        _ => "-inf".into(),
    }
}
