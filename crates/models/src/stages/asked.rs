//! A model that is asked here: what it says of rows of a table, how long an answer takes, how large it is.
//!
//! It is asked as whoever serves it would ask: by its file, through the same runtime, with columns found by their names. Blocks: call it
//! aside.

use std::collections::HashMap;
use std::ops::Range;

use contract::Clock;
use predict::tabular::{Columns, Values as Given};
use predict::{Artifact, Backend, DataType, Error, LoadSettings, Model, Tensor};

use super::record;
use crate::evaluate::{self, Key, Rows, Truth};
use crate::gate::{Measured, ModelSignature};
use crate::onnx::Classes;
use crate::train::frozen::Frozen;
use crate::train::{Column, Frame, Label, Values};

/// Rows that are asked at once.
const ROWS: usize = 2_048;
/// Answers to a single row: those that warm up, and those that are measured.
const WARM: usize = 100;
const MEASURED: usize = 1_000;

/// A loaded model.
pub struct Asked {
    model: Box<dyn Model>,
    artifact_bytes: u64,
    /// The place of the output that answers.
    output: usize,
}

/// What a model said of each row: a value, or a probability for each class.
pub type Answers = Vec<Vec<f64>>;

impl Asked {
    /// Loads a model from its file's content.
    ///
    /// # Errors
    /// It is none that the runtime takes, or gives nothing that could be an answer.
    pub fn load(backend: &dyn Backend, file: Vec<u8>) -> Result<Asked, Error> {
        let artifact_bytes = file.len() as u64;
        let model = backend.load(&Artifact::Content(file.into()), &LoadSettings::default())?;
        let outputs = &model.signature().outputs;
        let floats = |ty: DataType| matches!(ty, DataType::Fp32 | DataType::Fp64);
        let named = |name: &str| outputs.iter().position(|f| f.name == name && floats(f.datatype));
        let table = || outputs.iter().position(|f| floats(f.datatype) && f.shape.len() == 2);
        let any = || outputs.iter().position(|f| floats(f.datatype));
        let output = named("probabilities")
            .or_else(|| named("prediction"))
            .or_else(table)
            .or_else(any)
            .ok_or_else(|| {
                Error::Load("the model gives no number: neither probabilities nor a prediction".to_owned())
            })?;
        Ok(Asked { model, artifact_bytes, output })
    }

    /// What it takes and gives.
    pub fn signature(&self) -> ModelSignature {
        record::signature(self.model.signature(), &self.model.metadata().features)
    }

    /// The outputs that could each be the answer, where nothing says which one is.
    pub fn several(&self) -> Vec<String> {
        let outputs = &self.model.signature().outputs;
        let float = |f: &&predict::Field| matches!(f.datatype, DataType::Fp32 | DataType::Fp64);
        let said = outputs
            .get(self.output)
            .is_some_and(|f| matches!(f.name.as_str(), "probabilities" | "prediction"));
        let all: Vec<String> = outputs.iter().filter(float).map(|f| f.name.clone()).collect();
        if said || all.len() < 2 { Vec::new() } else { all }
    }

    /// Whether it takes columns side by side and does not say how they are called.
    pub fn is_unnamed(&self) -> bool {
        let one = |f: &predict::Field| f.shape.len() == 2 && f.shape.get(1) != Some(&1);
        matches!(self.model.signature().inputs.as_slice(), [only] if one(only))
            && self.model.metadata().features.is_empty()
    }

    /// What it says of each row of a table.
    ///
    /// # Errors
    /// A column that it takes is not there, or holds what it does not take.
    pub fn answers(&mut self, frame: &Frame) -> Result<Answers, Error> {
        let mut all = Vec::with_capacity(frame.rows());
        for from in (0..frame.rows()).step_by(ROWS) {
            let piece = from..frame.rows().min(from + ROWS);
            let inputs = self.inputs(frame, piece.clone())?;
            let given = self.model.run(&inputs, &[self.output])?;
            let tensor = given.first().ok_or_else(|| Error::Defect("a run gave nothing".to_owned()))?;
            let numbers = numbers(tensor)?;
            let width = numbers.len() / piece.len().max(1);
            if width == 0 || numbers.len() != width * piece.len() {
                let m = format!("{} rows were asked, and {} numbers came", piece.len(), numbers.len());
                return Err(Error::Run(m));
            }
            all.extend(numbers.chunks_exact(width).map(<[f64]>::to_vec));
        }
        Ok(all)
    }

    fn inputs(&self, frame: &Frame, rows: Range<usize>) -> Result<Vec<Tensor>, Error> {
        columns(frame, &rows).bind(self.model.signature(), self.model.metadata())
    }

