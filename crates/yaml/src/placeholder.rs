//! Lets `${VAR}` stand anywhere in YAML, also where braces mean something: `{openai: gpt-4.1, api_key: ${KEY}}`.
//!
//! Before the YAML is read, the special characters within each `${…}` become private-use characters, one for one, so
//! that places stay right; afterwards they become themselves again.

use crate::problem::Problem;
use crate::tree::Place;

const SPECIAL: [char; 9] = ['{', '}', '[', ']', ',', ':', '#', '"', '\''];
const PRIVATE: u32 = 0xF_0000;

fn hidden(c: char) -> char {
    SPECIAL
        .iter()
        .position(|s| *s == c)
        .and_then(|i| u32::try_from(i).ok())
        .and_then(|i| char::from_u32(PRIVATE + i))
        .unwrap_or(c)
}

fn shown(c: char) -> char {
    let index = u32::from(c).checked_sub(PRIVATE).and_then(|i| usize::try_from(i).ok());
    index.and_then(|i| SPECIAL.get(i)).copied().unwrap_or(c)
}

/// Hides what is special within `${…}`. A placeholder never spans lines.
pub(crate) fn mask(source: &str) -> Result<String, Problem> {
    let mut out = String::with_capacity(source.len() + 64);
    for (number, line) in source.split_inclusive('\n').enumerate() {
        if let Some(column) = line.chars().position(|c| shown(c) != c) {
            let at = Place { line: number + 1, column: column + 1 };
            let message = "the file holds a private-use character (U+F0000 to U+F0008)";
            return Err(Problem::new(at, "", message, "remove it"));
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else { break };
            out.push_str(before);
            out.push('$');
            out.push(hidden('{'));
            out.extend(name.chars().map(hidden));
            out.push(hidden('}'));
            rest = tail;
        }
        out.push_str(rest);
    }
    Ok(out)
}

/// Undoes [`mask`].
pub(crate) fn unmask(text: &str) -> String {
    text.chars().map(shown).collect()
}
