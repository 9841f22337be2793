//! The elements of a tensor out of JSON, in one pass, into a vector of the tensor's own type.
//!
//! The text is the value of a `data`, so that it is JSON already when it comes from a parser; nothing here relies on it. It is a
//! list as long as the tensor, or lists in lists as its shape says. Floats are read to the nearest value, which `serde_json`
//! does not promise; one that is too large for its type is refused and not made infinite.

use bytemuck::NoUninit;
use half::f16;

use super::bare;
use crate::datatype::DataType;
use crate::error::Error;
use crate::tensor::{Tensor, elements};

/// Reads all of it.
pub(super) fn read(datatype: DataType, shape: Vec<i64>, json: &str) -> Result<Tensor, Error> {
    match datatype {
        DataType::Bool => numbers::<u8>(datatype, shape, json, boolean),
        DataType::Uint8 => numbers::<u8>(datatype, shape, json, integer),
        DataType::Uint16 => numbers::<u16>(datatype, shape, json, integer),
        DataType::Uint32 => numbers::<u32>(datatype, shape, json, integer),
        DataType::Uint64 => numbers::<u64>(datatype, shape, json, integer),
        DataType::Int8 => numbers::<i8>(datatype, shape, json, integer),
        DataType::Int16 => numbers::<i16>(datatype, shape, json, integer),
        DataType::Int32 => numbers::<i32>(datatype, shape, json, integer),
        DataType::Int64 => numbers::<i64>(datatype, shape, json, integer),
        DataType::Fp16 => numbers::<u16>(datatype, shape, json, half),
        DataType::Fp32 => numbers::<f32>(datatype, shape, json, float),
        DataType::Fp64 => numbers::<f64>(datatype, shape, json, float),
        DataType::Bytes => {
            let mut found: Vec<Box<[u8]>> = Vec::new();
            walk(json, &shape, |token| {
                found.push(text(token)?);
                Some(())
            })
            .map_err(|at| at.error(datatype, json))?;
            Tensor::of_strings(shape, found)
        }
    }
}

fn numbers<T: NoUninit + Send + 'static>(
    datatype: DataType,
    shape: Vec<i64>,
    json: &str,
    one: impl Fn(&str) -> Option<T>,
) -> Result<Tensor, Error> {
    // As many as the text may hold: what a shape says is not believed before.
    let mut found = Vec::with_capacity(elements(&shape)?.min(json.len() / 2 + 1));
    let walked = walk(json, &shape, |token| {
        found.push(one(token)?);
        Some(())
    });
    walked.map_err(|at| at.error(datatype, json))?;
    Tensor::of(datatype, shape, found)
}

/// Why and where it ended.
enum Ended {
    /// At this byte is no element of the type.
    Element(usize),
    /// At this byte the text is no list of elements.
    Form(usize),
    /// The lists in lists are not as the shape says.
    Shape(String),
}

impl Ended {
    fn error(self, datatype: DataType, json: &str) -> Error {
        match self {
            Ended::Element(at) => {
                let found = json.get(at..).unwrap_or_default();
                let end = found.find([',', ']', '[', '\n', ' ']).unwrap_or(found.len());
                let found = found.get(..end).unwrap_or_default();
                let cut: String = found.chars().take(32).collect();
                Error::invalid(format!("at byte {at} of its data: {cut} is no {datatype}"))
            }
            Ended::Form(at) => Error::invalid(format!(
                "at byte {at} of its data: a list of elements is expected, flat or nested"
            )),
            Ended::Shape(m) => Error::invalid(m),
        }
    }
}

/// Lists deeper than this are no tensor.
const DEEPEST: usize = 32;

/// Calls `leaf` with the text of every element, in order.
fn walk(json: &str, shape: &[i64], mut leaf: impl FnMut(&str) -> Option<()>) -> Result<(), Ended> {
    let bytes = json.as_bytes();
    let mut open = Open::default();
    let mut at = 0;
    // Whether an element or a list may begin here.
    let mut begins = true;
    while let Some(b) = bytes.get(at) {
        match b {
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            b'[' if begins => {
                open.down(at)?;
                at += 1;
            }
            b']' if open.depth > 0 && (!begins || open.is_new()) => {
                open.up(shape)?;
                (begins, at) = (false, at + 1);
            }
            b',' if open.depth > 0 && !begins => (begins, at) = (true, at + 1),
            _ if begins && open.depth > 0 => {
                let length = token(bytes.get(at..).unwrap_or_default());
                open.leaf(at)?;
                json.get(at..at + length).and_then(&mut leaf).ok_or(Ended::Element(at))?;
                (begins, at) = (false, at + length);
            }
            _ => return Err(Ended::Form(at)),
        }
    }
    if open.over { Ok(()) } else { Err(Ended::Form(at)) }
}

