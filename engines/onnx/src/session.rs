//! A loaded model.

use std::collections::BTreeMap;

use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use predict::batch::probe;
use predict::{DYNAMIC, Error, Metadata, Model, Signature, Tensor};

use crate::outputs;
use crate::types::{self, Form};
use crate::values;

/// A session and what is known of it.
pub(crate) struct OnnxModel {
    session: Session,
    signature: Signature,
    forms: Vec<Form>,
    metadata: Metadata,
    bytes: u64,
    /// Which outputs the last request asked for, and the options that say so: most ask for the same.
    selected: Option<(Vec<usize>, RunOptions<ort::session::HasSelectedOutputs>)>,
}

impl OnnxModel {
    pub(crate) fn new(session: Session, bytes: u64) -> Result<Self, Error> {
        let inputs = session.inputs().iter().map(|i| types::input(i.name(), i.dtype()));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let outputs = session.outputs().iter().map(|o| types::output(o.name(), o.dtype()));
        let (outputs, forms): (Vec<_>, Vec<_>) = outputs.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let metadata = metadata(&session);
        let signature = Signature { inputs, outputs };
        let mut model = OnnxModel { session, signature, forms, metadata, bytes, selected: None };
        model.settle();
        Ok(model)
    }

    /// Two rows of made-up elements say what the file does not, or says wrongly: the columns of a classifier's maps, and output
    /// dimensions that were fixed by whoever exported one row. A model that does not take them is left as it says it is.
    fn settle(&mut self) {
        let all: Vec<usize> = (0..self.signature.outputs.len()).collect();
        let Some(inputs) = probe::made_up(&self.signature, 2, 1, 1) else { return };
        let Ok(found) = self.run_named(&inputs, &all) else { return };
        for (field, (tensor, keys)) in self.signature.outputs.iter_mut().zip(found) {
            field.datatype = tensor.datatype();
            if field.shape.len() != tensor.shape().len() {
                field.shape = vec![DYNAMIC; tensor.shape().len()];
            }
            for (own, found) in field.shape.iter_mut().zip(tensor.shape()) {
                if own != found {
                    *own = DYNAMIC;
                }
            }
            if let Some(keys) = keys {
                if let (Some(own), Some(found)) = (field.shape.last_mut(), tensor.shape().last()) {
                    *own = *found;
                }
                self.metadata.properties.insert(format!("columns.{}", field.name), format!("{keys:?}"));
            }
        }
    }

    fn select(&mut self, outputs: &[usize]) -> Result<(), Error> {
        if self.selected.as_ref().is_some_and(|(own, _)| own == outputs) {
            return Ok(());
        }
        let mut names =
            outputs.iter().filter_map(|at| self.signature.outputs.get(*at)).map(|f| f.name.as_str());
        let first = names.next().ok_or_else(|| Error::Defect("no output was asked for".to_owned()))?;
        let selector = names.fold(OutputSelector::no_default().with(first), OutputSelector::with);
        let options = RunOptions::new().map_err(|e| values::failed(&e))?.with_outputs(selector);
        self.selected = Some((outputs.to_vec(), options));
        Ok(())
    }

    fn run_named(
        &mut self,
        inputs: &[Tensor],
        outputs: &[usize],
    ) -> Result<Vec<(Tensor, Option<outputs::Keys>)>, Error> {
        let held = inputs.iter().map(values::held).collect::<Result<Vec<_>, _>>()?;
        let given = inputs.iter().zip(&held).map(|(t, held)| values::input(t.shape(), held));
        let given = given.collect::<Result<Vec<SessionInputValue<'_>>, _>>()?;
        let all =
            outputs.len() == self.signature.outputs.len() && outputs.iter().enumerate().all(|(a, b)| a == *b);
        if !all {
            self.select(outputs)?;
        }
        let found = match &self.selected {
            Some((_, options)) if !all => self.session.run_with_options(given.as_slice(), options),
            _ => self.session.run(given.as_slice()),
        };
        let found = found.map_err(|e| values::failed(&e))?;
        let read = |at: &usize| {
            let (field, form) = self.signature.outputs.get(*at).zip(self.forms.get(*at)).ok_or_else(none)?;
            let value = found.get(&field.name).ok_or_else(none)?;
            outputs::read(*form, field.datatype, value)
        };
        outputs.iter().map(read).collect()
    }
}

fn none() -> Error {
    Error::Defect("an output was asked for that the model has not".to_owned())
}

impl Model for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, Error> {
        Ok(self.run_named(inputs, outputs)?.into_iter().map(|(tensor, _)| tensor).collect())
    }
}

fn metadata(session: &Session) -> Metadata {
    let Ok(said) = session.metadata() else { return Metadata::default() };
    let own = |key: String| said.custom(&key).map(|value| (key, value));
    let properties: BTreeMap<String, String> =
        said.custom_keys().unwrap_or_default().into_iter().filter_map(own).collect();
    let own = properties.get(Metadata::FEATURES).and_then(|names| serde_json::from_str(names).ok());
    let python = properties.get("feature_names").map(|names| {
        let bare = names.trim().trim_start_matches('[').trim_end_matches(']');
        bare.split(',')
            .map(|n| n.trim().trim_matches(['"', '\'']).to_owned())
            .filter(|n| !n.is_empty())
            .collect()
    });
    Metadata {
        producer: said.producer().unwrap_or_default(),
        description: said.description().unwrap_or_default(),
        features: own.or(python).unwrap_or_default(),
        properties,
    }
}
