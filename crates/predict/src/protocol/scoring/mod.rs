//! MLflow's `/invocations`: frames and tensors in, predictions out.
//!
//! A body is CSV with a head, or JSON with exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`
//! (and `params`, of which a model here has none). Frames and instances are answered by row, `inputs` by output: a model
//! with one output by its values alone.

mod csv;
mod json;
mod predictions;

pub use csv::csv;
pub use json::json;
pub use predictions::predictions;

use crate::backend::Metadata;
use crate::error::Error;
use crate::protocol::Input;
use crate::signature::Signature;
use crate::tabular::{self, Frame};
use crate::tensor::Tensor;

/// What was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Scored {
    /// Rows with columns.
    Frame(Frame),
    /// Values in lists, by the name of an input or of none.
    Lists {
        /// Names may be missing where a model has one input.
        inputs: Vec<(Option<String>, serde_json::Value)>,
        /// Whether the answer is by row.
        by_row: bool,
    },
}

impl Scored {
    /// Whether the answer is by row, where a model has several outputs.
    pub fn by_row(&self) -> bool {
        match self {
            Scored::Frame(_) => true,
            Scored::Lists { by_row, .. } => *by_row,
        }
    }

    /// What the model takes, in its order.
    ///
    /// # Errors
    /// What does not fit, by its name.
    pub fn bind(&self, signature: &Signature, metadata: &Metadata) -> Result<Vec<Tensor>, Error> {
        match self {
            Scored::Frame(frame) => {
                let tensors = frame.bind(signature, metadata)?;
                let named = signature.inputs.iter().zip(tensors);
                signature.bind(named.map(|(f, tensor)| Input { name: (&*f.name).into(), tensor }).collect())
            }
            Scored::Lists { inputs, .. } => {
                let read = |(name, value): &(Option<String>, serde_json::Value)| {
                    let field = match (name, signature.inputs.as_slice()) {
                        (Some(name), all) => all.iter().find(|f| f.name == *name),
                        (None, [only]) => Some(only),
                        (None, _) => None,
                    };
                    let name = name.as_deref().or(field.map(|f| &*f.name)).unwrap_or("inputs").to_owned();
                    // A name that is not the model's is said to be so by the signature, where columns are not joined.
                    let like = field.or(signature.inputs.first());
                    let datatype = like
                        .map(|f| f.datatype)
                        .ok_or_else(|| Error::wrong("inputs", "the model takes nothing: send no `inputs`"))?;
                    let tensor = json::tensor(&name, datatype, value)?;
                    Ok(Input { name: name.into(), tensor })
                };
                let inputs = inputs.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
                signature.bind(tabular::fit(inputs, signature))
            }
        }
    }
}
