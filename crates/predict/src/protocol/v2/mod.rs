//! The Open Inference Protocol v2 over HTTP: JSON, and Triton's binary tensors behind it.
//!
//! A body with `Inference-Header-Content-Length: n` is n bytes of JSON and then the elements of each input that has
//! `binary_data_size`, in their order; an answer with such outputs has the same form. Elements in JSON are a list as long as
//! the tensor, or lists in lists as its shape says. A float that JSON has no number for is written as `"NaN"`, `"Infinity"` or
//! `"-Infinity"` and read also as null (NaN) and as the bare words that Python writes.

mod bare;
mod data;
mod decode;
mod encode;

pub use decode::request;
pub use encode::{Encoded, answer};

pub(super) use bare::quoted as bare_words;
pub(super) use encode::{elements, quoted};

/// Elements of a `data` in JSON, for benches and fuzzing: [`request`] reads them on its way.
///
/// # Errors
/// As [`request`].
pub fn data(datatype: crate::DataType, shape: Vec<i64>, json: &str) -> Result<crate::Tensor, crate::Error> {
    data::read(datatype, shape, json)
}
