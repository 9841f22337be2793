//! What is kept of answers, as rows: one for each row that was asked, its inputs and outputs as columns of their own.
//!
//! A tensor of one number or text a row is a column of its name; one of several is as many columns, `name_0`, `name_1`, …. What has more
//! than [`WIDEST`] a row (pictures, embeddings) is left out: it is no table.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::observe::{Answered, Label, NamedTensor, Told};
use crate::{DataType, Tensor};

/// Values of a tensor a row that become columns, at most.
const WIDEST: usize = 256;

/// The columns that say which request a row is of, and nothing of what was asked: each with its type.
pub const OWN: [(&str, &str); 9] = [
    ("id", "text"),
    ("row", "int"),
    ("at", "timestamp"),
    ("tenant", "text"),
    ("version", "text"),
    ("arm", "text"),
    ("entity", "text"),
    ("took_ms", "float"),
    ("error", "text"),
];

/// The columns of an answer that is written, each with its type. Those that are not kept, or not known of any, are null.
pub const WRITTEN: [(&str, &str); 17] = [
    ("cost_usd", "float"),
    ("input_tokens", "float"),
    ("output_tokens", "float"),
    ("attempts", "float"),
    ("first_output_ms", "float"),
    ("coverage", "float"),
    ("grounded", "float"),
    ("input_chars", "float"),
    ("output_chars", "float"),
    ("refused", "float"),
    ("cut", "float"),
    ("model", "text"),
    ("prompt", "text"),
    ("finish", "text"),
    ("language", "text"),
    ("input", "text"),
    ("output", "text"),
];

/// The rows of an answer. `redacted` says which inputs and outputs are not kept.
pub fn rows(answered: &Answered, redacted: impl Fn(&str) -> bool) -> Vec<Map<String, Json>> {
    let rows = answered.rows();
    let mut columns: Vec<(String, Vec<Json>)> = Vec::new();
    let given = answered.inputs.iter().map(|tensor| (tensor, ""));
    let made = answered.outputs.iter().map(|tensor| (tensor, "output_"));
    for (named, before) in given.chain(made).filter(|(named, _)| !redacted(&named.name)) {
        columns.extend(spread(named, before, rows));
    }
    let figures = answered.figures.iter().map(|(name, figure)| (&**name, json!(figure)));
    let words = answered.words.iter().map(|word| (word.name, json!(word.text.as_deref())));
    for (name, value) in figures.chain(words).filter(|(name, _)| !redacted(name)) {
        columns.push((name.to_owned(), vec![value; rows]));
    }
    let mut all = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut one = Map::new();
        one.insert("id".to_owned(), json!(&*answered.id));
        one.insert("row".to_owned(), json!(row));
        one.insert("at".to_owned(), json!(answered.at.rfc3339()));
        one.insert("tenant".to_owned(), json!(answered.tenant.as_str()));
        one.insert("version".to_owned(), json!(&*answered.version));
        one.insert("arm".to_owned(), json!(answered.arm.as_str()));
        one.insert("entity".to_owned(), json!(answered.entity.as_deref().filter(|_| !redacted("entity"))));
        one.insert("took_ms".to_owned(), json!(answered.took.as_secs_f64() * 1e3));
        one.insert("error".to_owned(), json!(answered.error.map(|code| code.as_str())));
        for (name, values) in &columns {
            one.entry(name.clone()).or_insert_with(|| values.get(row).cloned().unwrap_or_default());
        }
        all.push(one);
    }
    all
}

/// The types of the columns of an answer's rows, in the words of a dataset.
pub fn types(answered: &Answered) -> BTreeMap<String, &'static str> {
    let mut types: BTreeMap<String, &'static str> = OWN.map(|(name, ty)| (name.to_owned(), ty)).into();
    let given = answered.inputs.iter().map(|tensor| (tensor, ""));
    let made = answered.outputs.iter().map(|tensor| (tensor, "output_"));
    for (named, before) in given.chain(made) {
        let ty = match named.tensor.datatype() {
            DataType::Bool => "bool",
            DataType::Bytes => "text",
            DataType::Fp16 | DataType::Fp32 | DataType::Fp64 => "float",
            _ => "int",
        };
        for (name, _) in spread(named, before, answered.rows()) {
            types.entry(name).or_insert(ty);
        }
    }
    if !answered.words.is_empty() {
        types.extend(WRITTEN.map(|(name, ty)| (name.to_owned(), ty)));
    }
    types
}

