//! A tree against a JSON Schema: everything that does not fit it, with its place and a remedy.
//!
//! For files of our own, whose schemas schemars makes from their types: `$ref` within the schema, `type`, `properties`,
//! `required`, `additionalProperties`, `items`, `enum`, alternatives of constants, `minimum` and `maximum`. What is not one of
//! these is not looked at; whoever needs a validator for any schema takes one.

use serde_json::{Map, Value as Json};

use crate::problem::{Problem, suggest};
use crate::tree::{Data, Node, Place, join, segments};

/// What in `tree` does not fit `schema`.
pub fn check(schema: &Json, tree: &Node) -> Vec<Problem> {
    let mut walk = Walk { root: schema, problems: Vec::new() };
    walk.node(schema, tree, tree.at, "");
    walk.problems
}

/// A value left empty is a mistake, not a choice: takes `null` out of everything optional.
pub fn without_null(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(without_null),
        Json::Object(object) => {
            object.values_mut().for_each(without_null);
            if object.get("default") == Some(&Json::Null) {
                object.remove("default");
            }
            if let Some(Json::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".into(), one);
                }
            }
            if let Some(Json::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|b| b.get("type").is_none_or(|t| t != "null"));
                if let [Json::Object(one)] = branches.as_slice() {
                    let one = one.clone();
                    object.remove("anyOf");
                    object.extend(one);
                }
            }
        }
        _ => {}
    }
}

struct Walk<'a> {
    root: &'a Json,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn push(&mut self, at: Place, path: &str, message: String, remedy: String) {
        self.problems.push(Problem::new(at, path, message, remedy));
    }

    /// The schema that a reference stands for. Our types hold no reference that leads back to itself.
    fn followed(&self, schema: &'a Json) -> &'a Json {
        let target = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#'));
        target.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(schema)
    }

    fn node(&mut self, schema: &'a Json, node: &Node, label: Place, path: &str) {
        let schema = self.followed(schema);
        if let Some(options) = options(schema) {
            let written = said(node);
            if !matches!(&node.data, Data::Text(text) if options.contains(&text.as_str())) {
                let message = format!("{written} is not a value of this field");
                let bare = written.trim_matches('`').to_owned();
                let remedy = suggest(&bare, "it is one of", options.into_iter());
                self.push(node.at, path, message, remedy);
            }
            return;
        }
        let wanted = schema.get("type").and_then(Json::as_str);
        if let Some(wanted) = wanted
            && !fits(wanted, &node.data)
        {
            let (words, text) = (words(wanted), said(node));
            let place = if node.data == Data::Null { label } else { node.at };
            let remedy = match &node.data {
                Data::Null => "give it a value, or remove the field".to_owned(),
                Data::Int(_) | Data::Float(_) | Data::Bool(_) if wanted == "string" => {
                    format!("put it in quotes: \"{}\"", text.trim_matches('`'))
                }
                _ => format!("write {words}"),
            };
            self.push(place, path, format!("expected {words}, found {text}"), remedy);
            return;
        }
        if wanted.is_none() && node.data == Data::Null {
            let remedy = "give it a value, or remove the field".to_owned();
            self.push(label, path, "expected a value, found nothing".to_owned(), remedy);
            return;
        }
        self.bounds(schema, node, path);
        match &node.data {
            Data::List(items) => {
                if let Some(each) = schema.get("items") {
                    for (at, item) in items.iter().enumerate() {
                        self.node(each, item, item.at, &join(path, &at.to_string()));
                    }
                }
            }
            Data::Map(entries) => {
                let known = schema.get("properties").and_then(Json::as_object);
                let others = schema.get("additionalProperties");
                for entry in entries {
                    let here = join(path, &entry.key);
                    match (known.and_then(|k| k.get(&entry.key)), others) {
                        (Some(field), _) => self.node(field, &entry.value, entry.key_at, &here),
                        (None, Some(Json::Bool(false))) => {
                            let all = known.into_iter().flat_map(Map::keys).map(String::as_str);
                            let free = all.filter(|k| node.get(k).is_none());
                            let remedy = suggest(&entry.key, "what can be added here", free);
                            let message = format!("unknown field `{}`{}", entry.key, within(path));
                            self.push(entry.key_at, &here, message, remedy);
                        }
                        (None, Some(each)) => self.node(each, &entry.value, entry.key_at, &here),
                        (None, None) => {}
                    }
                }
                for field in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
                    if let Some(field) = field.as_str().filter(|f| node.get(f).is_none()) {
                        let message = format!("the field `{field}` is missing{}", within(path));
                        self.push(label, path, message, format!("add `{field}: …`"));
                    }
                }
            }
            _ => {}
        }
    }

    fn bounds(&mut self, schema: &Json, node: &Node, path: &str) {
        let value = match node.data {
            Data::Int(n) => n as f64,
            Data::Float(x) => x,
            _ => return,
        };
        let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
        if let Some(min) = bound("minimum").filter(|min| value < *min) {
            self.push(node.at, path, format!("{} is too small", said(node)), format!("give at least {min}"));
        }
        if let Some(max) = bound("maximum").filter(|max| value > *max) {
            self.push(node.at, path, format!("{} is too large", said(node)), format!("give at most {max}"));
        }
    }
}

