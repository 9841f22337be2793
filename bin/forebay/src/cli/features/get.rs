//! `forebay features get`.

use comfy_table::{Table, presets};
use data::features::online::{Ask, Columns, Mode, Status};
use http::Method;
use serde_json::{Map, Value as Json, json};

use super::Project;
use crate::cli::remote::Remote;
use crate::cli::storage::clean;
use crate::cli::{Global, print, print_json};
use crate::datasets::failed;
use crate::{Error, features};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The features, each `view:feature`.
    #[arg(value_name = "FEATURE", required_unless_present = "service", conflicts_with = "service")]
    features: Vec<String>,
    /// Those of a feature service instead.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// A key of the entities and its values: `airport=JFK,EWR`. For each key once.
    #[arg(long = "entity", value_name = "KEY=VALUE,…", required = true)]
    entities: Vec<String>,
}

/// `airport=JFK,EWR` as a column: what reads as a whole number and back is one.
fn column(text: &str) -> Result<(String, Vec<Json>), Error> {
    let (key, values) = text
        .split_once('=')
        .ok_or_else(|| Error::new(format!("`{text}` names no entities"), "write KEY=VALUE,VALUE"))?;
    let value = |text: &str| match text.parse::<i64>() {
        Ok(n) if n.to_string() == text => n.into(),
        _ => Json::from(text),
    };
    Ok((key.to_owned(), values.split(',').map(value).collect()))
}

fn pair(text: &String) -> Result<(String, String), Error> {
    let (view, feature) = text
        .split_once(':')
        .ok_or_else(|| Error::new(format!("`{text}` is no feature"), "write it as view:feature"))?;
    Ok((view.to_owned(), feature.to_owned()))
}

pub(super) async fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let entities: Columns = args.entities.iter().map(|text| column(text)).collect::<Result<_, _>>()?;
    if let Some(remote) = Remote::of(global)? {
        let lists: Map<String, Json> = entities.iter().map(|(name, v)| (name.clone(), json!(v))).collect();
        let mut body = json!({"entities": lists, "full_feature_names": true});
        if let Some(body) = body.as_object_mut() {
            match &args.service {
                Some(service) => _ = body.insert("feature_service".into(), json!(service)),
                None => _ = body.insert("features".into(), json!(args.features)),
            }
        }
        let found: Json = remote.must(Method::POST, "/get-online-features", Some(&body)).await?;
        return show(global, &found);
    }
    let project = Project::of(global)?;
    let features = match &args.service {
        None => args.features.iter().map(pair).collect::<Result<Vec<_>, _>>()?,
        Some(name) => features::service(&project.config.features, name).ok_or_else(|| {
            Error::new(format!("there is no feature service `{name}`"), "see `forebay features list`")
        })?,
    };
    let online = project.online(global, Mode::Read).await?;
    let columns = online.get(&Ask { features: &features, entities: &entities }).map_err(failed)?;
    let names = entities.iter().map(|(name, _)| name.clone());
    let names: Vec<String> = names.chain(features.iter().map(|(view, f)| format!("{view}__{f}"))).collect();
    let mut results: Vec<Json> = Vec::new();
    results.extend(
        entities.iter().map(|(_, v)| json!({"values": v, "statuses": vec![word(Status::Present); v.len()]})),
    );
    for column in columns {
        let values: Vec<Json> = column.values.into_iter().map(Json::from).collect();
        let statuses: Vec<&str> = column.statuses.into_iter().map(word).collect();
        results.push(json!({"values": values, "statuses": statuses}));
    }
    show(global, &json!({"metadata": {"feature_names": names}, "results": results}))
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Present => "PRESENT",
        Status::NotFound => "NOT_FOUND",
        Status::Null => "NULL_VALUE",
        Status::OutsideMaxAge => "OUTSIDE_MAX_AGE",
    }
}

fn show(global: &Global, found: &Json) -> Result<(), Error> {
    if global.json {
        return print_json(found);
    }
    let list = |of: &Json, name: &str| of.get(name).and_then(Json::as_array).cloned().unwrap_or_default();
    let names = list(&found["metadata"], "feature_names");
    let columns = list(found, "results");
    let text = |v: &Json| clean(v.as_str().map_or_else(|| v.to_string(), str::to_owned).as_str());
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(names.iter().map(&text));
    let rows = columns.first().map_or(0, |c| list(c, "values").len());
    let columns: Vec<_> = columns.iter().map(|c| (list(c, "values"), list(c, "statuses"))).collect();
    for row in 0..rows {
        table.add_row(columns.iter().map(|(values, statuses)| match values.get(row) {
            Some(Json::Null) | None => {
                let status = statuses.get(row).and_then(Json::as_str).unwrap_or_default();
                format!("({})", status.to_lowercase().replace('_', " "))
            }
            Some(value) => text(value),
        }));
    }
    print(&table.trim_fmt());
    Ok(())
}