    /// How long an answer to a single row takes on this machine, the way to the model apart, and what it holds.
    ///
    /// # Errors
    /// As [`Asked::answers`].
    pub fn measure(&mut self, frame: &Frame, clock: &dyn Clock) -> Result<Measured, Error> {
        let mut measured = Measured {
            latency_p99_ms: None,
            artifact_bytes: Some(self.artifact_bytes),
            memory_bytes: Some(self.model.bytes()),
        };
        if frame.rows() == 0 {
            return Ok(measured);
        }
        let each: Vec<Vec<Tensor>> = (0..frame.rows().min(MEASURED))
            .map(|row| self.inputs(frame, row..row + 1))
            .collect::<Result<_, _>>()?;
        let mut taken = Vec::with_capacity(MEASURED);
        for (at, inputs) in each.iter().cycle().take(WARM + MEASURED).enumerate() {
            let began = clock.now();
            self.model.run(inputs, &[self.output])?;
            if at >= WARM {
                taken.push(clock.now().since(began).as_secs_f64() * 1e3);
            }
        }
        taken.sort_by(f64::total_cmp);
        measured.latency_p99_ms = evaluate::metrics::calibration::quantile(&taken, 0.99);
        Ok(measured)
    }
}

/// What a model is asked about some rows of a table with.
pub(super) fn columns<'a>(frame: &'a Frame, rows: &Range<usize>) -> Columns<'a> {
    let column = |column: &'a Column| -> Option<(&'a str, Given<'a>)> {
        let values = match &column.values {
            Values::Number(all) => Given::Numbers(all.get(rows.clone())?),
            Values::Category { codes, words } => Given::Texts { codes: codes.get(rows.clone())?, words },
            // No model takes a time.
            Values::Time(_) => return None,
        };
        Some((column.name.as_str(), values))
    };
    Columns(frame.columns().iter().filter_map(column).collect())
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, Error> {
    match tensor.datatype() {
        DataType::Fp32 => Ok(tensor.values::<f32>()?.iter().map(|x| f64::from(*x)).collect()),
        _ => Ok(tensor.values::<f64>()?.into_owned()),
    }
}

pub(super) fn names(classes: &Classes) -> Vec<String> {
    match classes {
        Classes::Numbers(all) => all.iter().map(ToString::to_string).collect(),
        Classes::Texts(all) => all.clone(),
    }
}

/// Answers beside what was true of the same rows. `classes` are the model's own, in the order of its probabilities; without them
/// they are those of the table.
///
/// # Errors
/// The answers are no finite numbers.
pub(super) fn rows(
    frozen: &Frozen,
    answers: Answers,
    classes: Option<&Classes>,
    keys: Vec<Key>,
) -> Result<Rows, evaluate::Error> {
    let first = |answer: &Vec<f64>| answer.first().copied().unwrap_or(f64::NAN);
    let truth = match &frozen.label {
        Label::Value(truth) => {
            Truth::Regression { truth: truth.clone(), predicted: answers.iter().map(first).collect() }
        }
        Label::Class { of, classes: own } => {
            let wanted = names(own);
            let given = classes.map_or_else(|| wanted.clone(), names);
            let places: HashMap<&str, usize> =
                given.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
            // A class that the model does not know is one that it gives no chance.
            let chance = |answer: &Vec<f64>, class: &String| {
                places.get(class.as_str()).and_then(|at| answer.get(*at)).copied().unwrap_or(0.0)
            };
            match wanted.as_slice() {
                [_, second] => {
                    let score = |answer: &Vec<f64>| match answer.as_slice() {
                        [one] => *one,
                        _ => chance(answer, second),
                    };
                    let scores = answers.iter().map(score).collect();
                    Truth::Binary { labels: of.iter().map(|class| *class == 1).collect(), scores }
                }
                _ => {
                    let of_row = |answer| wanted.iter().map(move |class| chance(answer, class));
                    let probabilities = answers.iter().flat_map(of_row).collect();
                    Truth::Multiclass { labels: of.clone(), probabilities, classes: wanted }
                }
            }
        }
    };
    let mut rows = Rows::new(truth)?;
    if let Some(weights) = &frozen.weights {
        rows = rows.weighted(weights.clone())?;
    }
    keys.into_iter().try_fold(rows, Rows::key)
}

/// Columns that rows are told apart by, each once.
///
/// # Errors
/// A column that is not there, or holds times.
pub(super) fn keys(frame: &Frame, columns: &[&String]) -> Result<Vec<Key>, crate::train::Error> {
    let mut named: Vec<&String> = columns.to_vec();
    named.sort_unstable();
    named.dedup();
    let key = |name: &&String| {
        let texts = frame.texts(name)?;
        Ok(Key::new(name, texts.iter().map(Option::as_deref)))
    };
    named.iter().map(key).collect()
}
