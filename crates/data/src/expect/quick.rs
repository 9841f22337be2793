//! Checks of a row in loops of their own, for what data is checked for most: no expression is built, nothing is cast or copied, and
//! texts are looked at where the reader put them.
//!
//! Each says of a batch which rows break it, as the general expression would; nulls break none but [`Quick::Present`].

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use crate::expect::matcher::Matcher;

/// A check of one column.
#[derive(Debug)]
pub(crate) enum Quick {
    /// Neither null nor NaN.
    Present,
    /// An `int` from the one to the other.
    Ints(i64, i64),
    /// A `float` from the one to the other; a NaN is nowhere.
    Floats(f64, f64),
    /// A text among these.
    Among(HashSet<Vec<u8>>),
    /// A text that matches.
    Matches(Matcher),
    /// A text with so many characters.
    Length(usize, usize),
}

impl Quick {
    /// The rows of a column that break it; `None` when the column is of another type than the check is for.
    pub(crate) fn fails(&self, column: &ArrayRef) -> Option<BooleanBuffer> {
        let rows = column.len();
        let wrong = match (self, column.data_type()) {
            (Quick::Present, DataType::Float64) => {
                let values = column.as_primitive::<Float64Type>().values();
                let nan =
                    BooleanBuffer::collect_bool(rows, |row| values.get(row).is_some_and(|x| x.is_nan()));
                return Some(match column.nulls() {
                    Some(nulls) => &nan | &!nulls.inner(),
                    None => nan,
                });
            }
            (Quick::Present, _) => {
                return Some(match column.logical_nulls() {
                    Some(nulls) => !nulls.inner(),
                    None => BooleanBuffer::new_unset(rows),
                });
            }
            (Quick::Ints(min, max), DataType::Int64) => {
                let values = column.as_primitive::<Int64Type>().values();
                BooleanBuffer::collect_bool(rows, |row| values.get(row).is_some_and(|x| x < min || x > max))
            }
            (Quick::Floats(min, max), DataType::Float64) => {
                let values = column.as_primitive::<Float64Type>().values();
                let fits = |x: &f64| *x >= *min && *x <= *max;
                BooleanBuffer::collect_bool(rows, |row| !values.get(row).is_some_and(fits))
            }
            (Quick::Among(set), _) => texts(column, |text| !set.contains(text))?,
            (Quick::Matches(matcher), _) => texts(column, |text| !matcher.matches(text))?,
            (Quick::Length(min, max), _) => texts(column, |text| {
                let characters = characters(text);
                characters < *min || characters > *max
            })?,
            _ => return None,
        };
        Some(valid(wrong, column.nulls()))
    }
}

fn valid(rows: BooleanBuffer, nulls: Option<&NullBuffer>) -> BooleanBuffer {
    match nulls {
        Some(nulls) => &rows & nulls.inner(),
        None => rows,
    }
}

/// The rows whose text is wrong, whatever stands where a null is.
fn texts(column: &ArrayRef, wrong: impl Fn(&[u8]) -> bool) -> Option<BooleanBuffer> {
    match column.data_type() {
        DataType::Utf8 => {
            let array = column.as_string::<i32>();
            Some(BooleanBuffer::collect_bool(array.len(), |row| {
                array.is_valid(row) && wrong(array.value(row).as_bytes())
            }))
        }
        DataType::Utf8View => {
            let array = column.as_string_view();
            Some(BooleanBuffer::collect_bool(array.len(), |row| {
                array.is_valid(row) && wrong(array.value(row).as_bytes())
            }))
        }
        _ => None,
    }
}

/// Characters of a UTF-8 text: bytes that begin one.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| (**byte & 0xC0) != 0x80).count()
}
