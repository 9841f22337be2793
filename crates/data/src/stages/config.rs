//! What the configurations of several kinds share.

use std::path::Path;

use contract::Kind;
use indexmap::IndexMap;
use pipeline::Problem;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Means;
use crate::expect::{Suite, Written};
use crate::{How, Policy};

/// How rows go together with those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HowConfig {
    /// Below them.
    Append,
    /// In their place.
    Overwrite,
    /// A row takes the place of the one with the same `key`, or comes below.
    Merge,
}

/// What becomes of rows that are not as expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum BadRows {
    /// They are put aside with the reasons, and the stage fails.
    Refuse,
    /// They are put aside with the reasons, and the stage gives the others.
    Quarantine,
}

/// How a change goes in, with everything that is wrong with how it is said. `pointer` is of the object that says so.
pub(super) fn how(how: Option<HowConfig>, key: &[String]) -> Result<Option<How>, Problem> {
    match (how, key) {
        (None, []) => Ok(None),
        (Some(HowConfig::Append), []) => Ok(Some(How::Append)),
        (Some(HowConfig::Overwrite), []) => Ok(Some(How::Overwrite)),
        (Some(HowConfig::Merge), []) => Err(problem(
            "/how",
            "a merge needs a `key`",
            "add `key: [COLUMN]`: the columns that tell rows apart",
        )),
        (Some(HowConfig::Merge), key) => Ok(Some(How::Merge { key: key.to_vec() })),
        (_, _) => {
            Err(problem("/key", "`key` means something for a merge alone", "add `how: merge`, or remove it"))
        }
    }
}

/// What becomes of a table with bad rows.
pub(super) fn policy(bad_rows: Option<BadRows>, max_bad_share: Option<f64>) -> Result<Policy, Problem> {
    match (bad_rows, max_bad_share) {
        (Some(BadRows::Quarantine), share) => Ok(Policy::Quarantine { max_share: share.unwrap_or(0.1) }),
        (None | Some(BadRows::Refuse), None) => Ok(Policy::Fail),
        (None | Some(BadRows::Refuse), Some(_)) => {
            let message = "`max_bad_share` means nothing where bad rows are refused";
            Err(problem("/max_bad_share", message, "add `bad_rows: quarantine`, or remove it"))
        }
    }
}

/// What a stage looked up by a name, as a part of what it is made of.
pub(super) fn looked_up(what: &str, name: &str, says: &Json) -> (String, String) {
    (format!("{what} {name}"), blake3::hash(says.to_string().as_bytes()).to_hex().to_string())
}

/// What becomes of bad rows, in full.
pub(super) fn says(policy: Policy) -> Json {
    match policy {
        Policy::Fail => json!("refuse"),
        Policy::Quarantine { max_share } => json!({"quarantine": max_share}),
    }
}

/// Whether a text is still to be filled in: a run does so before it builds the stage.
pub(super) fn open(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// The expectations of a file; nothing when its name is still to be filled in.
pub(super) fn suite(means: &dyn Means, file: &Path, pointer: &str) -> Result<Option<Suite>, Vec<Problem>> {
    if file.to_str().is_some_and(open) {
        return Ok(None);
    }
    let text = std::fs::read_to_string(means.folder().join(file)).map_err(|e| {
        let remedy = "check the path, which is relative to the configuration; `forebay data profile --suggest` writes a first one";
        vec![problem(pointer, &format!("the file `{}` cannot be read: {e}", file.display()), remedy)]
    })?;
    let wrong = |p: &yaml::problem::Problem| {
        let message = format!("{}:{}:{}: {}", file.display(), p.line, p.column, p.message);
        problem(pointer, &message, &p.remedy)
    };
    match Written::parse(&text) {
        Ok(written) => Ok(Some(written.suite)),
        Err(problems) => Err(problems.iter().map(wrong).collect()),
    }
}

/// The name of a dataset, checked as far as it is known.
pub(super) fn dataset(name: &str, pointer: &str) -> Result<(), Problem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if open(name) || (begins && name.bytes().all(plain) && name.len() <= 128) {
        return Ok(());
    }
    let remedy = "a name is up to 128 letters, digits, `_`, `-` and `.`, and begins with a letter or a digit";
    Err(problem(pointer, &format!("`{name}` is no name of a dataset"), remedy))
}

pub(super) fn problem(pointer: &str, message: &str, remedy: &str) -> Problem {
    Problem { pointer: pointer.into(), message: message.into(), remedy: remedy.into() }
}

/// Inputs that are all tables.
pub(super) fn tables<'a>(names: impl IntoIterator<Item = &'a str>) -> IndexMap<String, Kind> {
    names.into_iter().map(|name| (name.to_owned(), Kind::Table)).collect()
}
