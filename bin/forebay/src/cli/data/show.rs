//! `forebay data show`: a version in full.

use serde_json::{Value, json};

use super::{Global, Project, Reference, failed, log, size, table};
use crate::Error;
use crate::cli::storage::clean;
use crate::cli::{print, print_json, time};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset and, behind `@`, a version, a tag, a time or the beginning of a name.
    #[arg(value_name = "DATASET[@VERSION]")]
    of: Reference,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let shown = project.dataset(&args.of.dataset)?.show(&args.of.at).await.map_err(failed)?;
    let v = &shown.version;
    if global.json {
        let columns: Vec<Value> =
            shown.schema.columns.iter().map(|c| json!({"name": c.name, "type": c.ty.to_string()})).collect();
        let mut value = log::version(v);
        if let Some(map) = value.as_object_mut() {
            map.insert("dataset".into(), json!(args.of.dataset));
            map.insert("name".into(), json!(shown.name.as_str()));
            map.insert("rows".into(), json!(shown.rows));
            map.insert("files".into(), json!(shown.files));
            map.insert("bytes".into(), json!(shown.bytes));
            map.insert("columns".into(), json!(columns));
        }
        return print_json(&value);
    }
    let mut text = format!("{}@{}\n", args.of.dataset, v.version);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name}: {}\n", clean(&value)));
        }
    };
    line("name", shown.name.as_str().to_owned());
    line("made", v.at.map(time::show).unwrap_or_default());
    line("by", v.who.clone().unwrap_or_default());
    line("change", v.how.clone());
    line("from", v.source.clone().unwrap_or_default());
    if let Some(origin) = &v.origin {
        line("query", origin.query.clone().unwrap_or_default());
        line("etag", origin.etag.clone().unwrap_or_default());
        line("changed there", origin.modified.clone().unwrap_or_default());
    }
    line("message", v.message.clone().unwrap_or_default());
    line("tags", v.tags.join(", "));
    line("rows", shown.rows.to_string());
    line("size", format!("{} in {} files", size(shown.bytes), shown.files));
    print(text.trim_end());
    let mut table = table(["column", "type"]);
    for column in &shown.schema.columns {
        table.add_row([clean(&column.name), column.ty.to_string()]);
    }
    print(&table.trim_fmt());
    Ok(())
}
