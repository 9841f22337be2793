//! Which fields a request has, and what is said when one is missing or of the wrong sort: MLflow's words.
//!
//! Its server reads a body as protobuf, and looks at the sorts of fields one by one only when that fails. So does this: what protobuf
//! takes (a number in a text) is taken.

use serde_json::Value as Json;

use super::asked::{Asked, double, int};
use super::errors::Failed;

/// The sort of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A text.
    Text,
    /// A whole number.
    Int,
    /// A whole number that is at most that.
    Most(i64),
    /// A double.
    Double,
    /// A flag.
    Flag,
    /// A list of anything.
    List,
    /// A list of texts.
    Texts,
    /// A name out of a list, or its number.
    Name,
}

/// A field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    name: &'static str,
    sort: Sort,
    required: bool,
}

impl Field {
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }
}

/// A field that may be missing.
pub(super) const fn may(name: &'static str, sort: Sort) -> Field {
    Field { name, sort, required: false }
}

/// A field that may not.
pub(super) const fn must(name: &'static str, sort: Sort) -> Field {
    Field { name, sort, required: true }
}

const DOCS: &str = "See the API docs for more information about request parameters.";

/// Whether a list or a text has something in it, as Python sees it.
fn is_empty(v: Option<&Json>) -> bool {
    v.is_none_or(|v| v.as_str() == Some(""))
}

impl Sort {
    /// Whether protobuf takes the value.
    fn takes(self, v: &Json) -> bool {
        match self {
            Sort::Text => v.is_string(),
            Sort::Int | Sort::Most(_) => int(v).is_some(),
            Sort::Double => double(v).is_some(),
            Sort::Flag => v.is_boolean(),
            Sort::List => v.is_array(),
            Sort::Texts => v.as_array().is_some_and(|all| all.iter().all(Json::is_string)),
            Sort::Name => v.is_string() || v.is_i64(),
        }
    }
}

/// Python's word for the sort of a value.
fn python(v: &Json) -> &'static str {
    match v {
        Json::Null => "NoneType",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.is_i64() || n.is_u64() => "int",
        Json::Number(_) => "float",
        Json::String(_) => "str",
        Json::Array(_) => "list",
        Json::Object(_) => "dict",
    }
}

/// That a value is of the wrong sort.
pub(super) fn wrong(name: &str, v: &Json) -> Failed {
    let kind = python(v);
    Failed::invalid(format!(
        "Invalid value {} for parameter '{name}' supplied:  Hint: Value was of type '{kind}'. {DOCS}",
        dumped(v)
    ))
}

/// A value as Python's `json.dumps` writes it: keys in order, and ASCII alone.
fn dumped(v: &Json) -> String {
    let text = match v {
        Json::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(b.0));
            let each = |(k, v): &(&String, &Json)| format!("{}:{}", Json::from(k.as_str()), dumped(v));
            format!("{{{}}}", sorted.iter().map(each).collect::<Vec<_>>().join(","))
        }
        Json::Array(all) => format!("[{}]", all.iter().map(dumped).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    };
    if text.is_ascii() {
        return text;
    }
    let mut said = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            said.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            said.push_str(&format!("\\u{unit:04x}"));
        }
    }
    said
}

/// Checks the fields of a request.
pub(super) fn check(asked: &Asked, fields: &[Field]) -> Result<(), Failed> {
    let read = |f: &Field| asked.get(f.name).is_none_or(|v| f.sort.takes(v));
    let whole = fields.iter().all(read);
    for f in fields {
        let v = asked.get(f.name);
        if f.required && is_empty(asked.exact(f.name)) {
            return Err(Failed::invalid(format!(
                "Missing value for required parameter '{}'. {DOCS}",
                f.name
            )));
        }
        let Some(v) = v else { continue };
        if !whole && f.sort != Sort::Name && !f.sort.takes(v) {
            return Err(wrong(f.name, v));
        }
        if let Sort::Most(most) = f.sort
            && int(v).is_some_and(|n| n > most)
        {
            return Err(wrong(f.name, v));
        }
    }
    Ok(())
}

/// That something in a list is missing.
pub(super) fn missing(path: &str) -> Failed {
    Failed::invalid(format!("Missing value for required parameter '{path}'. {DOCS}"))
}
