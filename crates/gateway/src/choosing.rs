//! Names that several pipelines answer to: which of them does is said for each request, before it is admitted.
//!
//! What is admitted, limited, run and recorded is the pipeline that was chosen, like any other; its record says under
//! [`CHOICES`] what was asked and who said so.

use std::sync::Arc;

use contract::{Error, Meter, PipelineName, RequestId, TenantId, UserId};
use llm::{CHOICES, Chooser, Options};
use serde_json::Value as Json;

use crate::app::{App, Pipeline};
use crate::inside;
use crate::metrics::At;

/// A name that several pipelines answer to, which take and give the same.
#[derive(Clone)]
pub struct PipelineChoice {
    /// The pipelines; the first answers as long as nobody has said anything.
    pub options: Vec<PipelineName>,
    /// Who says which.
    pub chooser: Arc<dyn Chooser>,
    /// A path of its own besides `/v1/pipelines/{name}`.
    pub path: Option<String>,
}

/// That a request's pipeline was chosen.
pub(crate) struct Chosen {
    /// The request's id: by it alone a request is known that names no user.
    pub(crate) id: RequestId,
    of: PipelineName,
    note: Json,
}

impl Chosen {
    /// Says it in the request's record.
    pub(crate) fn note(self, meter: &Meter) {
        meter.note(CHOICES, self.of.as_str(), self.note);
    }
}

impl App {
    /// The pipeline that answers to a name; of several the first, whose input is theirs.
    pub(crate) fn pipeline(&self, name: &str) -> Option<(PipelineName, Pipeline)> {
        let all = &self.generation;
        if let Some((own, pipeline)) = all.pipelines.get_key_value(name) {
            return Some((own.clone(), pipeline.clone()));
        }
        let (own, choice) = all.choices.get_key_value(name)?;
        Some((own.clone(), all.pipelines.get(choice.options.first()?)?.clone()))
    }

    /// The pipeline that is to run for a request of this one: itself, or one of those that answer to its name.
    ///
    /// # Errors
    /// The name is out of service. Counted.
    pub(crate) fn choose(
        &self,
        (name, pipeline): (PipelineName, Pipeline),
        tenant: &TenantId,
        user: Option<&UserId>,
    ) -> Result<((PipelineName, Pipeline), Option<Chosen>), Error> {
        let all = &self.generation;
        let Some(PipelineChoice { options, chooser, .. }) = all.choices.get(&name) else {
            return Ok(((name, pipeline), None));
        };
        let id = inside::take_id().unwrap_or_else(|| self.request_id());
        let (by_id, first) = (id.to_string(), options.first().unwrap_or(&name).as_str());
        let of = Options { name: name.as_str(), what: "pipeline", chooser: &**chooser, first };
        let known = |option: &str| {
            options.iter().any(|own| own.as_str() == option) && all.pipelines.contains_key(option)
        };
        let chosen = of.choose(user.map_or(&by_id, |user| user.as_str()), known);
        let (option, note) = chosen.inspect_err(|e| self.inner.metrics.refused(At::Gate, tenant, e))?;
        let run = all.pipelines.get_key_value(option.as_str());
        let run = run.map_or((name.clone(), pipeline), |(name, pipeline)| (name.clone(), pipeline.clone()));
        Ok((run, Some(Chosen { id, of: name, note })))
    }
}
