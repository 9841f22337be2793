//! Batches in the types of a dataset, whatever types they came in.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;

use crate::Schema;

/// The batch with the columns of `schema`, in its order and types; the column and the reason when a value does not fit.
pub(crate) fn conform(batch: &RecordBatch, schema: &Schema) -> Result<RecordBatch, (String, String)> {
    physically(batch, &schema.to_arrow())
}

/// The batch with exactly these columns and types.
pub(crate) fn physically(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, (String, String)> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let failed = |why: String| (field.name().clone(), why);
        let array = batch.column_by_name(field.name()).ok_or_else(|| failed("it is missing".to_owned()))?;
        let wanted = field.data_type();
        if array.data_type() == wanted {
            columns.push(Arc::clone(array));
        } else {
            columns.push(cast_with_options(array, wanted, &options).map_err(|e| failed(e.to_string()))?);
        }
    }
    RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )
    .map_err(|e| (String::new(), e.to_string()))
}
