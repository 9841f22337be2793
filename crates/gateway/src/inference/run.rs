//! One call, whichever protocol it came by: limits, the version that answers, its inputs, the run.

use std::sync::Arc;
use std::time::Duration;

use admission::{Demand, Entry};
use contract::{Deadline, Error, Price, RequestId, Tick, UnixMillis};
use predict::observe::{Arm, Place};
use predict::protocol::scoring::Scored;
use predict::protocol::{Answer, Input, Wanted};
use predict::served::Version;
use predict::{Models, Tensor, tabular};

use super::{lookup, models, seen};
use crate::app::App;
use crate::auth::Caller;
use crate::drain;
use crate::errors::Failure;
use crate::headers::Rates;

/// What is asked, of whom, and for how long.
pub(super) struct Asked<'a> {
    pub(super) id: RequestId,
    /// Whom it is about, if the caller said.
    pub(super) entity: Option<&'a str>,
    pub(super) model: &'a str,
    pub(super) version: Option<&'a str>,
    pub(super) tenant: &'a Caller,
    pub(super) arrived: Tick,
    pub(super) timeout: Option<Duration>,
    /// All outputs when empty.
    pub(super) wanted: &'a [Wanted],
}

/// What is given.
pub(super) enum Given<'a> {
    Tensors(Vec<Input<'a>>),
    Scored(Scored),
}

/// What came of it.
pub(super) struct Predicted {
    pub(super) version: Arc<Version>,
    /// In the order that was asked for; where each stands in the signature.
    pub(super) places: Arc<[usize]>,
    pub(super) outputs: Vec<Tensor>,
    pub(super) rates: Option<Rates>,
}

impl Predicted {
    /// Name and elements of each output.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let fields = &self.version.batcher.signature().outputs;
        let name = |at: &usize| fields.get(*at).map_or("", |f| f.name.as_str());
        self.places.iter().map(name).zip(&self.outputs)
    }

    /// As an answer; `binary` is for outputs that say nothing of it.
    pub(super) fn answer<'a>(&'a self, id: Option<&'a str>, wanted: &[Wanted], binary: bool) -> Answer<'a> {
        let of = |(at, (name, tensor)): (usize, (&'a str, &Tensor))| {
            let own = wanted.get(at).and_then(|w| w.binary);
            (name, tensor.clone(), own.unwrap_or(binary))
        };
        let outputs = self.named().enumerate().map(of).collect();
        Answer { model: &self.version.model, version: &self.version.version, id, outputs }
    }
}

/// Counts a call against its caller's limits.
fn enter(app: &App, caller: &Caller) -> Result<(Entry, Rates), Error> {
    if app.is_draining() {
        return Err(drain::refusal());
    }
    let who = admission::Caller {
        tenant: caller.tenant.clone(),
        key: caller.key.clone(),
        user: None,
        pipeline: None,
    };
    let demand = Demand {
        input_tokens: 0,
        max_output_tokens: Some(0),
        price: Price::FREE,
        stream: false,
        model: None,
        budget: None,
    };
    let at: UnixMillis = app.inner.clock.wall();
    let entry = app.inner.gate.enter(&who, &demand).map_err(|r| Error::from(Failure::refused(*r, at)))?;
    let rates = Rates { windows: entry.rate_headers(), at };
    Ok((entry, rates))
}

/// Who answers where traffic is divided: nothing when a version is named, nobody divides, or the version is not in memory here.
fn routed(models: &Models, asked: &Asked<'_>) -> Option<(Arc<Version>, Arm, Option<Place>)> {
    if asked.version.is_some() {
        return None;
    }
    let entity = || asked.entity.map_or_else(|| asked.id.to_string(), str::to_owned);
    let routed = models.route(asked.model, entity)?;
    let version = models.try_find(asked.model, Some(&routed.version)).ok().flatten()?;
    Some((version, routed.arm, routed.place))
}

/// Makes a call.
///
/// # Errors
/// In words for the caller.
pub(super) async fn infer(app: &App, asked: Asked<'_>, given: Given<'_>) -> Result<Predicted, Error> {
    let (entry, rates) = enter(app, asked.tenant)?;
    let begun = asked.arrived;
    let total = app.generation.settings.total;
    let limit = asked.timeout.map_or(total, |t| t.min(total));
    let deadline = Deadline::from_now(begun, limit);
    let models = models(app)?;
    // What is in memory is found without a wait.
    let (version, arm, place) = match routed(models, &asked) {
        Some(found) => found,
        None => {
            let arm = if asked.version.is_some() { Arm::Named } else { Arm::Champion };
            let version = match models.try_find(asked.model, asked.version)? {
                Some(version) => version,
                None => models.find(asked.model, asked.version).await?,
            };
            (version, arm, None)
        }
    };
    let (signature, metadata) = (version.batcher.signature(), version.batcher.metadata());
    let inputs = match lookup::fill(app, (asked.model, asked.tenant), given, (signature, metadata))? {
        Given::Tensors(inputs) => signature.bind(tabular::fit(inputs, signature))?,
        Given::Scored(scored) => scored.bind(signature, metadata)?,
    };
    let places: Arc<[usize]> = match asked.wanted {
        [] => (0..signature.outputs.len()).collect(),
        some => some.iter().map(|w| signature.output(&w.name)).collect::<Result<_, _>>()?,
    };
    let rolled = place.is_some();
    let (id, entity, tenant) = (asked.id, asked.entity, &asked.tenant.tenant);
    let looked = seen::before(app, seen::Side { id, tenant, entity, arm, place }, &version, &inputs);
    let done = version.batcher.run(inputs, places.clone(), deadline).await;
    entry.settle(&contract::Usage::default(), contract::Money::ZERO);
    let took = app.inner.clock.now().since(begun);
    app.inner.metrics.predicted(&version.model, took, done.is_ok());
    if rolled {
        app.inner.metrics.rolled((&version.model, &version.version), arm, done.is_ok());
    }
    let done = done.map_err(Error::from);
    if let Some(looked) = looked {
        let came = done.as_ref().map(|d| (&*places, d.outputs.as_slice())).map_err(|e| e.code);
        looked.after(app, &version, took, came);
    }
    Ok(Predicted { outputs: done?.outputs, places, version, rates: Some(rates) })
}
