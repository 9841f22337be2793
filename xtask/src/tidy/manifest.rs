//! Every member inherits the workspace's lints, edition and licence, so that none is quietly laxer than the rest.

use toml::{Table, Value};

use crate::finding::Finding;
use crate::tree::Tree;

const INHERITED: &[&str] = &["version", "edition", "rust-version", "license"];

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let manifest = match file.text.parse::<Table>() {
            Ok(manifest) => manifest,
            Err(error) => {
                found.push(Finding::error(
                    &file.path,
                    1,
                    format!("not TOML: {}", error.message()),
                    "correct it",
                ));
                continue;
            }
        };
        // A workspace of its own (a fuzz crate) inherits nothing.
        if manifest.contains_key("workspace") {
            continue;
        }
        if inherits(manifest.get("lints")) != Some(true) {
            found.push(Finding::error(
                &file.path,
                1,
                "does not inherit the workspace's lints",
                "add `[lints]` with `workspace = true`; a local exception is `#[expect(…, reason = \"…\")]`",
            ));
        }
        let Some(package) = manifest.get("package").and_then(Value::as_table) else { continue };
        for key in INHERITED {
            if inherits(package.get(*key)) != Some(true) {
                found.push(Finding::error(
                    &file.path,
                    1,
                    format!("`{key}` is not the workspace's"),
                    format!("write `{key}.workspace = true`"),
                ));
            }
        }
    }
}

fn inherits(value: Option<&Value>) -> Option<bool> {
    value?.get("workspace")?.as_bool()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n";

    fn count(manifest: &str) -> usize {
        let mut found = Vec::new();
        check(&Tree::of(&[("crates/a/Cargo.toml", manifest)]), &mut found);
        found.len()
    }

    #[test]
    fn a_member_that_inherits_everything_passes() {
        assert_eq!(count(GOOD), 0);
    }

    #[test]
    fn a_member_with_its_own_lints_or_edition_is_refused() {
        assert_eq!(
            count(&GOOD.replace("[lints]\nworkspace = true", "[lints.rust]\nunsafe_code = \"allow\"")),
            1
        );
        assert_eq!(count(&GOOD.replace("edition.workspace = true", "edition = \"2021\"")), 1);
    }

    #[test]
    fn broken_toml_is_reported_and_not_passed() {
        assert_eq!(count("[package"), 1);
    }
}
