//! What crosses from `train` to `evaluate` to `register`.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Code, Error, Inputs, Value};
use pipeline::artifacts::Artifact;
use serde::{Deserialize, Serialize};

use super::error::written;
use crate::gate::Measured;

/// The form of a [`Candidate`].
const SCHEMA: &str = "forebay.model/1";

/// A model that may come to answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The form of this record: `forebay.model/1`.
    pub schema: String,
    /// What it is made of: `m-` and 32 digits. Equal data, configuration and program give an equal id.
    pub id: String,
    /// The tracked run that made it.
    pub run: String,
    /// The table it learnt from, by its version: `DATASET@NAME`.
    pub table: String,
    /// Its file, ONNX.
    pub model: Artifact,
    /// Its record, a [`super::Recorded`].
    pub record: Artifact,
    /// Figures on what was held back.
    pub metrics: BTreeMap<String, f64>,
    /// All figures, once it was evaluated: a [`crate::evaluate::Evaluation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Artifact>,
    /// What was measured of it on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

impl Candidate {
    pub(super) fn new(id: String, run: String, table: &str, files: (Artifact, Artifact)) -> Candidate {
        let (model, record) = files;
        let (schema, table) = (SCHEMA.to_owned(), table.to_owned());
        let metrics = BTreeMap::new();
        Candidate { schema, id, run, table, model, record, metrics, evaluation: None, measured: None }
    }

    /// The one that is given.
    pub(super) fn given(inputs: &Inputs) -> Result<Candidate, Error> {
        let wrong = |what: &str| {
            let message = format!("the input `model` {what}: it is what a stage `train` or `evaluate` gives");
            Error::new(Code::InvalidRequest, message)
        };
        let json = match inputs.get("model") {
            Some(Value::Json(json)) => json,
            Some(other) => return Err(wrong(&format!("is {}, and no model", other.kind()))),
            None => return Err(wrong("was left out")),
        };
        if json.get("schema").and_then(|s| s.as_str()) != Some(SCHEMA) {
            return Err(wrong("is JSON, and no model"));
        }
        serde_json::from_value((**json).clone()).map_err(|_| wrong("is no model of this version of Forebay"))
    }

    pub(super) fn value(&self) -> Result<Value, Error> {
        Ok(Value::Json(Arc::new(serde_json::to_value(self).map_err(|e| written(&e))?)))
    }
}

/// The dataset and the version that a table names.
pub(super) fn parted(table: &str) -> (&str, &str) {
    table.rsplit_once('@').unwrap_or((table, ""))
}
