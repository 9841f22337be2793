//! A list of texts in brackets, as Python writes a tuple.

use crate::tracking::Refused;

const ILL: &str =
    "While parsing a list in the query, expected a non-empty list of string values, but got ill-formed list.";
const EMPTY: &str =
    "While parsing a list in the query, expected a non-empty list of string values, but got empty list";

/// The texts in it.
pub(super) fn list(text: &str) -> Result<Vec<String>, Refused> {
    let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    let mut rest = inner.ok_or_else(|| Refused::invalid(ILL))?.trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let Some(quote) = quote else { return Err(other(text)) };
        let (value, behind) =
            rest.get(1..).and_then(|r| r.split_once(quote)).ok_or_else(|| Refused::invalid(ILL))?;
        found.push(value.to_owned());
        rest = behind.trim_start();
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind.trim_start(),
            None if rest.is_empty() => {}
            None => return Err(Refused::invalid(ILL)),
        }
    }
    if found.is_empty() { Err(Refused::invalid(EMPTY)) } else { Ok(found) }
}

/// Numbers are a list of the wrong sort, anything else is none.
fn other(text: &str) -> Refused {
    let inner = text.trim_start_matches('(').trim_end_matches(')');
    let parts: Vec<&str> = inner.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    let literal = |p: &&str| p.parse::<f64>().is_ok() || matches!(p.chars().next(), Some('\'' | '"'));
    if parts.is_empty() || !parts.iter().all(literal) {
        return Refused::invalid(ILL);
    }
    let comma = if parts.len() == 1 { "," } else { "" };
    Refused::invalid(format!(
        "While parsing a list in the query, expected string value, punctuation, or whitespace, \
         but got different type in list: ({}{comma})",
        parts.join(", ")
    ))
}
