//! Rows as bytes, each in one way only.
//!
//! Version 1: the columns in the order of their names; per value a byte 0 (null) or 1, then the value: numbers little-endian,
//! -0.0 as 0.0 and every NaN as one, texts and lists with their length before them. It never changes under this version: names
//! of versions are kept for years.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};

/// A column, its type looked up once.
pub(crate) enum Cells<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Float(&'a Float64Array),
    Decimal(&'a Decimal128Array),
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a TimestampMicrosecondArray),
    List(&'a ListArray),
    Struct(&'a StructArray, Vec<Cells<'a>>),
    /// A type that batches are never brought to: it counts as null, and the schema's hash tells it apart.
    Other,
}

impl<'a> Cells<'a> {
    pub(crate) fn of(array: &'a ArrayRef) -> Cells<'a> {
        match array.data_type() {
            DataType::Boolean => Cells::Bool(array.as_boolean()),
            DataType::Int64 => Cells::Int(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Cells::Float(array.as_primitive::<Float64Type>()),
            DataType::Decimal128(..) => Cells::Decimal(array.as_primitive::<Decimal128Type>()),
            DataType::Utf8 => Cells::Text(array.as_string::<i32>()),
            DataType::Binary => Cells::Binary(array.as_binary::<i32>()),
            DataType::Date32 => Cells::Date(array.as_primitive::<Date32Type>()),
            DataType::Timestamp(..) => Cells::Time(array.as_primitive::<TimestampMicrosecondType>()),
            DataType::List(_) => Cells::List(array.as_list::<i32>()),
            DataType::Struct(fields) => {
                let array = array.as_struct();
                let mut columns: Vec<_> = fields.iter().zip(array.columns()).collect();
                columns.sort_by(|(a, _), (b, _)| a.name().cmp(b.name()));
                Cells::Struct(array, columns.into_iter().map(|(_, column)| Cells::of(column)).collect())
            }
            _ => Cells::Other,
        }
    }

    /// Appends a value of the column.
    pub(crate) fn encode(&self, row: usize, out: &mut Vec<u8>) {
        let null = match self {
            Cells::Bool(a) => a.is_null(row),
            Cells::Int(a) => a.is_null(row),
            Cells::Float(a) => a.is_null(row),
            Cells::Decimal(a) => a.is_null(row),
            Cells::Text(a) => a.is_null(row),
            Cells::Binary(a) => a.is_null(row),
            Cells::Date(a) => a.is_null(row),
            Cells::Time(a) => a.is_null(row),
            Cells::List(a) => a.is_null(row),
            Cells::Struct(a, _) => a.is_null(row),
            Cells::Other => true,
        };
        out.push(u8::from(!null));
        if null {
            return;
        }
        match self {
            Cells::Bool(a) => out.push(u8::from(a.value(row))),
            Cells::Int(a) => out.extend_from_slice(&a.value(row).to_le_bytes()),
            Cells::Float(a) => out.extend_from_slice(&canonical(a.value(row)).to_le_bytes()),
            Cells::Decimal(a) => out.extend_from_slice(&a.value(row).to_le_bytes()),
            Cells::Text(a) => sized(a.value(row).as_bytes(), out),
            Cells::Binary(a) => sized(a.value(row), out),
            Cells::Date(a) => out.extend_from_slice(&a.value(row).to_le_bytes()),
            Cells::Time(a) => out.extend_from_slice(&a.value(row).to_le_bytes()),
            Cells::List(a) => {
                let items = a.value(row);
                out.extend_from_slice(&(items.len() as u64).to_le_bytes());
                let cells = Cells::of(&items);
                for item in 0..items.len() {
                    cells.encode(item, out);
                }
            }
            Cells::Struct(_, columns) => {
                for column in columns {
                    column.encode(row, out);
                }
            }
            Cells::Other => {}
        }
    }
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// One bit pattern for values that are equal.
fn canonical(x: f64) -> f64 {
    if x.is_nan() {
        f64::NAN
    } else if x == 0.0 {
        0.0
    } else {
        x
    }
}
