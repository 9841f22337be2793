//! `forebay data tag`: names that people give to versions.

use serde_json::json;

use super::{Global, Project, Reference, failed, table, who};
use crate::Error;
use crate::cli::{print, print_json, time};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset and a version of it; the newest unless given.
    #[arg(value_name = "DATASET[@VERSION]")]
    of: Reference,
    /// The tag. Without one, the tags there are are listed.
    tag: Option<String>,
    /// Take the tag away.
    #[arg(long, requires = "tag")]
    delete: bool,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let dataset = project.dataset(&args.of.dataset)?;
    let name = &args.of.dataset;
    match &args.tag {
        None => {
            let tags = dataset.tags().await.map_err(failed)?;
            if global.json {
                return print_json(&json!({"dataset": name, "tags": tags}));
            }
            if tags.is_empty() {
                print(&format!("there are no tags: `forebay data tag {name}@VERSION TAG` sets one"));
                return Ok(());
            }
            let mut table = table(["tag", "version", "set", "by"]);
            for tag in tags {
                let by = tag.who.unwrap_or_default();
                table.add_row([tag.tag, tag.version.to_string(), time::show(tag.at), by]);
            }
            print(&table.trim_fmt());
        }
        Some(tag) if args.delete => {
            if !dataset.untag(tag).await.map_err(failed)? {
                let help = format!("`forebay data tag {name}` lists those there are");
                return Err(Error::new(format!("`{name}` has no tag `{tag}`"), help));
            }
            match global.json {
                true => print_json(&json!({"dataset": name, "tag": tag, "version": null}))?,
                false => print(&format!("`{tag}` is taken away")),
            }
        }
        Some(tag) => {
            let set = dataset.tag(tag, &args.of.at, who().as_deref()).await.map_err(failed)?;
            match global.json {
                true => print_json(&json!({"dataset": name, "tag": set.tag, "version": set.version}))?,
                false => print(&format!("{name}@{tag} is version {}", set.version)),
            }
        }
    }
    Ok(())
}
