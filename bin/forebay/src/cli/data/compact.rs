//! `forebay data compact`: small files put together, so that what grew by many small versions is read as fast as what was added at once.

use std::num::NonZeroU64;

use data::Compact;
use serde_json::json;

use super::{Global, Project, failed};
use crate::Error;
use crate::cli::{print, print_json};
use crate::config::units::Size;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset.
    dataset: String,
    /// Files below this size are put together up to it.
    #[arg(long, value_name = "SIZE", default_value = "128mb")]
    target: Size,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let target = NonZeroU64::new(args.target.0)
        .ok_or_else(|| Error::new("files of no bytes hold nothing", "give a size such as `128mb`"))?;
    let compact = Compact { target, at_least: 2 };
    let fewer = project.dataset(&args.dataset)?.compact(compact).await.map_err(failed)?;
    if global.json {
        return print_json(&json!({"dataset": args.dataset, "fewer_files": fewer}));
    }
    print(&match fewer {
        0 => "there is nothing to put together".to_owned(),
        fewer => {
            let gc =
                format!("`forebay data gc {}` removes the old ones once no reader needs them", args.dataset);
            format!("{fewer} files less in the newest version; {gc}")
        }
    });
    Ok(())
}