/// The types of the columns of feedback.
pub fn told_types() -> BTreeMap<String, &'static str> {
    let all = [
        ("id", "text"),
        ("row", "int"),
        ("tenant", "text"),
        ("at", "timestamp"),
        ("label", "float"),
        ("label_text", "text"),
        ("key", "text"),
        ("score", "float"),
        ("comment", "text"),
    ];
    all.map(|(name, ty)| (name.to_owned(), ty)).into()
}

/// What was told, as a row of the dataset of feedback.
pub fn told(told: &Told) -> Map<String, Json> {
    let (number, text) = match &told.label {
        Some(Label::Number(number)) => (Some(*number), None),
        Some(Label::Text(text)) => (None, Some(text.as_str())),
        None => (None, None),
    };
    let row = json!({
        "id": &*told.id, "row": told.row, "tenant": told.tenant.as_str(), "at": told.at.rfc3339(),
        "label": number, "label_text": text, "key": &*told.name, "score": told.score, "comment": told.comment,
    });
    match row {
        Json::Object(row) => row,
        _ => Map::new(),
    }
}

/// The columns of a tensor; none when it is not of these rows, or too wide.
fn spread(named: &NamedTensor, before: &str, rows: usize) -> Vec<(String, Vec<Json>)> {
    let tensor = &named.tensor;
    let wide = tensor.len().checked_div(rows).unwrap_or(0);
    if rows == 0 || wide == 0 || wide > WIDEST || wide.saturating_mul(rows) != tensor.len() {
        return Vec::new();
    }
    let values = values(tensor);
    let of = |at: usize| values.iter().skip(at).step_by(wide).cloned().collect();
    match wide {
        1 => vec![(format!("{before}{}", named.name), values)],
        _ => (0..wide).map(|at| (format!("{before}{}_{at}", named.name), of(at))).collect(),
    }
}

fn values(tensor: &Tensor) -> Vec<Json> {
    fn numbers<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
        tensor: &Tensor,
        of: impl Fn(T) -> Json,
    ) -> Vec<Json> {
        tensor.values::<T>().map(|all| all.iter().map(|x| of(*x)).collect()).unwrap_or_default()
    }
    match tensor.datatype() {
        DataType::Bool => numbers::<u8>(tensor, |x| json!(x != 0)),
        DataType::Uint8 => numbers::<u8>(tensor, |x| json!(x)),
        DataType::Uint16 => numbers::<u16>(tensor, |x| json!(x)),
        DataType::Uint32 => numbers::<u32>(tensor, |x| json!(x)),
        DataType::Uint64 => numbers::<u64>(tensor, |x| json!(x)),
        DataType::Int8 => numbers::<i8>(tensor, |x| json!(x)),
        DataType::Int16 => numbers::<i16>(tensor, |x| json!(x)),
        DataType::Int32 => numbers::<i32>(tensor, |x| json!(x)),
        DataType::Int64 => numbers::<i64>(tensor, |x| json!(x)),
        // As the number that it is: what is kept of 0.1 in single precision is 0.1.
        DataType::Fp32 => {
            numbers::<f32>(tensor, |x| x.to_string().parse::<f64>().map_or(Json::Null, |x| json!(x)))
        }
        DataType::Fp64 => numbers::<f64>(tensor, |x| json!(x)),
        DataType::Bytes => tensor.strings().map(|text| json!(String::from_utf8_lossy(text))).collect(),
        // Half precision is of models on accelerators: what they are given is no table.
        _ => Vec::new(),
    }
}
