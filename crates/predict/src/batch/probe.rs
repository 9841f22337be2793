//! Whether requests to a model may share a run: by trying.
//!
//! That a first dimension is open does not say that it counts rows: it may be a length in time, and then what is put together
//! gives answers that are wrong and look right. So two requests of made-up elements are run apart and together, and only a
//! model that gives the same either way is shared.

use half::f16;

use crate::backend::Model;
use crate::datatype::DataType;
use crate::signature::{DYNAMIC, Field, Signature};
use crate::tensor::Tensor;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Together is as apart.
    Shares,
    /// Its signature leaves no room for others.
    Fixed,
    /// Together is not as apart, or does not run at all.
    Differs,
    /// What was made up does not run: nothing is known.
    Unknown,
}

/// What the dimensions behind the first are tried with where they are open: the first that runs.
const TRIED: [i64; 4] = [1, 4, 16, 64];

/// Tries it. Runs the model some ten times, which also warms it up.
pub fn shares(model: &mut dyn Model) -> Found {
    let signature = model.signature().clone();
    if !signature.may_batch() {
        return Found::Fixed;
    }
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    let open = signature.inputs.iter().any(|f| f.shape.iter().skip(1).any(|d| *d == DYNAMIC));
    for size in TRIED.iter().take(if open { TRIED.len() } else { 1 }) {
        let (a, b) = (made_up(&signature, 2, *size, 1), made_up(&signature, 3, *size, 7));
        let (Some(a), Some(b)) = (a, b) else { return Found::Unknown };
        let (Ok(of_a), Ok(of_b)) = (model.run(&a, &outputs), model.run(&b, &outputs)) else { continue };
        let both: Result<Vec<_>, _> =
            a.iter().zip(&b).map(|(a, b)| Tensor::concat(&[a.clone(), b.clone()])).collect();
        let together = both.and_then(|both| model.run(&both, &outputs));
        let Ok(together) = together else { return Found::Differs };
        let same = together.iter().zip(of_a.iter().zip(&of_b)).all(|(all, (a, b))| {
            all.split(&[2, 3])
                .is_ok_and(|parts| matches!(parts.as_slice(), [x, y] if alike(x, a) && alike(y, b)))
        });
        return if same { Found::Shares } else { Found::Differs };
    }
    Found::Unknown
}

/// One request of so many rows, with open dimensions of a size; nothing where the model takes none.
pub fn made_up(signature: &Signature, rows: i64, size: i64, seed: u64) -> Option<Vec<Tensor>> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 33
    };
    signature.inputs.iter().map(|f| elements(f, rows, size, &mut next)).collect()
}

fn elements(field: &Field, rows: i64, size: i64, next: &mut impl FnMut() -> u64) -> Option<Tensor> {
    let open = |(at, d): (usize, &i64)| match *d {
        DYNAMIC if at == 0 => rows,
        DYNAMIC => size,
        d => d,
    };
    let shape: Vec<i64> = field.shape.iter().enumerate().map(open).collect();
    let n = crate::tensor::elements(&shape).ok().filter(|n| *n <= 1 << 24)?;
    let t = field.datatype;
    // Whole numbers are small: they may be places in a table.
    macro_rules! all {
        ($one:expr) => {
            Tensor::of(t, shape, (0..n).map(|_| $one).collect::<Vec<_>>()).ok()
        };
    }
    match t {
        DataType::Bool | DataType::Uint8 => all!((next() % 2) as u8),
        DataType::Int8 => all!((next() % 2) as i8),
        DataType::Uint16 => all!((next() % 4) as u16),
        DataType::Int16 => all!((next() % 4) as i16),
        DataType::Uint32 => all!((next() % 4) as u32),
        DataType::Int32 => all!((next() % 4) as i32),
        DataType::Uint64 => all!(next() % 4),
        DataType::Int64 => all!((next() % 4) as i64),
        DataType::Fp16 => all!(f16::from_f64(next() as f64 / (1u64 << 31) as f64).to_bits()),
        DataType::Fp32 => all!(next() as f32 / (1u64 << 31) as f32),
        DataType::Fp64 => all!(next() as f64 / (1u64 << 31) as f64),
        DataType::Bytes => Tensor::of_strings(shape, (0..n).map(|_| next().to_string())).ok(),
    }
}

/// Whether two tensors are the same but for the last digits, which depend on how many rows a kernel works on.
fn alike(a: &Tensor, b: &Tensor) -> bool {
    let near =
        |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-5 + 1e-3 * y.abs();
    if a.shape() != b.shape() || a.datatype() != b.datatype() {
        return false;
    }
    match a.datatype() {
        DataType::Fp32 => match (a.values::<f32>(), b.values::<f32>()) {
            (Ok(a), Ok(b)) => a.iter().zip(b.iter()).all(|(x, y)| near((*x).into(), (*y).into())),
            _ => false,
        },
        DataType::Fp64 => match (a.values::<f64>(), b.values::<f64>()) {
            (Ok(a), Ok(b)) => a.iter().zip(b.iter()).all(|(x, y)| near(*x, *y)),
            _ => false,
        },
        DataType::Fp16 => match (a.values::<u16>(), b.values::<u16>()) {
            (Ok(a), Ok(b)) => {
                let near =
                    |x: f64, y: f64| (x - y).abs() <= 1e-2 + 1e-2 * y.abs() || x.is_nan() && y.is_nan();
                a.iter()
                    .zip(b.iter())
                    .all(|(x, y)| near(f16::from_bits(*x).to_f64(), f16::from_bits(*y).to_f64()))
            }
            _ => false,
        },
        _ => a.data() == b.data(),
    }
}
