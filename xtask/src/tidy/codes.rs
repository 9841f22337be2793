//! Every error code has a page, and every page a code.
//!
//! Codes are the string literals on the right of a match arm (`Self::X => "snake_code"`) in the contract's `code.rs`;
//! their pages are `docs/errors/<code>.md`.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::tree::Tree;

const CODES: &str = "crates/contract/src/code.rs";
const PAGES: &str = "docs/errors/";

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    let Some(file) = tree.get(CODES) else { return };
    let mut codes = BTreeMap::new();
    for (number, line) in file.lines() {
        if let Some(code) = declared(line) {
            codes.entry(code).or_insert(number);
        }
    }
    for (code, number) in &codes {
        let page = format!("{PAGES}{code}.md");
        if tree.get(&page).is_none() {
            found.push(Finding::error(
                CODES,
                *number,
                format!("the code {code} has no page"),
                format!("write {page}: what happened, why, what to do"),
            ));
        }
    }
    for page in &tree.files {
        let Some(name) = page.path.strip_prefix(PAGES).and_then(|name| name.strip_suffix(".md")) else {
            continue;
        };
        if !codes.contains_key(name) && !matches!(name, "README" | "index") {
            found.push(Finding::error(
                &page.path,
                1,
                "no such error code",
                format!("remove it or declare it in {CODES}"),
            ));
        }
    }
}

/// The code a match arm declares: lower snake case, or upper case with an `FB-` prefix.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim();
    if line.starts_with("//") {
        return None;
    }
    let (arm, literal) = line.split_once("=>")?;
    if !arm.contains("::") {
        return None;
    }
    let (code, _) = literal.trim_start().strip_prefix('"')?.split_once('"')?;
    let snake = code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let prefixed = code.starts_with("FB-")
        && code.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-');
    (!code.is_empty() && (snake || prefixed)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "match self {\n    Self::Late => \"deadline_exceeded\",\n    Code::Full => \"FB-QUEUE-FULL\",\n    \
        // Self::Old => \"old\",\n    Self::Long => \"a sentence\",\n}\n";

    fn found(pages: &[&str]) -> Vec<String> {
        let mut files = vec![(CODES, SOURCE)];
        files.extend(pages.iter().map(|page| (*page, "")));
        let mut found = Vec::new();
        check(&Tree::of(&files), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_code_without_a_page_is_reported_where_it_is_declared() {
        let found = found(&["docs/errors/FB-QUEUE-FULL.md"]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("crates/contract/src/code.rs:2: the code deadline_exceeded has no page")
        );
    }

    #[test]
    fn a_page_without_a_code_is_reported() {
        let pages =
            ["docs/errors/FB-QUEUE-FULL.md", "docs/errors/deadline_exceeded.md", "docs/errors/gone.md"];
        assert!(found(&pages)[0].starts_with("docs/errors/gone.md:1"));
    }

    #[test]
    fn a_tree_without_codes_passes() {
        let mut found = Vec::new();
        check(&Tree::of(&[("docs/errors/any.md", "")]), &mut found);
        assert!(found.is_empty());
    }
}
