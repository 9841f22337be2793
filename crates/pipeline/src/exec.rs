//! The kind `exec`: any command as a stage of a durable run. Its inputs are files, its outputs are files that it leaves, and what
//! it says goes to the log of its attempt.
//!
//! An attempt, and each element of a list that it runs for, has a folder of its own: `in/` with what it is given, `out/` for what it leaves (`FOREBAY_OUTPUT`), `tmp/` for the
//! rest (`TMPDIR`). Its value is
//!
//! ```json
//! {"exit": 0, "outputs": {"model": [{"name": "model.onnx", "hash": "…", "bytes": 123}]},
//!  "result": {"auc": 0.85}, "environment": {"command": ["python3", "train.py"], "os": "linux"}}
//! ```
//!
//! with `result` as it stands in `out/result.json`. Everything in it is equal for equal work: no time, no attempt, no place.
//!
//! Promises:
//! - What the command says is read as fast as it comes, and never kept: one that prints without end neither waits nor fills
//!   memory [test: a_command_that_prints_a_gigabyte_neither_waits_nor_fills_memory].
//! - No process of an attempt outlives it: not a child that made a session of its own
//!   [test: children_that_leave_the_session_end_with_the_command], not one that ignores being asked
//!   [test: a_command_that_ignores_being_asked_is_killed_after_its_grace], not when the stage is dropped
//!   [test: dropping_the_stage_leaves_no_process]. When Forebay itself is killed, its next start ends what is left ([`reap`])
//!   [test: what_a_killed_forebay_left_is_ended_at_the_next_start].
//! - Nothing outside of its folder becomes an output [test: no_output_leads_out_of_the_folder], and an output is whole on disk
//!   before the stage is done.
//! - A value of its environment is never recorded, and is taken out of its log when its name says that it is a secret
//!   [test: a_secret_of_its_environment_is_in_no_log_and_no_value].

mod config;
mod inputs;
mod lines;
mod members;
mod notes;
mod outputs;
mod process;
mod record;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{BoxFuture, Context, Effort, Inputs, Kind, Outcome, Signature, Stage, Value};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::artifacts::Artifacts;
use crate::registry::{Problem, Site, StageKind};
use config::ExecConfig;
pub use inputs::{Place, TableFormat};
pub use notes::{Noted, Notes};
use outputs::Pattern;

/// The file of a stage's result, in the folder of its outputs.
const RESULT: &str = "result.json";

/// What `exec` stages are made of.
#[derive(Clone)]
pub struct ExecParts {
    /// The project's folder.
    pub project: PathBuf,
    /// Where outputs are kept.
    pub artifacts: Artifacts,
    /// Who writes tables; without one, a table that is an input fails the stage.
    pub place: Option<Arc<dyn Place>>,
    /// Who keeps what commands note.
    pub notes: Option<Arc<dyn Notes>>,
}

impl ExecParts {
    fn marker(&self) -> String {
        marker(&self.project)
    }
}

/// Tells the processes of projects apart.
fn marker(project: &Path) -> String {
    let whole = project.canonicalize().unwrap_or_else(|_| project.to_owned());
    let hash = blake3::hash(whole.as_os_str().as_encoded_bytes()).to_hex();
    hash.as_str().get(..16).unwrap_or_default().to_owned()
}

/// Kills what attempts of this project left whose Forebay died, and gives how many processes it were. To be called at the start,
/// before any stage is tried again; what a Forebay that lives has begun is not touched. It waits for the system: a moment.
pub fn reap(project: &Path) -> usize {
    members::reap(&marker(project))
}

/// Makes `exec` stages.
pub struct ExecKind {
    parts: Arc<ExecParts>,
}

impl ExecKind {
    /// Of these parts.
    pub fn new(parts: ExecParts) -> Self {
        // A command runs elsewhere: relative paths would mean something else there.
        let project = std::path::absolute(&parts.project).unwrap_or_else(|_| parts.project.clone());
        ExecKind { parts: Arc::new(ExecParts { project, ..parts }) }
    }
}

fn unread(e: &serde_json::Error) -> Vec<Problem> {
    let remedy = "see the reference of `exec`".to_owned();
    vec![Problem { pointer: String::new(), message: e.to_string(), remedy }]
}

impl StageKind for ExecKind {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(ExecConfig).to_value()
    }

    fn build(&self, config: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let config = ExecConfig::deserialize(config).map_err(|e| unread(&e))?;
        let patterns = config.check()?;
        let signature = Signature {
            inputs: config.inputs.keys().map(|name| (name.clone(), Kind::Any)).collect(),
            output: Kind::Json(None),
            streams: false,
            instant: false,
            effort: Effort::Heavy,
        };
        Ok(Arc::new(Exec { parts: Arc::clone(&self.parts), config, patterns, signature }))
    }

    fn durable(&self) -> bool {
        true
    }

    fn code(&self) -> &'static [&'static str] {
        &["command"]
    }

    /// Variables that it takes from the server's environment, by the hashes of their values.
    fn made_of(&self, config: &Json) -> Vec<(String, String)> {
        let Ok(config) = ExecConfig::deserialize(config) else { return Vec::new() };
        let hash = |name: &String| match std::env::var_os(name) {
            Some(value) => blake3::hash(value.as_encoded_bytes()).to_hex().to_string(),
            None => "absent".to_owned(),
        };
        config.pass_env.iter().map(|name| (format!("variable {name}"), hash(name))).collect()
    }

    fn files(&self, config: &Json) -> Vec<PathBuf> {
        let config = ExecConfig::deserialize(config);
        config.map(|c| c.files(&self.parts.project)).unwrap_or_default()
    }
}

struct Exec {
    parts: Arc<ExecParts>,
    config: ExecConfig,
    patterns: IndexMap<String, Pattern>,
    signature: Signature,
}

impl Stage for Exec {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(
            async move { stage::run(&self.parts, &self.config, &self.patterns, cx, inputs).await.into() },
        )
    }
}
