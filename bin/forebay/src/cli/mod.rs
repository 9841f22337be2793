//! The command line. One file for each command: its arguments, and `run`.
//!
//! To add a command: a file `cli/COMMAND.rs` with `Args` and `run`, a variant of [`Command`], a line in [`dispatch`].
//!
//! Exit codes: 0 done, 1 failed (or problems were found), 2 the command line was wrong, 3 a run's answer is not complete,
//! 130 Ctrl-C. Results go to standard output, everything else to standard error; with `--json` the result is one JSON
//! value, and so is an error.

mod alerts;
mod bench;
mod check;
mod client;
mod completions;
mod costs;
mod data;
mod drift;
mod explain;
mod fake_upstream;
mod features;
mod init;
mod jobs;
mod key;
mod lineage;
mod models;
mod predict;
mod prices;
mod project;
mod reload;
mod remote;
mod run;
mod runs;
mod schema;
mod signals;
mod source;
mod storage;
mod time;
mod triggers;
mod up;
mod watch;
mod webhooks;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use contract::Secret;
use pipeline::Registry;
use serde::Serialize;
use serde_json::json;

use crate::Error;

/// From raw data to a streamed answer, in production, in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the answer of a run is not complete, 130 stopped by Ctrl-C."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The project's folder.
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
    /// Act on this running server instead of the project's folder.
    #[arg(long, global = true, value_name = "URL", env = "FOREBAY_URL")]
    pub server: Option<String>,
    /// The API key to present. Better given by the environment: a command line can be seen by others.
    #[arg(long = "key", global = true, value_name = "KEY", env = "FOREBAY_API_KEY", hide_env_values = true)]
    #[arg(value_parser = secret)]
    pub key: Option<Secret>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.trim()))
}

impl Global {
    /// The server to act on; none when the variable is set and empty.
    fn server(&self) -> Option<&str> {
        self.server.as_deref().map(str::trim).filter(|s| !s.is_empty())
    }

    /// The key to present.
    fn key(&self) -> Option<&Secret> {
        self.key.as_ref().filter(|k| !k.expose().is_empty())
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a project that works into a folder.
    Init,
    /// Serve the project.
    Up(up::Args),
    /// Have a running server load its configuration again.
    Reload,
    /// Run a pipeline on a document, and stream the answer.
    Run(run::Args),
    /// List, show, retry, approve and end durable runs of pipelines, and read what they said.
    Runs(runs::Args),
    /// Check forebay.yaml and report every problem.
    Check,
    /// Print the JSON Schema of forebay.yaml, for editors.
    Schema,
    /// Make, list and revoke API keys.
    Key(key::Args),
    /// Keep datasets: add rows, read versions, compare them, and hold them against expectations.
    Data(data::Args),
    /// Compare two files, versions or windows: what has drifted.
    Drift(Box<drift::Args>),
    /// List the models, get files for local ones, and say which version of a registered one answers.
    Models(models::Args),
    /// Ask a predictive model about rows.
    Predict(predict::Args),
    /// List and show what monitors have to say, and silence it.
    Alerts(alerts::Args),
    /// Report what a monitor found last.
    Watch(watch::Args),
    /// Show what happened to a request: its stages, attempts and findings.
    Explain(explain::Args),
    /// List, show and cancel requests that are answered later.
    Jobs(jobs::Args),
    /// Show what a dataset, a column or a run was made of, and what was made of it.
    Lineage(lineage::Args),
    /// List what starts pipelines, when each comes up next, and what it started last.
    Triggers(triggers::Args),
    /// Ask for features of entities, keep them fresh, and make training sets.
    Features(features::Args),
    /// Show and replace the secrets that webhooks are verified with.
    Webhooks(webhooks::Args),
    /// Sum what was spent.
    Costs(costs::Args),
    /// Put load on a running server, and see where it breaks first.
    Bench(Box<bench::args::Args>),
    /// Run a fake model provider, to rehearse slow, wrong and missing answers.
    FakeUpstream(fake_upstream::Args),
    /// Import and look at the price table.
    Prices(prices::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    crate::panics::quiet_those_that_are_caught();
    // Usage errors and `--help` end the process here, with 2 and 0.
    let cli = Cli::parse();
    match dispatch(&cli, &crate::wiring::kinds_for_check(&cli.global.project)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Error::Failed { message, help } | Error::Unreachable { message, help } = &error {
                let text = if cli.global.json {
                    json!({"error": {"message": message, "help": help}}).to_string()
                } else {
                    format!("error: {message}\n  help: {help}")
                };
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a command.
///
/// # Errors
/// What the command fails with.
pub fn dispatch(cli: &Cli, registry: &Registry) -> Result<(), Error> {
    match &cli.command {
        Command::Init => init::run(&cli.global),
        Command::Up(args) => up::run(&cli.global, args),
        Command::Reload => reload::run(&cli.global),
        Command::Run(args) => run::run(&cli.global, args),
        Command::Runs(args) => runs::run(&cli.global, args),
        Command::Check => check::run(&cli.global, registry),
        Command::Schema => schema::run(registry),
        Command::Key(args) => key::run(&cli.global, args),
        Command::Data(args) => data::run(&cli.global, args),
        Command::Drift(args) => drift::run(&cli.global, args),
        Command::Models(args) => models::run(&cli.global, args),
        Command::Predict(args) => predict::run(&cli.global, args),
        Command::Alerts(args) => alerts::run(&cli.global, args),
        Command::Watch(args) => watch::run(&cli.global, args),
        Command::Explain(args) => explain::run(&cli.global, args),
        Command::Jobs(args) => jobs::run(&cli.global, args),
        Command::Lineage(args) => lineage::run(&cli.global, args),
        Command::Triggers(args) => triggers::run(&cli.global, args),
        Command::Features(args) => features::run(&cli.global, args),
        Command::Webhooks(args) => webhooks::run(&cli.global, args),
        Command::Costs(args) => costs::run(&cli.global, args),
        Command::Bench(args) => bench::run(&cli.global, args),
        Command::FakeUpstream(args) => fake_upstream::run(&cli.global, args),
        Command::Prices(args) => prices::run(&cli.global, args),
        Command::Completions(args) => completions::run(args),
    }
}

/// What is logged. Not what the reader of PDFs thinks of callers' files: they are told that themselves. Nor every look of the
/// table format's own libraries at its log.
fn log_filter(configured: &str) -> tracing_subscriber::EnvFilter {
    const QUIET: [(&str, &str); 6] = [
        ("lopdf", "off"),
        ("buoyant_kernel", "warn"),
        ("delta_kernel", "warn"),
        ("deltalake_core", "warn"),
        ("deltalake_core::operations::vacuum", "error"),
        ("datafusion", "warn"),
    ];
    let unsaid = QUIET.iter().filter(|(name, _)| !configured.contains(name));
    let directives = unsaid.filter_map(|(name, level)| format!("{name}={level}").parse().ok());
    directives.fold(tracing_subscriber::EnvFilter::new(configured), |filter, d| filter.add_directive(d))
}

/// Prints a result. A reader that left is no failure.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a result as JSON.
fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(format!("cannot print the result: {e}"), "report this"))?;
    print(&text);
    Ok(())
}

/// Runs the future of a command to its end, on a runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        Error::new(format!("cannot start: {e}"), "check the limits on open files and threads (`ulimit -a`)")
    })?;
    runtime.block_on(future)
}
