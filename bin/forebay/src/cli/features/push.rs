//! `forebay features push`.

use std::path::PathBuf;

use clap::ValueEnum;
use data::Source;
use data::features::online::{Mode, To, columns};
use http::Method;
use serde_json::{Map, Value as Json, json};

use super::Project;
use crate::Error;
use crate::cli::remote::Remote;
use crate::cli::{Global, print, print_json};
use crate::datasets::failed;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The view.
    view: String,
    /// The rows: a file of CSV, JSON, Parquet or Arrow with the keys, the event time and every feature.
    file: PathBuf,
    /// Where they go.
    #[arg(long, value_enum, default_value_t = Where::Online)]
    to: Where,
}

/// Where rows go.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Where {
    /// They are served.
    Online,
    /// They are added to the view's dataset.
    Offline,
    /// Both.
    OnlineAndOffline,
}

pub(super) async fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let parts = columns(&Source::file(&args.file)).await.map_err(failed)?;
    let mut rows = 0;
    if let Some(remote) = Remote::of(global)? {
        let to = match args.to {
            Where::Online => "online",
            Where::Offline => "offline",
            Where::OnlineAndOffline => "online_and_offline",
        };
        for part in parts {
            let df: Map<String, Json> = part.into_iter().map(|(name, v)| (name, Json::Array(v))).collect();
            let body = json!({"push_source_name": args.view, "df": df, "to": to});
            let taken: Json = remote.must(Method::POST, "/push", Some(&body)).await?;
            rows += taken.get("rows").and_then(Json::as_u64).unwrap_or_default();
        }
    } else {
        let to = match args.to {
            Where::Online => To::Online,
            Where::Offline => To::Offline,
            Where::OnlineAndOffline => To::Both,
        };
        let online = Project::of(global)?.online(global, Mode::Write).await?;
        for part in parts {
            rows += Box::pin(online.push(&args.view, part, to)).await.map_err(failed)?.rows;
        }
    }
    if global.json {
        return print_json(&json!({"rows": rows}));
    }
    print(&format!("{rows} rows pushed to {}", args.view));
    Ok(())
}
