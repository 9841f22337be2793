//! `forebay data log`: the versions of a dataset, the newest first.

use data::Version;
use serde_json::{Value, json};

use super::{Global, Project, failed, table};
use crate::Error;
use crate::cli::storage::clean;
use crate::cli::{print, print_json, time};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset.
    dataset: String,
    /// How many versions.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let versions = project.dataset(&args.dataset)?.log(Some(args.limit)).await.map_err(failed)?;
    if global.json {
        let versions: Vec<Value> = versions.iter().map(version).collect();
        return print_json(&json!({"dataset": args.dataset, "versions": versions}));
    }
    let mut table = table(["version", "made", "name", "rows", "change", "from", "who", "message", "tags"]);
    for v in &versions {
        let change = match v.written {
            Some(n) => format!("{} {n}", clean(&v.how)),
            None => clean(&v.how),
        };
        table.add_row([
            v.version.to_string(),
            v.at.map(time::show).unwrap_or_default(),
            v.name.as_ref().map(|n| n.short().to_owned()).unwrap_or_default(),
            v.rows.map(|n| n.to_string()).unwrap_or_default(),
            change,
            clean(v.source.as_deref().unwrap_or_default()),
            clean(v.who.as_deref().unwrap_or_default()),
            clean(v.message.as_deref().unwrap_or_default()),
            v.tags.join(", "),
        ]);
    }
    print(&table.trim_fmt());
    if versions.last().is_some_and(|v| v.version > 0) {
        print("there are more: --limit");
    }
    Ok(())
}

/// A version as JSON.
pub(super) fn version(v: &Version) -> Value {
    json!({
        "version": v.version,
        "name": v.name.as_ref().map(data::Name::as_str),
        "rows": v.rows,
        "written": v.written,
        "at": v.at.map(time::show),
        "how": v.how,
        "source": v.source,
        "origin": v.origin,
        "who": v.who,
        "message": v.message,
        "attempt": v.checked,
        "changes": v.changes,
        "tags": v.tags,
    })
}
