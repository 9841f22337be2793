//! What a person writes of an `exec` stage.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::outputs::{self, Pattern};
use crate::is_below;
use crate::registry::Problem;
use crate::units::{Size, Time};
use crate::word::Word;

/// Runs a command: its inputs are files, its outputs are files that it leaves.
///
/// The command finds its inputs by `FOREBAY_INPUT_<NAME>` and writes its outputs into the folder `FOREBAY_OUTPUT`; what it writes
/// there into `result.json` is the stage's `result`. It is given no variables but `PATH`, `LANG`, `HOME`, `TMPDIR`, those of
/// `env` and `pass_env`, and `FOREBAY_RUN`, `_PIPELINE`, `_STAGE`, `_ATTEMPT`, `_EFFECT` and `_PROJECT`. Exit code 0 is success, 75
/// asks for another try, any other is a failure. When the command is over, all processes that it started are ended.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecConfig {
    /// What is run: a list of the program and its arguments, or one line for the shell.
    pub(super) command: Command,
    /// Its inputs, and the form that each is given in. `from` says where they come from.
    #[serde(default)]
    pub(super) inputs: IndexMap<String, Format>,
    /// Its outputs: a name, and which files below `FOREBAY_OUTPUT` they are. `*` stands for anything within a name, `**` for any
    /// folders, `?` for one character. Each must be there when the command is over.
    #[serde(default)]
    pub(super) outputs: IndexMap<String, String>,
    /// Variables of its environment. Values of those whose names say that they are secrets are taken out of its log.
    #[serde(default)]
    pub(super) env: IndexMap<String, Word>,
    /// Variables that it is given as Forebay has them, if it has.
    #[serde(default)]
    pub(super) pass_env: Vec<String>,
    /// Files of the project that the command reads, as patterns such as `src/**`, besides those that are its arguments: when one of
    /// them changes, what an earlier run made is not taken.
    #[serde(default)]
    pub(super) reads: Vec<String>,
    /// Where it runs.
    #[serde(default)]
    pub(super) folder: Folder,
    /// How long it may take. Then it is asked to end (`SIGTERM`), and after `grace` made to.
    #[serde(default = "hour")]
    pub(super) timeout: Time,
    /// How long it is given to end when it is asked to.
    #[serde(default = "ten_seconds")]
    pub(super) grace: Time,
    /// How much memory it may use: all its processes together, looked at a few times a second, and each of them in what it
    /// allocates. Unless given: as much as there is.
    #[serde(default)]
    pub(super) memory: Option<Size>,
    /// How far it stands back when a core is wanted: 0 for not at all, 19 for most.
    #[serde(default = "ten")]
    #[schemars(range(max = 19))]
    pub(super) nice: u8,
    /// How many files it may leave as outputs.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) files_at_most: u32,
    /// How long they may be together.
    #[serde(default = "ten_gigabytes")]
    pub(super) output_at_most: Size,
}

fn hour() -> Time {
    Time(Duration::from_secs(3_600))
}
fn ten_seconds() -> Time {
    Time(Duration::from_secs(10))
}
fn ten() -> u8 {
    10
}
fn thousand() -> u32 {
    1_000
}
fn ten_gigabytes() -> Size {
    Size(10_000_000_000)
}

/// The form in which an input is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// As it is: text as `.txt`, JSON as `.json`, a list as `.jsonl`, a table as `.parquet`.
    #[default]
    Auto,
    /// As `.txt`.
    Text,
    /// As `.json`.
    Json,
    /// As `.jsonl`: a line for each element.
    Jsonl,
    /// A table as Parquet.
    Parquet,
    /// A table as CSV.
    Csv,
    /// A table as an Arrow file.
    Arrow,
    /// The files that another `exec` stage left: a folder, in it a folder for each of its outputs, and its value as `value.json`.
    Files,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Folder {
    /// In the project's folder.
    #[default]
    Project,
    /// In the folder of its outputs.
    Own,
}

/// A command as it is written: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// The program and its arguments.
    Words(Vec<String>),
    /// For `/bin/sh -c`.
    Line(String),
}

impl Command {
    /// The program and its arguments.
    pub(super) fn words(&self) -> Vec<String> {
        match self {
            Command::Words(words) => words.clone(),
            Command::Line(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        }
    }
}

const EXPECTED: &str = "a line for the shell, or a list of a program and its arguments";

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E: de::Error>(self, line: &str) -> Result<Command, E> {
                Ok(Command::Line(line.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Command, A::Error> {
                let mut words = Vec::new();
                while let Some(Word(word)) = seq.next_element()? {
                    words.push(word);
                }
                Ok(Command::Words(words))
            }
        }
        d.deserialize_any(Either)
    }
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A line for the shell, or a list of a program and its arguments.",
            "x-expected": EXPECTED,
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1}
            ]
        })
    }
}