/// The texts that a field may hold, when they are listed.
fn options(schema: &Json) -> Option<Vec<&str>> {
    if let Some(all) = schema.get("enum").and_then(Json::as_array) {
        return Some(all.iter().filter_map(Json::as_str).collect());
    }
    let each = schema.get("oneOf").and_then(Json::as_array)?;
    each.iter().map(|one| one.get("const").and_then(Json::as_str)).collect()
}

fn fits(wanted: &str, data: &Data) -> bool {
    match wanted {
        "string" => matches!(data, Data::Text(_)),
        "integer" => matches!(data, Data::Int(_)),
        "number" => matches!(data, Data::Int(_) | Data::Float(_)),
        "boolean" => matches!(data, Data::Bool(_)),
        "array" => matches!(data, Data::List(_)),
        "object" => matches!(data, Data::Map(_)),
        _ => true,
    }
}

fn words(wanted: &str) -> &'static str {
    match wanted {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        _ => "something else",
    }
}

/// The place a path names, in words: ` in `range``.
fn within(path: &str) -> String {
    let names: Vec<String> = segments(path).filter(|s| s.parse::<usize>().is_err()).collect();
    if names.is_empty() { String::new() } else { format!(" in `{}`", names.join(".")) }
}

/// What was written, as far as it is short.
fn said(node: &Node) -> String {
    match &node.data {
        Data::Null => "nothing".to_owned(),
        Data::Bool(b) => format!("`{b}`"),
        Data::Int(n) => format!("`{n}`"),
        Data::Float(x) => format!("`{x}`"),
        Data::Text(text) if text.chars().count() > 60 => "a long text".to_owned(),
        Data::Text(text) => format!("`{text}`"),
        Data::List(_) => "a list".to_owned(),
        Data::Map(_) => "a map".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::parse_plain;
    use serde_json::json;

    fn problems(text: &str) -> Vec<String> {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "size": {"type": "integer", "minimum": 0},
                "kind": {"oneOf": [{"const": "warn"}, {"const": "error"}]},
                "each": {"type": "array", "items": {"$ref": "#/$defs/Each"}},
            },
            "$defs": {"Each": {"type": "object", "additionalProperties": {"type": "number"}}},
        });
        let tree = parse_plain(text, "").root.unwrap();
        check(&schema, &tree)
            .iter()
            .map(|p| format!("{}:{} {} ({})", p.line, p.column, p.message, p.remedy))
            .collect()
    }

    #[test]
    fn everything_that_does_not_fit_is_told_with_its_place() {
        let found = problems("nmae: x\nsize: -1\nkind: wran\neach:\n  - {a: 1, b: x}\n  - 7\n");
        assert_eq!(
            found,
            [
                "1:1 unknown field `nmae` (did you mean `name`? what can be added here: `name`)",
                "2:7 `-1` is too small (give at least 0)",
                "3:7 `wran` is not a value of this field (did you mean `warn`? it is one of: `warn`, `error`)",
                "5:15 expected a number, found `x` (write a number)",
                "6:5 expected a map, found `7` (write a map)",
                "1:1 the field `name` is missing (add `name: …`)",
            ]
        );
    }

    #[test]
    fn what_fits_is_let_through_and_what_is_empty_is_not() {
        assert!(problems("name: x\nkind: warn\neach: [{a: 1.5}]").is_empty());
        assert_eq!(
            problems("name:"),
            ["1:1 expected text, found nothing (give it a value, or remove the field)"]
        );
        assert_eq!(problems("name: 7"), ["1:7 expected text, found `7` (put it in quotes: \"7\")"]);
    }
}
