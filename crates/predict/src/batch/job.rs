//! A request on its way through a batch, and a batch through a model.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::backend::Model;
use crate::error::Error;
use crate::tensor::Tensor;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The outputs that were asked for, in that order.
    pub outputs: Vec<Tensor>,
    /// How long the request waited.
    pub queued: Duration,
    /// How long the run took that it was in.
    pub ran: Duration,
    /// How many requests were in that run.
    pub together: usize,
}

/// What waits.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Arc<[usize]>,
    /// Its inputs have no rows in common: nothing can be put beside them.
    pub(super) alone: bool,
    pub(super) reply: oneshot::Sender<Result<Done, Error>>,
}

impl Job {
    /// Whether both can be one run: their rows have one shape, and they ask for the same.
    pub(super) fn is_like(&self, other: &Job) -> bool {
        let same =
            |(a, b): (&Tensor, &Tensor)| a.row_shape() == b.row_shape() && a.datatype() == b.datatype();
        !self.alone
            && !other.alone
            && self.outputs == other.outputs
            && self.inputs.len() == other.inputs.len()
            && self.inputs.iter().zip(&other.inputs).all(same)
    }
}

/// Whether the inputs have no rows in common.
pub(super) fn is_alone(inputs: &[Tensor]) -> bool {
    let rows = inputs.first().map_or(0, Tensor::rows);
    rows == 0 || inputs.iter().any(|t| t.rows() != rows || t.shape().is_empty())
}

/// How many rows a request has: those of its first input, and at least one, since none is no less work.
pub(super) fn rows_of(inputs: &[Tensor]) -> usize {
    inputs.first().map_or(1, Tensor::rows).max(1)
}

/// A run that a defect of the runtime's binding does not end the thread with.
pub(super) fn run(model: &mut dyn Model, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, Error> {
    catch_unwind(AssertUnwindSafe(|| model.run(inputs, outputs)))
        .unwrap_or_else(|_| Err(Error::Defect("the model's runtime panicked".to_owned())))
}

/// Many requests as one run, and each one's rows.
pub(super) fn run_together(model: &mut dyn Model, jobs: &[&Job]) -> Result<Vec<Vec<Tensor>>, Error> {
    let Some(first) = jobs.first() else { return Ok(Vec::new()) };
    let sizes: Vec<usize> = jobs.iter().map(|j| j.inputs.first().map_or(0, Tensor::rows)).collect();
    let column = |at: usize| {
        let parts: Vec<Tensor> = jobs.iter().filter_map(|j| j.inputs.get(at).cloned()).collect();
        Tensor::concat(&parts)
    };
    let inputs = (0..first.inputs.len()).map(column).collect::<Result<Vec<_>, _>>()?;
    let outputs = run(model, &inputs, &first.outputs)?;
    let mut each: Vec<Vec<Tensor>> = sizes.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for output in outputs {
        for (own, part) in each.iter_mut().zip(output.split(&sizes)?) {
            own.push(part);
        }
    }
    Ok(each)
}
