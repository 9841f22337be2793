//! Files that fit in a head: the tail file is what makes a codebase hard.
//!
//! A Rust file of more than 600 lines fails and one of more than 400 is warned about; `lib.rs` holds documentation
//! and re-exports only; the binary's `main.rs` stays under 150 lines.

use crate::finding::Finding;
use crate::tree::{File, Tree};

const FAIL: usize = 600;
const WARN: usize = 400;
const MAIN: usize = 150;

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        let split = "split it by concept, not by size alone";
        if lines > FAIL {
            found.push(Finding::error(
                &file.path,
                FAIL + 1,
                format!("{lines} lines, more than {FAIL}"),
                split,
            ));
        } else if lines > WARN {
            found.push(Finding::warning(
                &file.path,
                WARN + 1,
                format!("{lines} lines, more than {WARN}"),
                split,
            ));
        }
        if file.path == "bin/forebay/src/main.rs" && lines >= MAIN {
            found.push(Finding::error(
                &file.path,
                MAIN,
                format!("{lines} lines: main.rs stays under {MAIN}"),
                "move the command to cli/<command>.rs",
            ));
        }
        if file.path.ends_with("/src/lib.rs") {
            facade(file, found);
        }
    }
}

/// Reports the first item in a `lib.rs` that is neither documentation nor a module nor a re-export.
fn facade(file: &File, found: &mut Vec<Finding>) {
    let mut inside = Inside::Nothing;
    for (number, line) in file.lines() {
        let line = line.trim();
        match inside {
            Inside::Use => {
                if line.ends_with(';') {
                    inside = Inside::Nothing;
                }
                continue;
            }
            Inside::Attribute => {
                if line.ends_with(']') {
                    inside = Inside::Nothing;
                }
                continue;
            }
            Inside::Comment => {
                if line.contains("*/") {
                    inside = Inside::Nothing;
                }
                continue;
            }
            Inside::Nothing => {}
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if line.starts_with("/*") {
            if !line.contains("*/") {
                inside = Inside::Comment;
            }
        } else if line.starts_with("#[") || line.starts_with("#![") {
            if !line.ends_with(']') {
                inside = Inside::Attribute;
            }
        } else if is_item(line, "use ") {
            if !line.ends_with(';') {
                inside = Inside::Use;
            }
        } else if !(is_item(line, "mod ") && line.ends_with(';')) {
            found.push(Finding::error(
                &file.path,
                number,
                "lib.rs holds code",
                "keep documentation, `mod …;`, `use` and `pub use` here and move the rest into a module",
            ));
            return;
        }
    }
}

enum Inside {
    Nothing,
    Use,
    Attribute,
    Comment,
}

/// Whether `line` starts the item `keyword`, at any visibility.
fn is_item(line: &str, keyword: &str) -> bool {
    let rest = match line.strip_prefix("pub") {
        Some(rest) => match rest.strip_prefix('(') {
            Some(scope) => scope.split_once(')').map_or("", |(_, rest)| rest),
            None => rest,
        },
        None => line,
    };
    rest.trim_start().starts_with(keyword)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        check(&Tree::of(&[(path, text)]), &mut found);
        found
    }

    #[test]
    fn a_long_file_is_warned_about_and_a_very_long_one_fails() {
        assert!(found("a.rs", &"\n".repeat(400)).is_empty());
        assert!(found("a.rs", &"\n".repeat(401))[0].warning);
        assert!(!found("a.rs", &"\n".repeat(601))[0].warning);
        assert!(found("long.md", &"\n".repeat(9000)).is_empty());
    }

    #[test]
    fn main_stays_short() {
        assert!(found("bin/forebay/src/main.rs", &"\n".repeat(149)).is_empty());
        assert_eq!(found("bin/forebay/src/main.rs", &"\n".repeat(150)).len(), 1);
    }

    #[test]
    fn a_facade_of_docs_modules_and_reexports_passes() {
        let text = "//! Docs.\n#![deny(\n    missing_docs\n)]\n/* a\n   b */\nmod a;\npub(crate) mod b;\n#[cfg(test)]\n\
            mod tests;\npub use a::{\n    One,\n    Two,\n};\nuse b::Three;\n";
        assert_eq!(found("crates/x/src/lib.rs", text), Vec::new());
    }

    #[test]
    fn code_in_a_facade_is_refused_at_its_line() {
        assert_eq!(found("crates/x/src/lib.rs", "//! Docs.\nmod a;\npub fn f() {}\n")[0].line, 3);
        assert_eq!(found("crates/x/src/lib.rs", "mod tests {\n}\n")[0].line, 1);
    }
}
