//! Checks of a row in loops of their own, for what data is checked for most: no expression is built, nothing is cast or copied, and
//! texts are looked at where the reader put them.
//!
//! Each says of a batch which rows break it, as the general expression would; nulls break none but [`Quick::Present`].

use std::collections::HashSet;

use arrow::array::builder::make_view;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use crate::expect::matcher::Matcher;

/// The longest text that is whole within its view, in bytes.
const INLINE: usize = 12;
/// So many short texts are compared with one after the other.
const FEW: usize = 24;

/// Some texts, each once. Where a column holds views, a text of up to twelve bytes is one number there.
#[derive(Debug)]
pub(crate) struct Texts {
    /// The views of the short ones, in order.
    short: Vec<u128>,
    all: HashSet<Vec<u8>, ahash::RandomState>,
}

impl FromIterator<Vec<u8>> for Texts {
    fn from_iter<T: IntoIterator<Item = Vec<u8>>>(texts: T) -> Texts {
        let all: HashSet<Vec<u8>, ahash::RandomState> = texts.into_iter().collect();
        let view = |text: &Vec<u8>| (text.len() <= INLINE).then(|| make_view(text, 0, 0));
        let mut short: Vec<u128> = all.iter().filter_map(view).collect();
        short.sort_unstable();
        Texts { short, all }
    }
}

impl Texts {
    fn has_view(&self, view: u128) -> bool {
        match self.short.len() <= FEW {
            true => self.short.iter().fold(false, |found, short| found | (*short == view)),
            false => self.short.binary_search(&view).is_ok(),
        }
    }
}

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
    Among(Texts),
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
            (Quick::Among(set), DataType::Utf8View) => {
                let array = column.as_string_view();
                let views = array.views();
                BooleanBuffer::collect_bool(rows, |row| match views.get(row) {
                    // A view begins with the length.
                    Some(view) if *view as u32 as usize <= INLINE => !set.has_view(*view),
                    _ => array.is_valid(row) && !set.all.contains(array.value(row).as_bytes()),
                })
            }
            (Quick::Among(set), _) => texts(column, |text| !set.all.contains(text))?,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{StringArray, StringViewArray};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_among_others_are_found_wherever_the_reader_put_them(
            set in prop::collection::vec("[ab]{0,2}|[aé]{11,14}", 0..40),
            column in prop::collection::vec(prop::option::of("[ab]{0,2}|[aé]{11,14}"), 0..30),
        ) {
            let among = Quick::Among(set.iter().map(|text| text.as_bytes().to_vec()).collect());
            let wrong = |text: &Option<String>| text.as_ref().is_some_and(|text| !set.contains(text));
            let expected: BooleanBuffer = column.iter().map(wrong).collect();
            let views: ArrayRef = Arc::new(column.iter().map(Option::as_deref).collect::<StringViewArray>());
            let plain: ArrayRef = Arc::new(column.iter().map(Option::as_deref).collect::<StringArray>());
            prop_assert_eq!(among.fails(&views).unwrap(), expected.clone());
            prop_assert_eq!(among.fails(&plain).unwrap(), expected);
        }
    }
}
