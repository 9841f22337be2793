//! `forebay features materialize`.

use data::At;
use data::features::online::Mode;
use http::Method;
use serde_json::{Value as Json, json};

use super::{Project, versions_json};
use crate::Error;
use crate::cli::remote::Remote;
use crate::cli::storage::clean;
use crate::cli::{Global, print, print_json};
use crate::datasets::failed;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The views; all of them unless given.
    #[arg(value_name = "VIEW")]
    views: Vec<String>,
    /// Leave rows that are known later than this for the next time: a time in ISO 8601.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(super) async fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let done = if let Some(remote) = Remote::of(global)? {
        let body = match &args.until {
            Some(until) => json!({"feature_views": args.views, "end_ts": until}),
            None => json!({"feature_views": args.views, "disable_event_timestamp": true}),
        };
        let mut body = body;
        if let (true, Some(body)) = (args.views.is_empty(), body.as_object_mut()) {
            body.remove("feature_views");
        }
        remote.must::<Json>(Method::POST, "/materialize", Some(&body)).await?
    } else {
        let until = match args.until.as_deref().map(str::parse) {
            None => None,
            Some(Ok(At::Time(time))) => Some(time),
            Some(_) => return Err(Error::new("`--until` is no time", "write it as 2026-11-22T04:00:00Z")),
        };
        let online = Project::of(global)?.online(global, Mode::Write).await?;
        let done = Box::pin(online.materialize(&args.views, until)).await.map_err(failed)?;
        let view = |m: &data::features::online::Materialized| json!({"view": m.view, "versions": versions_json(&m.versions), "rows": m.read, "entities": m.entities});
        json!({"feature_views": done.iter().map(view).collect::<Vec<_>>()})
    };
    if global.json {
        return print_json(&done);
    }
    for view in done.get("feature_views").and_then(Json::as_array).into_iter().flatten() {
        let name = clean(view.get("view").and_then(Json::as_str).unwrap_or_default());
        let number = |field: &str| view.get(field).and_then(Json::as_u64).unwrap_or_default();
        let of = |(name, version): (&String, &Json)| format!("{}@{version}", clean(name));
        let from: Vec<_> =
            view.get("versions").and_then(Json::as_object).into_iter().flatten().map(of).collect();
        print(&format!(
            "{name}: {} rows read, {} entities, from {}",
            number("rows"),
            number("entities"),
            from.join(", ")
        ));
    }
    Ok(())
}
