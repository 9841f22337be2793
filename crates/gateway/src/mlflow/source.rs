//! What a version of a registered model may be made of: a run's artifacts, a logged model, another version, or what is elsewhere.
//!
//! Invariant: a source that this server keeps is the caller's tenant's, and lies within the run or the model that the caller names.

use ::models::uri::{self, ModelUri};
use ::models::{Error as Models, check};

use super::Cx;
use super::errors::Failed;
use super::versions::by_alias_of;

/// What a version is made of, once that is known to be there and the caller's.
pub(super) struct Made {
    pub(super) source: String,
    pub(super) location: String,
    pub(super) run: Option<String>,
    pub(super) model: Option<String>,
}

fn wrong(source: &str, of: &str) -> Failed {
    Failed::invalid(format!(
        "Invalid model version source: '{source}'. The {of} request parameter must identify the resource that \
         contains the source."
    ))
}

/// What is not there is no source of anything.
fn or_wrong<T>(found: Result<T, store::Error>, source: &str, of: &str) -> Result<T, Failed> {
    found.map_err(|e| {
        let e = Models::from(e);
        if e.is_missing() { wrong(source, of) } else { e.into() }
    })
}

/// Whether an address leads upwards somewhere.
fn leads_up(source: &str) -> bool {
    let path = source.split_once(':').map_or(source, |(_, rest)| rest);
    // A host alone names nothing on it.
    if path.strip_prefix("//").is_some_and(|p| !p.trim_end_matches('/').contains('/')) {
        return true;
    }
    ::models::artifacts::ArtifactPath::new(path.trim_start_matches('/').trim_end_matches('/')).is_err()
        && (path.contains("..") || path.contains('%') || path.contains('\0'))
}

/// Whether an address is another below it.
fn within(source: &str, root: &str) -> bool {
    match (uri::artifact(source), uri::artifact(root)) {
        (Some(source), Some(root)) => {
            let below = source.strip_prefix(root.trim_end_matches('/'));
            below.is_some_and(|b| b.is_empty() || b.starts_with('/'))
        }
        _ => false,
    }
}

/// What a caller says that a version is made of.
pub(super) async fn made(cx: &Cx, source: &str) -> Result<Made, Failed> {
    let asked = &cx.asked;
    let some = |name: &str| asked.maybe_str(name).filter(|s| !s.is_empty()).map(str::to_owned);
    let (mut run, model) = (some("run_id"), some("model_id"));
    let scheme = uri::scheme(source);
    let local = matches!(scheme.as_deref(), None | Some("file"));
    let of = if model.is_some() { "model_id" } else { "run_id" };
    if local {
        let shown = match source.strip_prefix("file://") {
            Some(path) if run.is_some() || model.is_some() => path,
            _ => source,
        };
        return Err(Failed::invalid(format!(
            "Invalid model version source: '{shown}'. To use a local path as a model version source, the {of} request \
             parameter has to be specified and the local path has to be contained within the artifact directory of the \
             run specified by the {of}."
        )));
    }
    if leads_up(source) {
        return Err(Failed::invalid(format!(
            "Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, ftp, \
             objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references \
             present. Please provide an absolute path."
        )));
    }
    let t = cx.tracking();
    let mut location = source.to_owned();
    match scheme.as_deref() {
        Some("models") => match uri::model(source).map_err(|_| wrong(source, "model_id"))? {
            ModelUri::Logged(id) => {
                if model.as_deref() != Some(id.as_str()) {
                    return Err(wrong(source, "model_id"));
                }
                let logged = or_wrong(t.logged_model(&id, false).await, source, "model_id")?;
                location = logged.location;
                run = run.or(logged.source_run);
            }
            named => return of_version(cx, named, (source, run, model)).await,
        },
        Some("runs") => {
            let (id, _) = uri::run(source)?;
            if model.is_some() || run.as_deref() != Some(id.as_str()) {
                return Err(wrong(source, of));
            }
        }
        Some("mlflow-artifacts") => {
            let root = match (&model, &run) {
                (Some(model), _) => or_wrong(t.logged_model(model, false).await, source, of)?.location,
                (None, Some(run)) => or_wrong(t.run(run).await, source, of)?.info.location,
                (None, None) => return Err(wrong(source, of)),
            };
            if !within(source, &root) {
                return Err(wrong(source, of));
            }
        }
        _ => {}
    }
    if let (None, Some(model)) = (&run, &model) {
        run = t.logged_model(model, false).await?.source_run;
    }
    Ok(Made { source: source.to_owned(), location, run, model })
}

/// A version made of another.
async fn of_version(
    cx: &Cx,
    named: ModelUri,
    (source, run, model): (&str, Option<String>, Option<String>),
) -> Result<Made, Failed> {
    let t = cx.tracking();
    let (name, number) = match named {
        ModelUri::Version(name, number) => (name, number),
        ModelUri::Alias(name, alias) => {
            let number = by_alias_of(cx, &name, &alias).await?.version;
            (name, number)
        }
        ModelUri::Latest(name, stage) => {
            let known = t.registered(&name).await?;
            let stage = stage.map(|s| check::version_stage(&s)).transpose()?;
            let newest =
                known.latest.iter().filter(|v| stage.is_none_or(|s| v.stage == s)).map(|v| v.version).max();
            let newest = newest.ok_or_else(|| wrong(source, "model_id"))?;
            (name, newest)
        }
        ModelUri::Logged(_) => return Err(wrong(source, "model_id")),
    };
    if t.registered(&name).await?.is_prompt() {
        return Err(Failed::invalid(format!(
            "Invalid model version source: '{source}'. Prompt versions cannot be used as model version sources."
        )));
    }
    let other = t.version(&name, number).await?;
    let differs = |said: &Option<String>, known: &Option<String>| {
        said.is_some() && said.as_deref().unwrap_or_default() != known.as_deref().unwrap_or_default()
    };
    if differs(&run, &other.run) || differs(&model, &other.model) {
        return Err(Failed::invalid(format!(
            "Invalid model version source: '{source}'. The run_id and model_id request parameters must match the \
             referenced model version."
        )));
    }
    let source = format!("models:/{name}/{number}");
    Ok(Made { source, location: other.location, run: other.run, model: other.model })
}
