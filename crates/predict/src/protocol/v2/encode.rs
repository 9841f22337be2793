//! An answer into its body.

use bytes::{BufMut, Bytes, BytesMut};
use half::f16;

use crate::datatype::DataType;
use crate::error::Error;
use crate::protocol::Answer;
use crate::tensor::Tensor;

/// A body, and how long its JSON is when binary elements follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// All of it, in one piece.
    pub body: Bytes,
    /// What goes into `Inference-Header-Content-Length`.
    pub header: Option<usize>,
}

/// Writes an answer.
///
/// # Errors
/// A string that is not UTF-8 is asked for as JSON.
pub fn answer(answer: &Answer<'_>) -> Result<Encoded, Error> {
    let values: usize =
        answer.outputs.iter().map(|(_, t, binary)| if *binary { 64 } else { 64 + t.len() * 12 }).sum();
    let mut out = BytesMut::with_capacity(128 + values);
    out.put_slice(b"{\"model_name\":");
    quoted(&mut out, answer.model);
    out.put_slice(b",\"model_version\":");
    quoted(&mut out, answer.version);
    if let Some(id) = answer.id {
        out.put_slice(b",\"id\":");
        quoted(&mut out, id);
    }
    out.put_slice(b",\"outputs\":[");
    for (at, (name, tensor, binary)) in answer.outputs.iter().enumerate() {
        out.put_slice(if at == 0 { b"{\"name\":" } else { b",{\"name\":" });
        quoted(&mut out, name);
        out.put_slice(b",\"datatype\":\"");
        out.put_slice(tensor.datatype().as_str().as_bytes());
        out.put_slice(b"\",\"shape\":[");
        list(&mut out, tensor.shape().iter(), |out, d| put(out, itoa::Buffer::new().format(*d)));
        if *binary {
            out.put_slice(b"],\"parameters\":{\"binary_data_size\":");
            put(&mut out, itoa::Buffer::new().format(tensor.data().len()));
            out.put_slice(b"}}");
        } else {
            out.put_slice(b"],\"data\":[");
            elements(&mut out, name, tensor)?;
            out.put_slice(b"]}");
        }
    }
    out.put_slice(b"]}");
    let length = out.len();
    let mut any = false;
    for (_, tensor, _) in answer.outputs.iter().filter(|(_, _, binary)| *binary) {
        out.extend_from_slice(tensor.data());
        any = true;
    }
    Ok(Encoded { body: out.freeze(), header: any.then_some(length) })
}

fn put(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
}

fn list<T>(out: &mut BytesMut, all: impl Iterator<Item = T>, mut each: impl FnMut(&mut BytesMut, T)) {
    for (at, item) in all.enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        each(out, item);
    }
}

/// A text as JSON has it.
pub(in crate::protocol) fn quoted(out: &mut BytesMut, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.put_u8(b'"');
        out.put_slice(text.as_bytes());
        out.put_u8(b'"');
    } else {
        out.put_slice(serde_json::to_string(text).unwrap_or_default().as_bytes());
    }
}

fn f32(out: &mut BytesMut, x: f32) {
    if x.is_finite() { put(out, zmij::Buffer::new().format_finite(x)) } else { put(out, word(x.into())) }
}

fn f64(out: &mut BytesMut, x: f64) {
    if x.is_finite() { put(out, zmij::Buffer::new().format_finite(x)) } else { put(out, word(x)) }
}

/// What stands for a float that JSON has no number for.
fn word(x: f64) -> &'static str {
    match x {
        x if x.is_nan() => "\"NaN\"",
        x if x > 0.0 => "\"Infinity\"",
        _ => "\"-Infinity\"",
    }
}

/// The elements, separated by commas.
pub(in crate::protocol) fn elements(out: &mut BytesMut, name: &str, t: &Tensor) -> Result<(), Error> {
    macro_rules! integers {
        ($type:ty) => {
            list(out, t.values::<$type>()?.iter(), |out, x| put(out, itoa::Buffer::new().format(*x)))
        };
    }
    match t.datatype() {
        DataType::Bool => {
            list(out, t.data().iter(), |out, x| put(out, if *x == 0 { "false" } else { "true" }));
        }
        DataType::Uint8 => integers!(u8),
        DataType::Uint16 => integers!(u16),
        DataType::Uint32 => integers!(u32),
        DataType::Uint64 => integers!(u64),
        DataType::Int8 => integers!(i8),
        DataType::Int16 => integers!(i16),
        DataType::Int32 => integers!(i32),
        DataType::Int64 => integers!(i64),
        DataType::Fp16 => {
            list(out, t.values::<u16>()?.iter(), |out, x| f32(out, f16::from_bits(*x).to_f32()))
        }
        DataType::Fp32 => list(out, t.values::<f32>()?.iter(), |out, x| f32(out, *x)),
        DataType::Fp64 => list(out, t.values::<f64>()?.iter(), |out, x| f64(out, *x)),
        DataType::Bytes => {
            for (at, text) in t.strings().enumerate() {
                let Ok(text) = std::str::from_utf8(text) else {
                    let m = format!("the output `{name}` is not UTF-8: ask for it with `binary_data: true`");
                    return Err(Error::wrong(name, m));
                };
                if at > 0 {
                    out.put_u8(b',');
                }
                quoted(out, text);
            }
        }
    }
    Ok(())
}
