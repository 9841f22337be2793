//! `${VAR}`, `${VAR:-default}` and the escape `$${` inside every string of the configuration.
//!
//! Values come from the environment, then from `.env` beside the file. What is put in stays text (a setting that
//! wants a number reads it as one), is never scanned again, and is never shown in a message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::problem::Problem;
use super::tree::{Data, Node, Place, join};

/// Variables by name.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl std::fmt::Debug for Env {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Self {
        Env(iter.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl Env {
    /// The environment of this process over the `.env` of a folder. A `.env` that is absent or unreadable is empty;
    /// variables that are not UTF-8 do not exist.
    pub fn of_process(folder: &Path) -> Self {
        let mut vars = std::fs::read_to_string(folder.join(".env")).map(|t| dotenv(&t)).unwrap_or_default();
        vars.extend(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        );
        Env(vars)
    }

    /// The variables whose names begin so, that are set and not empty.
    pub fn beginning_with(&self, prefix: &str) -> BTreeMap<String, String> {
        let set = self.0.iter().filter(|(name, value)| name.starts_with(prefix) && !value.is_empty());
        set.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }
}

/// `NAME=value` lines; `export`, comments, blank lines and quotes around the value are as in a shell.
fn dotenv(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
        let bare = || value.split(" #").next().unwrap_or_default().trim_end();
        (!line.starts_with('#')).then(|| (name.trim().to_owned(), quoted.unwrap_or_else(bare).to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// What happened to placeholders: JSON pointers of the strings they were in.
#[derive(Debug, Default)]
pub struct Substituted {
    /// Strings that hold a value of the environment now.
    pub filled: BTreeSet<String>,
    /// Strings that lack one; reported already.
    pub missing: BTreeSet<String>,
}

/// Fills in all placeholders of a tree.
pub fn substitute(root: &mut Node, env: &Env, problems: &mut Vec<Problem>) -> Substituted {
    let mut walk = Walk { env, problems, done: Substituted::default() };
    walk.node(root, "");
    walk.done
}

struct Walk<'a> {
    env: &'a Env,
    problems: &'a mut Vec<Problem>,
    done: Substituted,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node, pointer: &str) {
        match &mut node.data {
            Data::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.node(item, &join(pointer, &i.to_string()));
                }
            }
            Data::Map(entries) => {
                for e in entries {
                    self.node(&mut e.value, &join(pointer, &e.key));
                }
            }
            Data::Text(text) if text.contains("${") => {
                let filled = self.text(text, node.at, pointer);
                *text = filled;
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, at: Place, pointer: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let Some((inner, tail)) = after.split_once('}') else {
                self.lack(
                    at,
                    pointer,
                    "`${` is not closed".into(),
                    "write `${NAME}`, or `$${` for the text `${`",
                );
                return out;
            };
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            match self.env.get(name).or(default) {
                _ if !is_name(name) => {
                    let message = format!("`${{{inner}}}` names no variable");
                    self.lack(at, pointer, message, "write `${NAME}`, or `$${` for the text `${`");
                }
                Some(value) => {
                    out.push_str(value);
                    self.done.filled.insert(pointer.to_owned());
                }
                None => {
                    let secret = if pointer.ends_with("/api_key") { "a missing secret: " } else { "" };
                    let remedy = format!(
                        "set {name} in the environment or in `.env` beside the file, or give a default: \
                         `${{{name}:-…}}`"
                    );
                    self.lack(at, pointer, format!("{secret}the variable `{name}` is not set"), &remedy);
                }
            }
            rest = tail;
        }
        out.push_str(rest);
        out
    }

    fn lack(&mut self, at: Place, pointer: &str, message: String, remedy: &str) {
        self.done.missing.insert(pointer.to_owned());
        self.problems.push(Problem::new(at, pointer, message, remedy));
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_line_is_read_as_a_shell_would() {
        let vars = dotenv("# c\nA=1\nexport B = \"x # y\"\nC='z'\nD=v # note\nnonsense\n");
        let got: Vec<_> = vars.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, [("A", "1"), ("B", "x # y"), ("C", "z"), ("D", "v")]);
    }

    #[test]
    fn a_value_is_never_scanned_again_and_an_escape_stays_text() {
        let env: Env = [("A", "${B}"), ("B", "no")].into_iter().collect();
        let mut node = Node { at: Place::default(), data: Data::Text("$${A} ${A} ${C:-d}".into()) };
        let mut problems = Vec::new();
        substitute(&mut node, &env, &mut problems);
        assert_eq!((node.data, problems), (Data::Text("${A} ${B} d".into()), vec![]));
    }
}
