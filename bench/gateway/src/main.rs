//! What `run.py` measures gateways with: an upstream that costs next to nothing, and clients that check what they get.
//!
//! It knows no gateway: all of them are an address, a model's name and a key. It never measures a gateway's own time;
//! `run.py` reads that from `/proc`. Nothing of it is part of the product.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool for measuring talks to its terminal, reads the clock and drives its own sockets"
)]

mod args;
mod closed;
mod mock;
mod open;
mod plan;
mod streams;
mod wire;

use std::process::ExitCode;

use args::Args;

const USAGE: &str = "usage: forebay-bench-gateway mock    --listen ADDRESS
       forebay-bench-gateway closed  --url URL [--model M] [--key K] [--size BYTES] [--connections N] [--seconds S]
       forebay-bench-gateway open    … --rate PER_SECOND
       forebay-bench-gateway streams … --streams N --tokens N --interval-ms MS";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let done = Args::parse(words).and_then(|args| match command.as_str() {
        "mock" => mock::run(&args),
        "closed" => closed::run(&args),
        "open" => open::run(&args),
        "streams" => streams::run(&args),
        _ => Err(USAGE.into()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, for a person.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One thread: what is measured has the other core.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
