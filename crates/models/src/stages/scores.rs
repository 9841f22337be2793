//! What a model gives for rows of a table, as columns.

use predict::{DYNAMIC, DataType, Field, Tensor};

use super::asked::names;
use crate::onnx::Classes;

/// Values of a column that was worked out, one for each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Scores {
    /// Of numbers.
    Numbers(Vec<f64>),
    /// Of whole numbers.
    Wholes(Vec<i64>),
    /// Of texts.
    Texts(Vec<String>),
}

/// What an output's columns are called; `None` when it is not known how many there are.
pub(super) fn columns_of(field: &Field, classes: Option<&Classes>) -> Option<Vec<String>> {
    let width = match field.shape.as_slice() {
        [_] | [_, 1] => return Some(vec![field.name.clone()]),
        [_, width] if *width != DYNAMIC => usize::try_from(*width).ok()?,
        _ => return None,
    };
    let named = classes.map(names).filter(|all| all.len() == width);
    let each = named.unwrap_or_else(|| (0..width).map(|n| n.to_string()).collect());
    Some(each.into_iter().map(|name| format!("{}_{name}", field.name)).collect())
}

/// No values, of the type that elements of a tensor become.
pub(super) fn nothing(ty: DataType) -> Scores {
    match ty {
        DataType::Fp16 | DataType::Fp32 | DataType::Fp64 => Scores::Numbers(Vec::new()),
        DataType::Bytes => Scores::Texts(Vec::new()),
        _ => Scores::Wholes(Vec::new()),
    }
}

/// The columns of a tensor of rows.
pub(super) fn scores(tensor: &Tensor, width: usize, to: &mut Vec<Scores>) -> Result<(), predict::Error> {
    macro_rules! columns {
        ($type:ty, $kind:path, $each:expr) => {{
            let values = tensor.values::<$type>()?;
            let each = $each;
            for at in 0..width {
                to.push($kind(values.iter().skip(at).step_by(width).map(|x| each(*x)).collect()));
            }
        }};
    }
    match tensor.datatype() {
        DataType::Fp32 => columns!(f32, Scores::Numbers, f64::from),
        DataType::Fp64 => columns!(f64, Scores::Numbers, |x| x),
        DataType::Fp16 => columns!(u16, Scores::Numbers, |x| half::f16::from_bits(x).to_f64()),
        DataType::Int64 => columns!(i64, Scores::Wholes, |x| x),
        DataType::Int32 => columns!(i32, Scores::Wholes, i64::from),
        DataType::Int16 => columns!(i16, Scores::Wholes, i64::from),
        DataType::Int8 => columns!(i8, Scores::Wholes, i64::from),
        DataType::Uint32 => columns!(u32, Scores::Wholes, i64::from),
        DataType::Uint16 => columns!(u16, Scores::Wholes, i64::from),
        DataType::Uint8 | DataType::Bool => columns!(u8, Scores::Wholes, i64::from),
        DataType::Uint64 => {
            columns!(u64, Scores::Wholes, |x: u64| i64::try_from(x).unwrap_or(i64::MAX))
        }
        DataType::Bytes => {
            let texts: Vec<String> =
                tensor.strings().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
            for at in 0..width {
                to.push(Scores::Texts(texts.iter().skip(at).step_by(width).cloned().collect()));
            }
        }
    }
    Ok(())
}
