//! `forebay prices import|list|show|derive`: the project's price table, `prices.json`, with every price and from when on it
//! holds.

mod derive;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets};
use contract::{Money, UnixMillis};
use serde_json::{Value, json};

use super::storage::clean;
use super::{Global, print, print_json, project, time};
use crate::inventory::{self, TABLE};
use crate::prices::{self, Dated, History};
use crate::{Error, config};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take the prices of a table, from now on; what was before is kept.
    Import {
        /// The table, in LiteLLM's JSON format.
        file: PathBuf,
        /// From when on they hold: a UTC day (2026-01-31). Unless given: from now on.
        #[arg(long, value_name = "DAY")]
        from: Option<String>,
    },
    /// List the models of the table with what they cost now.
    List {
        /// Only names with this in them.
        text: Option<String>,
    },
    /// Show all prices of a model, by the table's name or the configuration's.
    Show {
        /// The model.
        model: String,
    },
    /// Compute again what was spent, with the prices that held then, beside what was recorded.
    Derive {
        /// From when on: so long ago (30d), or a UTC day (2026-01-31).
        #[arg(long, value_name = "TIME|DAY", default_value = "30d")]
        since: String,
    },
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    match &args.command {
        Command::Import { file, from } => import(global, file, from.as_deref()),
        Command::List { text } => list(global, text.as_deref()),
        Command::Show { model } => show(global, model),
        Command::Derive { since } => {
            let config = project::checked(global)?;
            derive::run(global, &config, &inventory::table(&global.project, &config)?, since)
        }
    }
}

fn import(global: &Global, file: &Path, from: Option<&str>) -> Result<(), Error> {
    let now = time::now();
    let from = match from {
        None => now,
        Some(text) => time::day(text).map(|d| UnixMillis(d * 86_400_000)).ok_or_else(|| {
            Error::new(format!("`{}` is not a day", clean(text)), "give --from a UTC day such as 2026-01-31")
        })?,
    };
    let text = std::fs::read_to_string(file).map_err(|e| Error::file("read", file, &e))?;
    let none = |why: String| {
        let message = format!("{} is no price table: {why}", file.display());
        Error::new(message, "give it LiteLLM's model_prices_and_context_window.json")
    };
    let table = prices::read(&text).map_err(|e| none(e.to_string()))?;
    if table.models.is_empty() {
        return Err(none("no model in it has a price per token".to_owned()));
    }
    let (models, refused) = (table.models.len(), table.refused.clone());
    let target = global.project.join(TABLE);
    let mut history = match std::fs::read_to_string(&target) {
        Ok(text) => History::parse(&text).map_err(|why| {
            let message = format!("{} is no price table: {why}", target.display());
            Error::new(message, "move it away, and import again")
        })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => History::default(),
        Err(e) => return Err(Error::file("read", &target, &e)),
    };
    let changes = history.import(table, from);
    let text =
        history.to_text().map_err(|e| Error::new(format!("cannot write the table: {e}"), "report this"))?;
    let fresh = target.with_extension("json.part");
    let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &target));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&fresh);
        Error::file("write", &target, &e)
    })?;
    if global.json {
        return print_json(&json!({
            "models": models, "effective_from": from, "changes": changes, "refused": refused,
        }));
    }
    print(&format!(
        "{models} models, from {} on: {} new, {} changed, {} as before; {} that only the old table has",
        time::show(from),
        changes.new,
        changes.changed,
        changes.unchanged,
        changes.kept
    ));
    for (name, why) in &refused {
        print(&format!("left out {}: {why}", clean(name)));
    }
    Ok(())
}

/// The table of the project: that of its configuration when there is one that can be read.
fn table(global: &Global) -> Result<(History, Option<config::Config>), Error> {
    let config = match global.project.join(config::FILE).exists() {
        true => Some(project::checked(global)?),
        false => None,
    };
    let history = inventory::table(&global.project, config.as_ref().unwrap_or(&config::Config::default()))?;
    if history.names().next().is_none() {
        let help = "import LiteLLM's table with `forebay prices import FILE`";
        return Err(Error::new(format!("there is no price table in {}", global.project.display()), help));
    }
    Ok((history, config))
}

/// A price per million tokens, as people know it.
fn dollars(nanos: i64) -> String {
    Money::from_nanos(nanos).to_string()
}

fn list(global: &Global, text: Option<&str>) -> Result<(), Error> {
    let (history, _) = table(global)?;
    let now = time::now();
    let wanted = |name: &&str| text.is_none_or(|t| name.to_lowercase().contains(&t.to_lowercase()));
    let found: Vec<(&str, &Dated)> =
        history.names().filter(wanted).filter_map(|n| history.at(n, now).map(|d| (n, d))).collect();
    if global.json {
        let models: Vec<Value> = found
            .iter()
            .map(|(name, d)| json!({"name": name, "price": d.entry.price(), "effective_from": d.effective_from,
                "provider": d.entry.provider, "mode": d.entry.mode, "max_input_tokens": d.entry.max_input_tokens,
                "max_output_tokens": d.entry.max_output_tokens}))
            .collect();
        return print_json(&json!({"models": models}));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["model", "provider", "input $/M", "output $/M", "cached $/M", "prompt", "answer"]);
    let count = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for (name, d) in &found {
        let price = d.entry.price();
        table.add_row([
            clean(name),
            clean(&d.entry.provider),
            dollars(price.input),
            dollars(price.output),
            dollars(price.cached_input),
            count(d.entry.max_input_tokens),
            count(d.entry.max_output_tokens),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    print(&table.trim_fmt());
    Ok(())
}

fn show(global: &Global, model: &str) -> Result<(), Error> {
    let (history, config) = table(global)?;
    let configured = config.as_ref().and_then(|c| c.models.get(model));
    let joined = configured.and_then(inventory::upstream).and_then(|u| history.find(u, time::now()));
    let name = joined.map_or_else(|| model.to_owned(), |(name, _)| name);
    let all = history.all(&name);
    if all.is_empty() {
        let message = match configured {
            Some(_) => format!("the table has no entry for the upstream of the model `{}`", clean(model)),
            None => format!("the table has no model `{}`", clean(model)),
        };
        return Err(Error::new(
            message,
            "`forebay prices list TEXT` finds names; `price:` of a model sets its own",
        ));
    }
    if global.json {
        return print_json(&json!({"name": name, "prices": all}));
    }
    let mut lines = vec![clean(&name)];
    for d in all {
        let from = if d.effective_from.0 < 0 { "always".into() } else { time::show(d.effective_from) };
        lines.push(format!("from {from}, provider {}", clean(&d.entry.provider)));
        for (class, nanos) in &d.entry.prices {
            lines.push(format!("  {class}: {} a million tokens", dollars(*nanos)));
        }
        lines.extend(d.entry.max_input_tokens.map(|n| format!("  at most {n} tokens of prompt")));
        lines.extend(d.entry.max_output_tokens.map(|n| format!("  at most {n} tokens of answer")));
    }
    print(&lines.join("\n"));
    Ok(())
}