impl ExecConfig {
    /// All that is wrong with it, and the patterns of its outputs.
    pub(super) fn check(&self) -> Result<IndexMap<String, Pattern>, Vec<Problem>> {
        let mut found = Vec::new();
        let mut problem = |pointer: String, message: String, remedy: &str| {
            found.push(Problem { pointer, message, remedy: remedy.to_owned() });
        };
        let words = self.command.words();
        if words.first().is_none_or(|w| w.trim().is_empty()) || words.iter().any(|w| w.contains('\0')) {
            problem("/command".into(), "there is no program to run".into(), "name a program");
        }
        if let Command::Line(line) = &self.command
            && line.trim().is_empty()
        {
            problem("/command".into(), "there is nothing to run".into(), "write a command");
        }
        let mut taken: IndexMap<String, &str> = IndexMap::new();
        for name in self.inputs.keys() {
            let pointer = format!("/inputs/{}", escaped(name));
            if !is_name(name) {
                problem(pointer.clone(), format!("`{name}` cannot be a file's name"), NAME);
            }
            if let Some(other) = taken.insert(variable(name), name) {
                let m = format!("`{name}` and `{other}` are both `{}`", variable(name));
                problem(pointer, m, "rename one of them");
            }
        }
        for (name, value) in &self.env {
            let pointer = format!("/env/{}", escaped(name));
            if let Some(m) = no_variable(name) {
                problem(pointer, m, "choose another name");
            } else if value.0.contains('\0') {
                problem(pointer, "a value holds a NUL character".into(), "remove it");
            }
        }
        for (n, name) in self.pass_env.iter().enumerate() {
            if let Some(m) = no_variable(name) {
                problem(format!("/pass_env/{n}"), m, "name a variable of Forebay's environment");
            }
        }
        let mut patterns = IndexMap::new();
        for (name, pattern) in &self.outputs {
            let pointer = format!("/outputs/{}", escaped(name));
            if !is_name(name) {
                problem(pointer.clone(), format!("`{name}` cannot be an output's name"), NAME);
            }
            match Pattern::parse(pattern) {
                Ok(p) => drop(patterns.insert(name.clone(), p)),
                Err(m) => {
                    problem(pointer, m, "write it relative to the folder of outputs, as `models/*.onnx`")
                }
            }
        }
        for (n, pattern) in self.reads.iter().enumerate() {
            if let Err(m) = Pattern::parse(pattern) {
                problem(
                    format!("/reads/{n}"),
                    m,
                    "write it relative to the project's folder, as `src/**/*.py`",
                );
            }
        }
        for (field, time) in [("timeout", self.timeout), ("grace", self.grace)] {
            if time.0 > Duration::from_secs(366 * 86_400) || field == "timeout" && time.0.is_zero() {
                problem(
                    format!("/{field}"),
                    "that is no time a command can take".into(),
                    "write it as 30m or 2h",
                );
            }
        }
        if self.memory.is_some_and(|m| m.0 < 1 << 20) {
            problem("/memory".into(), "nothing runs in so little memory".into(), "write it as 2gib");
        }
        if found.is_empty() { Ok(patterns) } else { Err(found) }
    }

    /// The files of the project that the command reads, as far as is known: when one changes, it is another command.
    pub(super) fn files(&self, project: &Path) -> Vec<PathBuf> {
        let words: Vec<String> = match &self.command {
            Command::Words(words) => words.clone(),
            Command::Line(line) => words_of(line),
        };
        let is_one =
            |p: &PathBuf| std::fs::metadata(project.join(p)).is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
        let named = words.iter().map(PathBuf::from).filter(|p| is_below(p));
        let patterns: Vec<Pattern> = self.reads.iter().filter_map(|p| Pattern::parse(p).ok()).collect();
        let found = outputs::found(project, &patterns).into_iter().map(PathBuf::from);
        let mut files: Vec<PathBuf> = named.chain(found).filter(is_one).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// A larger file is data, and no part of a command.
const LARGEST: u64 = 64 << 20;
const NAME: &str = "use letters, digits, `_`, `-` and `.`, and a letter or a digit first, at most 64";

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Why this can be no variable of a command.
fn no_variable(name: &str) -> Option<String> {
    match name {
        "" => Some("a variable has a name".into()),
        n if n.contains(['=', '\0']) => Some("a variable's name holds neither `=` nor NUL".into()),
        n if n.starts_with("FOREBAY_") => Some(format!("`{n}` is one of those that Forebay gives")),
        _ => None,
    }
}

/// The variable that names an input.
pub(super) fn variable(input: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("FOREBAY_INPUT_{}", input.chars().map(plain).collect::<String>())
}

/// A name within a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What may be files among the words of a line for the shell: it is taken apart where the shell would, quotes or not.
fn words_of(line: &str) -> Vec<String> {
    let between = |c: char| c.is_whitespace() || "\"'`;|&<>(){}$=".contains(c);
    line.split(between).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
