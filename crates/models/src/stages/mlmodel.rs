//! A model's folder as MLflow's clients read it: `MLmodel` and `requirements.txt` beside `model.onnx`.

use serde_json::json;

use crate::gate::ModelSignature;

/// What the model's file is called in its folder.
pub(super) const FILE: &str = "model.onnx";

/// The file `MLmodel`: YAML, of which JSON is a part.
pub(super) fn file(run: &str, path: &str, id: &str, signature: &ModelSignature) -> String {
    let fields = |of: &[crate::gate::Field]| {
        let all: Vec<_> = of
            .iter()
            .map(|f| json!({"name": f.name, "type": column(&f.ty), "required": !f.optional}))
            .collect();
        json!(all).to_string()
    };
    let text = json!({
        "artifact_path": path,
        "flavors": {
            "onnx": {"data": FILE, "onnx_version": "1.18.0", "providers": ["CPUExecutionProvider"]},
            "python_function": {"data": FILE, "loader_module": "mlflow.onnx"},
        },
        "mlflow_version": "3.17.2",
        "model_uuid": id.trim_start_matches("m-"),
        "run_id": run,
        // The types of ONNX models are of columns: mlflow.onnx hands each over by its name.
        "signature": {"inputs": fields(&signature.inputs), "outputs": fields(&signature.outputs), "params": null},
    });
    serde_json::to_string_pretty(&text).unwrap_or_default() + "\n"
}

/// A type in MLflow's words.
fn column(ty: &str) -> &str {
    match ty {
        "text" => "string",
        "bool" => "boolean",
        "int" => "integer",
        other => other,
    }
}

/// What a client needs to load it.
pub(super) const REQUIREMENTS: &str = "mlflow\nonnx\nonnxruntime\n";
