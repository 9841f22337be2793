//! `forebay data …`: the project's datasets. Each command acts on the project's warehouse, whether a server runs or not: what is
//! committed by one is seen by all.

mod add;
mod compact;
mod diff;
mod gc;
mod lineage;
mod list;
mod log;
mod profile;
mod quarantine;
mod read;
mod show;
mod tag;
mod validate;

use std::path::Path;
use std::sync::Arc;

use clap::Subcommand;
use comfy_table::{Table, presets};
use contract::SystemClock;
use data::expect::{Report, Severity, Suite};
use data::{At, Dataset, Warehouse};

use super::storage::clean;
use super::{Global, print, project};
use crate::config::dataset::DatasetConfig;
use crate::config::{self, Config, Env, FILE, problem};
use crate::datasets::{self, failed};
use crate::{Error, expectations, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add rows to a dataset, all or none of them.
    Add(Box<add::Args>),
    /// List the datasets.
    List,
    /// List the versions of a dataset.
    Log(log::Args),
    /// Show a version: its columns, rows, size, name and tags.
    Show(show::Args),
    /// Compare two versions.
    Diff(diff::Args),
    /// Give a version a name of its own, or take one away.
    Tag(tag::Args),
    /// Read rows of a version, or write them to a file.
    Read(read::Args),
    /// Hold a version against expectations.
    Validate(validate::Args),
    /// Describe the columns of a version, and propose expectations.
    Profile(profile::Args),
    /// List, show and release rows that were held back.
    Quarantine(quarantine::Args),
    /// Give back the space of what only old, untagged versions need.
    Gc(gc::Args),
    /// Put small files together: what grew by many small versions is read faster.
    Compact(compact::Args),
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    if let Some(server) = global.server() {
        let message = format!("datasets are not read through the server at {}", clean(server));
        let help = "run it in the project's folder, or with --project, and without --server and FOREBAY_URL; a server sees what is committed there";
        return Err(Error::new(message, help));
    }
    let open = || {
        let none = || {
            let message = format!("there are no datasets yet in {}", global.project.display());
            Error::new(message, "`forebay data add NAME FILE` makes one; --project names another folder")
        };
        Project::open(global, false)?.ok_or_else(none)
    };
    match &args.command {
        Command::Add(args) => match Project::open(global, true)? {
            Some(project) => block_on(Box::pin(add::run(global, &project, args))),
            None => Ok(()),
        },
        Command::List => block_on(list::run(global, Project::open(global, false)?.as_ref())),
        Command::Log(args) => block_on(log::run(global, &open()?, args)),
        Command::Show(args) => block_on(show::run(global, &open()?, args)),
        Command::Diff(args) => block_on(diff::run(global, &open()?, args)),
        Command::Tag(args) => block_on(tag::run(global, &open()?, args)),
        Command::Read(args) => block_on(read::run(global, &open()?, args)),
        Command::Validate(args) => block_on(validate::run(global, &open()?, args)),
        Command::Profile(args) => block_on(profile::run(global, &open()?, args)),
        Command::Quarantine(args) => block_on(quarantine::run(global, &open()?, args)),
        Command::Gc(args) => block_on(gc::run(global, &open()?, args)),
        Command::Compact(args) => block_on(compact::run(global, &open()?, args)),
    }
}

/// On as many threads as there are cores: queries run beside each other. Ctrl-C ends the command between two steps, so that a
/// change that is not committed takes its files back.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| {
        Error::new(format!("cannot start: {e}"), "check the limits on open files and threads (`ulimit -a`)")
    })?;
    runtime.block_on(future)
}

/// The project's datasets and what is configured of them.
pub(super) struct Project {
    config: Config,
    warehouse: Warehouse,
}

impl Project {
    /// Opens the project's warehouse; `None` when it is a folder that is not there and is not to be made: looking makes nothing.
    pub(super) fn open(global: &Global, make: bool) -> Result<Option<Project>, Error> {
        let folder = &global.project;
        if !folder.is_dir() {
            let message = format!("there is no folder {}", folder.display());
            return Err(Error::new(message, "name the project's folder with --project"));
        }
        let env = Env::of_process(folder);
        let registry = wiring::kinds_for_check(folder);
        let checked = config::load_sections(folder, &env, &registry, &datasets::SECTIONS)
            .map_err(|e| project::unread(global, &e))?;
        let Some(config) = checked.config.filter(|_| checked.problems.is_empty()) else {
            let text = problem::render(FILE, &checked.shown, &checked.problems);
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
            return Err(Error::Invalid);
        };
        if !make && !datasets::is_there(folder, &config) {
            return Ok(None);
        }
        let warehouse = datasets::open(folder, &config, &env, Arc::new(SystemClock::default()))?;
        Ok(Some(Project { config, warehouse }))
    }

