//! The messages of an ONNX file that are written and read here, by the numbers of `onnx.proto` (IR version 10).
//!
//! Fields that are not listed are skipped when a file is read. Scalars of an attribute carry their presence: a reader tells
//! a zero from nothing by it.

use prost::Message;

/// A whole file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    /// The version of the format.
    #[prost(int64, tag = "1")]
    pub(crate) ir_version: i64,
    /// Who wrote it.
    #[prost(string, tag = "2")]
    pub(crate) producer_name: String,
    /// In which version.
    #[prost(string, tag = "3")]
    pub(crate) producer_version: String,
    /// What it computes.
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<Graph>,
    /// Which operators it is written in.
    #[prost(message, repeated, tag = "8")]
    pub(crate) opset_import: Vec<OperatorSet>,
    /// What is said of it.
    #[prost(message, repeated, tag = "14")]
    pub(crate) metadata_props: Vec<Entry>,
    /// Operators that it defines itself.
    #[prost(message, repeated, tag = "25")]
    pub(crate) functions: Vec<Function>,
}

/// A set of operators.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSet {
    /// Its domain; empty for the standard one.
    #[prost(string, tag = "1")]
    pub(crate) domain: String,
    /// Its version.
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
}

/// A key and its value.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    /// The key.
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// An operator that the file defines itself; only its name is read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Function {
    /// The operator.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Its domain.
    #[prost(string, tag = "10")]
    pub(crate) domain: String,
}

/// Nodes in the order they are computed in.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub(crate) node: Vec<Node>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializer: Vec<Tensor>,
    /// What goes in.
    #[prost(message, repeated, tag = "11")]
    pub(crate) input: Vec<ValueInfo>,
    /// What comes out.
    #[prost(message, repeated, tag = "12")]
    pub(crate) output: Vec<ValueInfo>,
}

/// One application of an operator.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    /// Names of its inputs.
    #[prost(string, repeated, tag = "1")]
    pub(crate) input: Vec<String>,
    /// Names of its outputs.
    #[prost(string, repeated, tag = "2")]
    pub(crate) output: Vec<String>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub(crate) op_type: String,
    /// Its attributes.
    #[prost(message, repeated, tag = "5")]
    pub(crate) attribute: Vec<Attribute>,
    /// The operator's domain.
    #[prost(string, tag = "7")]
    pub(crate) domain: String,
}

/// An attribute of a node. Exactly one value is set, the one that `kind` names.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub(crate) f: Option<f32>,
    /// An integer.
    #[prost(int64, optional, tag = "3")]
    pub(crate) i: Option<i64>,
    /// A text.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) s: Option<Vec<u8>>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub(crate) t: Option<Tensor>,
    /// A graph.
    #[prost(message, optional, boxed, tag = "6")]
    pub(crate) g: Option<Box<Graph>>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(crate) ints: Vec<i64>,
    /// Texts.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub(crate) strings: Vec<Vec<u8>>,
    /// Which value is set: see [`kind`].
    #[prost(int32, tag = "20")]
    pub(crate) kind: i32,
}

/// Kinds of attributes.
pub(crate) mod kind {
    /// An integer.
    pub(crate) const INT: i32 = 2;
    /// A tensor.
    pub(crate) const TENSOR: i32 = 4;
    /// Integers.
    pub(crate) const INTS: i32 = 7;
}

/// A constant.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    /// Its shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(crate) dims: Vec<i64>,
    /// Its elements' type: see [`element`].
    #[prost(int32, tag = "2")]
    pub(crate) data_type: i32,
    /// Elements that are texts.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(crate) string_data: Vec<Vec<u8>>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    /// All other elements, little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) raw_data: Vec<u8>,
    /// Where its elements are, when they are in another file.
    #[prost(message, repeated, tag = "13")]
    pub(crate) external_data: Vec<Entry>,
    /// 1 when they are in another file.
    #[prost(int32, tag = "14")]
    pub(crate) data_location: i32,
}

/// Types of elements.
pub(crate) mod element {
    /// 32-bit floating point.
    pub(crate) const FLOAT: i32 = 1;
    /// 8-bit unsigned.
    pub(crate) const UINT8: i32 = 2;
    /// 64-bit signed.
    pub(crate) const INT64: i32 = 7;
    /// Text.
    pub(crate) const STRING: i32 = 8;
    /// Yes or no.
    pub(crate) const BOOL: i32 = 9;
    /// 64-bit floating point.
    pub(crate) const DOUBLE: i32 = 11;
    /// 32-bit unsigned.
    pub(crate) const UINT32: i32 = 12;
}

/// A name with a type.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfo {
    /// The name.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// The type.
    #[prost(message, optional, tag = "2")]
    pub(crate) r#type: Option<Type>,
}

/// A type; what is no tensor is not read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Type {
    /// A tensor's.
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor_type: Option<TensorType>,
}

/// A tensor's type.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
    /// Its elements' type.
    #[prost(int32, tag = "1")]
    pub(crate) elem_type: i32,
    /// Its shape, when it is known.
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<Shape>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shape {
    /// Its dimensions.
    #[prost(message, repeated, tag = "1")]
    pub(crate) dim: Vec<Dimension>,
}

/// A dimension: a size, a name for a size, or neither.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dimension {
    /// The size.
    #[prost(int64, optional, tag = "1")]
    pub(crate) dim_value: Option<i64>,
    /// A name for it.
    #[prost(string, optional, tag = "2")]
    pub(crate) dim_param: Option<String>,
}
