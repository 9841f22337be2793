//! The runtime's types and the protocol's.

use ort::value::{TensorElementType, ValueType};
use predict::{DYNAMIC, DataType, Error, Field};

/// How an output becomes a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// It is one.
    Tensor,
    /// A sequence of tensors of one shape: stacked.
    Tensors,
    /// A map for each row, as classifiers give: a column for each key.
    Maps,
    /// A map: a row.
    Map,
}

pub(crate) fn datatype(of: TensorElementType) -> Option<DataType> {
    Some(match of {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

fn no_such(name: &str, what: &str) -> Error {
    Error::Load(format!(
        "the model's `{name}` is {what}, which the protocol has no type for: export it as FP32 or INT64"
    ))
}

fn dims(shape: &[i64]) -> Vec<i64> {
    shape.iter().map(|d| if *d < 0 { DYNAMIC } else { *d }).collect()
}

/// An input.
pub(crate) fn input(name: &str, of: &ValueType) -> Result<Field, Error> {
    match of {
        ValueType::Tensor { ty, shape, .. } => {
            let datatype = datatype(*ty).ok_or_else(|| no_such(name, &ty.to_string()))?;
            Ok(Field { name: name.to_owned(), datatype, shape: dims(shape) })
        }
        _ => Err(Error::Load(format!(
            "the model takes `{name}` as a sequence, a map or an optional value: export it with tensors alone"
        ))),
    }
}

/// An output, as the tensor that it becomes.
pub(crate) fn output(name: &str, of: &ValueType) -> Result<(Field, Form), Error> {
    let field = |datatype, shape, form| Ok((Field { name: name.to_owned(), datatype, shape }, form));
    let known = |t: TensorElementType| datatype(t).ok_or_else(|| no_such(name, &t.to_string()));
    match of {
        ValueType::Tensor { ty, shape, .. } => field(known(*ty)?, dims(shape), Form::Tensor),
        ValueType::Map { value, .. } => field(known(*value)?, vec![DYNAMIC], Form::Map),
        ValueType::Sequence(inner) => match &**inner {
            ValueType::Map { value, .. } => field(known(*value)?, vec![DYNAMIC, DYNAMIC], Form::Maps),
            ValueType::Tensor { ty, shape, .. } => {
                let mut stacked = vec![DYNAMIC];
                stacked.extend(dims(shape));
                field(known(*ty)?, stacked, Form::Tensors)
            }
            _ => Err(no_such(name, "a sequence of sequences")),
        },
        ValueType::Optional(_) => Err(no_such(name, "an optional value")),
    }
}
