//! The columns that a model takes, as inputs of its graph: each by its name, a value a row, of shape `[rows, 1]`.
//!
//! Numbers are doubles and NaN is a missing one. Categories are texts; the empty text is a missing one, and a text that
//! training did not see is treated as a missing one.

use serde::{Deserialize, Serialize};

use super::graph::{self, Builder, Edge, ML};
use super::proto::element;

/// A column that a model takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Feature {
    /// The column.
    pub name: String,
    /// The words of a category, in the order of their numbers; `None` for a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<String>>,
}

impl Feature {
    /// A number.
    pub fn number(name: impl Into<String>) -> Feature {
        Feature { name: name.into(), words: None }
    }

    /// A category of these words.
    pub fn category(name: impl Into<String>, words: Vec<String>) -> Feature {
        Feature { name: name.into(), words: Some(words) }
    }

    /// The type of its input.
    pub(super) fn element(&self) -> i32 {
        if self.words.is_some() { element::STRING } else { element::DOUBLE }
    }

    pub(super) fn input(&self, builder: &mut Builder) -> Edge {
        builder.input(&self.name, self.element(), 1)
    }
}

/// Texts → the numbers of their words as doubles, −1 for what is no word.
pub(super) fn numbers_of_words(builder: &mut Builder, texts: &Edge, words: &[String]) -> Edge {
    let numbers: Vec<f64> = (0_u32..).take(words.len()).map(f64::from).collect();
    let values = graph::doubles(&[numbers.len()], &numbers);
    look_up(builder, texts, words, values, graph::doubles(&[1], &[-1.0]))
}

/// Texts → the numbers of their words, and one more than the last for what is no word.
pub(super) fn rows_of_words(builder: &mut Builder, texts: &Edge, words: &[String]) -> Edge {
    let last = graph::long(words.len());
    let numbers: Vec<i64> = (0..last).collect();
    let values = graph::integers(&[words.len()], &numbers);
    look_up(builder, texts, words, values, graph::integers(&[1], &[last]))
}

fn look_up(
    builder: &mut Builder,
    texts: &Edge,
    words: &[String],
    values: super::proto::Tensor,
    default: super::proto::Tensor,
) -> Edge {
    let keys = graph::texts(words.iter().map(String::as_str));
    let attributes = vec![
        graph::tensor("keys_tensor", keys),
        graph::tensor("values_tensor", values),
        graph::tensor("default_tensor", default),
    ];
    builder.of(ML, "LabelEncoder", &[texts], attributes)
}

/// All columns as one matrix of doubles, `rows × features`: what trees take.
pub(super) fn matrix(builder: &mut Builder, features: &[Feature]) -> Option<Edge> {
    let columns: Vec<Edge> = features
        .iter()
        .map(|feature| {
            let input = feature.input(builder);
            match &feature.words {
                None => input,
                Some(words) => numbers_of_words(builder, &input, words),
            }
        })
        .collect();
    builder.beside(&columns)
}
