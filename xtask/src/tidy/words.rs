//! What never lands: a path of somebody's machine, a package registry's host, a note to oneself.
//!
//! The patterns are written in two halves here, so that this file passes its own check.

use crate::finding::Finding;
use crate::tree::Tree;

/// Folders that exist on one machine only.
const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/home/", "runner/")];

/// Hosts that only package clients know.
const HOSTS: &[&str] = &[
    concat!("py", "pi.org"),
    concat!("python", "hosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("deb.", "debian.org"),
    concat!("proxy.", "golang.org"),
    concat!("crates", ".io"),
];

/// Notes to oneself.
const NOTES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    for file in &tree.files {
        // Lock files name their registry; nobody writes them by hand.
        if file.path.ends_with(".lock") || file.path.ends_with("package-lock.json") {
            continue;
        }
        let prose = file.path.ends_with(".md");
        for (number, line) in file.lines() {
            if let Some(path) = MACHINE.iter().find(|path| holds_path(line, path)) {
                found.push(Finding::error(
                    &file.path,
                    number,
                    format!("names a machine's own path, {path}"),
                    "use a relative path or a variable",
                ));
            }
            if !prose && let Some(host) = HOSTS.iter().find(|host| line.contains(**host)) {
                found.push(Finding::error(
                    &file.path,
                    number,
                    format!("names a registry's host, {host}"),
                    "name the package and leave the host to the client's configuration",
                ));
            }
            if file.is_rust()
                && let Some(note) = NOTES.iter().find(|note| holds_word(line, note))
            {
                found.push(Finding::error(
                    &file.path,
                    number,
                    format!("holds a {note}"),
                    "do it, or open an issue and drop the note",
                ));
            }
        }
    }
}

/// Whether an absolute path starts with `path` here: `src/…` before it makes it relative.
fn holds_path(line: &str, path: &str) -> bool {
    let inside = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "_-.}$~*".contains(c));
    line.match_indices(path).any(|(at, _)| !line.get(..at).is_some_and(inside))
}

fn holds_word(line: &str, word: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).is_some_and(|before| before.ends_with(letter));
        let after = line.get(at + word.len()..).is_some_and(|after| after.starts_with(letter));
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        let mut found = Vec::new();
        check(&Tree::of(&[(path, text)]), &mut found);
        found.len()
    }

    #[test]
    fn a_machine_path_is_refused_and_a_relative_one_is_not() {
        assert_eq!(count("a.sh", concat!("cd /wo", "rk/main\n")), 1);
        assert_eq!(count("a.sh", concat!("cd src/wo", "rk/main\n")), 0);
        assert_eq!(count("a.sh", concat!("cd $HOME/wo", "rk/main\n")), 0);
    }

    #[test]
    fn a_registry_host_is_refused_outside_prose_and_lock_files() {
        let line = concat!("index = \"https://crates", ".io\"\n");
        assert_eq!((count("a.toml", line), count("a.md", line), count("Cargo.lock", line)), (1, 0, 0));
    }

    #[test]
    fn a_note_to_oneself_is_refused_in_rust_as_a_word_of_its_own() {
        assert_eq!(count("a.rs", concat!("// TO", "DO: later\n")), 1);
        assert_eq!(count("a.rs", concat!("const TO", "DOS: u8 = 1;\n")), 0);
    }
}
