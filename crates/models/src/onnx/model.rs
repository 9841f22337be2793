//! Puts a model together: inputs by name, pre-processing, scores, what they mean, and what is said of it.
//!
//! A classifier gives `label` and `probabilities` (a column for each class), a regressor `prediction`. Equal models make equal
//! bytes [test: equal_models_make_equal_bytes].

use std::collections::BTreeMap;

use predict::Metadata;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::features::{self, Feature};
use super::forest::{Forest, Link};
use super::graph::{self, Builder, Edge};
use super::linear::{self, Linear};
use super::proto::{Entry, element};
use super::{Error, trees};

/// What a classifier's classes are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// Whole numbers.
    Numbers(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
}

impl Classes {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Classes::Numbers(all) => all.len(),
            Classes::Texts(all) => all.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is said of a model in its file, by keys that begin with `forebay.`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The model's id.
    pub model_id: String,
    /// The version of the data it was made of.
    pub data_version: String,
    /// Anything else.
    pub more: BTreeMap<String, String>,
}

/// What computes the scores.
#[derive(Debug, Clone, Copy)]
pub enum Scorer<'a> {
    /// Trees over these columns, in the order of the trees' features.
    Trees(&'a Forest, &'a [Feature]),
    /// Trees over one matrix of numbers, called `input`: for models whose columns have no names.
    Matrix(&'a Forest),
    /// A linear model.
    Linear(&'a Linear),
}

/// The ONNX file of a model. `classes` are a classifier's; without any they are numbered.
///
/// # Errors
/// The columns are not as many as the trees ask for, two have one name, the classes are not as many as the scores say, or the
/// model takes no column at all.
pub fn write(scorer: Scorer<'_>, classes: Option<&Classes>, about: &About) -> Result<Vec<u8>, Error> {
    let inputs = inputs(scorer)?;
    let mut builder = Builder::default();
    let (scores, width, link) = match scorer {
        Scorer::Trees(forest, features) => {
            let matrix = features::matrix(&mut builder, features).ok_or_else(no_column)?;
            (trees::scores(&mut builder, &matrix, forest), forest.base.len(), forest.link)
        }
        Scorer::Matrix(forest) => {
            let matrix = builder.input("input", element::DOUBLE, graph::long(forest.names.len()));
            (trees::scores(&mut builder, &matrix, forest), forest.base.len(), forest.link)
        }
        Scorer::Linear(linear) => {
            let scores = linear::scores(&mut builder, linear).ok_or_else(no_column)?;
            (scores, linear.intercepts.len(), linear.link)
        }
    };
    let answer = apply(&mut builder, &scores, link);
    let outputs = if link.is_classes() {
        let count = if matches!(link, Link::Sigmoid { .. }) { 2 } else { width };
        let numbered = Classes::Numbers((0..graph::long(count)).collect());
        let classes = classes.unwrap_or(&numbered);
        if classes.len() != count {
            let what = format!("the model tells {count} classes apart, {} are named", classes.len());
            return Err(Error::malformed("trained", what));
        }
        classified(&mut builder, &answer, classes)
    } else {
        builder.output(&answer, "prediction", element::DOUBLE, Some(graph::long(width)));
        json!([{"name": "prediction", "type": "double", "shape": [-1, width]}])
    };
    let metadata = metadata(about, (&inputs, names(scorer, &inputs)), &outputs);
    Ok(builder.finish(metadata).encode_to_vec())
}

/// An input of a model: its name, the type of its elements, and how many of them a row has.
type Input = (String, i32, i64);

/// The columns that a model takes, each once and as many as it asks for.
fn inputs(scorer: Scorer<'_>) -> Result<Vec<Input>, Error> {
    let columns: Vec<Input> = match scorer {
        Scorer::Matrix(forest) => {
            vec![("input".to_owned(), element::DOUBLE, graph::long(forest.names.len()))]
        }
        Scorer::Trees(forest, features) => {
            if features.len() != forest.names.len() {
                let what = format!("it takes {} columns, {} are given", forest.names.len(), features.len());
                return Err(Error::malformed("trained", what));
            }
            features.iter().map(|feature| (feature.name.clone(), feature.element(), 1)).collect()
        }
        Scorer::Linear(linear) => {
            let features = linear.terms.iter().map(linear::Term::feature);
            features.map(|feature| (feature.name.clone(), feature.element(), 1)).collect()
        }
    };
    let mut names: Vec<&String> = columns.iter().map(|(name, ..)| name).collect();
    names.sort();
    match names.iter().zip(names.iter().skip(1)).find(|(a, b)| a == b) {
        Some((name, _)) => Err(Error::malformed("trained", format!("two columns are called `{name}`"))),
        None => Ok(columns),
    }
}

fn no_column() -> Error {
    Error::Unsupported {
        format: "trained",
        what: "it takes no column".to_owned(),
        remedy: "give it at least one column that is not the same in every row",
    }
}

fn apply(builder: &mut Builder, scores: &Edge, link: Link) -> Edge {
    let sigmoid = |builder: &mut Builder, scale: f64| {
        let scale = builder.constant(graph::doubles(&[1, 1], &[scale]));
        let scaled = builder.node("Mul", &[scores, &scale], Vec::new());
        builder.node("Sigmoid", &[&scaled], Vec::new())
    };
    match link {
        Link::Identity => scores.clone(),
        Link::Exp => builder.node("Exp", &[scores], Vec::new()),
        Link::Softmax => builder.node("Softmax", &[scores], vec![graph::int("axis", 1)]),
        Link::OneAgainstAll { scale } => sigmoid(builder, scale),
        Link::Sigmoid { scale } => {
            let second = sigmoid(builder, scale);
            let one = builder.constant(graph::doubles(&[1, 1], &[1.0]));
            let first = builder.node("Sub", &[&one, &second], Vec::new());
            builder.node("Concat", &[&first, &second], vec![graph::int("axis", 1)])
        }
    }
}

/// The outputs of a classifier: the likeliest class, the first of equally likely ones, and all probabilities.
fn classified(builder: &mut Builder, probabilities: &Edge, classes: &Classes) -> serde_json::Value {
    let at = builder.node("ArgMax", &[probabilities], vec![graph::int("axis", 1), graph::int("keepdims", 0)]);
    let (table, element, name) = match classes {
        Classes::Numbers(all) => (graph::integers(&[all.len()], all), element::INT64, "int64"),
        Classes::Texts(all) => (graph::texts(all.iter().map(String::as_str)), element::STRING, "string"),
    };
    let table = builder.constant(table);
    let label = builder.node("Gather", &[&table, &at], vec![graph::int("axis", 0)]);
    builder.output(&label, "label", element, None);
    builder.output(probabilities, "probabilities", element::DOUBLE, Some(graph::long(classes.len())));
    json!([
        {"name": "label", "type": name, "shape": [-1]},
        {"name": "probabilities", "type": "double", "shape": [-1, classes.len()]},
    ])
}

/// How the columns are called that a model takes; nothing when nobody called them anything.
fn names(scorer: Scorer<'_>, inputs: &[Input]) -> Option<Vec<String>> {
    let Scorer::Matrix(forest) = scorer else {
        return Some(inputs.iter().map(|(name, ..)| name.clone()).collect());
    };
    // What LightGBM and XGBoost call columns that came without names.
    let numbered = |name: &String| {
        let number = name.strip_prefix("Column_").or_else(|| name.strip_prefix('f'));
        number.is_some_and(|n| n.parse::<usize>().is_ok())
    };
    (!forest.names.iter().all(numbered)).then(|| forest.names.clone())
}

fn metadata(
    about: &About,
    (inputs, names): (&[Input], Option<Vec<String>>),
    outputs: &serde_json::Value,
) -> Vec<Entry> {
    let typed = |(name, element, width): &(String, i32, i64)| {
        let kind = if *element == element::STRING { "string" } else { "double" };
        json!({"name": name, "type": kind, "shape": [-1, width]})
    };
    let signature = json!({"inputs": inputs.iter().map(typed).collect::<Vec<_>>(), "outputs": outputs});
    let mut all = about.more.clone();
    all.insert("forebay.model_id".to_owned(), about.model_id.clone());
    all.insert("forebay.data_version".to_owned(), about.data_version.clone());
    all.extend(names.map(|names| (Metadata::FEATURES.to_owned(), json!(names).to_string())));
    all.insert("forebay.signature".to_owned(), signature.to_string());
    all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| Entry { key, value }).collect()
}
