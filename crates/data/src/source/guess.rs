//! What type a column of text has: the narrowest that every value of it fits.
//!
//! What looks like a number but is a name stays text: a leading zero (`007`), or more digits than a number keeps.

use std::collections::BTreeMap;
use std::path::Path;

use crate::source::{cells, differing, time};
use crate::{Column, ColumnType, Error, Schema};

const BOOL: u8 = 1;
const INT: u8 = 2;
const FLOAT: u8 = 4;
const DATE: u8 = 8;
const TIMESTAMP: u8 = 16;
const DATETIME: u8 = 32;

/// The types that every value so far fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guess {
    possible: u8,
    seen: bool,
    /// A word of JSON came that may be a float, if the others are numbers.
    word: bool,
    /// A number came, or text that may be one.
    number: bool,
}

impl Default for Guess {
    fn default() -> Guess {
        let possible = BOOL | INT | FLOAT | DATE | TIMESTAMP | DATETIME;
        Guess { possible, seen: false, word: false, number: false }
    }
}

impl Guess {
    /// Takes a value that is not null into account.
    pub(crate) fn see(&mut self, text: &str) {
        (self.seen, self.number) = (true, true);
        if self.possible == 0 {
            return;
        }
        let text = text.trim_ascii();
        let mut fits = |bit: u8, fit: &dyn Fn(&str) -> bool| {
            if self.possible & bit != 0 && !fit(text) {
                self.possible &= !bit;
            }
        };
        fits(BOOL, &|t| cells::parse_bool(t).is_some());
        fits(INT, &|t| is_int(t) && t.parse::<i64>().is_ok());
        fits(FLOAT, &is_float);
        fits(DATE, &|t| time::parse_date(t).is_some());
        fits(TIMESTAMP, &|t| time::parse_timestamp(t).is_some());
        fits(DATETIME, &|t| time::parse_datetime(t).is_some());
    }

    /// Takes a number of JSON into account, as it is written.
    pub(crate) fn see_number(&mut self, text: &str) {
        (self.seen, self.number) = (true, true);
        let int = if is_int(text) && text.parse::<i64>().is_ok() { INT } else { 0 };
        let float = if is_float(text) && text.parse().is_ok_and(f64::is_finite) { FLOAT } else { 0 };
        self.possible &= int | float;
    }

    /// Takes a string of JSON into account: it may be a date or a time, and is never a number or a bool. A word for a float that
    /// JSON has no number for is one among numbers.
    pub(crate) fn see_string(&mut self, text: &str) {
        if cells::word_float(text).is_some() {
            (self.seen, self.word) = (true, true);
            self.possible &= FLOAT;
            return;
        }
        self.possible &= DATE | TIMESTAMP | DATETIME;
        self.see(text);
    }

    /// Takes a value into account that is text and nothing else.
    pub(crate) fn see_text(&mut self) {
        *self = Guess { possible: 0, seen: true, ..*self };
    }

    fn join(&mut self, other: Guess) {
        self.possible &= other.possible;
        self.seen |= other.seen;
        self.word |= other.word;
        self.number |= other.number;
    }

    /// The narrowest type; text for a column without values.
    pub(crate) fn ty(self) -> ColumnType {
        let order = [
            (BOOL, ColumnType::Bool),
            (INT, ColumnType::Int),
            (FLOAT, ColumnType::Float),
            (DATE, ColumnType::Date),
            (TIMESTAMP, ColumnType::Timestamp),
            (DATETIME, ColumnType::DateTime),
        ];
        // Words alone are words.
        let seen = self.seen && (self.number || !self.word);
        let fits = order.into_iter().find(|(bit, _)| seen && self.possible & bit != 0);
        fits.map_or(ColumnType::Text, |(_, ty)| ty)
    }
}

fn is_int(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'))
}

fn is_float(text: &str) -> bool {
    let plain = text.strip_prefix('-').unwrap_or(text);
    if plain.bytes().all(|b| b.is_ascii_digit()) {
        // Written as an integer: a double only if it loses nothing.
        return is_int(text) && text.parse::<i64>().is_ok_and(|n| n.unsigned_abs() <= 1 << 53);
    }
    if plain.starts_with('0') && plain.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
        return false;
    }
    cells::parse_float(text).is_some()
}

/// What is known of a column's type.
#[derive(Debug, Clone)]
enum Evidence {
    /// The file says it.
    Said(ColumnType),
    /// Its values say it.
    Seen(Guess),
}

/// The columns of a source and what is known of each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    columns: Vec<(String, Evidence)>,
    /// Whether a file may lack a column: JSON says null so.
    sparse: bool,
}

impl Found {
    pub(crate) fn seen(columns: Vec<(String, Guess)>, sparse: bool) -> Found {
        let columns = columns.into_iter().map(|(name, guess)| (name, Evidence::Seen(guess))).collect();
        Found { columns, sparse }
    }

    pub(crate) fn said(schema: Schema) -> Found {
        let columns = schema.columns.into_iter().map(|c| (c.name, Evidence::Said(c.ty))).collect();
        Found { columns, sparse: false }
    }

