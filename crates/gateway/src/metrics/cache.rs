//! What the caches of models' answers did, from the finding `cache` of a record: `{model: {hit: 1, saved_tokens: …}}`.

use std::sync::atomic::AtomicU64;

use contract::RequestRecord;
use llm::CacheResult;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::Value as Json;

use super::families::Noted;
use super::{ByModel, Label};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    model: Label<contract::ModelName>,
    result: &'static str,
}

/// The counters of the caches.
#[derive(Default)]
pub(super) struct Cache {
    requests: Noted<Answered, Counter>,
    saved_tokens: Noted<ByModel, Counter>,
    saved_usd: Noted<ByModel, Counter<f64, AtomicU64>>,
}

impl Cache {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("cache_requests", "Calls of models whose answers are kept", self.requests.family());
        r.register(
            "cache_saved_tokens",
            "Tokens that kept and shared answers saved",
            self.saved_tokens.family(),
        );
        r.register("cache_saved_usd", "Money that kept and shared answers saved", self.saved_usd.family());
    }

    /// Forgets the models that are not there; whether there were any.
    pub(super) fn keep(&self, is: impl Fn(&Label<contract::ModelName>) -> bool) -> bool {
        let gone = [
            self.requests.retain(|l| is(&l.model)),
            self.saved_tokens.retain(|l| is(&l.model)),
            self.saved_usd.retain(|l| is(&l.model)),
        ];
        gone.contains(&true)
    }

    /// The names in the finding are those of models that the configuration has: the call made it, not the caller.
    pub(super) fn observe(&self, r: &RequestRecord) {
        let all = r.facts.get("cache").and_then(Json::as_object);
        for (model, figures) in all.into_iter().flatten() {
            let figure = |name: &str| figures.get(name).and_then(Json::as_u64).unwrap_or(0);
            let model = Label(contract::ModelName::from(model.as_str()));
            for result in [CacheResult::Hit, CacheResult::Miss, CacheResult::Shared, CacheResult::Bypass] {
                let (n, result) = (figure(result.as_str()), result.as_str());
                if n > 0 {
                    self.requests.of(&Answered { model: model.clone(), result }).inc_by(n);
                }
            }
            let by_model = ByModel { model };
            self.saved_tokens.of(&by_model).inc_by(figure("saved_tokens"));
            self.saved_usd.of(&by_model).inc_by(figure("saved_nanousd") as f64 / 1e9);
        }
    }
}

/// Whether an answer was read from a call of another request: waiting for that is neither a stage's time nor an attempt's.
pub(super) fn shared(r: &RequestRecord) -> bool {
    let all = r.facts.get("cache").and_then(Json::as_object);
    all.into_iter().flatten().any(|(_, figures)| figures.get(CacheResult::Shared.as_str()).is_some())
}
