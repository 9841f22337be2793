//! Names of files in which `*` stands for any text and `?` for one character, within one part of the path.

use std::path::{Component, Path, PathBuf};

use crate::Error;

/// The files that names and patterns stand for, in their order; of a pattern in the order of names. Hidden files are only meant
/// by who names the dot.
///
/// # Errors
/// A name or a pattern that stands for nothing.
pub fn files(folder: &Path, patterns: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut all = Vec::new();
    for pattern in patterns {
        let whole = folder.join(pattern);
        // A file that is really called so is meant, whatever its name is.
        if whole.exists() {
            all.push(whole);
            continue;
        }
        let found = if is_pattern(pattern) { expand(folder, Path::new(pattern)) } else { Vec::new() };
        if found.is_empty() {
            let help = "check the path: those of forebay.yaml are relative to it, those of a command to the current folder";
            return Err(Error::new(format!("there is no file {}", whole.display()), help));
        }
        all.extend(found);
    }
    Ok(all)
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

fn expand(folder: &Path, pattern: &Path) -> Vec<PathBuf> {
    // The empty path is the current folder to whoever joins it, and no folder to whoever reads it.
    let begin = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found = vec![begin.to_owned()];
    for part in pattern.components() {
        let text = part.as_os_str().to_string_lossy();
        found = match part {
            Component::Normal(_) if is_pattern(&text) => {
                found.iter().flat_map(|at| children(at, &text)).collect()
            }
            _ => found.iter().map(|at| at.join(part)).filter(|p| p.exists()).collect(),
        };
    }
    found
}

fn children(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name()).collect();
    names.retain(|name| {
        let name = name.to_string_lossy();
        (!name.starts_with('.') || pattern.starts_with('.')) && matches(pattern, &name)
    });
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// Whether a pattern stands for a name. Linear but for the last `*`, to which it goes back.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, seen)) => {
                    star = Some((at, seen + 1));
                    p = at + 1;
                    n = seen + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_stands_for_the_files_of_its_folder_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "a.txt", ".x.csv", "[1].csv"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("m")).unwrap();
        std::fs::write(folder.path().join("m/1.csv"), "").unwrap();
        let of = |pattern: &str| {
            let found = files(folder.path(), &[pattern.to_owned()]).map_err(|e| e.to_string())?;
            let names = found.iter().map(|p| p.strip_prefix(folder.path()).unwrap().display().to_string());
            Ok::<_, String>(names.collect::<Vec<_>>())
        };
        assert_eq!(of("*.csv"), Ok(vec!["[1].csv".into(), "a.csv".into(), "b.csv".into()]));
        assert_eq!(of("?/*.csv"), Ok(vec!["m/1.csv".into()]));
        assert_eq!(of("a.*"), Ok(vec!["a.csv".into(), "a.txt".into()]));
        assert!(of("z*.csv").unwrap_err().contains("z*.csv"));
    }

    proptest! {
        #[test]
        fn a_name_matches_what_it_is_made_of(parts in proptest::collection::vec("[ab*?]{0,3}", 0..5), fill in "[ab]{0,4}") {
            let pattern = parts.join("*");
            let name: String = pattern.chars().map(|c| match c { '*' => fill.clone(), '?' => "a".into(), c => c.to_string() }).collect();
            prop_assert!(matches(&pattern, &name));
        }
    }
}
