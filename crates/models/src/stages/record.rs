//! What is kept of a model beside its file, in `forebay.json`: enough to ask it, to hold it against another, and to make it again.

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::gate::{Field, ModelSignature};
use crate::onnx::Classes;
use crate::reproduce::Description;
use crate::train::{Report, TrainConfig};

/// What the record is called among a model's artifacts.
pub const RECORD: &str = "forebay.json";

/// The record of a model that was trained here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The form of this record: `forebay.record/1`.
    pub schema: String,
    /// The model's id, which names what it is made of.
    pub id: String,
    /// What it is made of.
    pub made_of: Description,
    /// The table it learnt from: `DATASET@NAME`.
    pub table: String,
    /// What was configured.
    pub config: TrainConfig,
    /// What a classifier's classes are called, in the order of its probabilities.
    pub classes: Option<Classes>,
    /// What it takes and gives.
    pub signature: ModelSignature,
    /// When it was made.
    pub trained_at: UnixMillis,
    /// How long that took, in seconds.
    pub training_seconds: f64,
    /// When the last row happened that it learnt from.
    pub trained_until: Option<UnixMillis>,
    /// The BLAKE3 of its file.
    pub sum: String,
    /// How the training went.
    pub report: Report,
}

impl Recorded {
    /// The kind of model, in words: `gradient-boosted trees, 120 rounds`.
    pub fn kind(&self) -> String {
        match (&self.config.gbdt, &self.config.adopted) {
            (Some(_), _) => format!("gradient-boosted trees, {} rounds", self.report.rounds),
            (None, Some(own)) => format!("made elsewhere, {}", own.found),
            (None, None) => format!("linear model, {} steps of the solver", self.report.rounds),
        }
    }

    /// Columns with how much each matters, the most important first, by the best measure there is.
    pub fn importance(&self) -> Vec<(String, f64)> {
        let weight = |one: &crate::train::Importance| {
            one.permutation.or(one.gain).or(one.coefficient).unwrap_or_default()
        };
        let mut all: Vec<(String, f64)> =
            self.report.importance.iter().map(|one| (one.column.clone(), weight(one))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }
}

/// The signature of a loaded model, in the words of gates. One that takes columns side by side, and says how they are called, takes
/// each of them.
pub(super) fn signature(of: &predict::Signature, features: &[String]) -> ModelSignature {
    use predict::DataType;
    let word = |ty: DataType| match ty {
        DataType::Bool => "bool",
        DataType::Fp16 | DataType::Fp32 => "float",
        DataType::Fp64 => "double",
        DataType::Bytes => "text",
        DataType::Int64 | DataType::Uint64 | DataType::Uint32 => "long",
        _ => "int",
    };
    let field =
        |f: &predict::Field| Field { name: f.name.clone(), ty: word(f.datatype).to_owned(), optional: false };
    let inputs = match of.inputs.as_slice() {
        [only] if only.shape.len() == 2 && !features.is_empty() => {
            let ty = word(only.datatype);
            features.iter().map(|f| Field { name: f.clone(), ty: ty.to_owned(), optional: false }).collect()
        }
        all => all.iter().map(field).collect(),
    };
    ModelSignature { inputs, outputs: of.outputs.iter().map(field).collect() }
}
