//! `forebay data gc`: disk space back, of files that only old, untagged versions need.

use data::Gc;
use serde_json::json;

use super::{Global, Project, failed};
use crate::Error;
use crate::cli::{print, print_json};
use crate::config::dataset::DatasetConfig;
use crate::config::units::Time;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset.
    dataset: String,
    /// Files that left the newest version longer ago than this, such as `30d`. Unless given: the dataset's `retention`.
    #[arg(long, value_name = "TIME")]
    older_than: Option<Time>,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let kept =
        project.configured(&args.dataset).map_or_else(|| DatasetConfig::default().retention, |c| c.retention);
    let older_than = args.older_than.unwrap_or(kept);
    let gc = Gc { older_than: older_than.0, dry_run: args.dry_run };
    let collected = project.dataset(&args.dataset)?.gc(&gc).await.map_err(failed)?;
    if global.json {
        return print_json(&json!({
            "dataset": args.dataset,
            "older_than": older_than.to_string(),
            "dry_run": args.dry_run,
            "files": collected.files,
        }));
    }
    let done = if args.dry_run { "would go" } else { "removed" };
    print(&format!("{} files {done}", collected.files.len()));
    Ok(())
}
