//! Reads UBJSON, as far as XGBoost writes it, into a JSON document.
//!
//! Bounded: neither depth nor memory follow from a length that the file merely claims
//! [test: any_bytes_are_read_or_refused_without_a_panic].

use serde_json::{Map, Number, Value};

use super::Error;

const DEEPEST: usize = 64;

/// The document in `bytes`.
///
/// # Errors
/// It is not whole, or deeper than 64 levels.
pub fn read(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader { rest: bytes };
    let marker = reader.byte()?;
    reader.value(marker, 0)
}

struct Reader<'a> {
    rest: &'a [u8],
}

fn bad(what: &str) -> Error {
    Error::malformed("XGBoost", format!("as UBJSON it {what}"))
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(|| bad("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| bad("ends too early"))?;
        self.rest = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| bad("ends too early"))
    }

    /// The next byte that is not padding, without taking it.
    fn peek(&mut self) -> Result<u8, Error> {
        while self.rest.first() == Some(&b'N') {
            self.byte()?;
        }
        self.rest.first().copied().ok_or_else(|| bad("ends too early"))
    }

    fn integer(&mut self, marker: u8) -> Result<i64, Error> {
        Ok(match marker {
            b'i' => i8::from_be_bytes(self.array()?).into(),
            b'U' => self.byte()?.into(),
            b'I' => i16::from_be_bytes(self.array()?).into(),
            b'l' => i32::from_be_bytes(self.array()?).into(),
            b'L' => i64::from_be_bytes(self.array()?),
            _ => return Err(bad("has a length that is no integer")),
        })
    }

    fn length(&mut self) -> Result<usize, Error> {
        let marker = self.byte()?;
        usize::try_from(self.integer(marker)?).map_err(|_| bad("has a negative length"))
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| bad("has a text that is not UTF-8"))
    }

    fn value(&mut self, marker: u8, depth: usize) -> Result<Value, Error> {
        if depth > DEEPEST {
            return Err(bad("is too deep"));
        }
        let float = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
        Ok(match marker {
            b'Z' => Value::Null,
            b'T' => Value::Bool(true),
            b'F' => Value::Bool(false),
            b'd' => float(f32::from_be_bytes(self.array()?).into()),
            b'D' => float(f64::from_be_bytes(self.array()?)),
            b'S' => Value::String(self.text()?),
            b'C' => Value::String(char::from(self.byte()?).to_string()),
            b'[' => self.list(depth)?,
            b'{' => self.object(depth)?,
            other => Value::from(self.integer(other)?),
        })
    }

    /// The type and the count that a container may begin with.
    fn frame(&mut self) -> Result<(Option<u8>, Option<usize>), Error> {
        let mut kind = None;
        if self.peek()? == b'$' {
            self.byte()?;
            kind = Some(self.byte()?);
        }
        if self.peek()? != b'#' {
            return if kind.is_some() { Err(bad("has a type without a count")) } else { Ok((None, None)) };
        }
        self.byte()?;
        let count = self.length()?;
        // Every element takes a byte, unless its type says all.
        if count > self.rest.len() {
            return Err(bad("claims more than it holds"));
        }
        Ok((kind, Some(count)))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Error> {
        let (kind, count) = self.frame()?;
        let mut all = Vec::new();
        while count.map_or(self.peek()? != b']', |count| all.len() < count) {
            let marker = match kind {
                Some(kind) => kind,
                None => self.byte()?,
            };
            all.push(self.value(marker, depth + 1)?);
        }
        if count.is_none() {
            self.byte()?;
        }
        Ok(Value::Array(all))
    }

    fn object(&mut self, depth: usize) -> Result<Value, Error> {
        let (kind, count) = self.frame()?;
        let mut all = Map::new();
        let mut read = 0_usize;
        while count.map_or(self.peek()? != b'}', |count| read < count) {
            let key = self.text()?;
            let marker = match kind {
                Some(kind) => kind,
                None => self.byte()?,
            };
            all.insert(key, self.value(marker, depth + 1)?);
            read += 1;
        }
        if count.is_none() {
            self.byte()?;
        }
        Ok(Value::Object(all))
    }
}
