//! `forebay jobs list|show|cancel`: requests that are answered later, in the project's storage or by a running server.
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
    /// List the newest jobs.
    List {
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        /// Those before this one.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Show a job: how far it is, its attempts, its result.
    Show {
        /// The job's id, as listed.
        id: String,
    },
    /// End a job.
    Cancel {
        /// The job's id, as listed.
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
            Command::Show { .. } => show(&found),
            Command::Cancel { .. } => {
                print(&format!("job {} is {}", word(&found, "id"), word(&found, "status")));
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

fn list(found: &Value) {
    let jobs = found.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if jobs.is_empty() {
        print("there are no jobs; a request with the header `prefer: respond-async` makes one");
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
