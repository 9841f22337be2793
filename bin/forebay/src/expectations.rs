//! A file of expectations: YAML, read into what the data layer checks, every problem with its place in the file.

use std::path::Path;

use data::expect::{Config, Expectation, Suite};
use serde_json::Value as Json;

use crate::config::problem::{self, Problem};
use crate::config::{self, spans};

/// Why a file gives no expectations.
#[derive(Debug)]
pub enum Wrong {
    /// It cannot be read.
    Unread(std::io::Error),
    /// It can, and this is wrong with it.
    Problems {
        /// The text of the file.
        source: String,
        /// Everything, by place.
        problems: Vec<Problem>,
    },
}

/// Reads a file of expectations.
///
/// # Errors
/// [`Wrong`], with every problem of the file.
pub fn load(file: &Path) -> Result<Suite, Wrong> {
    let bytes = config::read(file).map_err(Wrong::Unread)?;
    let source = String::from_utf8(bytes)
        .map_err(|e| Wrong::Unread(std::io::Error::new(std::io::ErrorKind::InvalidData, e)))?;
    parse(&source).map_err(|mut problems| {
        problem::sort(&mut problems);
        Wrong::Problems { source, problems }
    })
}

fn parse(source: &str) -> Result<Suite, Vec<Problem>> {
    const REMEDY: &str =
        "write `expectations:` and below it a list, each entry with one check: `- not_null: {column: id}`";
    let parsed = spans::parse(source.strip_prefix('\u{feff}').unwrap_or(source));
    let mut problems = parsed.problems;
    let Some(tree) = parsed.root.filter(|_| problems.is_empty()) else { return Err(problems) };
    let json = tree.to_json();
    let at = |pointer: &str| tree.locate(pointer).node.at;
    let entries = match &json {
        Json::Object(map) => {
            for key in map.keys().filter(|k| *k != "expectations") {
                let place = tree.locate(&config::tree::join("", key)).label();
                problems.push(Problem::new(place, key.as_str(), format!("unknown field `{key}`"), REMEDY));
            }
            map.get("expectations")
        }
        _ => None,
    };
    let Some(entries) = entries.and_then(Json::as_array) else {
        if problems.is_empty() {
            problems.push(Problem::new(tree.at, "", "there is no list of expectations", REMEDY));
        }
        return Err(problems);
    };
    // Each by itself, so that one that cannot be read hides no other.
    let mut read = Config { expectations: Vec::with_capacity(entries.len()) };
    for (n, entry) in entries.iter().enumerate() {
        match serde_json::from_value::<Expectation>(entry.clone()) {
            Ok(expectation) => read.expectations.push(expectation),
            Err(e) => {
                let pointer = format!("/expectations/{n}");
                let remedy = "compare it with the examples in docs/guides/data.md";
                problems.push(Problem::new(at(&pointer), pointer, e.to_string(), remedy));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Suite::new(&read).map_err(|error| match error {
        data::Error::Expectations { problems } => problems
            .into_iter()
            .map(|p| {
                let n: Option<usize> =
                    p.place.strip_prefix("expectations[").and_then(|r| r.split(']').next()?.parse().ok());
                let pointer = n.map_or_else(|| "/expectations".to_owned(), |n| format!("/expectations/{n}"));
                Problem::new(at(&pointer), pointer, p.what, "correct it, or remove it")
            })
            .collect(),
        other => vec![Problem::new(tree.at, "", other.to_string(), "correct it, or remove it")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_file_of_expectations_has_its_place() {
        let problems = parse(
            "expectations:\n  - not_null: {column: id}\n  - ragne: {column: x, min: 1}\n  - pattern: {column: t}\n",
        )
        .unwrap_err();
        let places: Vec<_> = problems.iter().map(|p| (p.line, p.column)).collect();
        assert_eq!(places, [(3, 5), (4, 5)], "{problems:?}");
        let problems = parse("expectations:\n  - pattern: {column: t, regex: '('}\nother: 1\n").unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problems =
            parse("expectations:\n  - not_null: {column: id}\n  - pattern: {column: t, regex: '('}\n");
        assert_eq!(problems.unwrap_err().first().map(|p| p.line), Some(3));
        assert_eq!(parse("- 1\n").unwrap_err().len(), 1);
        assert_eq!(parse("expectations:\n  - not_null: {column: id}\n").unwrap().len(), 1);
    }
}
