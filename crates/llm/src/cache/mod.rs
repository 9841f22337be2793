//! The exact cache of a model's answers: an equal request is answered by the answer there is, and equal requests at the same
//! time by one call.
//!
//! ```text
//! ask ─▶ kept and young enough ──▶ hit
//!     ─▶ asked already, under way ─▶ shared: reads the same call      ([`flight`])
//!     ─▶ neither ──────────────────▶ miss: makes the call; when it is complete, it is kept  ([`kept`])
//!     ─▶ forbidden by caller or settings ─▶ bypass
//! ```
//!
//! It is opt-in for each model ([`CacheSettings`]) and lives in memory, for as long as the process. Invariants: the tenant is
//! part of the key ([`key`]), so that no lookup can cross over; only complete answers of the model that was asked are kept;
//! an answer that was not made for a request is not charged to it, and is a finding (`cache`) of its record.

mod flight;
mod kept;
mod key;
mod reply;
mod settings;
mod shelf;
mod wakers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use contract::{Code, Context, Error, Meter, MidStream, ModelName, Money, Usage};
use parking_lot::{Mutex, RwLock};

pub use reply::Reply;
pub use settings::{CacheResult, CacheScope, CacheSettings};
pub use shelf::{Key, Shelf, Shelved};

use crate::{Asking, ChatRequest, ModelSettings, Models};
use flight::{Call, Flight};
use kept::Kept;
use reply::{Again, Shared};

/// The caches of all models that have one. They outlive a change of the table.
#[derive(Default)]
pub(crate) struct Caches(RwLock<BTreeMap<ModelName, Arc<AnswerCache>>>);

impl Caches {
    /// Has a cache for each of these models, and for no other.
    pub(crate) fn only(&self, models: impl Iterator<Item = ModelName>) {
        let mut all = self.0.write();
        let mut old = std::mem::take(&mut *all);
        *all = models
            .map(|m| {
                let own = old.remove(&m).unwrap_or_default();
                (m, own)
            })
            .collect();
    }

    fn of(&self, model: &ModelName) -> Option<Arc<AnswerCache>> {
        self.0.read().get(model).cloned()
    }
}

/// The answers of one model: those kept, and those under way.
#[derive(Default)]
struct AnswerCache {
    // One lock: between an answer's end and its being kept nobody may find it in neither.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    shelf: Shelf<Kept>,
    flights: HashMap<Key, Arc<Flight>>,
}

/// Where an answer belongs.
#[derive(Clone)]
struct Spot {
    model: ModelName,
    key: Key,
    /// What the asker wants when the answer breaks off.
    mid_stream: MidStream,
    /// Whether the asker waits behind others.
    gives_way: bool,
    settings: CacheSettings,
}

enum Entered {
    Hit(Arc<Kept>, Duration),
    Reads(Arc<Flight>, u64),
}

impl AnswerCache {
    fn enter(&self, spot: &Spot, cx: &Context, call: impl FnOnce(Context) -> Call) -> Entered {
        let now = cx.clock.now();
        let mut inner = self.inner.lock();
        if cx.freshness.takes(Duration::ZERO) {
            if let Some(kept) = inner.shelf.get(&spot.key, now, spot.settings.ttl) {
                let age = now.since(kept.made);
                if cx.freshness.takes(age) {
                    return Entered::Hit(kept, age);
                }
            }
            if let Some(flight) = inner.flights.get(&spot.key)
                && let Some(reader) = flight.join(cx, (spot.mid_stream, spot.gives_way))
            {
                return Entered::Reads(flight.clone(), reader);
            }
        }
        let flight = Arc::new(Flight::new(cx, (spot.mid_stream, spot.gives_way), call));
        inner.flights.insert(spot.key, flight.clone());
        Entered::Reads(flight, flight::FIRST)
    }

    /// A flight ended, or is not to be joined any more. One whose place another has taken leaves nothing behind.
    fn landed(&self, spot: &Spot, flight: &Arc<Flight>, kept: Option<Kept>) {
        let mut inner = self.inner.lock();
        if inner.flights.get(&spot.key).is_some_and(|f| Arc::ptr_eq(f, flight)) {
            inner.flights.remove(&spot.key);
            if let Some(kept) = kept {
                inner.shelf.put(spot.key, Arc::new(kept), spot.settings.max_bytes);
            }
        }
    }
}

