//! A model's folder as MLflow's clients read it: `MLmodel` and `requirements.txt` beside `model.onnx`.

use contract::Error;
use pipeline::artifacts::Artifact;
use serde_json::{Value, json};

use super::error::written;
use super::job::Job;
use super::record::{RECORD, Recorded};
use super::track::Tracking;
use crate::onnx::{Adopted, Port};

/// What the model's file is called in its folder.
pub(super) const FILE: &str = "model.onnx";

/// Puts a model and its record where the run's artifacts are, as a folder that MLflow's clients load, and keeps both as files of the
/// stage.
pub(super) async fn put(
    job: &Job<'_>,
    tracking: &Tracking<'_>,
    model: &Adopted,
    record: &Recorded,
) -> Result<(Artifact, Artifact), Error> {
    let noted = serde_json::to_vec_pretty(record).map_err(|e| written(&e))?;
    let folder = |name: &str| format!("model/{name}");
    tracking.put(&folder(FILE), model.onnx.clone()).await?;
    tracking.put(&folder(RECORD), noted.clone()).await?;
    tracking.put(&folder("requirements.txt"), REQUIREMENTS.into()).await?;
    tracking.put(&folder("MLmodel"), file(&tracking.run.info.id, "model", &record.id, model).into()).await?;
    Ok((job.keep(FILE, model.onnx.clone()).await?, job.keep(RECORD, noted).await?))
}

/// The file `MLmodel`: YAML, of which JSON is a part.
fn file(run: &str, path: &str, id: &str, model: &Adopted) -> String {
    // A classifier of scikit-learn's may give a map for each row, which no signature can say.
    let known = model.outputs.iter().all(|port| TYPES.contains(&port.kind.as_str()));
    let outputs = known.then(|| tensors(&model.outputs));
    let text = json!({
        "artifact_path": path,
        "flavors": {
            "onnx": {"data": FILE, "onnx_version": "1.18.0", "providers": ["CPUExecutionProvider"]},
            "python_function": {"data": FILE, "loader_module": "mlflow.onnx"},
        },
        "mlflow_version": "3.17.2",
        "model_uuid": id.trim_start_matches("m-"),
        "run_id": run,
        "signature": {"inputs": tensors(&model.inputs), "outputs": outputs, "params": null},
    });
    serde_json::to_string_pretty(&text).unwrap_or_default() + "\n"
}

/// Types of elements that NumPy has too, by their names here.
const TYPES: [&str; 13] = [
    "double", "float", "float16", "string", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64",
];

/// A signature of tensors: `mlflow.onnx` hands each to the model as it is, by its name.
fn tensors(ports: &[Port]) -> String {
    let spec = |port: &Port| {
        let dtype = match port.kind.as_str() {
            "double" => "float64",
            "float" => "float32",
            "string" => "str",
            other => other,
        };
        json!({"name": port.name, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": port.shape}})
    };
    ports.iter().map(spec).collect::<Value>().to_string()
}

/// What a client needs to load it.
const REQUIREMENTS: &str = "mlflow\nonnx\nonnxruntime\n";
