//! `forebay features list|show`.

use comfy_table::{Table, presets};
use contract::UnixMillis;
use data::features::online::{Mode, ViewState};
use serde_json::{Value as Json, json};

use super::{Project, versions, versions_json};
use crate::Error;
use crate::cli::{Global, print, print_json, time};

fn at(of: Option<UnixMillis>) -> String {
    of.map_or_else(|| "never".to_owned(), time::show)
}

fn state_json(s: &ViewState) -> Json {
    json!({
        "view": s.view, "entities": s.entities, "newest_event_ms": s.newest_event.map(|t| t.0),
        "materialized_ms": s.materialized.map(|t| t.0), "versions": versions_json(&s.versions), "pending": s.pending,
    })
}

pub(super) async fn all(global: &Global, project: &Project) -> Result<(), Error> {
    if project.config.features.views.is_empty() {
        let help = "name them in `features.views` of forebay.yaml; `forebay schema` says how";
        return Err(Error::new("there are no feature views", help));
    }
    let states = project.online(global, Mode::Read).await?.states();
    if global.json {
        let services = &project.config.features.services;
        return print_json(&json!({
            "views": states.iter().map(state_json).collect::<Vec<_>>(),
            "services": services.iter().collect::<std::collections::BTreeMap<_, _>>(),
        }));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["view", "entities", "newest row", "materialised", "from"]);
    for s in &states {
        table.add_row([
            s.view.clone(),
            s.entities.to_string(),
            at(s.newest_event),
            at(s.materialized),
            versions(&s.versions),
        ]);
    }
    print(&table.trim_fmt());
    for (name, features) in &project.config.features.services {
        print(&format!("service {name}: {}", features.join(", ")));
    }
    Ok(())
}

pub(super) async fn one(global: &Global, project: &Project, view: &str) -> Result<(), Error> {
    let Some(config) = project.config.features.views.get(view) else {
        return Err(Error::new(format!("there is no feature view `{view}`"), "see `forebay features list`"));
    };
    let states = project.online(global, Mode::Read).await?.states();
    let Some(state) = states.iter().find(|s| s.view == view) else { return Ok(()) };
    let plain = config.view();
    if global.json {
        return print_json(&json!({"view": plain, "state": state_json(state)}));
    }
    let mut text = format!("{view}\n");
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name}: {value}\n"));
        }
    };
    line("dataset", plain.dataset);
    line("query", plain.sql.unwrap_or_default());
    line("keys", plain.keys.join(", "));
    line("event time", plain.event_time);
    line("ingest time", plain.ingest_time.unwrap_or_default());
    line("ttl", plain.ttl_seconds.map_or_else(|| "none".to_owned(), |s| format!("{s} s")));
    line("features", plain.features.join(", "));
    line("entities online", state.entities.to_string());
    line("newest row", at(state.newest_event));
    line("materialised", at(state.materialized));
    line("from", versions(&state.versions));
    line("pushed rows that wait for their time", state.pending.to_string());
    print(text.trim_end());
    Ok(())
}