/// How long the element is that begins here.
fn token(rest: &[u8]) -> usize {
    if rest.first() == Some(&b'"') {
        return bare::string(rest);
    }
    let end = |b: &u8| matches!(b, b',' | b']' | b'[' | b' ' | b'\n' | b'\r' | b'\t');
    rest.iter().position(end).unwrap_or(rest.len())
}

/// The lists that are open, and how long each is so far.
#[derive(Default)]
struct Open {
    counts: [usize; DEEPEST],
    depth: usize,
    /// How deep elements lie, once there was one.
    leaves: Option<usize>,
    /// The outermost is closed.
    over: bool,
}

impl Open {
    fn count(&mut self) -> usize {
        let last = self.depth.checked_sub(1).and_then(|d| self.counts.get_mut(d));
        last.map_or(0, |n| {
            *n += 1;
            *n
        })
    }

    fn is_new(&self) -> bool {
        self.depth.checked_sub(1).and_then(|d| self.counts.get(d)) == Some(&0)
    }

    fn down(&mut self, at: usize) -> Result<(), Ended> {
        if self.over || self.leaves.is_some_and(|d| self.depth >= d) {
            return Err(Ended::Form(at));
        }
        self.count();
        let Some(new) = self.counts.get_mut(self.depth) else { return Err(Ended::Form(at)) };
        *new = 0;
        self.depth += 1;
        Ok(())
    }

    fn leaf(&mut self, at: usize) -> Result<(), Ended> {
        if *self.leaves.get_or_insert(self.depth) != self.depth {
            return Err(Ended::Form(at));
        }
        self.count();
        Ok(())
    }

    /// Closes the innermost list, which is as long as the shape says unless the whole is flat.
    fn up(&mut self, shape: &[i64]) -> Result<(), Ended> {
        self.depth -= 1;
        self.over = self.depth == 0;
        let count = self.counts.get(self.depth).copied().unwrap_or(0);
        let flat = self.leaves == Some(1) || (self.leaves.is_none() && self.over && count == 0);
        // A flat list is counted by the tensor. So is one that ended too early to know.
        if flat {
            return Ok(());
        }
        let wanted = shape.get(self.depth).and_then(|d| usize::try_from(*d).ok());
        let deep = self.leaves.is_none_or(|d| d == shape.len());
        if wanted != Some(count) || !deep {
            let m = format!("a list of {count} at depth {} does not fit the shape {shape:?}", self.depth + 1);
            return Err(Ended::Shape(m));
        }
        Ok(())
    }
}

fn boolean(token: &str) -> Option<u8> {
    match token {
        "true" | "1" => Some(1),
        "false" | "0" => Some(0),
        _ => None,
    }
}

/// An integer; also one written as a float, such as `3.0`.
fn integer<T: std::str::FromStr + TryFrom<i128>>(token: &str) -> Option<T> {
    if let Ok(whole) = token.parse() {
        return Some(whole).filter(|_| !token.starts_with('+'));
    }
    let float: f64 = Some(token).filter(|t| is_number(t))?.parse().ok()?;
    // Beyond, a float names no single integer.
    let exact = float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
    exact.then_some(float as i128).and_then(|whole| T::try_from(whole).ok())
}

/// Whether the text can only be a number: what `parse` takes beside those is not JSON's.
fn is_number(token: &str) -> bool {
    token.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'))
        && !token.starts_with(['+', '.'])
}

fn float<T: std::str::FromStr + Float>(token: &str) -> Option<T> {
    match token.as_bytes().first()? {
        b'-' | b'0'..=b'9' if is_number(token) => token.parse().ok().filter(|x: &T| x.is_finite()),
        _ => match token {
            "null" | "\"NaN\"" => "NaN".parse().ok(),
            "\"Infinity\"" => "inf".parse().ok(),
            "\"-Infinity\"" => "-inf".parse().ok(),
            _ => None,
        },
    }
}

/// A half as its bits.
fn half(token: &str) -> Option<u16> {
    let wide: f64 = float(token)?;
    let narrow = f16::from_f64(wide);
    (narrow.is_finite() || !wide.is_finite()).then_some(narrow.to_bits())
}

trait Float {
    fn is_finite(&self) -> bool;
}
impl Float for f32 {
    fn is_finite(&self) -> bool {
        f32::is_finite(*self)
    }
}
impl Float for f64 {
    fn is_finite(&self) -> bool {
        f64::is_finite(*self)
    }
}

fn text(token: &str) -> Option<Box<[u8]>> {
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    if token.len() < 2 {
        return None;
    }
    if !inner.contains('\\') && !inner.bytes().any(|b| b < 0x20 || b == b'"') {
        return Some(inner.as_bytes().into());
    }
    serde_json::from_str::<String>(token).ok().map(|s| s.into_bytes().into())
}
