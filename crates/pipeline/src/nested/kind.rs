//! The kind `pipeline`: calls another pipeline.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::lineage::{Lineage, Thing, ThingKind};
use contract::{
    Attempt, BoxFuture, Code, Context, Effort, Error, Inputs, Kind, ModelName, Outcome, PipelineName,
    RequestId, Signature, Stage, Value,
};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::callees::{Callee, Callees};
use super::typed::typed;
use super::{Answer, Call, Calls, Given};
use crate::is_below;
use crate::registry::{Problem, Site, StageKind};
use crate::task;

/// The kind's name.
pub const KIND: &str = "pipeline";

/// The one input of such a stage.
const INPUT: &str = "input";
/// The largest file that is read as an input, in bytes; a pipeline may take less.
const LARGEST: u64 = 256 << 20;

/// Calls another pipeline. One that answers requests is called as a request: within the same limits and budgets, and with a record
/// in the ledger. A durable one is called as a run of its own, which this stage waits for.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CallConfig {
    /// The pipeline.
    name: String,
    /// Of what the stage is given, such as a row of a table, this field is the input.
    #[serde(default)]
    field: Option<String>,
    /// Of what the stage is given, this field is the path of a file, and that is the input: a document. When it has a field
    /// `hash`, as the rows of `documents` have, the file must still be that one.
    #[serde(default)]
    file: Option<String>,
    /// The folder that the paths of `file` are relative to, itself relative to the configuration. Unless given: that one's folder.
    #[serde(default)]
    folder: Option<String>,
    /// What the run of a durable pipeline is given.
    #[serde(default)]
    params: Map<String, Json>,
}

/// Makes `pipeline` stages.
pub(super) struct PipelineKind {
    callees: Callees,
    calls: Calls,
}

impl PipelineKind {
    pub(super) fn new(callees: Callees, calls: Calls) -> Self {
        PipelineKind { callees, calls }
    }

    fn callee(&self, config: &Json) -> Option<Callee> {
        let name = config.get("name").and_then(Json::as_str)?;
        self.callees.read().get(&PipelineName::from(name)).cloned()
    }

    /// The pipeline, or why it cannot be called.
    fn known(&self, config: &CallConfig) -> Result<Callee, Problem> {
        let all = self.callees.read();
        let name = PipelineName::from(config.name.as_str());
        let Some(callee) = all.get(&name).cloned() else {
            let names: Vec<&str> = all.keys().map(|n| n.as_str()).collect();
            let remedy = match names.as_slice() {
                [] => "add it to `pipelines`".to_owned(),
                names => format!("the pipelines are {}", names.join(", ")),
            };
            return Err(problem("/name", format!("there is no pipeline `{name}`"), &remedy));
        };
        if let Some(circle) = &callee.circle {
            let way: Vec<&str> = circle.iter().map(|n| n.as_str()).collect();
            let message = format!("the pipelines call each other without end: {}", way.join(" → "));
            return Err(problem("/name", message, "break the circle: one of them must not call the next"));
        }
        Ok(callee)
    }
}

fn problem(pointer: &str, message: impl Into<String>, remedy: &str) -> Problem {
    Problem { pointer: pointer.to_owned(), message: message.into(), remedy: remedy.to_owned() }
}

/// Everything that is wrong with what a stage says of its input and parameters.
fn wrong(config: &CallConfig, callee: &Callee) -> Vec<Problem> {
    let mut found = Vec::new();
    if config.field.is_some() && config.file.is_some() {
        found.push(problem(
            "/file",
            "the input is a field or a file, and this says both",
            "remove one of them",
        ));
    }
    if config.folder.is_some() && config.file.is_none() {
        found.push(problem(
            "/folder",
            "`folder` says where the paths of `file` begin, and there is no `file`",
            "remove it",
        ));
    }
    if let Some(folder) = config.folder.as_deref().filter(|f| !is_below(f) && !f.contains("{{")) {
        let message = format!("`{folder}` is no folder below that of the configuration");
        found.push(problem("/folder", message, "name one by a relative path without `..`"));
    }
    if config.file.is_some() {
        match &callee.input {
            _ if callee.durable => found.push(problem(
                "/file",
                "a durable pipeline is not given a file",
                "name the file by a parameter, or call a pipeline that answers requests",
            )),
            Some(Kind::Document | Kind::Text) => {}
            other => {
                let takes = other.as_ref().map_or_else(|| "nothing".to_owned(), Kind::to_string);
                let message = format!("`{}` takes {takes}, and a file is a document", config.name);
                found.push(problem("/file", message, "write `input: document` there, or use `field`"));
            }
        }
    }
    if config.field.is_some() && callee.input.is_none() {
        let message = format!("no stage of `{}` takes an input", config.name);
        found.push(problem("/field", message, "remove it"));
    }
    if !callee.durable && !config.params.is_empty() {
        let message = format!("`{}` answers requests, which have no parameters", config.name);
        found.push(problem("/params", message, "remove them: what it needs is in its input"));
        return found;
    }
    for name in config.params.keys().filter(|n| !callee.params.contains_key(*n)) {
        let known: Vec<&str> = callee.params.keys().map(String::as_str).collect();
        let remedy = match known.as_slice() {
            [] => "it takes none: remove it".to_owned(),
            known => format!("it takes {}", known.join(", ")),
        };
        let message = format!("the pipeline `{}` has no parameter `{name}`", config.name);
        found.push(problem(&format!("/params/{name}"), message, &remedy));
    }
    for (name, _) in callee.params.iter().filter(|(n, v)| v.is_null() && !config.params.contains_key(*n)) {
        let message = format!("the pipeline `{}` needs the parameter `{name}`", config.name);
        found.push(problem("", message, &format!("add `params: {{{name}: …}}`")));
    }
    found
}

