//! `forebay features train`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use data::features::{AsOf, FeatureView, Joined, TrainingSetSpec, Use};
use data::{At, Change, Format, How, Source};
use serde_json::{Value as Json, json};

use super::{Project, Rows, versions, versions_json};
use crate::cli::{Global, print, print_json};
use crate::datasets::failed;
use crate::{Error, features};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    rows: Rows,
    /// The entities' column that says as of when features are wanted.
    #[arg(long, value_name = "COLUMN")]
    time: String,
    /// The features, each `view:feature`, or `view` for all of its features.
    #[arg(
        long,
        value_name = "FEATURE,…",
        value_delimiter = ',',
        required_unless_present = "service",
        conflicts_with = "service"
    )]
    features: Vec<String>,
    /// Those of a feature service instead.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Rows that became known later than this are not seen: a time in ISO 8601.
    #[arg(long, value_name = "TIME")]
    cut: Option<String>,
    /// Which of the others each row sees.
    #[arg(long, value_enum, default_value_t = Seen::Cut)]
    as_of: Seen,
    /// The version of a view's dataset: `weather=@7`. The newest unless given.
    #[arg(long = "at", value_name = "VIEW=VERSION")]
    at: Vec<String>,
    /// The entities' column for a key of a view that is called otherwise there: `weather.airport=origin`.
    #[arg(long = "map", value_name = "VIEW.KEY=COLUMN")]
    map: Vec<String>,
    /// Write it to this file: .parquet, .csv, .json or .arrow. The versions it was made of are beside it, in FILE.versions.json.
    #[arg(short, long, value_name = "FILE", required_unless_present = "into", conflicts_with = "into")]
    output: Option<PathBuf>,
    /// Write it as the newest version of this dataset, in the place of the rows it has.
    #[arg(long, value_name = "DATASET")]
    into: Option<String>,
}

/// Which rows an entity row sees.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Seen {
    /// All that the cut lets through: what is known today of that time.
    Cut,
    /// Those that were known at its own time, as a model in production would have seen it.
    Event,
}

fn wrong(text: &str, form: &str) -> Error {
    Error::new(format!("`{text}` cannot be read"), format!("write it as {form}"))
}

