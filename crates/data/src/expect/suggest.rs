//! A profile as a file of expectations that a person goes on from: every line is there because the version meets it, and a comment
//! says what it was seen to be like.

use std::fmt::Write as _;

use serde_json::Value;

use crate::expect::{ColumnProfile, Expectation, Profile};

impl Profile {
    /// The proposed expectations as YAML, with comments. [`Written::parse`](crate::expect::Written::parse) reads it, and the version it
    /// comes from meets it.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "# Suggested from version {} ({} rows): a start, not the truth. What is chance in these rows and what is a rule\n\
             # only you know: loosen, tighten, delete. `severity: warn` reports and stops nothing.\n\
             # What can be written here: docs/reference/expectations.md",
            self.version, self.rows
        );
        out.push_str("expectations:\n");
        for one in self.proposed.expectations.iter().filter(|e| about(e).is_none()) {
            line(&mut out, one);
        }
        for column in &self.columns {
            let mut of =
                self.proposed.expectations.iter().filter(|e| about(e) == Some(&column.name)).peekable();
            let _ = writeln!(out, "\n  # {}", described(column, self.rows));
            if of.peek().is_none() {
                out.push_str("  # nothing to suggest\n");
            }
            of.for_each(|one| line(&mut out, one));
        }
        out
    }
}

/// The column that an expectation is about.
fn about(e: &Expectation) -> Option<&String> {
    e.not_null
        .as_ref()
        .map(|c| &c.column)
        .or(e.range.as_ref().map(|c| &c.column))
        .or(e.set.as_ref().map(|c| &c.column))
        .or(e.pattern.as_ref().map(|c| &c.column))
        .or(e.length.as_ref().map(|c| &c.column))
        .or(e.freshness.as_ref().map(|c| &c.column))
        .or(e.unique.as_ref().and_then(|c| c.columns.first()))
}

/// What a column is like, in a line.
fn described(c: &ColumnProfile, rows: u64) -> String {
    let mut said = format!("{}: {}", c.name.escape_debug(), c.ty);
    if let (Some(min), Some(max)) = (&c.min, &c.max) {
        let _ = write!(said, " from {} to {}", plain(min), plain(max));
    }
    if let Some(values) = &c.values {
        let _ = write!(said, ", {} different", values.len());
    }
    match c.characters {
        Some((least, most)) if least == most => _ = write!(said, " of {least} characters"),
        Some((least, most)) => _ = write!(said, " of {least} to {most} characters"),
        None => {}
    }
    let missing = c.nulls + c.nans;
    if missing > 0 && rows > 0 {
        let _ = write!(said, ", missing in {missing} rows ({:.2} %)", missing as f64 * 100.0 / rows as f64);
    }
    said
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An expectation, its check in one line.
fn line(out: &mut String, expectation: &Expectation) {
    let Ok(Value::Object(all)) = serde_json::to_value(expectation) else { return };
    let mut first = true;
    // The check before what it means.
    let (rest, check): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(key, _)| matches!(key.as_str(), "severity" | "name"));
    for (key, value) in check.into_iter().chain(rest) {
        if key == "severity" && value == "error" {
            continue;
        }
        let _ = writeln!(out, "  {} {key}: {}", if first { '-' } else { ' ' }, flow(&value));
        first = false;
    }
}

/// A value in one line: as JSON, which is YAML too, but without quotes around what is plainly a name.
fn flow(value: &Value) -> String {
    let name = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !text.is_empty();
        // What YAML takes for something else.
        let special = matches!(text, "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
        if plain && !special { text.to_owned() } else { Value::from(text).to_string() }
    };
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| {
                !(*key == "max_share" && **value == 0.0 || *key == "extra" && *value == "allow")
            });
            let each: Vec<String> =
                kept.map(|(key, value)| format!("{}: {}", name(key), flow(value))).collect();
            format!("{{{}}}", each.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => name(text),
        other => other.to_string(),
    }
}
