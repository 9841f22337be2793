//! Calls to models: each sort of them has its counters found once.

use std::sync::atomic::AtomicU64;

use contract::{AttemptRecord, Code, Ending, ModelName, PipelineName, RequestRecord, TenantId};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::{Again, Attempt, ByModel, Fallback, Label, Maybe, Metrics, Payer, Tokens, gen_ai};

/// A call to a model, as far as the counters tell calls apart.
#[derive(Hash, PartialEq, Eq)]
pub(super) struct Sort {
    model: ModelName,
    pipeline: Option<PipelineName>,
    tenant: TenantId,
    ending: Ending,
    error: Option<Code>,
}

impl Sort {
    fn of(r: &RequestRecord, a: &AttemptRecord) -> Self {
        Sort {
            model: a.model.clone(),
            pipeline: r.pipeline.clone(),
            tenant: r.tenant.clone(),
            ending: a.ending,
            error: a.error.as_ref().map(|e| e.code),
        }
    }
}

/// The counters of one sort of calls to models.
pub(super) struct Call {
    attempts: Counter,
    queue_wait: Histogram,
    input: Counter,
    output: Counter,
    cost: Counter<f64, AtomicU64>,
    gen_ai: gen_ai::Call,
}

impl Metrics {
    pub(super) fn attempts(&self, r: &RequestRecord) {
        for a in &r.attempts {
            self.calls.with(
                Sort::of(r, a),
                || self.call(r, a),
                |call| {
                    call.attempts.inc();
                    call.queue_wait.observe(a.queued_us as f64 / 1e6);
                    call.input.inc_by(a.usage.input_tokens);
                    call.output.inc_by(a.usage.output_tokens);
                    call.cost.inc_by(a.cost.as_usd());
                    self.gen_ai.observe(a, &mut call.gen_ai);
                },
            );
            if let Some(reason) = a.reason {
                let labels = Again { model: Label(a.model.clone()), reason: reason.as_str() };
                self.retries.of(&labels).inc();
            }
            if let Some(other) = &a.instead_of {
                let labels = Fallback { model: Label(a.model.clone()), instead_of: Label(other.clone()) };
                self.fallbacks.of(&labels).inc();
            }
        }
    }

    fn call(&self, r: &RequestRecord, a: &AttemptRecord) -> Call {
        let model = Label(a.model.clone());
        let (pipeline, tenant) = (Maybe(r.pipeline.clone()), self.names.tenant(&r.tenant));
        let tokens = |direction| {
            let (model, pipeline, tenant) = (model.clone(), pipeline.clone(), tenant.clone());
            self.tokens.of(&Tokens { model, pipeline, tenant, direction })
        };
        let attempt = Attempt { model: model.clone(), ending: a.ending.as_str() };
        Call {
            attempts: self.attempts.of(&attempt),
            queue_wait: self.queue_wait.of(&ByModel { model: model.clone() }),
            input: tokens("input"),
            output: tokens("output"),
            gen_ai: self.gen_ai.call(a, self.names.upstream(&a.model)),
            cost: self.cost.of(&Payer { model, pipeline, tenant }),
        }
    }
}