/// Answers a call from the model's cache, or by the model.
pub(crate) async fn answer(
    models: &Models,
    model: &ModelName,
    request: ChatRequest,
    asking: Asking,
    cx: &Context,
) -> Result<Reply, Error> {
    let settings = models.get(model);
    let cache = models.caches().of(model);
    let (Some(settings), Some(cache)) = (settings, cache) else {
        let completion = models.upstream(model, request, asking, cx).await?;
        return Ok(Reply::alone(completion, None));
    };
    let gives_way = models.slots().gives_way();
    let Some(spot) = spot(model, &settings, &request, (asking.mid_stream(cx), gives_way), cx) else {
        count(&cx.meter, model, CacheResult::Bypass);
        let completion = models.upstream(model, request, asking, cx).await?;
        return Ok(Reply::alone(completion, Some(CacheResult::Bypass)));
    };
    let mut asked = Some((request, asking));
    // Happens once at most: who makes the call goes no further round.
    let mut call = |cx: Context| -> Call {
        let (models, model) = (models.clone(), model.clone());
        let (request, asking) = asked.take().unwrap_or_default();
        Box::pin(async move { models.upstream(&model, request, asking, &cx).await })
    };
    let mut waited = false;
    loop {
        let (flight, reader) = match cache.enter(&spot, cx, &mut call) {
            Entered::Hit(kept, age) => {
                count(&cx.meter, model, CacheResult::Hit);
                cx.meter.cached(cx.stage.as_ref());
                saved(&cx.meter, model, &kept.usage, kept.cost);
                return Ok(Reply::kept(kept, model.clone(), age));
            }
            Entered::Reads(flight, reader) => (flight, reader),
        };
        let first = reader == flight::FIRST;
        let mut shared = Shared::new((flight, reader), spot.clone(), cache.clone(), cx);
        let told = match shared.committed().await {
            Ok(told) => told,
            // Whose time is over, or who has waited for two calls in vain, is told so: all that wait together make one more.
            Err(e) if !first && !waited && its_own(&e) && !cx.deadline.passed(cx.clock.now()) => {
                waited = true;
                continue;
            }
            Err(e) => {
                count(&cx.meter, model, if first { CacheResult::Miss } else { CacheResult::Shared });
                return Err(e);
            }
        };
        if let Some((request, asking)) = asked.take() {
            let (models, model, cx) = (models.clone(), model.clone(), cx.clone());
            shared.may_begin_anew(Again { models, model, request, asking, cx });
        }
        let reply = Reply::shared(shared, told);
        count(&cx.meter, model, if first { CacheResult::Miss } else { CacheResult::Shared });
        return Ok(reply);
    }
}

/// Where the answer belongs; `None` when it must be made for this request alone.
fn spot(
    model: &ModelName,
    settings: &ModelSettings,
    request: &ChatRequest,
    (mid_stream, gives_way): (MidStream, bool),
    cx: &Context,
) -> Option<Spot> {
    let cache = settings.cache?;
    let sampled = request.temperature.is_some_and(|t| t > 0.0);
    let user = match cache.scope {
        CacheScope::Tenant => None,
        CacheScope::User => Some(cx.user.as_ref()?),
    };
    if cx.freshness.no_store || sampled && !cache.sampled {
        return None;
    }
    let key = key::of(&key::Shelf { tenant: &cx.tenant, user, model, settings }, request);
    Some(Spot { model: model.clone(), key, mid_stream, gives_way, settings: cache })
}

/// Whether an error was that call's and not the request's: the same request may do better.
fn its_own(e: &Error) -> bool {
    !matches!(
        e.code,
        Code::InvalidRequest
            | Code::NotFound
            | Code::TooLarge
            | Code::ContextLengthExceeded
            | Code::ContentFiltered
    )
}

/// Notes in the record how a call was answered.
fn count(meter: &Meter, model: &ModelName, result: CacheResult) {
    meter.tally(FACT, model.as_str(), &[(result.as_str(), 1)]);
}

/// Notes in the record what an answer would have used.
fn saved(meter: &Meter, model: &ModelName, usage: &Usage, cost: Money) {
    let cost = u64::try_from(cost.nanos()).unwrap_or(0);
    meter.tally(FACT, model.as_str(), &[("saved_tokens", usage.total()), ("saved_nanousd", cost)]);
}

/// The finding of a record that says what caches had to do with it.
const FACT: &str = "cache";
