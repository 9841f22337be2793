//! crates/data alone, for the benches that set it beside other tools: what `bench/validate/run.py` and its likes start, once
//! per measurement, so that time, CPU time and memory are those of a process that does nothing else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for measuring talks to its terminal")]

mod join;
mod validate;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: forebay-bench-data join prepare WAREHOUSE FEATURES
       forebay-bench-data join run     WAREHOUSE ENTITIES RESULT
       forebay-bench-data join online  WAREHOUSE FOLDER
       forebay-bench-data validate prepare WAREHOUSE DATASET FILE
       forebay-bench-data validate run     WAREHOUSE DATASET EXPECTATIONS";

/// What went wrong, for a person.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["join", rest @ ..] => block_on(join::run(rest)),
        ["validate", rest @ ..] => block_on(validate::run(rest)),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// As the product runs: a thread for every core.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
