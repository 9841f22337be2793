//! What a compiler does not check: layers, file sizes, cited tests, error pages, forbidden words.
//!
//! Every check is a pure function of the [`Tree`]; none touches the disk or runs cargo, so that all of them together
//! take well under two seconds.

mod citations;
mod codes;
mod layers;
mod manifest;
mod sizes;
mod words;

use std::path::Path;

use crate::finding::Finding;
use crate::tree::Tree;

/// Prints what it finds; `false` when something fails.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let tree = Tree::read(root)?;
    let findings = check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| !finding.warning).count();
    let warnings = findings.len() - errors;
    println!("tidy: {} files, {errors} errors, {warnings} warnings", tree.files.len());
    Ok(errors == 0)
}

/// Every finding, in path order.
fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    layers::check(tree, &mut found);
    manifest::check(tree, &mut found);
    sizes::check(tree, &mut found);
    citations::check(tree, &mut found);
    codes::check(tree, &mut found);
    words::check(tree, &mut found);
    found.sort();
    found
}
