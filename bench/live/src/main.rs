//! What the live path promises in time, measured on a real `forebay up`: cancellation, crashes, fairness, slow readers and
//! the first useful output. Nothing here passes or fails: it prints figures, and `run.sh` keeps them.
//!
//! `bench-live --forebay PATH [NAME…]`: the names are `cancel`, `worker`, `first`, `fair`, `slow`; all without any.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measuring program: it prints, it reads the clock, and it stops at the first thing that is not as it should be"
)]

mod cancel;
mod client;
mod fair;
mod first;
mod server;
mod slow;
mod stats;
mod worker;

use std::path::PathBuf;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).peekable();
    let mut binary = PathBuf::from("forebay");
    let mut names = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--forebay" => binary = PathBuf::from(args.next().expect("--forebay PATH")),
            name => names.push(name.to_owned()),
        }
    }
    let binary = binary.canonicalize().unwrap_or(binary);
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    if wanted("cancel") {
        cancel::run(&binary).await;
    }
    if wanted("worker") {
        worker::run(&binary).await;
    }
    if wanted("first") {
        first::run(&binary).await;
    }
    if wanted("fair") {
        fair::run(&binary).await;
    }
    if wanted("slow") {
        slow::run(&binary).await;
    }
}
