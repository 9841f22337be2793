//! `forebay watch report`: what a monitor found when it looked last, as `forebay drift` shows it.

use std::path::PathBuf;

use ::watch::report::DriftReport;
use clap::Subcommand;

use super::storage::{self, Need, failed};
use super::{Global, alerts, block_on, drift, print_json, project};
use crate::Error;
use crate::watching::reported;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report the last window that was compared: each column's test, effect and verdict.
    Report {
        /// The monitor. Unless given: the only one.
        monitor: Option<String>,
        /// Write the report with plots to this file.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let Command::Report { monitor, html } = &args.command;
    alerts::local(global)?;
    let config = project::checked_but_for_models(global)?;
    let mut names = config.monitors.keys();
    let name = match (monitor, names.next(), names.next()) {
        (Some(name), ..) => alerts::named(&config, name)?,
        (None, Some(only), None) => only,
        (None, ..) => alerts::named(&config, "")?,
    };
    let report: DriftReport = block_on(async {
        let reader = storage::open(global, Need::Records).await?;
        let stored = reader.watching.get(&reported(name)).await.map_err(failed);
        reader.close().await;
        let none = || {
            let help = "a window is compared once a row behind it has come; `forebay alerts show` says how it stands";
            Error::new(format!("`{name}` has compared nothing yet"), help)
        };
        serde_json::from_str(&stored?.ok_or_else(none)?.memory).map_err(|e| failed(e.into()))
    })?;
    if let Some(file) = html {
        std::fs::write(file, report.page()).map_err(|e| Error::file("write", file, &e))?;
    }
    if global.json {
        return print_json(&report);
    }
    drift::show(&report);
    Ok(())
}
