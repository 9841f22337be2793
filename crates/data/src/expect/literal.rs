//! Values of a file of expectations, as values of a column.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use datafusion::scalar::ScalarValue;
use serde_json::Value;

use crate::ColumnType;

/// The value in the column's type; a bound of an `int` column may have a fraction.
pub(super) fn literal(value: &Value, ty: &ColumnType) -> Result<ScalarValue, String> {
    let text = match (value, ty) {
        (Value::String(text), _) => text.clone(),
        (Value::Number(n), ColumnType::Float) => {
            // -0 is 0.
            return Ok(ScalarValue::Float64(n.as_f64().map(|x| x + 0.0)));
        }
        (Value::Number(n), ColumnType::Int) if n.as_i64().is_none() => {
            return Ok(ScalarValue::Float64(n.as_f64()));
        }
        (Value::Number(_), ColumnType::Int | ColumnType::Decimal(..)) => value.to_string(),
        (Value::Bool(_), ColumnType::Bool) => value.to_string(),
        _ => return Err(format!("{value} is not a value of a column of type {ty}")),
    };
    let failed = |_| format!("`{text}` is not a value of a column of type {ty}");
    let array: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let array = cast_with_options(&array, &ty.to_arrow(), &options).map_err(failed)?;
    ScalarValue::try_from_array(&array, 0).map_err(|e| e.to_string())
}