    pub(super) fn dataset(&self, name: &str) -> Result<Dataset, Error> {
        self.warehouse.dataset(name).map_err(failed)
    }

    fn configured(&self, name: &str) -> Option<&DatasetConfig> {
        self.config.datasets.get(name)
    }

    /// What is expected of a dataset: by the file that is given, else by the one that is configured.
    fn expected(&self, global: &Global, name: &str, given: Option<&Path>) -> Result<Option<Suite>, Error> {
        match (given, self.configured(name).and_then(|c| c.expectations.as_ref())) {
            (Some(file), _) => suite(file).map(Some),
            (None, Some(file)) => suite(&global.project.join(file)).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// A file of expectations; what is wrong in it is shown with its places.
fn suite(file: &Path) -> Result<Suite, Error> {
    expectations::load(file).map_err(|wrong| match wrong {
        expectations::Wrong::Unread(e) => Error::file("read", file, &e),
        expectations::Wrong::Problems { source, problems } => {
            let text = problem::render(&file.display().to_string(), &source, &problems);
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
            Error::new(format!("{} has problems", file.display()), "correct what is shown above")
        }
    })
}

/// A dataset, and a version of it: `flights`, `flights@3`, `flights@good`, `flights@2026-11-01T00:00Z`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reference {
    pub(super) dataset: String,
    pub(super) at: At,
}

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Reference, String> {
        let (dataset, at) = text.split_once('@').unwrap_or((text, ""));
        Ok(Reference { dataset: dataset.to_owned(), at: at.parse().map_err(|e: data::Error| e.to_string())? })
    }
}

/// Who makes changes, for the log.
fn who() -> Option<String> {
    ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|w| !w.is_empty())
}

/// A table without lines, which other programs take apart as easily as a person reads it.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

/// A value of JSON in a cell of a table.
fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

/// A size in bytes, for people.
fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut at = 0;
    while value >= 1000.0 && at + 1 < units.len() {
        value /= 1000.0;
        at += 1;
    }
    let unit = units.get(at).unwrap_or(&"B");
    if at == 0 { format!("{bytes} {unit}") } else { format!("{value:.1} {unit}") }
}

/// `1 row`, `2 rows`.
pub(super) fn rows(n: u64) -> String {
    if n == 1 { "1 row".to_owned() } else { format!("{n} rows") }
}

/// What came of looking at data: what failed first, with examples.
fn show_report(report: &Report) {
    let mut table = table(["", "expectation", "expected", "found"]);
    let failed = |o: &&data::expect::Outcome| !o.passed;
    for o in report.outcomes.iter().filter(failed).chain(report.outcomes.iter().filter(|o| o.passed)) {
        let mark = match (o.passed, o.severity) {
            (true, _) => "ok",
            (false, Severity::Warn) => "warn",
            (false, Severity::Error) => "FAIL",
        };
        let found = o.problem.clone().unwrap_or_else(|| match o.rows_failed {
            Some(n) => format!("{} of {}", rows(n), report.rows),
            None => o.observed.to_string(),
        });
        table.add_row([mark.to_owned(), clean(&o.name), clean(&o.expected), clean(&found)]);
    }
    print(&table.trim_fmt());
    for o in report.outcomes.iter().filter(failed) {
        for example in o.examples.iter().take(3) {
            let text = serde_json::Value::Object(example.clone()).to_string();
            print(&format!("  {}: {}", clean(&o.name), clean(&text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_dataset_and_a_version_of_it() {
        let of = |text: &str| text.parse::<Reference>().map(|r| (r.dataset, r.at));
        assert_eq!(of("flights"), Ok(("flights".into(), At::Newest)));
        assert_eq!(of("flights@3"), Ok(("flights".into(), At::Version(3))));
        assert_eq!(of("flights@good"), Ok(("flights".into(), At::Tag("good".into()))));
        assert!(matches!(of("flights@2026-11-01T00:00Z"), Ok((_, At::Time(_)))));
        assert!(of("flights@a b").is_err());
    }

    #[test]
    fn a_size_is_shown_in_the_unit_people_would_say() {
        assert_eq!([size(0), size(999), size(1500), size(2_340_000)], ["0 B", "999 B", "1.5 kB", "2.3 MB"]);
    }
}
