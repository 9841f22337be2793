//! What is to be predicted, as far as it was known at a time: a label becomes known after its row's own time, and a training set
//! that was cut must not have it before.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::zip::zip;
use arrow::error::ArrowError;
use contract::UnixMillis;

use crate::dataset::Rows;
use crate::features::entities::Micros;
use crate::features::view::Kind;
use crate::{Error, Schema};

/// Columns that become known later than their row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The columns.
    pub columns: Vec<String>,
    /// The column that says when they became known; where it is null they are not known yet. A time without a zone counts as UTC.
    pub known_at: String,
    /// Whether rows whose label was not known are left out; else their label is null.
    pub drops: bool,
}

impl Label {
    /// The rows with the labels that were known at the cut, that instant included.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a column that is not there, or a time that is none.
    pub(crate) fn cut(&self, rows: Rows, cut: UnixMillis) -> Result<Rows, Error> {
        let schema: &Schema = rows.schema();
        for name in self.columns.iter().chain([&self.known_at]) {
            if schema.column(name).is_none() {
                let names: Vec<_> = schema.names().collect();
                let why = format!("the rows have {}", names.join(", "));
                return Err(Error::invalid(format!("the column `{name}` of the label"), why));
            }
        }
        if let Some(column) = schema.column(&self.known_at) {
            Kind::of(column)?;
        }
        let (label, micros) = (self.clone(), cut.0.saturating_mul(1000));
        Ok(rows.mapped(move |batch| label.of(&batch, micros)))
    }

    fn of(&self, batch: &RecordBatch, cut: i64) -> Result<RecordBatch, ArrowError> {
        let missing = || ArrowError::SchemaError(format!("there is no column `{}`", self.known_at));
        let times = Micros::of(batch.column_by_name(&self.known_at).ok_or_else(missing)?);
        let known: BooleanArray =
            (0..batch.num_rows()).map(|row| Some(times.get(row).is_some_and(|at| at <= cut))).collect();
        if self.drops {
            return filter_record_batch(batch, &known);
        }
        let schema = batch.schema();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            let late = self.columns.contains(field.name()) && known.true_count() < known.len();
            columns.push(if late {
                zip(&known, array, &new_null_array(array.data_type(), array.len()))?
            } else {
                array.clone()
            });
        }
        RecordBatch::try_new(schema, columns)
    }
}
