//! What a request says: the fields of its body, or of its query where it has no body, read as leniently as protobuf reads JSON:
//! numbers as texts, names in either spelling, what is not known passed over.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::{Map, Value as Json};

use super::errors::Failed;

/// The fields, and the body as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) body: Bytes,
    fields: Map<String, Json>,
    /// Not read yet: most bodies are read at once into what they are.
    unread: bool,
}

impl Asked {
    pub(super) fn read(parts: &Parts, body: Bytes) -> Result<Asked, Failed> {
        let query = parts.uri.query().unwrap_or_default();
        if parts.method == Method::GET && !query.is_empty() {
            return Ok(Asked { body, fields: of_query(query), unread: false });
        }
        if matches!(parts.method, Method::POST | Method::PUT) {
            is_json(&parts.headers)?;
        }
        Ok(Asked { body, fields: Map::new(), unread: true })
    }

    /// Reads the body's fields. What is no object has none.
    pub(super) fn fields(mut self) -> Asked {
        if std::mem::take(&mut self.unread) {
            let mut read: Json = serde_json::from_slice(&self.body).unwrap_or_default();
            // Old clients encode twice.
            if let Json::String(inner) = &read {
                read = serde_json::from_str(inner).unwrap_or_default();
            }
            if let Json::Object(fields) = read {
                self.fields = fields;
            }
        }
        self
    }

    /// A field; a null is none. A run may be named by its old name.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        let found = self.fields.get(name).or_else(|| self.fields.get(&camel(name)));
        let found = found.filter(|v| !v.is_null());
        if name == "run_id" { found.or_else(|| self.get("run_uuid")) } else { found }
    }

    /// The same, by that spelling alone: what is required is looked for so.
    pub(super) fn exact(&self, name: &str) -> Option<&Json> {
        let found = self.fields.get(name).filter(|v| !v.is_null());
        if name == "run_id" { found.or_else(|| self.fields.get("run_uuid")) } else { found }
    }

    /// A text; an empty one when there is none.
    pub(super) fn str(&self, name: &str) -> &str {
        self.maybe_str(name).unwrap_or_default()
    }

    /// A text, if it is there.
    pub(super) fn maybe_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Json::as_str)
    }

    /// A whole number, also in a text.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(int)
    }

    /// A flag, also in a text.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Json::Bool(b)) => *b,
            Some(Json::String(s)) => s.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }

    /// A list; an empty one when there is none.
    pub(super) fn list(&self, name: &str) -> &[Json] {
        self.get(name).and_then(Json::as_array).map_or(&[], Vec::as_slice)
    }

    /// Texts of a list.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    }

    /// Keys and values of a list of objects.
    pub(super) fn pairs(&self, name: &str) -> Vec<(String, String)> {
        self.list(name).iter().map(|v| (text(v, "key"), text(v, "value"))).collect()
    }
}

/// A field of an object in a list.
pub(super) fn text(of: &Json, name: &str) -> String {
    of.get(name).or_else(|| of.get(camel(name))).and_then(Json::as_str).unwrap_or_default().to_owned()
}

/// The same, if it is there.
pub(super) fn maybe_text(of: &Json, name: &str) -> Option<String> {
    of.get(name).or_else(|| of.get(camel(name))).and_then(Json::as_str).map(str::to_owned)
}

/// A whole number, also in a text.
pub(super) fn int(v: &Json) -> Option<i64> {
    match v {
        Json::Number(n) => n.as_i64().or_else(|| whole(n.as_f64()?)),
        Json::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

/// A double without a part behind its point, in the range where each is one number.
fn whole(n: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it is checked")]
    (n.fract() == 0.0 && n.abs() < 9e15).then_some(n as i64)
}

/// A double, also in a text, where NaN and infinite ones are.
pub(super) fn double(v: &Json) -> Option<f64> {
    match v {
        Json::Number(n) => n.as_f64(),
        Json::String(s) => match s.trim() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            other => other.parse().ok(),
        },
        _ => None,
    }
}

/// A name as JSON spells it: `runId` for `run_id`.
fn camel(name: &str) -> String {
    let mut said = String::with_capacity(name.len());
    let mut up = false;
    for c in name.chars() {
        match (c, up) {
            ('_', _) => up = true,
            (c, true) => {
                said.push(c.to_ascii_uppercase());
                up = false;
            }
            (c, false) => said.push(c),
        }
    }
    said
}

/// The fields of a query. What is there more than once, and what is a list in any case, is a list.
fn of_query(query: &str) -> Map<String, Json> {
    const LISTS: [&str; 4] = ["run_ids", "order_by", "stages", "experiment_ids"];
    let mut all: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for part in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        all.entry(plain(name)).or_default().push(plain(value).into());
    }
    let field = |(name, mut values): (String, Vec<Json>)| {
        let list = LISTS.contains(&name.as_str());
        let value = if list { Json::Array(values) } else { values.swap_remove(0) };
        (name, value)
    };
    all.into_iter().map(field).collect()
}

/// Text of a query, its escapes read.
pub(super) fn plain(text: &str) -> String {
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let bytes = text.as_bytes();
    let mut said = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        at += 1;
        match (b, hex(bytes.get(at)), hex(bytes.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                said.extend(u8::try_from(high * 16 + low));
                at += 2;
            }
            (b'+', ..) => said.push(b' '),
            _ => said.push(b),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn is_json(headers: &HeaderMap) -> Result<(), Failed> {
    let Some(said) = headers.get(CONTENT_TYPE) else {
        return Err(Failed::invalid("Bad Request. Content-Type header is missing."));
    };
    let said = said.to_str().unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failed::invalid("Bad Request. Content-Type must be one of ['application/json']."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_protobuf_reads_them() {
        let body = r#"{"runId": "a", "n": "5", "x": null, "m": 7.0, "tags": [{"key": "k", "value": "v"}, {"key": 1}]}"#;
        let asked = Asked { body: body.into(), unread: true, ..Asked::default() }.fields();
        assert_eq!((asked.str("run_id"), asked.int("n"), asked.int("m")), ("a", Some(5), Some(7)));
        assert!(asked.get("x").is_none() && asked.str("nothing").is_empty());
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(asked.pairs("tags"), [pair("k", "v"), pair("", "")]);
        let query =
            Asked { fields: of_query("run_ids=a&run_ids=b%20c&x=1+2&run_uuid=r"), ..Asked::default() };
        assert_eq!(query.texts("run_ids"), ["a", "b c"]);
        assert_eq!((query.str("x"), query.str("run_id")), ("1 2", "r"));
    }
}
