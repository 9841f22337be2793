//! Values of text and JSON into columns. What a column's type does not keep as it is written does not fit it: an integer of more
//! digits than a double has is no `float`.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::ColumnType;
use crate::source::time;

/// A column that grows by a value.
pub(crate) enum Cells {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    DateTime(TimestampMicrosecondBuilder),
}

impl Cells {
    /// An empty column; `None` for a type that text cannot hold.
    pub(crate) fn new(ty: &ColumnType) -> Option<Cells> {
        Some(match ty {
            ColumnType::Bool => Cells::Bool(BooleanBuilder::new()),
            ColumnType::Int => Cells::Int(Int64Builder::new()),
            ColumnType::Float => Cells::Float(Float64Builder::new()),
            ColumnType::Decimal(p, s) => {
                Cells::Decimal(Decimal128Builder::new().with_data_type(ty.to_arrow()), *p, *s)
            }
            ColumnType::Text => Cells::Text(StringBuilder::new()),
            ColumnType::Binary => Cells::Binary(BinaryBuilder::new()),
            ColumnType::Date => Cells::Date(Date32Builder::new()),
            ColumnType::Timestamp => {
                Cells::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(ty.to_arrow()))
            }
            ColumnType::DateTime => Cells::DateTime(TimestampMicrosecondBuilder::new()),
            ColumnType::List(_) | ColumnType::Struct(_) => return None,
        })
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Cells::Text(_))
    }

    pub(crate) fn push_null(&mut self) {
        match self {
            Cells::Bool(b) => b.append_null(),
            Cells::Int(b) => b.append_null(),
            Cells::Float(b) => b.append_null(),
            Cells::Decimal(b, ..) => b.append_null(),
            Cells::Text(b) => b.append_null(),
            Cells::Binary(b) => b.append_null(),
            Cells::Date(b) => b.append_null(),
            Cells::Timestamp(b) | Cells::DateTime(b) => b.append_null(),
        }
    }

    /// Appends a number as it is written; `None`, and nothing appended, when it does not fit the type with all its digits.
    pub(crate) fn push_number(&mut self, number: &str) -> Option<()> {
        match self {
            Cells::Int(_) | Cells::Float(_) | Cells::Text(_) => self.push(number),
            Cells::Decimal(..) => self.push(&without_exponent(number)?),
            _ => None,
        }
    }

    /// Appends a value; `None`, and nothing appended, when it does not fit the type.
    pub(crate) fn push(&mut self, text: &str) -> Option<()> {
        let trimmed = text.trim_ascii();
        match self {
            Cells::Bool(b) => b.append_value(parse_bool(trimmed)?),
            Cells::Int(b) => b.append_value(trimmed.parse().ok()?),
            Cells::Float(b) => b.append_value(parse_float(trimmed).filter(|x| is_whole(trimmed, *x))?),
            Cells::Decimal(b, p, s) => b.append_value(parse_decimal(trimmed, *p, *s)?),
            Cells::Text(b) => b.append_value(text),
            Cells::Binary(b) => b.append_value(STANDARD.decode(trimmed).ok()?),
            Cells::Date(b) => b.append_value(time::parse_date(trimmed)?),
            Cells::Timestamp(b) => b.append_value(time::parse_timestamp(trimmed)?),
            Cells::DateTime(b) => b.append_value(time::parse_datetime(trimmed)?),
        }
        Some(())
    }

    /// Appends a value of JSON; `None`, and nothing appended, when it does not fit the type.
    pub(crate) fn push_json(&mut self, value: &Value) -> Option<()> {
        match (&mut *self, value) {
            (_, Value::Null) => self.push_null(),
            (Cells::Bool(b), Value::Bool(value)) => b.append_value(*value),
            (Cells::Int(b), Value::Number(n)) => b.append_value(n.as_i64()?),
            (Cells::Float(b), Value::Number(n)) => b.append_value(n.as_f64()?),
            (Cells::Decimal(..), Value::Number(n)) => self.push(&n.to_string())?,
            (Cells::Text(b), Value::String(s)) => b.append_value(s),
            (Cells::Text(b), other) => b.append_value(other.to_string()),
            (Cells::Float(b), Value::String(word)) => b.append_value(word_float(word)?),
            (Cells::Bool(_) | Cells::Int(_), Value::String(_)) => return None,
            (_, Value::String(s)) => self.push(s)?,
            _ => return None,
        }
        Some(())
    }

    /// The column, and an empty one in its place.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Cells::Bool(b) => Arc::new(b.finish()),
            Cells::Int(b) => Arc::new(b.finish()),
            Cells::Float(b) => Arc::new(b.finish()),
            Cells::Decimal(b, ..) => Arc::new(b.finish()),
            Cells::Text(b) => Arc::new(b.finish()),
            Cells::Binary(b) => Arc::new(b.finish()),
            Cells::Date(b) => Arc::new(b.finish()),
            Cells::Timestamp(b) | Cells::DateTime(b) => Arc::new(b.finish()),
        }
    }
}

pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A double; of words only `NaN`, `inf` and `-inf`.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let word = text.bytes().any(|b| b.is_ascii_alphabetic() && !matches!(b, b'e' | b'E'));
    if word && !matches!(text, "NaN" | "nan" | "inf" | "-inf" | "Inf" | "-Inf") {
        return None;
    }
    text.parse().ok()
}

/// Whether a double is the integer that is written, to the last digit; so for what is not written as an integer.
fn is_whole(text: &str, x: f64) -> bool {
    let plain = text.trim_start_matches(['-', '+']).trim_start_matches('0');
    // Up to 15 digits every double is.
    plain.len() <= 15 || !plain.bytes().all(|b| b.is_ascii_digit()) || format!("{:.0}", x.abs()) == plain
}

/// The same number written without an exponent; `None` when it would be longer than any decimal.
fn without_exponent(text: &str) -> Option<Cow<'_, str>> {
    let Some((number, exponent)) = text.split_once(['e', 'E']) else { return Some(text.into()) };
    let exponent: i32 = exponent.parse().ok().filter(|e| (-76..=76).contains(e))?;
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let digits = format!("{whole}{fraction}");
    let Ok(point) = usize::try_from(point) else {
        return Some(format!("{sign}0.{}{digits}", "0".repeat(usize::try_from(-point).ok()?)).into());
    };
    let padded = format!("{digits}{}", "0".repeat(point.saturating_sub(digits.len())));
    let (whole, fraction) = padded.split_at_checked(point)?;
    Some(format!("{sign}{whole}.{fraction}").into())
}

/// A float that JSON has no number for, by the word that stands for it: as in CSV, or as Protobuf writes it.
pub(crate) fn word_float(word: &str) -> Option<f64> {
    match word {
        "NaN" => Some(f64::NAN),
        "inf" | "Infinity" => Some(f64::INFINITY),
        "-inf" | "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The digits of an exact decimal without its point; `None` when it has more than the type keeps.
fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let scale = usize::try_from(scale).ok()?;
    if whole.len() + fraction.len() == 0 && !digits.contains('0') || fraction.len() > scale {
        return None;
    }
    let padding = std::iter::repeat_n(b'0', scale - fraction.len());
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_exact_or_refused() {
        assert_eq!(parse_decimal("12.5", 5, 2), Some(1250));
        assert_eq!(parse_decimal("-0.050", 5, 2), Some(-5));
        assert_eq!(parse_decimal("1.005", 5, 2), None);
        assert_eq!(parse_decimal("1000", 5, 2), None);
        assert_eq!(parse_decimal("", 5, 2), None);
        assert_eq!(parse_decimal(".", 5, 2), None);
        assert_eq!(parse_decimal("0.", 5, 2), Some(0));
        assert_eq!(parse_decimal("1x", 5, 2), None);
    }

    #[test]
    fn an_integer_that_a_double_rounds_is_no_float() {
        let pushed = |text: &str| Cells::new(&ColumnType::Float).unwrap().push(text).is_some();
        for fits in [
            "9007199254740992",
            "9007199254740994",
            "-009007199254740992",
            "1000000000000000000",
            "0.1",
            "1e300",
        ] {
            assert!(pushed(fits), "{fits}");
        }
        for lost in ["9007199254740993", "-9007199254740993", "12345678901234567890"] {
            assert!(!pushed(lost), "{lost}");
        }
    }

    #[test]
    fn a_number_without_its_exponent_is_the_same() {
        for (given, expected) in [
            ("12.5", "12.5"),
            ("1e3", "1000."),
            ("-1.25E1", "-12.5"),
            ("125e-2", "1.25"),
            ("1.5e-3", "0.0015"),
            ("0e0", "0."),
        ] {
            assert_eq!(without_exponent(given).as_deref(), Some(expected), "{given}");
        }
        assert_eq!(without_exponent("1e999999999"), None);
        assert_eq!(without_exponent("1e-2147483648"), None);
    }

    #[test]
    fn of_words_only_those_of_floats_are_floats() {
        assert!(parse_float("infinity").is_none());
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
        assert_eq!(parse_float("-1.5e3"), Some(-1500.0));
    }
}