    /// Takes another file into account.
    pub(crate) fn join(&mut self, other: Found, file: &Path) -> Result<(), Error> {
        let has = |columns: &[(String, Evidence)], name: &str| columns.iter().any(|(n, _)| n == name);
        let missing: Vec<&str> =
            self.columns.iter().map(|(n, _)| n.as_str()).filter(|n| !has(&other.columns, n)).collect();
        let extra: Vec<&str> =
            other.columns.iter().map(|(n, _)| n.as_str()).filter(|n| !has(&self.columns, n)).collect();
        let sparse = self.sparse && other.sparse;
        if !sparse && let Some(error) = differing(file, &missing, &extra) {
            return Err(error);
        }
        for (name, evidence) in other.columns {
            let Some((_, known)) = self.columns.iter_mut().find(|(n, _)| *n == name) else {
                self.columns.push((name, evidence));
                continue;
            };
            match (&mut *known, evidence) {
                (Evidence::Seen(a), Evidence::Seen(b)) => a.join(b),
                (Evidence::Seen(_), said) => *known = said,
                (Evidence::Said(a), Evidence::Said(b)) if *a != b => {
                    let at = crate::error::Place::file(file).column(&name);
                    let problem = format!("it is {b} here and {a} in the files before");
                    return Err(Error::source(at, problem, "declare the type of the column"));
                }
                (Evidence::Said(_), _) => {}
            }
        }
        Ok(())
    }

    /// The schema, with declared types in the place of what was found.
    pub(crate) fn schema(self, declared: &BTreeMap<String, ColumnType>) -> Result<Schema, Error> {
        if let Some(unknown) = declared.keys().find(|name| !self.columns.iter().any(|(n, _)| n == *name)) {
            let names: Vec<_> = self.columns.iter().map(|(n, _)| n.as_str()).collect();
            let why = format!("the source has no such column; it has {}", names.join(", "));
            return Err(Error::invalid(format!("the declared column `{unknown}`"), why));
        }
        let column = |(name, evidence): (String, Evidence)| {
            let ty = match (declared.get(&name), evidence) {
                (Some(ty), _) => ty.clone(),
                (None, Evidence::Said(ty)) => ty,
                (None, Evidence::Seen(guess)) => guess.ty(),
            };
            Column { name, ty }
        };
        Ok(Schema { columns: self.columns.into_iter().map(column).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guess(values: &[&str]) -> ColumnType {
        let mut guess = Guess::default();
        values.iter().for_each(|v| guess.see(v));
        guess.ty()
    }

    #[test]
    fn the_narrowest_type_that_fits_every_value_is_taken() {
        assert_eq!(guess(&["1", "-20"]), ColumnType::Int);
        assert_eq!(guess(&["1", "2.5", "1e9"]), ColumnType::Float);
        assert_eq!(guess(&["true", "False"]), ColumnType::Bool);
        assert_eq!(guess(&["2013-01-01", "2024-02-29"]), ColumnType::Date);
        assert_eq!(guess(&["2013-01-01T05:00:00Z", "2013-01-01 05:00+02:00"]), ColumnType::Timestamp);
        assert_eq!(guess(&["2013-01-01 05:00:00"]), ColumnType::DateTime);
        assert_eq!(guess(&["1", "x"]), ColumnType::Text);
        assert_eq!(guess(&[]), ColumnType::Text);
    }

    #[test]
    fn what_looks_like_a_number_but_is_a_name_stays_text() {
        assert_eq!(guess(&["007"]), ColumnType::Text);
        assert_eq!(guess(&["12345678901234567890"]), ColumnType::Text);
        assert_eq!(guess(&["9007199254740993", "0.5"]), ColumnType::Text);
        assert_eq!(guess(&["2023-02-30"]), ColumnType::Text);
        assert_eq!(guess(&["0", "0.5"]), ColumnType::Float);
    }

    #[test]
    fn numbers_of_json_are_text_where_no_number_keeps_all_their_digits() {
        let of = |numbers: &[&str]| {
            let mut guess = Guess::default();
            numbers.iter().for_each(|number| guess.see_number(number));
            guess.ty()
        };
        assert_eq!(of(&["9007199254740993", "-1"]), ColumnType::Int);
        assert_eq!(of(&["9007199254740992", "0.5"]), ColumnType::Float);
        assert_eq!(of(&["9007199254740993", "0.5"]), ColumnType::Text);
        assert_eq!(of(&["18446744073709551615"]), ColumnType::Text);
        assert_eq!(of(&["123456789012345678901234567890", "1"]), ColumnType::Text);
        assert_eq!(of(&["1e400"]), ColumnType::Text);
        assert_eq!(of(&["1e3", "1.0"]), ColumnType::Float);
    }

    #[test]
    fn a_word_for_a_float_is_one_among_numbers_and_a_word_otherwise() {
        let of = |strings: &[&str], numbers: bool| {
            let mut guess = Guess::default();
            strings.iter().for_each(|text| guess.see_string(text));
            if numbers {
                guess.see_number("0.5");
            }
            guess.ty()
        };
        assert_eq!(of(&["NaN", "-Infinity"], true), ColumnType::Float);
        assert_eq!(of(&["NaN"], false), ColumnType::Text);
        assert_eq!(of(&["NaN", "x"], true), ColumnType::Text);
        assert_eq!(of(&["NaN", "2026-01-01"], false), ColumnType::Text);
    }

    proptest! {
        #[test]
        fn the_order_of_values_does_not_matter(mut values in proptest::collection::vec("[0-9a.:TZ -]{1,8}", 0..6)) {
            let forward: Vec<&str> = values.iter().map(String::as_str).collect();
            let expected = guess(&forward);
            values.reverse();
            let backward: Vec<&str> = values.iter().map(String::as_str).collect();
            prop_assert_eq!(guess(&backward), expected);
        }
    }
}
