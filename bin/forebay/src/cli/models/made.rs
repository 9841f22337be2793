//! What models were made of: `diff`, `card`, `reproduce`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as Flags;
use contract::{Clock, SystemClock};
use models::reproduce::Agreement;
use models::stages::{Recorded, Released, rebuild};
use models::train::{Progress, Watch};
use serde_json::json;
use store::tracking::ModelVersion;

use super::super::storage::clean;
use super::super::{Global, print, print_json, project};
use super::registered::{Registry, failed};
use crate::Error;
use crate::learning::{self, Learning};
use crate::stages::{self, Project};

/// `diff`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Diff {
    /// The registered model.
    name: String,
    /// A version, or an alias such as `@champion`.
    a: String,
    /// Another.
    b: String,
}

async fn recorded(registry: &Registry, version: &ModelVersion) -> Result<Recorded, Error> {
    let record =
        Released::record_of(&registry.tracked, &registry.tenant, version).await.map_err(|e| failed(&e))?;
    record.ok_or_else(|| {
        let message = format!(
            "nothing says what version {} of `{}` was made of",
            version.version,
            clean(&version.name)
        );
        Error::new(message, "only models that a stage `train` made have a record")
    })
}

pub(super) async fn diff(global: &Global, args: &Diff) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let shown = differ(global, &registry, args).await;
    registry.close().await;
    shown
}

async fn differ(global: &Global, registry: &Registry, args: &Diff) -> Result<(), Error> {
    let (a, b) = (registry.version(&args.name, &args.a).await?, registry.version(&args.name, &args.b).await?);
    let (before, after) = (recorded(registry, &a).await?, recorded(registry, &b).await?);
    let differences = before.made_of.diff(&after.made_of);
    let figures: Vec<(&String, f64, Option<f64>)> = before
        .report
        .holdout
        .iter()
        .map(|(name, value)| (name, *value, after.report.holdout.get(name).copied()))
        .collect();
    if global.json {
        return print_json(&json!({
            "name": args.name, "a": a.version, "b": b.version, "same": differences.is_empty(), "differences": differences,
            "figures": figures.iter().map(|(name, a, b)| json!({"name": name, "a": a, "b": b})).collect::<Vec<_>>(),
        }));
    }
    if differences.is_empty() {
        print("they are made of the same");
    }
    for difference in &differences {
        print(&clean(&difference.to_string()));
    }
    for (name, was, is) in figures {
        let is = is.map_or_else(|| "not known".to_owned(), |x| format!("{x:.4}"));
        print(&format!("{} is {is}, and was {was:.4} (each on what was held back from it)", clean(name)));
    }
    Ok(())
}

/// `card`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Card {
    /// The registered model.
    name: String,
    /// A version, or an alias.
    #[arg(default_value = "@champion")]
    version: String,
    /// The report with its plots, as a page of HTML.
    #[arg(long)]
    html: bool,
    /// Write it into this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn card(global: &Global, args: &Card) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let version = registry.version(&args.name, &args.version).await?;
    let file = if args.html { "report.html" } else { "card.md" };
    let text = Released::text_of(&registry.tracked, &registry.tenant, &version, file).await;
    registry.close().await;
    let Some(text) = text.map_err(|e| failed(&e))? else {
        let message = format!("version {} of `{}` has no card", version.version, clean(&args.name));
        return Err(Error::new(message, "a stage `register` with a `gate` writes one"));
    };
    if let Some(path) = &args.output {
        return std::fs::write(path, text).map_err(|e| Error::file("write", path, &e));
    }
    if global.json {
        return print_json(&json!({"name": args.name, "version": version.version, "text": text}));
    }
    print(text.trim_end());
    Ok(())
}

/// `reproduce`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Reproduce {
    /// The registered model.
    name: String,
    /// A version, or an alias.
    #[arg(default_value = "@champion")]
    version: String,
    /// By how much figures may be off where the bytes differ. Without it only equal bytes will do.
    #[arg(long, value_name = "X")]
    tolerance: Option<f64>,
}

/// Says on the terminal how far a training is.
struct Said;

impl Watch for Said {
    fn progress(&self, progress: Progress) {
        if let Progress::Split { rows: [train, valid, held] } = progress {
            let line = format!("{train} rows to learn from, {valid} to steer by, {held} held back");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), (line + "\n").as_bytes());
        }
    }
}

pub(super) async fn reproduce(global: &Global, args: &Reproduce) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let shown = made_again(global, &registry, args).await;
    registry.close().await;
    shown
}

async fn made_again(global: &Global, registry: &Registry, args: &Reproduce) -> Result<(), Error> {
    let version = registry.version(&args.name, &args.version).await?;
    let config = project::checked_but_for_models(global)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let means = Learning {
        folder: global.project.clone(),
        project: Project::new(&global.project, Some(&config), clock.clone()),
        files: stages::artifacts(&global.project, Some(&config)),
        models: learning::configured(&config),
        tracked: Some(registry.tracked.clone()),
    };
    let of = (&registry.tracked, &registry.tenant, &version);
    let rebuilt = Box::pin(rebuild(&means, &*clock, of, args.tolerance, &Said)).await;
    let rebuilt = rebuilt.map_err(|e| {
        Error::new(
            clean(&e.message),
            "the version of its data has to be there: commit training sets with a `tag`",
        )
    })?;
    let same = !matches!(rebuilt.agreement, Agreement::Differs(_));
    if global.json {
        print_json(&json!({
            "name": args.name, "version": version.version, "id": rebuilt.record.id, "same": same,
            "agreement": rebuilt.agreement, "differences": rebuilt.differences, "was": rebuilt.record.sum, "is": rebuilt.sum,
        }))?;
    } else {
        for difference in &rebuilt.differences {
            print(&format!("made otherwise now: {}", clean(&difference.to_string())));
        }
        print(&match &rebuilt.agreement {
            Agreement::Same => format!("the same to the byte: {}", rebuilt.sum),
            Agreement::Within(by) => format!("not the same bytes; no figure is off by more than {by}"),
            Agreement::Differs(why) => format!("another model: {}", clean(&why.join("; "))),
        });
    }
    if same { Ok(()) } else { Err(Error::Refused) }
}
