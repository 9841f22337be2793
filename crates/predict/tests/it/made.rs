//! Tensors of every type and shape, and models that say whose rows they saw.

use std::time::Duration;

use half::f16;
use predict::{DYNAMIC, DataType, Error, Field, Metadata, Model, Signature, Tensor};
use proptest::prelude::*;

/// Shapes of up to three dimensions and few elements, empty ones too.
fn shapes() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(0i64..5, 0..4)
}

/// A tensor of any type; floats of any bits.
pub(crate) fn tensors() -> impl Strategy<Value = Tensor> {
    (prop::sample::select(&DataType::ALL[..]), shapes()).prop_flat_map(|(t, shape)| {
        let n = shape.iter().product::<i64>() as usize;
        match t {
            DataType::Bytes => prop::collection::vec(".{0,8}", n)
                .prop_map(move |all| Tensor::of_strings(shape.clone(), all).unwrap())
                .boxed(),
            DataType::Bool => prop::collection::vec(0u8..2, n)
                .prop_map(move |all| Tensor::of(t, shape.clone(), all).unwrap())
                .boxed(),
            _ => prop::collection::vec(any::<u8>(), n * t.size().unwrap())
                .prop_map(move |all| Tensor::new(t, shape.clone(), all.into()).unwrap())
                .boxed(),
        }
    })
}

/// The same elements with every NaN the one that a word stands for.
pub(crate) fn with_one_nan(t: &Tensor) -> Tensor {
    let shape = t.shape().to_vec();
    match t.datatype() {
        DataType::Fp16 => {
            let one = |x: &u16| if f16::from_bits(*x).is_nan() { f16::NAN.to_bits() } else { *x };
            Tensor::of(t.datatype(), shape, t.values::<u16>().unwrap().iter().map(one).collect()).unwrap()
        }
        DataType::Fp32 => {
            let one = |x: &f32| if x.is_nan() { f32::NAN } else { *x };
            Tensor::of(t.datatype(), shape, t.values::<f32>().unwrap().iter().map(one).collect()).unwrap()
        }
        DataType::Fp64 => {
            let one = |x: &f64| if x.is_nan() { f64::NAN } else { *x };
            Tensor::of(t.datatype(), shape, t.values::<f64>().unwrap().iter().map(one).collect()).unwrap()
        }
        _ => t.clone(),
    }
}

pub(crate) fn field(name: &str, datatype: DataType, shape: &[i64]) -> Field {
    Field { name: name.to_owned(), datatype, shape: shape.to_vec() }
}

/// What a run does beside its work.
pub(crate) type OnRun = Box<dyn FnMut(&[Tensor]) -> Result<(), Error> + Send>;

/// Takes `x: FP32[?, w]`, gives `sum: FP32[?]` and `tag: FP32[?]`, the first of each row.
pub(crate) struct Sums {
    signature: Signature,
    metadata: Metadata,
    on_run: OnRun,
}

impl Sums {
    pub(crate) fn boxed(on_run: OnRun) -> Box<dyn Model> {
        let signature = Signature {
            inputs: vec![field("x", DataType::Fp32, &[DYNAMIC, DYNAMIC])],
            outputs: vec![field("sum", DataType::Fp32, &[DYNAMIC]), field("tag", DataType::Fp32, &[DYNAMIC])],
        };
        Box::new(Sums { signature, metadata: Metadata::default(), on_run })
    }
}

impl Model for Sums {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn bytes(&self) -> u64 {
        1_000
    }

    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, Error> {
        (self.on_run)(inputs)?;
        let x = &inputs[0];
        let values = x.values::<f32>()?;
        let wide = x.row_shape().iter().product::<i64>().max(1) as usize;
        let rows: Vec<&[f32]> = values.chunks(wide).collect();
        let n = vec![rows.len() as i64];
        let all =
            [rows.iter().map(|r| r.iter().sum()).collect::<Vec<f32>>(), rows.iter().map(|r| r[0]).collect()];
        outputs.iter().map(|o| Tensor::of(DataType::Fp32, n.clone(), all[*o].clone())).collect()
    }
}

/// Far more than any test takes.
pub(crate) const LONG: Duration = Duration::from_secs(600);
