//! What a model gives, as tensors: sequences stacked, and a classifier's maps as a column for each class.

use ort::value::{DynTensorValueType, DynValue, MapValueType, TensorElementType, ValueType};
use predict::{DataType, Error, Tensor};

use crate::types::Form;
use crate::values::{failed, tensor};

/// A key of a map, as text.
pub(crate) type Keys = Vec<String>;

/// An output as a tensor, and its columns' names where it has some.
pub(crate) fn read(
    form: Form,
    datatype: DataType,
    value: &DynValue,
) -> Result<(Tensor, Option<Keys>), Error> {
    match form {
        Form::Tensor => Ok((tensor(datatype, value)?, None)),
        Form::Tensors => stacked(datatype, value).map(|t| (t, None)),
        Form::Map => {
            let (keys, row) = map(value)?;
            let shape = vec![i64::try_from(keys.len()).unwrap_or(i64::MAX)];
            Ok((row.into_tensor(shape)?, Some(keys)))
        }
        Form::Maps => maps(value).map(|(t, keys)| (t, Some(keys))),
    }
}

fn stacked(datatype: DataType, value: &DynValue) -> Result<Tensor, Error> {
    let all = value.try_extract_sequence::<DynTensorValueType>().map_err(|e| failed(&e))?;
    let one = |v: ort::value::DynTensor| {
        let t = tensor(datatype, &v.into_dyn())?;
        let mut shape = vec![1];
        shape.extend_from_slice(t.shape());
        t.reshaped(shape)
    };
    let parts = all.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = parts.first() else { return Tensor::new(datatype, vec![0], bytes::Bytes::new()) };
    if parts.iter().any(|t| t.shape() != first.shape()) {
        return Err(Error::Run("the model gave a sequence of tensors of different shapes".to_owned()));
    }
    Tensor::concat(&parts)
}

/// The values of a map, in the order of its keys.
enum Row {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
}

impl Row {
    fn into_tensor(self, shape: Vec<i64>) -> Result<Tensor, Error> {
        match self {
            Row::F32(v) => Tensor::of(DataType::Fp32, shape, v),
            Row::F64(v) => Tensor::of(DataType::Fp64, shape, v),
            Row::I64(v) => Tensor::of(DataType::Int64, shape, v),
        }
    }

    fn append(&mut self, other: Row) -> Result<(), Error> {
        match (self, other) {
            (Row::F32(a), Row::F32(b)) => a.extend(b),
            (Row::F64(a), Row::F64(b)) => a.extend(b),
            (Row::I64(a), Row::I64(b)) => a.extend(b),
            _ => return Err(Error::Run("the model gave maps of different types".to_owned())),
        }
        Ok(())
    }
}

fn map(value: &DynValue) -> Result<(Keys, Row), Error> {
    macro_rules! of {
        ($key:ty, $value:ty, $row:path) => {{
            let mut all = value.try_extract_key_values::<$key, $value>().map_err(|e| failed(&e))?;
            // The runtime keeps them sorted; the order of columns must not rest on that.
            all.sort_by(|a, b| a.0.cmp(&b.0));
            let (keys, values): (Vec<$key>, Vec<$value>) = all.into_iter().unzip();
            Ok((keys.iter().map(ToString::to_string).collect(), $row(values)))
        }};
    }
    use TensorElementType as T;
    match value.dtype() {
        ValueType::Map { key: T::Int64, value: T::Float32 } => of!(i64, f32, Row::F32),
        ValueType::Map { key: T::Int64, value: T::Float64 } => of!(i64, f64, Row::F64),
        ValueType::Map { key: T::Int64, value: T::Int64 } => of!(i64, i64, Row::I64),
        ValueType::Map { key: T::String, value: T::Float32 } => of!(String, f32, Row::F32),
        ValueType::Map { key: T::String, value: T::Float64 } => of!(String, f64, Row::F64),
        ValueType::Map { key: T::String, value: T::Int64 } => of!(String, i64, Row::I64),
        other => Err(Error::Run(format!("the model gave a {other}: export it without ZipMap"))),
    }
}

fn maps(value: &DynValue) -> Result<(Tensor, Keys), Error> {
    let all = value.try_extract_sequence::<MapValueType<i64, f32>>();
    let rows: Vec<DynValue> = match all {
        Ok(all) => all.into_iter().map(ort::value::Value::into_dyn).collect(),
        Err(_) => {
            let texts = value.try_extract_sequence::<MapValueType<String, f32>>().map_err(|e| failed(&e))?;
            texts.into_iter().map(ort::value::Value::into_dyn).collect()
        }
    };
    let n = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let mut rows = rows.iter().map(map);
    let Some((keys, mut values)) = rows.next().transpose()? else {
        return Ok((Tensor::of(DataType::Fp32, vec![0, 0], Vec::<f32>::new())?, Keys::new()));
    };
    for row in rows {
        let (others, row) = row?;
        if others != keys {
            return Err(Error::Run("the model gave maps with different keys".to_owned()));
        }
        values.append(row)?;
    }
    let wide = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    Ok((values.into_tensor(vec![n, wide])?, keys))
}
