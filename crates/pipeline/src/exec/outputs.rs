//! The files that a command left, found by pattern and kept. Called when none of its processes lives any more, so that nothing
//! changes below.
//!
//! Nothing outside of the folder is read: a link is taken where it leads to a file within, no linked folder is entered, and what is
//! no regular file (a pipe would be waited for without end) is none.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use contract::{Code, Error, UnixMillis};
use indexmap::IndexMap;
use rustix::fs::OFlags;

use crate::artifacts::{Artifact, Artifacts};

/// Below this many folders nothing is looked for.
const DEEP: usize = 32;
/// More entries than this are not looked at.
const ENTRIES: usize = 200_000;

/// Which files an output is: `*` within a name, `?` for one character, `**` for any folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<String>,
    text: String,
}

impl Pattern {
    /// # Errors
    /// Why it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<String> = text.split('/').filter(|p| *p != ".").map(str::to_owned).collect();
        let bad = match () {
            () if text.starts_with('/') => Some("it is not relative to the folder of outputs"),
            () if parts.iter().any(|p| p == "..") => Some("it leaves the folder of outputs"),
            () if parts.is_empty() || parts.iter().any(String::is_empty) => Some("it names no file"),
            () if text.contains('\0') || parts.len() > DEEP => Some("it is no path"),
            () => None,
        };
        match bad {
            Some(why) => Err(format!("`{text}` names no outputs: {why}")),
            None => Ok(Pattern { parts, text: text.to_owned() }),
        }
    }

    /// Whether a path is one of them.
    pub(super) fn matches(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').collect();
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        all(
            &parts,
            &path,
            |p| *p == "**",
            |part, name| {
                let part: Vec<char> = part.chars().collect();
                let name: Vec<char> = name.chars().collect();
                all(&part, &name, |c| *c == '*', |c, d| *c == '?' || c == d)
            },
        )
    }
}

