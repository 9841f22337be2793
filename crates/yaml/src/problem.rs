//! A problem in the configuration: where, what, and what to do about it; and how it is shown.

use std::fmt::Write as _;

use serde::Serialize;

use crate::tree::Place;

/// Something wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The line, from one.
    pub line: usize,
    /// The column in characters, from one.
    pub column: usize,
    /// JSON pointer of the value at fault; empty for the file itself.
    pub path: String,
    /// What is wrong, a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The file is right, but a model's file that it names is not there (yet).
    #[serde(skip)]
    pub absent: bool,
}

impl Problem {
    /// A problem at a place.
    pub fn new(
        at: Place,
        path: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Problem {
            line: at.line.max(1),
            column: at.column.max(1),
            path: path.into(),
            message: message.into(),
            remedy: remedy.into(),
            absent: false,
        }
    }
}

/// Sorts problems by place and drops repetitions.
pub fn sort(problems: &mut Vec<Problem>) {
    problems.sort();
    problems.dedup();
}

/// Shows problems for a terminal, each with its source line, a caret and its remedy.
///
/// `source` is what is shown of the file: whoever calls has masked the secrets in it.
pub fn render(file: &str, source: &str, problems: &[Problem]) -> String {
    let mut out = String::new();
    for p in problems {
        let _ = writeln!(out, "{file}:{}:{}: {}", p.line, p.column, p.message);
        if let Some(text) = source.lines().nth(p.line - 1).filter(|t| !t.trim().is_empty()) {
            let (text, column) = window(text, p.column);
            let number = p.line.to_string();
            let _ = writeln!(out, "  {number} | {text}");
            let _ = writeln!(out, "  {:1$} | {2:3$}^", "", number.len(), "", column - 1);
        }
        let _ = writeln!(out, "  help: {}\n", p.remedy);
    }
    out
}

/// At most 100 characters of a line around a column, and the column within them. Tabs and controls become spaces.
fn window(line: &str, column: usize) -> (String, usize) {
    let start = column.saturating_sub(70);
    let shown: String =
        line.chars().skip(start).take(100).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (shown.trim_end().to_owned(), column - start)
}

/// `; did you mean …?`: the candidate nearest to what was written, when one is near enough.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&written, &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= 1 + c.chars().count().min(written.chars().count()) / 4)
        .min()
        .map(|(_, c)| c)
}

/// A remedy for a name that is not among those it could be.
pub fn suggest<'a>(written: &str, what: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> String {
    let list = candidates.clone().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
    match nearest(written, candidates) {
        Some(near) => format!("did you mean `{near}`? {what}: {list}"),
        None if list.is_empty() => format!("{what}: none"),
        None => format!("{what}: {list}"),
    }
}
