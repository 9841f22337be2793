//! Tensors to the runtime, without a copy where they lie as it needs them, and back.

use std::borrow::Cow;

use bytemuck::{AnyBitPattern, NoUninit};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorRef};
use predict::{DataType, Error, Tensor};

/// The runtime's words on a run.
pub(crate) fn failed(e: &ort::Error) -> Error {
    Error::Run(e.message().to_owned())
}

/// The numbers of an input, where the runtime can read them.
pub(crate) enum Held<'a> {
    Bool(Cow<'a, [bool]>),
    U8(Cow<'a, [u8]>),
    U16(Cow<'a, [u16]>),
    U32(Cow<'a, [u32]>),
    U64(Cow<'a, [u64]>),
    I8(Cow<'a, [i8]>),
    I16(Cow<'a, [i16]>),
    I32(Cow<'a, [i32]>),
    I64(Cow<'a, [i64]>),
    F16(Cow<'a, [u16]>),
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
    Text(Vec<String>),
}

pub(crate) fn held(t: &Tensor) -> Result<Held<'_>, Error> {
    Ok(match t.datatype() {
        DataType::Bool => Held::Bool(match bytemuck::checked::try_cast_slice(t.data()) {
            Ok(flags) => Cow::Borrowed(flags),
            Err(_) => Cow::Owned(t.data().iter().map(|b| *b != 0).collect()),
        }),
        DataType::Uint8 => Held::U8(t.values()?),
        DataType::Uint16 => Held::U16(t.values()?),
        DataType::Uint32 => Held::U32(t.values()?),
        DataType::Uint64 => Held::U64(t.values()?),
        DataType::Int8 => Held::I8(t.values()?),
        DataType::Int16 => Held::I16(t.values()?),
        DataType::Int32 => Held::I32(t.values()?),
        DataType::Int64 => Held::I64(t.values()?),
        DataType::Fp16 => Held::F16(t.values()?),
        DataType::Fp32 => Held::F32(t.values()?),
        DataType::Fp64 => Held::F64(t.values()?),
        DataType::Bytes => {
            let no_text = |_| Error::invalid("the model takes text, and a string is not UTF-8");
            let text = |s: &[u8]| std::str::from_utf8(s).map(str::to_owned).map_err(no_text);
            Held::Text(t.strings().map(text).collect::<Result<_, _>>()?)
        }
    })
}

/// An input as the runtime takes it, over what is held.
pub(crate) fn input<'a>(shape: &'a [i64], held: &'a Held<'_>) -> Result<SessionInputValue<'a>, Error> {
    fn view<'a, T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
        shape: &'a [i64],
        data: &'a [T],
    ) -> ort::Result<SessionInputValue<'a>> {
        Ok(TensorRef::from_array_view((shape, data))?.into())
    }
    let made = match held {
        Held::Bool(d) => view(shape, d),
        Held::U8(d) => view(shape, d),
        Held::U16(d) => view(shape, d),
        Held::U32(d) => view(shape, d),
        Held::U64(d) => view(shape, d),
        Held::I8(d) => view(shape, d),
        Held::I16(d) => view(shape, d),
        Held::I32(d) => view(shape, d),
        Held::I64(d) => view(shape, d),
        Held::F16(d) => view(shape, d.reinterpret_cast::<f16>()),
        Held::F32(d) => view(shape, d),
        Held::F64(d) => view(shape, d),
        Held::Text(d) => OrtTensor::from_string_array((shape, d.as_slice())).map(Into::into),
    };
    made.map_err(|e| failed(&e))
}

fn copied<T>(datatype: DataType, value: &DynValue) -> Result<Tensor, Error>
where
    T: PrimitiveTensorElementType + NoUninit + AnyBitPattern + Send,
{
    let (shape, data) = value.try_extract_tensor::<T>().map_err(|e| failed(&e))?;
    Tensor::of(datatype, shape.to_vec(), data.to_vec())
}

/// A tensor that the runtime gave.
pub(crate) fn tensor(datatype: DataType, value: &DynValue) -> Result<Tensor, Error> {
    match datatype {
        DataType::Bool => {
            let (shape, data) = value.try_extract_tensor::<bool>().map_err(|e| failed(&e))?;
            Tensor::of(datatype, shape.to_vec(), data.iter().map(|b| u8::from(*b)).collect::<Vec<_>>())
        }
        DataType::Uint8 => copied::<u8>(datatype, value),
        DataType::Uint16 => copied::<u16>(datatype, value),
        DataType::Uint32 => copied::<u32>(datatype, value),
        DataType::Uint64 => copied::<u64>(datatype, value),
        DataType::Int8 => copied::<i8>(datatype, value),
        DataType::Int16 => copied::<i16>(datatype, value),
        DataType::Int32 => copied::<i32>(datatype, value),
        DataType::Int64 => copied::<i64>(datatype, value),
        DataType::Fp16 => {
            let (shape, data) = value.try_extract_tensor::<f16>().map_err(|e| failed(&e))?;
            Tensor::of(datatype, shape.to_vec(), data.reinterpret_cast().to_vec())
        }
        DataType::Fp32 => copied::<f32>(datatype, value),
        DataType::Fp64 => copied::<f64>(datatype, value),
        DataType::Bytes => {
            let (shape, texts) = value.try_extract_strings().map_err(|e| failed(&e))?;
            Tensor::of_strings(shape.to_vec(), texts)
        }
    }
}
