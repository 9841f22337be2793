//! `forebay features parity`.

use data::features::online::{Given, Mode, Parity};
use serde_json::{Value as Json, json};

use super::{Project, Rows, versions, versions_json};
use crate::Error;
use crate::cli::storage::clean;
use crate::cli::{Global, print, print_json};
use crate::datasets::failed;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The views; all of them unless given.
    #[arg(value_name = "VIEW")]
    views: Vec<String>,
    #[command(flatten)]
    rows: Rows,
    /// Without entities: how many of those that are online are compared.
    #[arg(long, default_value_t = 10_000)]
    limit: usize,
    /// How many differences are shown.
    #[arg(long, default_value_t = 20)]
    show: usize,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let online = project.online(global, Mode::Read).await?;
    let given = args.rows.given()?.map_or(Given::Online(args.limit), Given::Rows);
    let views = match args.views.is_empty() {
        true => online.views().map(|view| view.name().to_owned()).collect(),
        false => args.views.clone(),
    };
    let mut all = Vec::new();
    for view in views {
        all.push(Box::pin(online.parity(&view, &given, args.show)).await.map_err(failed)?);
    }
    if global.json {
        print_json(&json!({"views": all.iter().map(to_json).collect::<Vec<_>>()}))?;
    } else {
        all.iter().for_each(show);
    }
    if all.iter().all(|parity| parity.differing == 0) { Ok(()) } else { Err(Error::Invalid) }
}

fn to_json(p: &Parity) -> Json {
    let difference = |d: &data::features::online::Difference| {
        json!({
            "keys": d.keys, "feature": d.feature, "online": Json::from(d.online.clone()),
            "offline": Json::from(d.offline.clone()),
        })
    };
    json!({
        "view": p.view, "versions": versions_json(&p.versions), "materialized": versions_json(&p.materialized),
        "entities": p.entities, "values": p.values, "differing": p.differing,
        "differences": p.differences.iter().map(difference).collect::<Vec<_>>(),
    })
}

fn show(p: &Parity) {
    let same = p.values - p.differing;
    let mut text = format!("{}: {same} of {} values of {} entities are equal", p.view, p.values, p.entities);
    if p.versions != p.materialized {
        let from = if p.materialized.is_empty() { "nothing".to_owned() } else { versions(&p.materialized) };
        text.push_str(&format!("; {} is newer than what was materialised ({from})", versions(&p.versions)));
    }
    print(&text);
    for d in &p.differences {
        let keys = clean(&Json::Object(d.keys.clone()).to_string());
        let (online, offline) = (Json::from(d.online.clone()), Json::from(d.offline.clone()));
        print(&format!(
            "  {keys} {}: {} online, {} in the datasets",
            d.feature,
            clean(&online.to_string()),
            clean(&offline.to_string())
        ));
    }
}