/// Whether `given` is `wanted`, in which whatever `is_any` stands for any number of elements: the last such is gone back to, so
/// that it takes at most as many steps as the two are long, multiplied.
fn all<T>(wanted: &[T], given: &[T], is_any: impl Fn(&T) -> bool, is: impl Fn(&T, &T) -> bool) -> bool {
    let (mut w, mut g, mut back) = (0, 0, None);
    while let Some(one) = given.get(g) {
        match wanted.get(w) {
            Some(any) if is_any(any) => {
                w += 1;
                back = Some((w, g));
            }
            Some(this) if is(this, one) => (w, g) = (w + 1, g + 1),
            _ => match back {
                Some((after, from)) => {
                    (w, g) = (after, from + 1);
                    back = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    wanted.get(w..).unwrap_or_default().iter().all(is_any)
}

/// How much is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) files: u32,
    pub(super) bytes: u64,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Collected {
    /// By output, in the order of their names.
    pub(super) outputs: IndexMap<String, Vec<Artifact>>,
    /// Files that no output names.
    pub(super) others: usize,
}

/// Keeps the files below `folder` that the patterns name.
///
/// # Errors
/// [`Code::CommandFailed`] for an output that is not there or leads out of the folder; [`Code::TooLarge`]; those of the store.
pub(super) fn collect(
    folder: &Path,
    patterns: &IndexMap<String, Pattern>,
    limits: Limits,
    to: &Artifacts,
    now: UnixMillis,
) -> Result<Collected, Error> {
    let all = walk(folder, &|_| false)?;
    let is_own = |path: &str| path == super::RESULT;
    let others = all.iter().filter(|p| !is_own(p) && !patterns.values().any(|of| of.matches(p))).count();
    let mut taken = Vec::new();
    for (name, pattern) in patterns {
        let found: Vec<&String> = all.iter().filter(|p| pattern.matches(p)).collect();
        if found.is_empty() {
            let m = format!(
                "the command left no output `{name}`: nothing below the folder FOREBAY_OUTPUT is `{}`",
                pattern.text
            );
            return Err(Error::new(Code::CommandFailed, m));
        }
        taken.push((name.clone(), found));
    }
    if taken.iter().map(|(_, found)| found.len()).sum::<usize>() > limits.files as usize {
        let m = format!("the command left more outputs than the {} of `files_at_most`", limits.files);
        return Err(Error::new(Code::TooLarge, m));
    }
    let mut bytes = 0_u64;
    for path in taken.iter().flat_map(|(_, found)| found) {
        let long = fs::metadata(inside(folder, path)?).map_or(0, |m| m.len());
        bytes = bytes.saturating_add(long);
    }
    // Before anything is written.
    if bytes > limits.bytes {
        let m = format!("the outputs are {bytes} bytes long, and `output_at_most` is {}", limits.bytes);
        return Err(Error::new(Code::TooLarge, m));
    }
    let (mut left, mut outputs) = (limits.bytes, IndexMap::new());
    for (name, found) in taken {
        let mut kept = Vec::new();
        for path in found {
            let artifact = to.put(path, &mut open(folder, path)?, left, now)?;
            left = left.saturating_sub(artifact.bytes);
            kept.push(artifact);
        }
        outputs.insert(name, kept);
    }
    Ok(Collected { outputs, others })
}

/// The files below a folder that one of the patterns names, as far as they can be read and are not hidden.
pub(super) fn found(folder: &Path, patterns: &[Pattern]) -> Vec<String> {
    if patterns.is_empty() {
        return Vec::new();
    }
    let is_hidden = |path: &str| path.split('/').any(|part| part.starts_with('.'));
    let mut all = walk(folder, &is_hidden).unwrap_or_default();
    all.retain(|path| patterns.iter().any(|p| p.matches(path)));
    all
}

/// The paths of all files below, in their order; links are among them, what is behind them is not.
fn walk(folder: &Path, leaves_out: &dyn Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let unread = |e: std::io::Error| {
        Error::new(Code::CommandFailed, format!("the folder of outputs cannot be read: {}", e.kind()))
    };
    let mut all = Vec::new();
    let mut open: Vec<(PathBuf, String, usize)> = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((at, below, depth)) = open.pop() {
        for entry in fs::read_dir(&at).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            // Nothing that is written can name it.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if leaves_out(&path) {
                continue;
            }
            if entry.file_type().map_err(unread)?.is_dir() {
                if depth < DEEP {
                    open.push((entry.path(), path, depth + 1));
                }
            } else {
                all.push(path);
            }
            if all.len() + open.len() > ENTRIES {
                let m = format!("the command left more than {ENTRIES} files in the folder of outputs");
                return Err(Error::new(Code::TooLarge, m));
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

fn failed(path: &str, why: &str) -> Error {
    Error::new(Code::CommandFailed, format!("the output `{path}` {why}"))
}

/// Where a file of the folder is, by a path that [`walk`] gave.
fn inside(folder: &Path, path: &str) -> Result<PathBuf, Error> {
    let own = fs::canonicalize(folder).map_err(|_| failed(path, "is gone"))?;
    let whole = fs::canonicalize(folder.join(path)).map_err(|_| failed(path, "leads nowhere"))?;
    if !whole.starts_with(&own) {
        let why = "is a link that leads out of the folder of outputs: write the file itself";
        return Err(failed(path, why));
    }
    match fs::symlink_metadata(&whole).is_ok_and(|m| m.is_file()) {
        true => Ok(whole),
        false => Err(failed(path, "is no regular file")),
    }
}

pub(super) fn open(folder: &Path, path: &str) -> Result<File, Error> {
    // Neither followed nor waited for, whatever it has become.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let whole = inside(folder, path)?;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(whole);
    opened.map_err(|e| failed(path, &format!("cannot be read: {}", e.kind())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_names_files_as_a_shell_would() {
        for (pattern, path, is) in [
            ("model.onnx", "model.onnx", true),
            ("./model.onnx", "model.onnx", true),
            ("model.onnx", "a/model.onnx", false),
            ("*.json", "a.json", true),
            ("*.json", "a/b.json", false),
            ("**", "a/b.json", true),
            ("**/*.json", "b.json", true),
            ("**/*.json", "a/b/c.json", true),
            ("a/**/c.json", "a/c.json", true),
            ("a/**/c.json", "a/x/y/c.json", true),
            ("a/**/c.json", "b/c.json", false),
            ("m?del-*-*.bin", "model-1-2.bin", true),
            ("m?del-*-*.bin", "model-1.bin", false),
            ("*", "", true),
            ("?", "ä", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(path), is, "{pattern} {path}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "."] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    /// The plain meaning, for short ones.
    fn slow(wanted: &[char], given: &[char]) -> bool {
        match (wanted, given) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=given.len()).any(|n| slow(rest, &given[n..])),
            (['?', rest @ ..], [_, more @ ..]) => slow(rest, more),
            ([a, rest @ ..], [b, more @ ..]) => a == b && slow(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_its_plain_definition_says(pattern in "[ab*?]{1,7}", name in "[ab]{1,8}") {
            prop_assume!(!pattern.contains("**"));
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::parse(&pattern).unwrap().matches(&name), slow(&chars(&pattern), &chars(&name)));
        }
    }
}