/// The views with the features that are wanted of each, in the order in which they are first named.
fn uses(project: &Project, args: &Args) -> Result<Vec<Use>, Error> {
    let config = &project.config.features;
    let mut wanted: Vec<(String, Vec<String>)> = Vec::new();
    let mut want = |view: &str, features: Vec<String>| match wanted.iter_mut().find(|(name, _)| name == view)
    {
        Some((_, all)) => all.extend(features),
        None => wanted.push((view.to_owned(), features)),
    };
    if let Some(name) = &args.service {
        let all = features::service(config, name).ok_or_else(|| {
            Error::new(format!("there is no feature service `{name}`"), "see `forebay features list`")
        })?;
        all.into_iter().for_each(|(view, feature)| want(&view, vec![feature]));
    }
    for text in &args.features {
        match text.split_once(':') {
            Some((view, feature)) => want(view, vec![feature.to_owned()]),
            None => want(text, config.views.get(text).map(|v| v.features.clone()).unwrap_or_default()),
        }
    }
    let mut at: BTreeMap<&str, At> = BTreeMap::new();
    for text in &args.at {
        let (view, version) = text.split_once('=').ok_or_else(|| wrong(text, "VIEW=@VERSION"))?;
        at.insert(view, version.parse().map_err(failed)?);
    }
    let mut keys: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for text in &args.map {
        let parts = text.split_once('=').and_then(|(key, column)| Some((key.split_once('.')?, column)));
        let ((view, key), column) = parts.ok_or_else(|| wrong(text, "VIEW.KEY=COLUMN"))?;
        keys.entry(view).or_default().insert(key.to_owned(), column.to_owned());
    }
    if let Some(view) =
        at.keys().chain(keys.keys()).find(|view| !wanted.iter().any(|(name, _)| name == *view))
    {
        return Err(Error::new(format!("the feature view `{view}` is not used"), "name one of its features"));
    }
    let mut uses = Vec::new();
    for (name, features) in wanted {
        let view = config.views.get(&name).ok_or_else(|| {
            Error::new(format!("there is no feature view `{name}`"), "see `forebay features list`")
        })?;
        let known = |feature: &&String| !view.features.contains(feature);
        if let Some(unknown) = features.iter().find(known) {
            let help = format!("it has {}", view.features.join(", "));
            return Err(Error::new(format!("the feature view `{name}` has no feature `{unknown}`"), help));
        }
        let config = data::features::FeatureViewConfig { features, ..view.view() };
        let view = FeatureView::new(&name, config).map_err(failed)?;
        let at = at.remove(name.as_str()).unwrap_or_default();
        let keys = keys.remove(name.as_str()).unwrap_or_default();
        uses.push(Use { view, at, alias: None, keys });
    }
    Ok(uses)
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let entities = args.rows.given()?.ok_or_else(|| {
        Error::new("no entities are named", "name them by --entities FILE or --dataset NAME")
    })?;
    let cut = match args.cut.as_deref().map(str::parse) {
        None => None,
        Some(Ok(At::Time(time))) => Some(time),
        Some(_) => return Err(wrong(args.cut.as_deref().unwrap_or_default(), "2026-11-22T04:00:00Z")),
    };
    let as_of = match args.as_of {
        Seen::Cut => AsOf::Cut,
        Seen::Event => AsOf::Event,
    };
    let spec = TrainingSetSpec { entities, time: args.time.clone(), views: uses(project, args)?, cut, as_of };
    let warehouse = project.warehouse(global)?;
    let set = Box::pin(warehouse.training_set(&spec)).await.map_err(failed)?;
    let (views, count) = (set.views, set.count);
    let mut facts = json!({
        "rows": count,
        "views": views.iter().map(joined).collect::<Vec<_>>(),
        "time": args.time,
        "cut_ms": cut.map(|cut| cut.0),
        "as_of": match as_of { AsOf::Cut => "cut", AsOf::Event => "event" },
    });
    if let Some(file) = &args.output {
        let format: Format =
            file.extension().and_then(|e| e.to_str()).unwrap_or_default().parse().map_err(failed)?;
        set.rows.write(file, format).await.map_err(failed)?;
        let mut beside = file.clone().into_os_string();
        beside.push(".versions.json");
        let beside = PathBuf::from(beside);
        let text = serde_json::to_vec_pretty(&facts).unwrap_or_default();
        std::fs::write(&beside, text).map_err(|e| Error::file("write", &beside, &e))?;
    } else if let Some(name) = &args.into {
        let dataset = warehouse.dataset(name).map_err(failed)?;
        let file = std::env::temp_dir().join(format!("forebay-training-set-{}.parquet", std::process::id()));
        set.rows.write(&file, Format::Parquet).await.map_err(failed)?;
        let used: Vec<String> =
            views.iter().map(|view| format!("{}: {}", view.name, versions(&view.versions))).collect();
        let message = Some(format!("training set of {}", used.join("; ")));
        let change = Change { how: How::Overwrite, message, ..Change::default() };
        let added = Box::pin(dataset.add(&Source::file(&file), &change)).await;
        let _ = std::fs::remove_file(&file);
        let added = added.map_err(failed)?;
        if let Some(facts) = facts.as_object_mut() {
            facts.insert("dataset".into(), json!({"name": name, "version": added.version}));
        }
    }
    if global.json {
        return print_json(&facts);
    }
    for view in &views {
        print(&format!(
            "{}: {} of {count} rows matched, from {}",
            view.name,
            view.matched,
            versions(&view.versions)
        ));
    }
    let to = args.output.as_ref().map(|f| f.display().to_string()).or(args.into.clone()).unwrap_or_default();
    print(&format!("{count} rows in {to}"));
    Ok(())
}

fn joined(view: &Joined) -> Json {
    json!({
        "view": view.name, "versions": versions_json(&view.versions), "read": view.read, "matched": view.matched,
    })
}
