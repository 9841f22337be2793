//! `forebay jobs list|show|cancel`: requests that are answered later, and batches of them, in the project's storage or by a
//! running server.
//!
//! Cancelled in the folder while a server works on it, a job ends at once for everybody; the server stops its call when it
//! looks at the job next, within 20 seconds.

use clap::Subcommand;
use comfy_table::{Table, presets};
use contract::UnixMillis;
use serde_json::Value;

use super::source::Source;
use super::storage::{Need, clean};
use super::{Global, block_on, print, print_json, time};
use crate::Error;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the newest jobs and batches.
    List {
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        /// Those before this one.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Show a job (how far it is, its attempts, its result) or a batch.
    Show {
        /// The id, as listed.
        id: String,
    },
    /// End a job or a batch.
    Cancel {
        /// The id, as listed.
        id: String,
    },
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    block_on(async {
        let source = Source::open(global, Need::Records).await?;
        let found = match &args.command {
            Command::List { limit, after } => source.jobs(*limit, after.as_deref()).await,
            Command::Show { id } => source.job(id).await,
            Command::Cancel { id } => source.cancel_job(id).await,
        };
        source.close().await;
        let found = found?;
        match &args.command {
            _ if global.json => print_json(&found),
            Command::List { .. } => {
                list(&found);
                Ok(())
            }
            Command::Show { .. } if is_batch(&found) => {
                show_batch(&found);
                Ok(())
            }
            Command::Show { .. } => show(&found),
            Command::Cancel { .. } => {
                let sort = if is_batch(&found) { "batch" } else { "job" };
                print(&format!("{sort} {} is {}", word(&found, "id"), word(&found, "status")));
                Ok(())
            }
        }
    })
}

fn word(of: &Value, name: &str) -> String {
    clean(of.get(name).and_then(Value::as_str).unwrap_or_default())
}

fn at(of: &Value, name: &str) -> String {
    of.get(name).and_then(Value::as_i64).map_or_else(String::new, |ms| time::show(UnixMillis(ms)))
}

fn is_batch(found: &Value) -> bool {
    found.get("object").and_then(Value::as_str) == Some("batch")
}

/// `9950 of 10000, 50 failed`.
fn counts(batch: &Value) -> String {
    let n = |name: &str| {
        batch.pointer(&format!("/request_counts/{name}")).and_then(Value::as_u64).unwrap_or_default()
    };
    format!("{} of {}, {} failed", n("completed") + n("failed"), n("total"), n("failed"))
}

/// Of a batch times are in seconds, as OpenAI has them.
fn second(of: &Value, name: &str) -> String {
    let at = of.get(name).and_then(Value::as_i64);
    at.map_or_else(String::new, |s| time::show(UnixMillis(s.saturating_mul(1_000))))
}

fn batch_ended(batch: &Value) -> String {
    let ends = ["completed_at", "failed_at", "expired_at", "cancelled_at"];
    ends.iter().map(|name| second(batch, name)).find(|t| !t.is_empty()).unwrap_or_default()
}

fn show_batch(batch: &Value) {
    let mut text =
        format!("{}  {}  POST {}\n", word(batch, "id"), word(batch, "status"), word(batch, "endpoint"));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name}: {value}\n"));
        }
    };
    line("lines", counts(batch));
    line("created", second(batch, "created_at"));
    line("ended", batch_ended(batch));
    line("expires", second(batch, "expires_at"));
    line("input", word(batch, "input_file_id"));
    line("output", word(batch, "output_file_id"));
    line("errors", word(batch, "error_file_id"));
    for problem in batch.pointer("/errors/data").and_then(Value::as_array).into_iter().flatten() {
        let of = problem.get("line").and_then(Value::as_u64).map_or_else(String::new, |n| format!(" {n}"));
        line(&format!("line{of}"), format!("{}: {}", word(problem, "code"), word(problem, "message")));
    }
    print(text.trim_end());
}

fn list(found: &Value) {
    let jobs = found.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let batches = found.get("batches").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !batches.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["batch", "status", "lines", "created", "ended"]);
        for batch in batches {
            table.add_row([
                word(batch, "id"),
                word(batch, "status"),
                counts(batch),
                second(batch, "created_at"),
                batch_ended(batch),
            ]);
        }
        print(&table.trim_fmt());
    }
    if jobs.is_empty() && batches.is_empty() {
        print("there are no jobs; a request with the header `prefer: respond-async` makes one");
    }
    if jobs.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["id", "status", "request", "submitted", "ended"]);
    for job in jobs {
        table.add_row([
            word(job, "id"),
            word(job, "status"),
            word(job, "path"),
            at(job, "submitted_at"),
            at(job, "ended_at"),
        ]);
    }
    print(&table.trim_fmt());
    if found.get("has_more") == Some(&Value::Bool(true)) {
        print(&format!("there are more: --after {}", word(found, "last_id")));
    }
}

fn show(job: &Value) -> Result<(), Error> {
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut text = format!("{}  {}  POST {}\n", word(job, "id"), word(job, "status"), word(job, "path"));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name}: {value}\n"));
        }
    };
    line("submitted", at(job, "submitted_at"));
    line("started", at(job, "started_at"));
    line("ended", at(job, "ended_at"));
    for stage in job.get("progress").and_then(Value::as_array).into_iter().flatten() {
        let mut state = format!(
            "{}, {} attempts, {} failed",
            word(stage, "state"),
            number(stage, "attempts"),
            number(stage, "failures")
        );
        let next = at(stage, "next_at");
        if !next.is_empty() {
            state.push_str(&format!(", next at {next}"));
        }
        line(&format!("stage {}", word(stage, "name")), state);
    }
    for request in job.get("request_ids").and_then(Value::as_array).into_iter().flatten() {
        line("request", clean(request.as_str().unwrap_or_default()));
    }
    if let Some(e) = job.get("error") {
        line("error", format!("{}: {}", word(e, "code"), word(e, "message")));
    }
    line("webhook", word(job, "webhook"));
    print(text.trim_end());
    match job.get("result") {
        Some(result) => print_json(result),
        None => Ok(()),
    }
}
