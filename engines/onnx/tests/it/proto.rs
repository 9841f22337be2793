//! As much of ONNX's messages as the golden cases need.

use predict::{DataType, Tensor};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelProto {
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphProto {
    #[prost(message, repeated, tag = "11")]
    pub(crate) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    string_data: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: bytes::Bytes,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    uint64_data: Vec<u64>,
}

impl TensorProto {
    pub(crate) fn tensor(self) -> Tensor {
        let t = [
            (1, DataType::Fp32),
            (2, DataType::Uint8),
            (3, DataType::Int8),
            (4, DataType::Uint16),
            (5, DataType::Int16),
            (6, DataType::Int32),
            (7, DataType::Int64),
            (8, DataType::Bytes),
            (9, DataType::Bool),
            (10, DataType::Fp16),
            (11, DataType::Fp64),
            (12, DataType::Uint32),
            (13, DataType::Uint64),
        ];
        let t = t.into_iter().find(|(n, _)| *n == self.data_type).expect("a known type").1;
        let shape = self.dims;
        if t == DataType::Bytes {
            return Tensor::of_strings(shape, self.string_data).unwrap();
        }
        if !self.raw_data.is_empty() {
            return Tensor::new(t, shape, self.raw_data).unwrap();
        }
        let ints = self.int32_data;
        macro_rules! narrow {
            ($type:ty) => {
                Tensor::of(t, shape, ints.iter().map(|x| *x as $type).collect::<Vec<_>>())
            };
        }
        match t {
            DataType::Fp32 => Tensor::of(t, shape, self.float_data),
            DataType::Fp64 => Tensor::of(t, shape, self.double_data),
            DataType::Int64 => Tensor::of(t, shape, self.int64_data),
            DataType::Uint64 => Tensor::of(t, shape, self.uint64_data),
            DataType::Uint32 => {
                Tensor::of(t, shape, self.uint64_data.iter().map(|x| *x as u32).collect::<Vec<_>>())
            }
            DataType::Int32 => narrow!(i32),
            DataType::Int16 => narrow!(i16),
            DataType::Int8 => narrow!(i8),
            DataType::Uint16 | DataType::Fp16 => narrow!(u16),
            DataType::Uint8 | DataType::Bool => narrow!(u8),
            DataType::Bytes => unreachable!(),
        }
        .unwrap()
    }
}

/// A recorded value.
pub(crate) fn tensor(bytes: &[u8]) -> Tensor {
    TensorProto::decode(bytes).unwrap().tensor()
}
