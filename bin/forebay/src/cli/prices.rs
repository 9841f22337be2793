//! `forebay prices import FILE`: a price table, checked and copied to where `prices:` of the configuration finds it.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{Global, print, print_json};
use crate::{Error, prices};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a table and copy it into the project as `prices.json`.
    Import {
        /// The table, in LiteLLM's JSON format.
        file: PathBuf,
    },
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let Command::Import { file } = &args.command;
    let text = std::fs::read_to_string(file).map_err(|e| Error::file("read", file, &e))?;
    let table = prices::read(&text).map_err(|e| {
        let message = format!("{} is no price table: {e}", file.display());
        Error::new(message, "give it LiteLLM's model_prices_and_context_window.json")
    })?;
    let target = global.project.join("prices.json");
    let fresh = target.with_extension("json.part");
    std::fs::write(&fresh, &text).map_err(|e| Error::file("write", &fresh, &e))?;
    std::fs::rename(&fresh, &target).map_err(|e| Error::file("write", &target, &e))?;
    if global.json {
        return print_json(&json!({"models": table.models.len(), "refused": table.refused}));
    }
    print(&format!(
        "imported {} models into prices.json; name it by `prices: prices.json`",
        table.models.len()
    ));
    for (name, why) in &table.refused {
        print(&format!("left out {name}: {why}"));
    }
    Ok(())
}
