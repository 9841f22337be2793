//! The one file of a project, `forebay.yaml`: read, checked, and turned into typed settings.
//!
//! [`load`] reports *every* problem with line, column and a remedy, and gives a [`Config`] only when there is none.
//! Arbitrary input never panics and costs bounded memory. Secrets end in [`contract::Secret`] and are masked in what
//! is shown of the source.

pub mod env;
pub mod model;
pub mod pipeline;
mod placeholder;
pub mod problem;
pub mod schema;
mod semantics;
pub mod spans;
pub mod tree;
pub mod units;
pub mod validate;

use std::collections::BTreeSet;
use std::path::Path;

use ::pipeline::Registry;

pub use env::Env;
pub use model::Config;
pub use problem::Problem;
use tree::{Data, Node};

/// The file's name.
pub const FILE: &str = "forebay.yaml";

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
    let bytes = std::fs::read(folder.join(FILE))?;
    Ok(check(&bytes, folder, env, registry))
}

/// Checks the bytes of a file as if it lay in `folder`, against which its paths are looked up.
pub fn check(bytes: &[u8], folder: &Path, env: &Env, registry: &Registry) -> Checked {
    let source = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(e) => {
            let before =
                String::from_utf8_lossy(bytes.get(..e.valid_up_to()).unwrap_or_default()).into_owned();
            let line = before.lines().count().max(1);
            let column = before.lines().last().map_or(1, |l| l.chars().count() + 1);
            let message = "the file is not UTF-8 text";
            let at = tree::Place { line, column };
            let problem = Problem::new(at, "", message, "save it as UTF-8");
            return Checked { config: None, problems: vec![problem], shown: String::new() };
        }
    };
    let parsed = spans::parse(source);
    let mut problems = parsed.problems;
    let Some(mut tree) = parsed.root else {
        problem::sort(&mut problems);
        return Checked { config: None, problems, shown: guarded(source) };
    };
    let shown = masked(source, &tree);
    let substituted = env::substitute(&mut tree, env, &mut problems);
    let schema = schema::of(registry);
    let mut json = tree.to_json();
    problems.extend(validate::validate(&schema, &tree, &mut json, &substituted));
    let unsound: BTreeSet<String> = problems.iter().map(|p| p.path.clone()).collect();
    let mut semantics = semantics::Semantics {
        tree: &tree,
        json: &json,
        schema: &schema,
        registry,
        folder,
        problems: &mut problems,
    };
    semantics.check(&unsound);
    let mut config = None;
    if problems.iter().all(|p| p.absent) {
        match serde_json::from_value(json) {
            Ok(read) => config = Some(read),
            Err(e) => {
                let remedy = "compare it with `forebay schema`";
                problems.push(Problem::new(tree.at, "", format!("this cannot be read: {e}"), remedy));
            }
        }
    }
    problem::sort(&mut problems);
    Checked { config, problems, shown }
}

/// The source with every `api_key` that is written out overwritten by `*`, place by place.
fn masked(source: &str, tree: &Node) -> String {
    let mut secrets = Vec::new();
    collect_secrets(tree, &mut secrets);
    secrets.iter().fold(source.to_owned(), |text, s| text.replace(s, &"*".repeat(s.chars().count())))
}

/// The same for a source that could not be read: everything behind `api_key` on its line.
fn guarded(source: &str) -> String {
    let line = |l: &str| match l.split_once("api_key") {
        Some((before, after)) => format!("{before}api_key{}", "*".repeat(after.chars().count())),
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
                    Data::Text(text) if e.key == "api_key" && !text.contains("${") && text.len() > 3 => {
                        out.push(text)
                    }
                    _ => collect_secrets(&e.value, out),
                }
            }
        }
        _ => {}
    }
}
