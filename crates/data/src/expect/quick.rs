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
/// The views of so many short texts are laid out so that each has a place of its own.
const FEW: usize = 64;
/// Places for them, of which a hash's highest bits name one.
const PLACES: usize = 1024;

/// Some texts, each once. Where a column holds views, a text of up to twelve bytes is one number there.
#[derive(Debug)]
pub(crate) struct Texts {
    places: Option<Places>,
    all: HashSet<Vec<u8>, ahash::RandomState>,
}

/// Views, each where its hash says: whether a view is there takes one comparison.
#[derive(Debug)]
struct Places {
    by: u64,
    /// Where none belongs is any of them: another view is no less another there.
    views: Vec<u128>,
}

impl Places {
    /// `None` for none and for too many.
    fn new(views: &[u128]) -> Option<Places> {
        let any = views.first().filter(|_| views.len() <= FEW)?;
        // With as many as there may be, one try in seven succeeds.
        let mut tries = (1..=64u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        tries.find_map(|by| {
            let mut all = Places { by, views: vec![*any; PLACES] };
            let mut taken = [false; PLACES];
            for view in views {
                let at = all.place(*view);
                if std::mem::replace(taken.get_mut(at)?, true) {
                    return None;
                }
                *all.views.get_mut(at)? = *view;
            }
            Some(all)
        })
    }

    fn place(&self, view: u128) -> usize {
        let mixed = (view as u64 ^ ((view >> 64) as u64).rotate_left(29)).wrapping_mul(self.by);
        (mixed >> (u64::BITS - PLACES.ilog2())) as usize
    }

    fn has(&self, view: u128) -> bool {
        self.views.get(self.place(view)) == Some(&view)
    }
}

impl FromIterator<Vec<u8>> for Texts {
    fn from_iter<T: IntoIterator<Item = Vec<u8>>>(texts: T) -> Texts {
        let all: HashSet<Vec<u8>, ahash::RandomState> = texts.into_iter().collect();
        let view = |text: &Vec<u8>| (text.len() <= INLINE).then(|| make_view(text, 0, 0));
        let short: Vec<u128> = all.iter().filter_map(view).collect();
        Texts { places: Places::new(&short), all }
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
            (Quick::Among(Texts { places: Some(places), all }), DataType::Utf8View) => {
                let array = column.as_string_view();
                let views = array.views();
                BooleanBuffer::collect_bool(rows, |row| match views.get(row) {
                    // A view begins with the length.
                    Some(view) if *view as u32 as usize <= INLINE => !places.has(*view),
                    _ => !all.contains(array.value(row).as_bytes()),
                })
            }
            (Quick::Among(set), _) => texts(column, |text| !set.all.contains(text))?,
            (Quick::Matches(matcher), _) => texts(column, |text| !matcher.matches(text))?,
            (Quick::Length(min, max), DataType::Utf8View) => {
                let array = column.as_string_view();
                let views = array.views();
                let wrong = |characters: usize| characters < *min || characters > *max;
                BooleanBuffer::collect_bool(rows, |row| match views.get(row) {
                    // Behind the length is the text.
                    Some(view) if (*view >> 32) & ASCII == 0 && *view as u32 as usize <= INLINE => {
                        wrong(*view as u32 as usize)
                    }
                    _ => wrong(characters(array.value(row).as_bytes())),
                })
            }
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
            Some(BooleanBuffer::collect_bool(array.len(), |row| wrong(array.value(row).as_bytes())))
        }
        DataType::Utf8View => {
            let array = column.as_string_view();
            Some(BooleanBuffer::collect_bool(array.len(), |row| wrong(array.value(row).as_bytes())))
        }
        _ => None,
    }
}

/// The bits that no ASCII character has, of the twelve bytes within a view.
const ASCII: u128 = 0x8080_8080_8080_8080_8080_8080;

/// Characters of a UTF-8 text: bytes that begin one.
fn characters(text: &[u8]) -> usize {
    if text.is_ascii() {
        return text.len();
    }
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

        #[test]
        fn a_text_has_as_many_characters_wherever_the_reader_put_it(
            (min, more) in (0usize..14, 0usize..14),
            column in prop::collection::vec(prop::option::of("[ab]{0,14}|[aé]{0,14}"), 0..30),
        ) {
            let length = Quick::Length(min, min + more);
            let wrong = |text: &Option<String>| {
                text.as_ref().is_some_and(|text| !(min..=min + more).contains(&text.chars().count()))
            };
            let expected: BooleanBuffer = column.iter().map(wrong).collect();
            let views: ArrayRef = Arc::new(column.iter().map(Option::as_deref).collect::<StringViewArray>());
            let plain: ArrayRef = Arc::new(column.iter().map(Option::as_deref).collect::<StringArray>());
            prop_assert_eq!(length.fails(&views).unwrap(), expected.clone());
            prop_assert_eq!(length.fails(&plain).unwrap(), expected);
        }
    }
}
