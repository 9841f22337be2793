//! The fair queue as models see it: [`llm::Slots`] over [`admission::Gate`].

use std::sync::Arc;

use admission::{Ask, Gate, Priority};
use contract::{BoxFuture, Clock, Code, Deadline, Error, ModelName, TenantId};
use llm::{Slot, SlotOutcome, Slots};
use pipeline::task;

use crate::inside;

/// Slots of the gate.
#[derive(Debug, Clone)]
pub struct FairSlots {
    gate: Gate,
    clock: Arc<dyn Clock>,
}

impl FairSlots {
    /// Slots of this gate.
    pub fn new(gate: Gate, clock: Arc<dyn Clock>) -> Self {
        FairSlots { gate, clock }
    }
}

impl Slots for FairSlots {
    fn gives_way(&self) -> bool {
        inside::priority() == Some(Priority::Batch)
    }

    fn acquire<'a>(
        &'a self,
        model: &'a ModelName,
        tenant: &'a TenantId,
        tokens: u64,
        deadline: Deadline,
        mark: Option<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn Slot>, Error>> {
        let ask = Ask { priority: inside::priority(), tokens, deadline };
        // A job waits as long as its caller gave it.
        let wait = match mark.filter(|_| ask.priority.is_none()) {
            Some(mark) => self.gate.slot_or_turn(model, tenant, ask, mark),
            None => self.gate.slot(model, tenant, ask),
        };
        Box::pin(async move {
            match task::within(&*self.clock, deadline, wait).await {
                Ok(Ok(slot)) => Ok(Box::new(Taken(slot)) as Box<dyn Slot>),
                Ok(Err(refusal)) => Err(refusal.into()),
                Err(task::Elapsed) => {
                    let m = format!("the deadline passed in the queue of model `{model}`");
                    Err(Error::new(Code::DeadlineExceeded, m).limit_source(format!("model:{model}")))
                }
            }
        })
    }
}

struct Taken(admission::Slot);

impl Slot for Taken {
    fn output(&mut self, tokens: u64) {
        self.0.charge_output(tokens);
    }

    fn finish(self: Box<Self>, outcome: SlotOutcome) {
        let outcome = match outcome {
            SlotOutcome::Success(latency) => admission::SlotOutcome::Ok { latency },
            SlotOutcome::Overloaded => admission::SlotOutcome::Overloaded,
            SlotOutcome::Failed => admission::SlotOutcome::Failed,
            SlotOutcome::Cancelled => return,
        };
        self.0.finish(outcome);
    }
}
