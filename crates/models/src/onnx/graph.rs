//! Builds a graph node by node. Names are counted, so equal calls make equal bytes.

use super::proto::{self, element, kind};

/// The operators of trees and dictionaries.
pub(super) const ML: &str = "ai.onnx.ml";
/// The operators that ONNX Runtime adds to the standard.
pub(super) const RUNTIME: &str = "com.microsoft";

/// A value in the graph, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge(String);

/// A graph that is being built.
#[derive(Debug, Default)]
pub(super) struct Builder {
    graph: proto::Graph,
    count: usize,
    /// Whether it uses what only ONNX Runtime has.
    runtime: bool,
}

impl Builder {
    /// An input of `width` values a row.
    pub(super) fn input(&mut self, name: &str, element: i32, width: i64) -> Edge {
        self.graph.input.push(value(name, element, Some(width)));
        Edge(name.to_owned())
    }

    /// Gives `edge` out under `name`: a row each, of `width` values where it has columns.
    pub(super) fn output(&mut self, edge: &Edge, name: &str, element: i32, width: Option<i64>) {
        self.graph.node.push(proto::Node {
            input: vec![edge.0.clone()],
            output: vec![name.to_owned()],
            name: format!("out_{name}"),
            op_type: "Identity".to_owned(),
            ..proto::Node::default()
        });
        self.graph.output.push(value(name, element, width));
    }

    /// A constant.
    pub(super) fn constant(&mut self, mut tensor: proto::Tensor) -> Edge {
        let name = self.name("c");
        tensor.name.clone_from(&name);
        self.graph.initializer.push(tensor);
        Edge(name)
    }

    /// A standard operator.
    pub(super) fn node(&mut self, op: &str, inputs: &[&Edge], attributes: Vec<proto::Attribute>) -> Edge {
        self.of("", op, inputs, attributes)
    }

    /// An operator of `domain`.
    pub(super) fn of(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&Edge],
        attribute: Vec<proto::Attribute>,
    ) -> Edge {
        self.runtime |= domain == RUNTIME;
        let name = self.name("v");
        self.graph.node.push(proto::Node {
            input: inputs.iter().map(|edge| edge.0.clone()).collect(),
            output: vec![name.clone()],
            name: format!("{op}_{}", self.count),
            op_type: op.to_owned(),
            domain: domain.to_owned(),
            attribute,
        });
        Edge(name)
    }

    /// Puts columns beside each other.
    pub(super) fn beside(&mut self, edges: &[Edge]) -> Option<Edge> {
        match edges {
            [] => None,
            [one] => Some(one.clone()),
            many => {
                let inputs: Vec<&Edge> = many.iter().collect();
                Some(self.node("Concat", &inputs, vec![int("axis", 1)]))
            }
        }
    }

    /// `edge` as elements of another type.
    pub(super) fn cast(&mut self, edge: &Edge, to: i32) -> Edge {
        self.node("Cast", &[edge], vec![int("to", to.into())])
    }

    /// The whole file.
    pub(super) fn finish(self, metadata: Vec<proto::Entry>) -> proto::Model {
        let mut opset_import = vec![
            proto::OperatorSet { domain: String::new(), version: 21 },
            proto::OperatorSet { domain: ML.to_owned(), version: 5 },
        ];
        if self.runtime {
            opset_import.push(proto::OperatorSet { domain: RUNTIME.to_owned(), version: 1 });
        }
        proto::Model {
            ir_version: 10,
            producer_name: "forebay".to_owned(),
            // Of what writes the file, not of the release: equal models are to be equal bytes in the next one too.
            producer_version: "1".to_owned(),
            graph: Some(proto::Graph { name: "model".to_owned(), ..self.graph }),
            opset_import,
            metadata_props: metadata,
            functions: Vec::new(),
        }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.count += 1;
        // Two underlines: no column of a user's table is called so.
        format!("__{prefix}{}", self.count)
    }
}

fn value(name: &str, elem_type: i32, width: Option<i64>) -> proto::ValueInfo {
    let rows = proto::Dimension { dim_value: None, dim_param: Some("rows".to_owned()) };
    let columns = width.map(|width| proto::Dimension { dim_value: Some(width), dim_param: None });
    let shape = proto::Shape { dim: std::iter::once(rows).chain(columns).collect() };
    proto::ValueInfo {
        name: name.to_owned(),
        r#type: Some(proto::Type { tensor_type: Some(proto::TensorType { elem_type, shape: Some(shape) }) }),
    }
}

/// An integer attribute.
pub(super) fn int(name: &str, i: i64) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), i: Some(i), kind: kind::INT, ..proto::Attribute::default() }
}

/// An attribute of integers.
pub(super) fn ints(name: &str, ints: Vec<i64>) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), ints, kind: kind::INTS, ..proto::Attribute::default() }
}

/// An attribute that is a tensor.
pub(super) fn tensor(name: &str, mut t: proto::Tensor) -> proto::Attribute {
    name.clone_into(&mut t.name);
    proto::Attribute { name: name.to_owned(), t: Some(t), kind: kind::TENSOR, ..proto::Attribute::default() }
}

/// Numbers in the shape `dims`.
pub(super) fn doubles(dims: &[usize], values: &[f64]) -> proto::Tensor {
    raw(dims, element::DOUBLE, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// Integers in the shape `dims`.
pub(super) fn integers(dims: &[usize], values: &[i64]) -> proto::Tensor {
    raw(dims, element::INT64, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// Bytes in a row.
pub(super) fn bytes(values: Vec<u8>) -> proto::Tensor {
    raw(&[values.len()], element::UINT8, values)
}

/// Texts in a row.
pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> proto::Tensor {
    let string_data: Vec<Vec<u8>> = values.into_iter().map(|text| text.as_bytes().to_vec()).collect();
    proto::Tensor {
        dims: vec![long(string_data.len())],
        data_type: element::STRING,
        string_data,
        ..proto::Tensor::default()
    }
}

fn raw(dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> proto::Tensor {
    let dims = dims.iter().map(|n| long(*n)).collect();
    proto::Tensor { dims, data_type, raw_data, ..proto::Tensor::default() }
}

/// A count in ONNX's integers.
pub(super) fn long(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
