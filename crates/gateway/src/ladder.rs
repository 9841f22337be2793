//! What a pipeline does when its models are so busy that a request would wait too long: less, at once, rather than all of
//! it, too late.
//!
//! ```text
//! expected wait ≤ limit ──▶ as written
//!   └── longer: down the rungs, to the first that helps
//!         model  the same with a smaller model, where that one's wait is within the limit
//!         draft  what can be made without a model
//!         shed   a refusal that says when to come again
//! ```
//!
//! Decided before admission, by the wait that the queue and the measured rate of each model foretell. Invariants: nobody waits
//! first and goes down then; what was done instead is told to the caller, recorded and counted.

use std::sync::Arc;
use std::time::Duration;

use contract::{Code, Deadline, Error, PipelineName, RetryHint, TenantId};

use crate::app::{App, Pipeline};
use crate::inside;

/// Input tokens of a call whose prompt is not made yet.
const ONE_CALL: u64 = 1_000;

/// When a pipeline does less, and what.
#[derive(Debug, Clone)]
pub struct WhenBusy {
    /// The longest wait for a model that is no reason to do less.
    pub wait: Duration,
    /// What it does instead: the first that helps.
    pub rungs: Vec<Rung>,
}

/// What a pipeline does when it is busy.
#[derive(Debug, Clone)]
pub enum Rung {
    /// The same with other models.
    Model(Arc<Pipeline>),
    /// Only what needs no model.
    Draft(Arc<Pipeline>),
    /// Nothing: a refusal.
    Shed,
}

impl Rung {
    /// The name in headers, records and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Model(_) => "model",
            Self::Draft(_) => "draft",
            Self::Shed => "shed",
        }
    }
}

/// The pipeline as it is to run now, and what it does instead of all of it.
///
/// # Errors
/// `overloaded` with the time after which the wait is expected to be within the limit.
pub(crate) fn descend(
    app: &App,
    tenant: &TenantId,
    name: &PipelineName,
    pipeline: Pipeline,
) -> Result<(Pipeline, Option<&'static str>), Error> {
    let Some(busy) = pipeline.when_busy.clone() else { return Ok((pipeline, None)) };
    if inside::priority().is_some() {
        // A job has the time that its caller gave it.
        return Ok((pipeline, None));
    }
    let wait = expected(app, tenant, &pipeline);
    if wait <= busy.wait {
        return Ok((pipeline, None));
    }
    for rung in &busy.rungs {
        let helps = match rung {
            Rung::Model(p) if expected(app, tenant, p) > busy.wait => None,
            Rung::Model(p) | Rung::Draft(p) => Some(Ok(((**p).clone(), Some(rung.as_str())))),
            Rung::Shed => Some(Err(shed(name, wait, busy.wait))),
        };
        if let Some(done) = helps {
            app.inner.metrics.degraded(name, rung.as_str());
            if let Err(e) = &done {
                app.inner.metrics.refused(tenant, e);
            }
            return done;
        }
    }
    Ok((pipeline, None))
}

/// How long a call of the busiest of its models would wait, as far as it can be foretold.
fn expected(app: &App, tenant: &TenantId, pipeline: &Pipeline) -> Duration {
    let ask = || admission::Ask { priority: None, tokens: ONE_CALL, deadline: Deadline::NEVER };
    let waits = pipeline.models.iter().filter_map(|m| app.inner.gate.outlook(m, tenant, ask()).wait);
    waits.max().unwrap_or_default()
}

fn shed(name: &PipelineName, wait: Duration, most: Duration) -> Error {
    let m = format!(
        "pipeline `{name}` would wait {:.1} s for its model, and waits {:.1} s at most",
        wait.as_secs_f64(),
        most.as_secs_f64()
    );
    let after = (wait.saturating_sub(most)).max(Duration::from_millis(100));
    Error::new(Code::Overloaded, m).retry(RetryHint::After(after)).limit_source(format!("pipeline:{name}"))
}
