//! Stages that call another pipeline: the kind `pipeline`.
//!
//! A pipeline that answers requests is called as a request: by a [`Live`] caller, which the surface above gives, so that
//! admission, tenant, budgets and the ledger are those of every request. A durable one is called as a run of its own, a *child*:
//! the attempt waits for its end, and takes what its last stage gave. What a stage calls, and of what kinds, is known from the
//! configuration alone ([`with_pipelines`]), so that a check sees types, names and circles without running anything.
//!
//! Invariants: an attempt's child is the same run whoever asks, so a child runs once for as long as it does not fail; a child
//! whose parent has ended ends too; nobody holds a place while it waits for a child.

mod callees;
mod child;
mod kind;
mod typed;

use std::sync::{Arc, OnceLock, Weak};

use contract::{BoxFuture, ModelName, Money, Outcome, PipelineName, RequestId, TenantId, Usage, Value};

pub use callees::{Callee, with_pipelines};
pub(crate) use child::Children;
pub use child::Parent;
pub use kind::KIND;

use crate::durable::Durable;

/// A call of a pipeline that answers requests.
#[derive(Debug, Clone)]
pub struct Call {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// On whose behalf.
    pub tenant: TenantId,
    /// The id of the request that it becomes: of no other.
    pub id: RequestId,
    /// It was tried before: it comes out of the budget of retries.
    pub again: bool,
    /// What the pipeline is given.
    pub input: Given,
}

/// What a called pipeline is given.
#[derive(Debug, Clone)]
pub enum Given {
    /// A value.
    Value(Value),
    /// A document as it lies in a file.
    File {
        /// The file's name: it tells of what sort it is.
        name: String,
        /// What is in it.
        bytes: Vec<u8>,
    },
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How it ended. The value is as JSON says it: whoever called knows its kind.
    pub outcome: Outcome<serde_json::Value>,
    /// What it used.
    pub usage: Usage,
    /// What that cost.
    pub cost: Money,
    /// The models that answered in it, by the versions that they gave themselves.
    pub models: Vec<(ModelName, Option<String>)>,
}

/// Who calls pipelines that answer requests. Dropping the future is a caller that leaves.
pub trait Live: Send + Sync {
    /// Calls.
    fn call(&self, call: Call) -> BoxFuture<'static, Answer>;
}

/// The way from stages to whoever calls for them, once there is somebody. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub struct Calls {
    inner: Arc<Ways>,
}

#[derive(Default)]
struct Ways {
    live: OnceLock<Arc<dyn Live>>,
    /// The stages are kept by what makes the runs, so they do not keep it.
    runs: OnceLock<Weak<crate::durable::Inner>>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("live", &self.inner.live.get().is_some()).finish_non_exhaustive()
    }
}

impl Calls {
    /// Who calls pipelines that answer requests. The first one stays.
    pub fn live_by(&self, live: Arc<dyn Live>) {
        let _ = self.inner.live.set(live);
    }

    pub(crate) fn runs_by(&self, runs: Weak<crate::durable::Inner>) {
        let _ = self.inner.runs.set(runs);
    }

    fn live(&self) -> Option<Arc<dyn Live>> {
        self.inner.live.get().cloned()
    }

    fn runs(&self) -> Option<Durable> {
        self.inner.runs.get()?.upgrade().map(Durable::over)
    }
}
