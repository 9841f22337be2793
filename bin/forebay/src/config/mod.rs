//! The one file of a project, `forebay.yaml`: read, checked, and turned into typed settings.
//!
//! [`load`] reports *every* problem with line, column and a remedy, and gives a [`Config`] only when there is none.
//! Arbitrary input never panics and costs bounded memory. Secrets end in [`contract::Secret`] and are masked in what
//! is shown of the source.

pub mod busy;
pub mod capture;
pub mod choice;
pub mod dataset;
mod datasets;
pub mod env;
pub mod feature;
mod features;
pub mod jobs;
pub mod lineage;
pub mod model;
pub mod monitor;
mod monitors;
pub mod pipeline;
pub mod pool;
mod rules;
pub mod runs;
pub mod schema;
mod semantics;
mod starts;
pub mod storage;
pub mod triggers;
mod validate;

use std::path::Path;

use ::pipeline::Registry;

pub use ::pipeline::units;
pub use env::Env;
pub use model::Config;
pub use problem::Problem;
pub use rules::Rules;
pub use storage::{artifacts_place, storage_url};
use tree::{Data, Node};
pub use yaml::{problem, spans, tree};

/// The file's name.
pub const FILE: &str = "forebay.yaml";

/// The bytes of a file, and of nothing else: a pipe or a device that bears its name would be waited for without end.
///
/// # Errors
/// The system's; `InvalidInput` for what is no regular file.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.is_file() {
        return std::fs::read(path);
    }
    let kind = std::io::ErrorKind::InvalidInput;
    Err(std::io::Error::new(kind, "it is not a regular file"))
}

/// What became of a file.
#[derive(Debug)]
pub struct Checked {
    /// The configuration, when there is no problem but that a model's file is absent.
    pub config: Option<Config>,
    /// All problems, by place.
    pub problems: Vec<Problem>,
    /// The text of the file with its secrets masked: what may be shown.
    pub shown: String,
}

/// Reads and checks the file of a folder.
///
/// # Errors
/// Only when the file cannot be read; what is wrong in it is in [`Checked::problems`].
pub fn load(folder: &Path, env: &Env, registry: &Registry) -> std::io::Result<Checked> {
    let bytes = read(&folder.join(FILE))?;
    Ok(check(&bytes, folder, env, registry))
}

/// Reads and checks these sections of the file of a folder alone, as if the others were not there: who works with datasets
/// needs no provider's key. Without a file, there is a configuration with nothing in it.
///
/// # Errors
/// Only when the file cannot be read; what is wrong in it is in [`Checked::problems`].
pub fn load_sections(
    folder: &Path,
    env: &Env,
    registry: &Registry,
    sections: &[&str],
) -> std::io::Result<Checked> {
    match read(&folder.join(FILE)) {
        Ok(bytes) => Ok(Rules::new(registry).check_sections(&bytes, folder, env, Some(sections))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok(Checked { config: Some(Config::default()), problems: Vec::new(), shown: String::new() })
        }
        Err(e) => Err(e),
    }
}

/// Checks the bytes of a file as if it lay in `folder`, against which its paths are looked up.
pub fn check(bytes: &[u8], folder: &Path, env: &Env, registry: &Registry) -> Checked {
    Rules::new(registry).check(bytes, folder, env)
}

/// What holds a secret, wherever it stands.
const SECRETS: [&str; 4] = ["api_key", "secret", "old_secret", "database"];

/// The source with every secret that is written out overwritten by `*`, place by place.
fn masked(source: &str, tree: &Node) -> String {
    let mut secrets = Vec::new();
    collect_secrets(tree, &mut secrets);
    secrets.iter().fold(source.to_owned(), |text, s| text.replace(s, &"*".repeat(s.chars().count())))
}

/// The same for a source that could not be read: everything behind the name of one, or the scheme of an address with one, on its line.
fn guarded(source: &str) -> String {
    let names = |l: &str| SECRETS.iter().filter_map(|name| Some(l.find(name)? + name.len())).min();
    let address = |l: &str| l.find("://").filter(|_| l.contains('@') || l.contains("password"));
    let end = |l: &str| names(l).or_else(|| Some(address(l)? + 3));
    let line = |l: &str| match end(l).and_then(|at| l.split_at_checked(at)) {
        Some((before, after)) => format!("{before}{}", "*".repeat(after.chars().count())),
        None => l.to_owned(),
    };
    source.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn collect_secrets<'a>(node: &'a Node, out: &mut Vec<&'a str>) {
    match &node.data {
        Data::List(items) => items.iter().for_each(|n| collect_secrets(n, out)),
        Data::Map(entries) => {
            for e in entries {
                match &e.value.data {
                    Data::Text(text)
                        if SECRETS.contains(&e.key.as_str()) && !text.contains("${") && text.len() > 3 =>
                    {
                        out.push(text)
                    }
                    Data::Text(text) => out.extend(storage::password(text)),
                    _ => collect_secrets(&e.value, out),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let e = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(e.kind(), std::io::ErrorKind::InvalidInput);
    }
}
