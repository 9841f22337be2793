//! A doc never promises what the code lacks: a clause cites the test that proves it, and the test exists.
//!
//! A citation is `[test: name]`, or several names with commas between, in ARCHITECTURE.md, in `docs/` or in the `//!`
//! docs of a module. The name is that of a function in the tree.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::tree::{File, Tree};

const OPEN: &str = "[test: ";

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    let functions: BTreeSet<&str> =
        tree.files.iter().filter(|file| file.is_rust()).flat_map(functions).collect();
    for file in &tree.files {
        let is_doc =
            file.path == "ARCHITECTURE.md" || (file.path.starts_with("docs/") && file.path.ends_with(".md"));
        if !is_doc && !file.is_rust() {
            continue;
        }
        for (number, line) in file.lines() {
            if !is_doc && !line.trim_start().starts_with("//!") {
                continue;
            }
            for name in citations(line) {
                if !functions.contains(name) {
                    found.push(Finding::error(
                        &file.path,
                        number,
                        format!("cites the test `{name}`, which does not exist"),
                        "write the test, correct the name, or take the promise back",
                    ));
                }
            }
        }
    }
}

/// The names a line cites. A placeholder that cannot be a name (`name`, `…`) in backticks is an explanation.
fn citations(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(OPEN).flat_map(|(at, _)| {
        let quoted = line.get(..at).is_some_and(|before| before.ends_with('`'));
        let inner =
            line.get(at + OPEN.len()..).and_then(|rest| rest.split_once(']')).map_or("", |(inner, _)| inner);
        inner.split(',').map(str::trim).filter(move |name| !quoted && !name.is_empty())
    })
}

/// Names after `fn`.
fn functions(file: &File) -> impl Iterator<Item = &str> {
    file.lines().filter_map(|(_, line)| {
        let line = line.trim_start();
        let after = line.strip_prefix("fn ").or_else(|| line.split_once(" fn ").map(|(_, after)| after))?;
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
        after.get(..end).filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(doc: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        let code = "#[test]\nfn sheds_when_late() {}\n    pub async fn drains() {}\n";
        check(&Tree::of(&[("docs/a.md", doc), ("crates/a/tests/it/main.rs", code)]), &mut found);
        found
    }

    #[test]
    fn a_citation_of_a_test_that_exists_passes() {
        assert!(found("It sheds [test: sheds_when_late].\nBoth [test: sheds_when_late, drains].").is_empty());
    }

    #[test]
    fn a_citation_of_a_test_that_does_not_exist_is_reported_at_its_line() {
        let found = found("Fine.\nIt flies [test: flies].");
        assert_eq!((found.len(), found[0].line), (1, 2));
    }

    #[test]
    fn a_quoted_example_is_not_a_citation() {
        assert!(found("Write `[test: name]` beside it.").is_empty());
    }

    #[test]
    fn module_docs_are_checked_and_plain_comments_are_not() {
        let mut found = Vec::new();
        check(&Tree::of(&[("a.rs", "//! Proven [test: nothing].\n// see [test: nothing]\n")]), &mut found);
        assert_eq!(found.len(), 1);
    }
}