impl StageKind for PipelineKind {
    fn name(&self) -> &'static str {
        KIND
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(CallConfig).to_value()
    }

    fn durable(&self) -> bool {
        true
    }

    /// What a run of its own does outside is not known here.
    fn cached(&self, config: &Json) -> bool {
        self.callee(config).is_some_and(|c| !c.durable)
    }

    fn files(&self, config: &Json) -> Vec<PathBuf> {
        self.callee(config).map(|c| c.files).unwrap_or_default()
    }

    fn made_of(&self, config: &Json) -> Vec<(String, String)> {
        let name = config.get("name").and_then(Json::as_str).unwrap_or_default();
        self.callee(config).map(|c| (format!("pipeline {name}"), c.version)).into_iter().collect()
    }

    /// Of a row its text counts, or what stands in the file: not where that lies, nor when it was written.
    fn of_element(&self, config: &Json, element: &Json) -> Option<Json> {
        let config = CallConfig::deserialize(config).ok()?;
        if let Some(field) = &config.field {
            return element.get(field).cloned();
        }
        let path = element.get(config.file.as_ref()?)?.as_str()?;
        let hash = element.get("hash").filter(|h| h.is_string())?;
        let ending = Path::new(path).extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        Some(json!({"hash": hash, "ending": ending}))
    }

    fn build(&self, config: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let config = CallConfig::deserialize(config)
            .map_err(|e| vec![problem("", e.to_string(), "see the reference of `pipeline`")])?;
        let callee = self.known(&config).map_err(|p| vec![p])?;
        let found = wrong(&config, &callee);
        if !found.is_empty() {
            return Err(found);
        }
        let own = callee.input.clone().map(|kind| match config.field.is_some() || config.file.is_some() {
            true => Kind::Json(None),
            false => kind,
        });
        let inputs: IndexMap<String, Kind> = own.map(|kind| (INPUT.to_owned(), kind)).into_iter().collect();
        let output = callee.output.clone();
        let signature = Signature { inputs, output, streams: false, instant: false, effort: Effort::Waits };
        Ok(Arc::new(CallStage { calls: self.calls.clone(), config, callee, signature }))
    }
}

/// A stage that calls.
struct CallStage {
    calls: Calls,
    config: CallConfig,
    callee: Callee,
    signature: Signature,
}

impl CallStage {
    fn name(&self) -> PipelineName {
        PipelineName::from(self.config.name.as_str())
    }

    /// What the pipeline is given of what this stage is given.
    async fn given(&self, inputs: &Inputs, project: &Path) -> Result<Option<Given>, Error> {
        let Some(kind) = &self.callee.input else { return Ok(None) };
        let value = inputs.get(INPUT).ok_or_else(|| {
            Error::new(Code::InvalidRequest, "what the pipeline is to be given was left out before")
        })?;
        let field = |name: &String| -> Result<Json, Error> {
            let json = match value {
                Value::Json(json) => json.get(name).cloned().unwrap_or_default(),
                _ => Json::Null,
            };
            match json {
                Json::Null => {
                    let m = format!(
                        "there is no `{name}` in what stage gave for the call of `{}`",
                        self.config.name
                    );
                    Err(Error::new(Code::InvalidRequest, m).param(name.clone()))
                }
                json => Ok(json),
            }
        };
        if let Some(name) = &self.config.field {
            let json = match (kind, field(name)?) {
                // Text is what a number looks like.
                (Kind::Text | Kind::Document, json) if !json.is_string() => Json::String(json.to_string()),
                (_, json) => json,
            };
            let whole = typed(kind, json).map_err(|e| Error { code: Code::InvalidRequest, ..e })?;
            return Ok(Some(Given::Value(whole)));
        }
        let Some(name) = &self.config.file else { return Ok(Some(Given::Value(value.clone()))) };
        let path = field(name)?;
        let path = path.as_str().unwrap_or_default().to_owned();
        let hash = match value {
            Value::Json(json) => json.get("hash").and_then(Json::as_str).map(str::to_owned),
            _ => None,
        };
        let folder = self.config.folder.as_deref().unwrap_or(".");
        // A parameter may have said it.
        if !is_below(folder) {
            let m = format!("`{folder}` is no folder below that of the configuration");
            return Err(Error::new(Code::InvalidRequest, m).param("folder"));
        }
        let folder = project.join(folder);
        let read = task::reading("document", move || read(&folder, &path, hash.as_deref())).await;
        read.map_err(|_| Error::new(Code::Internal, "a file cannot be read"))?.map(Some)
    }

