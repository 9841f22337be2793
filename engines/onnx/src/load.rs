//! A file into a session.

use std::fs::File;
use std::io::Read;

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use predict::backend::format;
use predict::{Artifact, Error, LoadSettings};

use crate::memory;
use crate::session::OnnxModel;

/// Refuses what is no model by its first bytes.
pub(crate) fn check(artifact: &Artifact) -> Result<(), Error> {
    let mut head = [0; 64];
    let head = match artifact {
        Artifact::Content(bytes) => bytes.get(..64).unwrap_or(bytes),
        Artifact::File(path) => {
            let unreadable =
                |e: std::io::Error| Error::Load(format!("the model {} cannot be read: {e}", path.display()));
            let mut file = File::open(path).map_err(unreadable)?;
            let n = file.read(&mut head).map_err(unreadable)?;
            head.get(..n).unwrap_or_default()
        }
    };
    match format(head).refusal() {
        Some(why) => Err(Error::Load(format!("the model {artifact:?} is not loaded: {why}"))),
        None => Ok(()),
    }
}

pub(crate) fn load(
    environment: &Environment,
    artifact: &Artifact,
    settings: &LoadSettings,
) -> Result<OnnxModel, Error> {
    // Others that load meanwhile would be counted too.
    let (session, grown) = memory::grown_by(|| open(environment, artifact, settings));
    let failed =
        |e: ort::Error| Error::Load(format!("the model {artifact:?} cannot be loaded: {}", advice(&e)));
    let size = match artifact {
        Artifact::File(path) => path.metadata().map_or(0, |m| m.len()),
        Artifact::Content(bytes) => bytes.len() as u64,
    };
    OnnxModel::new(session.map_err(failed)?, grown.max(size))
}

fn open(environment: &Environment, artifact: &Artifact, settings: &LoadSettings) -> ort::Result<Session> {
    let mut builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(settings.threads.get())?
        // One operator after the other: what is left of the machine belongs to other requests.
        .with_inter_threads(1)?
        // A thread that spins takes a core from whoever has work.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // Of a shape that an exporter got wrong it warns with every run, which costs more than a small run itself.
        .with_log_level(LogLevel::Error)?;
    match artifact {
        Artifact::File(path) => builder.commit_from_file(path),
        Artifact::Content(bytes) => builder.commit_from_memory(bytes),
    }
}

/// The runtime's words, and what to do where that is known.
fn advice(e: &ort::Error) -> String {
    let said = e.message();
    let known = [
        (
            "opset",
            "it is of a newer ONNX than this runtime knows: export it with a lower `target_opset`, or install a newer ONNX Runtime",
        ),
        (
            "IR version",
            "it is of a newer ONNX than this runtime knows: export it with an older `onnx`, or install a newer ONNX Runtime",
        ),
        (
            "Failed to find a kernel",
            "it has an operator that this runtime has no code for: export it with another opset",
        ),
        (
            "is not a registered function/op",
            "it has an operator of its own, and operator libraries are not loaded: export it without",
        ),
        ("Protobuf parsing failed", "it is damaged or no ONNX model: export or download it again"),
        ("external data", "its weights are in files beside it: they must be in the same folder"),
    ];
    match known.iter().find(|(mark, _)| said.contains(mark)) {
        Some((_, advice)) => format!("{advice} ({said})"),
        None => said.to_owned(),
    }
}
