//! Frames and lists out of JSON.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::datatype::DataType;
use crate::error::Error;
use crate::protocol::scoring::Scored;
use crate::protocol::v2;
use crate::tabular::{Cell, Frame};
use crate::tensor::Tensor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    dataframe_split: Option<Split>,
    dataframe_records: Option<Vec<Map<String, Json>>>,
    instances: Option<Json>,
    inputs: Option<Json>,
    params: Option<Map<String, Json>>,
}

#[derive(Deserialize)]
struct Split {
    columns: Option<Vec<Json>>,
    data: Vec<Vec<Json>>,
}

/// Reads a body of `application/json`.
///
/// # Errors
/// None or several of the four forms, or one that is not as it must be.
pub fn json(body: &[u8]) -> Result<Scored, Error> {
    let unreadable = |e| Error::invalid(format!("the body cannot be read: {e}"));
    let body: Body = match serde_json::from_slice(body) {
        Ok(read) => read,
        Err(e) => match v2::bare_words(body) {
            Some(again) => serde_json::from_slice(&again).map_err(|_| unreadable(e))?,
            None => return Err(unreadable(e)),
        },
    };
    if body.params.is_some_and(|p| !p.is_empty()) {
        return Err(Error::wrong("params", "the model has no parameters: send no `params`"));
    }
    match (body.dataframe_split, body.dataframe_records, body.instances, body.inputs) {
        (Some(split), None, None, None) => split.frame().map(Scored::Frame),
        (None, Some(records), None, None) => self::records(records).map(Scored::Frame),
        (None, None, Some(instances), None) => self::instances(instances),
        (None, None, None, Some(Json::Object(inputs))) => {
            let inputs = inputs.into_iter().map(|(name, value)| (Some(name), value)).collect();
            Ok(Scored::Lists { inputs, by_row: false })
        }
        (None, None, None, Some(list)) => Ok(Scored::Lists { inputs: vec![(None, list)], by_row: false }),
        _ => Err(Error::invalid(
            "send exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`",
        )),
    }
}

fn cell(param: &str, value: Json) -> Result<Cell, Error> {
    Ok(match value {
        Json::Null => Cell::Null,
        Json::Bool(b) => Cell::Bool(b),
        Json::Number(n) => match n.as_i64() {
            Some(n) => Cell::Int(n),
            None => Cell::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => match text.as_str() {
            "NaN" => Cell::Float(f64::NAN),
            "Infinity" => Cell::Float(f64::INFINITY),
            "-Infinity" => Cell::Float(f64::NEG_INFINITY),
            _ => Cell::Text(text),
        },
        Json::Array(_) | Json::Object(_) => {
            return Err(Error::wrong(param, "a value of a frame is a number, a flag, a text or null"));
        }
    })
}

impl Split {
    fn frame(self) -> Result<Frame, Error> {
        const PARAM: &str = "dataframe_split";
        let name = |n: Json| match n {
            Json::String(n) => n,
            other => other.to_string(),
        };
        let names: Option<Vec<String>> = self.columns.map(|c| c.into_iter().map(name).collect());
        let wide = names.as_ref().map(Vec::len).or(self.data.first().map(Vec::len)).unwrap_or(0);
        let mut columns: Vec<Vec<Cell>> = vec![Vec::with_capacity(self.data.len()); wide];
        for (at, row) in self.data.into_iter().enumerate() {
            if row.len() != wide {
                let m = format!("row {at} has {} values, and there are {wide} columns", row.len());
                return Err(Error::wrong(PARAM, m));
            }
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(cell(PARAM, value)?);
            }
        }
        Ok(Frame { names, columns })
    }
}

/// Rows that name their columns; the first says which there are, and one that lacks some has none there.
fn records(records: Vec<Map<String, Json>>) -> Result<Frame, Error> {
    const PARAM: &str = "dataframe_records";
    let names: Vec<String> = records.first().map(|r| r.keys().cloned().collect()).unwrap_or_default();
    let mut columns: Vec<Vec<Cell>> = vec![Vec::with_capacity(records.len()); names.len()];
    for (at, mut record) in records.into_iter().enumerate() {
        for (name, column) in names.iter().zip(&mut columns) {
            column.push(cell(PARAM, record.remove(name).unwrap_or_default())?);
        }
        if let Some(other) = record.keys().next() {
            let m = format!("row {at} has a column `{other}` that the first has not");
            return Err(Error::wrong(PARAM, m));
        }
    }
    Ok(Frame { names: Some(names), columns })
}

/// A list of rows: maps from inputs, or values.
fn instances(instances: Json) -> Result<Scored, Error> {
    const PARAM: &str = "instances";
    let Json::Array(rows) = instances else {
        return Err(Error::wrong(PARAM, "`instances` is a list of rows"));
    };
    if !matches!(rows.first(), Some(Json::Object(_))) {
        return Ok(Scored::Lists { inputs: vec![(None, Json::Array(rows))], by_row: true });
    }
    let mut inputs: Vec<(Option<String>, Vec<Json>)> = Vec::new();
    for (at, row) in rows.into_iter().enumerate() {
        let Json::Object(row) = row else {
            return Err(Error::wrong(PARAM, format!("row {at} is no map from inputs, as the first is")));
        };
        if at == 0 {
            inputs = row.into_iter().map(|(name, value)| (Some(name), vec![value])).collect();
            continue;
        }
        let mut row = row;
        for (name, values) in &mut inputs {
            values.extend(name.as_ref().and_then(|n| row.remove(n)));
        }
        if !row.is_empty() || inputs.iter().any(|(_, values)| values.len() != at + 1) {
            return Err(Error::wrong(PARAM, format!("row {at} has other inputs than the first")));
        }
    }
    let inputs = inputs.into_iter().map(|(name, values)| (name, Json::Array(values))).collect();
    Ok(Scored::Lists { inputs, by_row: true })
}

/// Lists in lists as a tensor of their own shape.
pub(super) fn tensor(name: &str, datatype: DataType, value: &Json) -> Result<Tensor, Error> {
    let mut shape = Vec::new();
    let mut inner = value;
    while let Json::Array(list) = inner {
        shape.push(i64::try_from(list.len()).unwrap_or(i64::MAX));
        match list.first() {
            Some(first) => inner = first,
            None => break,
        }
    }
    let text = match value {
        Json::Array(_) => value.to_string(),
        scalar => format!("[{scalar}]"),
    };
    v2::data(datatype, shape, &text).map_err(|e| match e {
        Error::Invalid { param: None, message } => Error::wrong(name, format!("input `{name}`: {message}")),
        other => other,
    })
}