    async fn live(&self, cx: &Context, attempt: &Attempt, given: Given) -> Outcome<Value> {
        let Some(live) = self.calls.live() else {
            return Outcome::Failed(Error::new(Code::Internal, "nobody is there who could call a pipeline"));
        };
        let at = cx.clock.wall();
        let hash = blake3::hash(format!("call {} {} {}", attempt.effect, attempt.number, at.0).as_bytes());
        let random = hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes));
        let id = RequestId::from_parts(at, random);
        cx.meter.fact("request_id", json!(id));
        let call =
            Call { pipeline: self.name(), tenant: cx.tenant.clone(), id, again: cx.retrying, input: given };
        let Answer { outcome, usage, cost, models } = live.call(call).await;
        let model = |(name, version): (ModelName, _)| Thing {
            version,
            ..Thing::new(ThingKind::Model, name.as_str())
        };
        let inputs = models.into_iter().map(model).collect();
        attempt.log.lineage(Lineage::of(inputs));
        cx.meter.fact("usage", serde_json::to_value(usage).unwrap_or_default());
        cx.meter.fact("cost_nanousd", json!(cost));
        cx.meter.fact("note", json!(format!("asked `{}`: {id}", self.config.name)));
        let own = |e: Error| Error { message: format!("`{}` ({id}): {}", self.config.name, e.message), ..e };
        let value = |json| typed(&self.callee.output, json);
        match outcome {
            Outcome::Complete(json) => value(json).into(),
            Outcome::Partial(json, e) => match value(json) {
                Ok(value) => Outcome::Partial(value, own(e)),
                Err(_) => Outcome::Failed(own(e)),
            },
            Outcome::Failed(e) => Outcome::Failed(own(e)),
        }
    }
}

/// A file as a document, as long as it is the one of that hash.
fn read(folder: &Path, path: &str, hash: Option<&str>) -> Result<Given, Error> {
    let refused = |m: String| Error::new(Code::InvalidRequest, m);
    if !is_below(path) {
        return Err(refused(format!("`{path}` is no path of a file below the folder")));
    }
    let file = folder.join(path);
    let about = std::fs::symlink_metadata(&file)
        .map_err(|e| Error::new(Code::NotFound, format!("the file `{path}` cannot be read: {e}")))?;
    if !about.is_file() {
        return Err(refused(format!("`{path}` is no file")));
    }
    if about.len() > LARGEST {
        return Err(Error::new(Code::TooLarge, format!("the file `{path}` is larger than {LARGEST} bytes")));
    }
    let bytes = std::fs::read(&file)
        .map_err(|e| Error::new(Code::NotFound, format!("the file `{path}` cannot be read: {e}")))?;
    if hash.is_some_and(|hash| blake3::hash(&bytes).to_hex().as_str() != hash) {
        return Err(refused(format!(
            "the file `{path}` was changed after it was listed: run the pipeline again"
        )));
    }
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Given::File { name, bytes })
}

impl Stage for CallStage {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            let Some(attempt) = cx.attempt.clone() else {
                let m = "a stage of the kind `pipeline` runs in a durable run only: start this pipeline by `forebay run`";
                return Outcome::Failed(Error::new(Code::InvalidRequest, m));
            };
            let Some(runs) = self.calls.runs() else {
                return Outcome::Failed(Error::new(Code::Internal, "nobody is there who makes runs"));
            };
            let given = match self.given(&inputs, runs.project()).await {
                Ok(given) => given,
                Err(e) => return Outcome::Failed(e),
            };
            match (self.callee.durable, given) {
                (true, given) => {
                    let input = match given {
                        Some(Given::Value(value)) => Some(value),
                        Some(Given::File { .. }) | None => None,
                    };
                    let asked = super::child::Wanted {
                        pipeline: self.name(),
                        params: self.config.params.clone(),
                        input,
                    };
                    Box::pin(runs.child(cx, &attempt, asked)).await
                }
                (false, Some(given)) => Box::pin(self.live(cx, &attempt, given)).await,
                (false, None) => Outcome::Failed(Error::new(Code::Internal, "it is given nothing")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_is_read_as_long_as_it_is_the_one_that_was_listed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.md"), "text").unwrap();
        let hash = blake3::hash(b"text").to_hex().to_string();
        assert!(
            matches!(read(folder.path(), "a.md", Some(&hash)), Ok(Given::File { bytes, .. }) if bytes == b"text")
        );
        std::fs::write(folder.path().join("a.md"), "other").unwrap();
        let e = read(folder.path(), "a.md", Some(&hash)).unwrap_err();
        assert!(e.message.contains("was changed"), "{e}");
        assert_eq!(read(folder.path(), "b.md", None).unwrap_err().code, Code::NotFound);
    }

    proptest! {
        #[test]
        fn no_path_leads_out_of_the_folder(path in "[./a\\\\]{0,12}") {
            if is_below(&path) {
                let joined = Path::new("/x/y").join(&path);
                prop_assert!(joined.starts_with("/x/y"));
                prop_assert!(!joined.components().any(|c| c == std::path::Component::ParentDir));
            }
        }
    }
}
