//! `forebay data quarantine list|show|release`: rows that expectations held back, with the reasons.

use clap::Subcommand;
use contract::UnixMillis;
use data::{Change, Gate, How, Policy};
use serde_json::{Value, json};

use super::{Global, Project, failed, rows, show_report, table, who};
use crate::Error;
use crate::cli::storage::clean;
use crate::cli::{print, print_json, time};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the attempts that left rows in quarantine.
    List {
        /// The dataset.
        dataset: String,
    },
    /// Show rows and what is wrong with each.
    Show {
        /// The dataset.
        dataset: String,
        /// Of this attempt only.
        #[arg(long)]
        attempt: Option<String>,
        /// How many rows.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Add the rows of an attempt after all, as far as they are as expected now, and take them out of quarantine.
    Release {
        /// The dataset.
        dataset: String,
        /// The attempt. Unless given: the newest that left rows.
        #[arg(long)]
        attempt: Option<String>,
        /// Add them whatever is expected.
        #[arg(long)]
        unchecked: bool,
        /// Why, for the log.
        #[arg(long, short)]
        message: Option<String>,
    },
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    match &args.command {
        Command::List { dataset } => list(global, project, dataset).await,
        Command::Show { dataset, attempt, limit } => {
            let held =
                project.dataset(dataset)?.quarantine(attempt.as_deref(), *limit).await.map_err(failed)?;
            if global.json {
                return print_json(&json!({"dataset": dataset, "rows": held}));
            }
            if held.is_empty() {
                print("there is nothing in quarantine");
            }
            for entry in held {
                let line = entry.line.map(|n| format!(":{n}")).unwrap_or_default();
                let place = format!("{}{line}", clean(entry.source.as_deref().unwrap_or_default()));
                print(&format!("{place}  {}", clean(&entry.reasons.join(", "))));
                match entry.row {
                    Some(row) => print(&format!("  {}", clean(&Value::Object(row).to_string()))),
                    None => print("  (all rows together)"),
                }
            }
            Ok(())
        }
        Command::Release { dataset, attempt, unchecked, message } => {
            let wanted =
                Wanted { attempt: attempt.as_deref(), unchecked: *unchecked, message: message.as_deref() };
            release(global, project, dataset, &wanted).await
        }
    }
}

async fn list(global: &Global, project: &Project, dataset: &str) -> Result<(), Error> {
    let attempts = project.dataset(dataset)?.attempts().await.map_err(failed)?;
    if global.json {
        return print_json(&json!({"dataset": dataset, "attempts": attempts}));
    }
    if attempts.is_empty() {
        print("there is nothing in quarantine");
        return Ok(());
    }
    let mut table = table(["attempt", "made", "by", "rows", "reasons"]);
    for a in attempts {
        let reasons: Vec<String> =
            a.reasons.iter().map(|(name, n)| format!("{} ({n})", clean(name))).collect();
        table.add_row([
            a.attempt,
            time::show(UnixMillis(a.at)),
            clean(&a.who.unwrap_or_default()),
            a.rows.to_string(),
            reasons.join(", "),
        ]);
    }
    print(&table.trim_fmt());
    Ok(())
}

struct Wanted<'a> {
    attempt: Option<&'a str>,
    unchecked: bool,
    message: Option<&'a str>,
}

async fn release(global: &Global, project: &Project, name: &str, wanted: &Wanted<'_>) -> Result<(), Error> {
    let dataset = project.dataset(name)?;
    let attempt = match wanted.attempt {
        Some(attempt) => attempt.to_owned(),
        None => {
            let all = dataset.attempts().await.map_err(failed)?;
            let newest = all.into_iter().find(|a| a.rows > 0).map(|a| a.attempt);
            newest.ok_or_else(|| {
                Error::new(format!("nothing of `{name}` is in quarantine"), "nothing is to be done")
            })?
        }
    };
    let configured = project.configured(name);
    let how = match configured.map(|c| c.how()) {
        Some(How::Merge { key }) => How::Merge { key },
        // Never in the place of everything: these are a part of the rows of a change.
        _ => How::Append,
    };
    let change = Change { how, who: who(), message: wanted.message.map(str::to_owned), ..Change::default() };
    let gate = match wanted.unchecked {
        true => None,
        false => project.expected(global, name, None)?.map(|suite| Gate { suite, policy: Policy::Fail }),
    };
    if gate.is_none() && !wanted.unchecked {
        let help =
            "say --unchecked to add them whatever they are, or configure `expectations` for the dataset";
        return Err(Error::new(format!("nothing says what is expected of `{name}`"), help));
    }
    let released = Box::pin(dataset.release(&attempt, &change, gate.as_ref())).await.map_err(failed)?;
    let added = released.added.as_ref();
    if global.json {
        print_json(&json!({
            "dataset": name,
            "attempt": attempt,
            "held": released.held,
            "version": added.map(|a| a.version),
            "rows": added.map(|a| a.rows),
            "report": released.gated.as_ref().map(|g| &g.report),
        }))?;
    } else {
        if let Some(gated) = released.gated.as_ref().filter(|g| !g.report.passed) {
            show_report(&gated.report);
        }
        match added {
            Some(a) => print(&format!("{name}@{}: {} released", a.version, rows(released.held))),
            None => print(&format!("refused: the rows still break expectations; `{name}` is as it was")),
        }
    }
    if added.is_some() { Ok(()) } else { Err(Error::Refused) }
}
