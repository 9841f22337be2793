//! `forebay data diff`: what differs between two versions of a dataset.

use data::At;
use serde_json::{Value, json};

use super::{Global, Project, Reference, cell, failed, rows};
use crate::Error;
use crate::cli::storage::clean;
use crate::cli::{print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The version that is compared with.
    #[arg(value_name = "DATASET@VERSION")]
    from: Reference,
    /// The version that is compared. Unless given: the newest.
    #[arg(value_name = "DATASET@VERSION")]
    to: Option<Reference>,
    /// Compare by these columns, separated by commas. Unless given: by the `key` that is configured, else row by row.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    by: Vec<String>,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let name = &args.from.dataset;
    let to = match &args.to {
        Some(to) if to.dataset != *name && !to.dataset.is_empty() => {
            let help = "name two versions of one dataset: `flights@2 flights@3`";
            return Err(Error::new(format!("`{name}` and `{}` are two datasets", to.dataset), help));
        }
        Some(to) => to.at.clone(),
        None => At::Newest,
    };
    let key = match project.configured(name) {
        Some(c) if args.by.is_empty() => c.key.clone(),
        _ => args.by.clone(),
    };
    let diff = project.dataset(name)?.diff(&args.from.at, &to, &key).await.map_err(failed)?;
    if global.json {
        let columns = |of: &[data::Column]| -> Vec<Value> {
            of.iter().map(|c| json!({"name": c.name, "type": c.ty.to_string()})).collect()
        };
        let changed: Vec<Value> = diff
            .columns_changed
            .iter()
            .map(|(name, was, is)| json!({"name": name, "from": was.to_string(), "to": is.to_string()}))
            .collect();
        return print_json(&json!({
            "dataset": name,
            "from": diff.from,
            "to": diff.to,
            "key": key,
            "columns": {
                "added": columns(&diff.columns_added),
                "removed": columns(&diff.columns_removed),
                "changed": changed,
            },
            "rows": {"from": diff.rows.0, "to": diff.rows.1},
            "added": diff.added,
            "removed": diff.removed,
            "changed": diff.changed,
            "examples": diff.examples,
        }));
    }
    print(&format!("{name}@{} → {name}@{}: {} → {}", diff.from, diff.to, diff.rows.0, rows(diff.rows.1)));
    for column in &diff.columns_added {
        print(&format!("+ column {} ({})", clean(&column.name), column.ty));
    }
    for column in &diff.columns_removed {
        print(&format!("- column {} ({})", clean(&column.name), column.ty));
    }
    for (name, was, is) in &diff.columns_changed {
        print(&format!("~ column {} ({was} → {is})", clean(name)));
    }
    let changed = if key.is_empty() { String::new() } else { format!(", {} changed", diff.changed) };
    print(&format!("{} added, {} removed{changed}", diff.added, diff.removed));
    for example in &diff.examples {
        let change = example.get("__change").map(cell).unwrap_or_default();
        let key: Vec<String> = example
            .iter()
            .filter(|(n, _)| *n != "__change")
            .map(|(n, v)| format!("{n}={}", cell(v)))
            .collect();
        print(&format!("  {change}: {}", key.join(", ")));
    }
    Ok(())
}
