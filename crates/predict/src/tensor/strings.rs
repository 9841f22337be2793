//! Strings in their binary form: the length of each in four little-endian bytes, then itself.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;

/// An iterator over the strings of a tensor.
#[derive(Debug, Clone)]
pub struct Strings<'a>(&'a [u8]);

pub(super) fn of(data: &[u8]) -> Strings<'_> {
    Strings(data)
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (text, rest) = first(self.0)?;
        self.0 = rest;
        Some(text)
    }
}

/// The first string and what is behind it.
fn first(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// Holds the bytes to a shape of `wanted` strings.
pub(super) fn check(data: &[u8], wanted: usize, shape: &[i64]) -> Result<(), Error> {
    let mut rest = data;
    let mut found = 0;
    while !rest.is_empty() {
        let Some((_, behind)) = first(rest) else {
            let m = format!(
                "the string {found} of a BYTES tensor ends behind its last byte: each is its length in four little-endian bytes, then itself"
            );
            return Err(Error::invalid(m));
        };
        (rest, found) = (behind, found + 1);
    }
    if found != wanted {
        let m = format!("{found} strings are not a BYTES tensor of shape {shape:?}, which has {wanted}");
        return Err(Error::invalid(m));
    }
    Ok(())
}

/// Strings in their binary form.
pub(super) fn joined<S: AsRef<[u8]>>(values: impl IntoIterator<Item = S>) -> Result<Bytes, Error> {
    let mut out = BytesMut::new();
    for value in values {
        let value = value.as_ref();
        let length = u32::try_from(value.len()).map_err(|_| Error::invalid("a string is over 4 GiB"))?;
        out.reserve(4 + value.len());
        out.put_u32_le(length);
        out.put_slice(value);
    }
    Ok(out.freeze())
}

/// How many bytes the first `count` strings take.
pub(super) fn length_of(data: &[u8], count: usize) -> usize {
    let mut rest = data;
    for _ in 0..count {
        let Some((_, behind)) = first(rest) else { break };
        rest = behind;
    }
    data.len() - rest.len()
}
