//! The registry: models by name, and the call that turns a name and a request into one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use std::sync::atomic::{AtomicBool, AtomicU32};

use contract::{BoxFuture, Code, Context, EndpointName, Error, MidStream, ModelName, Price, Tick, UserId};
use parking_lot::RwLock;

use crate::attempt::Asked;
use crate::cache::{self, Caches};
use crate::choice::{self, Choice};
use crate::pool::{EndpointState, Retries};
use crate::repair::{self, Candidate};
use crate::rescue::Rescue;
use crate::{ChatRequest, Completion, ModelSettings, Reply, Slots};

/// The models, and what each of them may cost at most.
#[derive(Default)]
struct Listed {
    models: BTreeMap<ModelName, Arc<ModelSettings>>,
    dearest: BTreeMap<ModelName, Price>,
    choices: BTreeMap<ModelName, choice::Listed>,
}

type Table = Arc<Listed>;

/// All models. Clones share one table; replacing it leaves calls under way untouched.
#[derive(Clone)]
pub struct Models {
    table: Arc<RwLock<Table>>,
    slots: Arc<dyn Slots>,
    retries: Arc<Retries>,
    caches: Arc<Caches>,
}

/// What a caller knows of a call besides its request.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// The version of the prompt, for the record.
    pub prompt_version: Option<String>,
    /// The prompt's tokens as the model's own counter has them: it is not counted again.
    pub input_tokens: Option<u64>,
    /// Nobody sees the answer before its end: one that breaks off begins anew, whatever the context's policy is.
    pub unseen: bool,
}

impl Asking {
    /// What is done when the answer breaks off.
    pub(crate) fn mid_stream(&self, cx: &Context) -> MidStream {
        if self.unseen { MidStream::Restart } else { cx.mid_stream }
    }
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.table.read().models.keys()).finish()
    }
}

impl Models {
    /// An empty registry whose calls wait at `slots`.
    pub fn new(slots: Arc<dyn Slots>) -> Self {
        Models { table: Arc::default(), slots, retries: Arc::default(), caches: Arc::default() }
    }

    /// Another, empty registry beside this one: calls wait at the same slots and come out of the same retry budgets.
    #[must_use]
    pub fn beside(&self) -> Self {
        Models {
            table: Arc::default(),
            slots: self.slots.clone(),
            retries: self.retries.clone(),
            caches: self.caches.clone(),
        }
    }

    /// Puts a whole new table in place, for all clones at once. Kept answers stay with the name of their model.
    pub fn replace(&self, models: impl IntoIterator<Item = (ModelName, ModelSettings)>) {
        self.prepare(models);
        self.keep_answers();
    }

    /// The same of a registry that is not in force yet: answers that are kept are shared with the one that is, and stay as they
    /// are until [`Models::keep_answers`].
    pub fn prepare(&self, models: impl IntoIterator<Item = (ModelName, ModelSettings)>) {
        self.prepare_with(models, []);
    }

    /// Puts models in place as [`Models::prepare`] does, and names that several of them answer to.
    pub fn prepare_with(
        &self,
        models: impl IntoIterator<Item = (ModelName, ModelSettings)>,
        choices: impl IntoIterator<Item = (ModelName, Choice)>,
    ) {
        let models: BTreeMap<_, _> = models.into_iter().map(|(n, s)| (n, Arc::new(s))).collect();
        let of =
            |name| chain(&models, name).iter().map(|c| c.settings.price).fold(Price::FREE, Price::dearest);
        let mut dearest: BTreeMap<_, _> = models.keys().map(|name| (name.clone(), of(name))).collect();
        let mut listed = BTreeMap::new();
        for (name, choice) in choices {
            let prices = choice.options.iter().filter_map(|option| dearest.get(option).copied());
            let price = prices.fold(Price::FREE, Price::dearest);
            if let Some(choice) = choice::Listed::new(choice, &models) {
                dearest.insert(name.clone(), price);
                listed.insert(name, choice);
            }
        }
        *self.table.write() = Arc::new(Listed { models, dearest, choices: listed });
    }

    /// Has answers kept for the models that say so, and for no other.
    pub fn keep_answers(&self) {
        let table = self.table.read().clone();
        self.caches.only(table.models.iter().filter(|(_, s)| s.cache.is_some()).map(|(n, _)| n.clone()));
    }

    /// The settings of a model; of a choice what holds for all of its models, which has no endpoint.
    pub fn get(&self, name: &ModelName) -> Option<Arc<ModelSettings>> {
        let table = self.table.read();
        let choice = || table.choices.get(name).map(|choice| &choice.settings);
        table.models.get(name).or_else(choice).cloned()
    }

    /// Who may answer to a name: the models of a choice, else the model itself.
    pub fn behind(&self, name: &ModelName) -> Vec<ModelName> {
        match self.table.read().choices.get(name) {
            Some(choice) => choice.choice.options.clone(),
            None => vec![name.clone()],
        }
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.caches
    }

    /// All names, in order: models, and choices among them.
    pub fn names(&self) -> Vec<ModelName> {
        let table = self.table.read();
        let mut names: Vec<ModelName> = table.models.keys().chain(table.choices.keys()).cloned().collect();
        names.sort();
        names
    }

    /// The dearest price, part by part, of a model and all that may be asked in its place; free when there is none.
    pub fn dearest(&self, name: &ModelName) -> Price {
        self.table.read().dearest.get(name).copied().unwrap_or(Price::FREE)
    }

    /// By what a call is known at the queue of its model ([`Slots::acquire`]), when that queue alone decides whether it is refused:
    /// no kept answer, no fallback, nothing the model does not take, an endpoint that can be asked. `None` for any other.
    pub fn mark_if_alone(
        &self,
        model: &ModelName,
        request: &ChatRequest,
        user: Option<&UserId>,
        input: u64,
        now: Tick,
    ) -> Option<u64> {
        let settings = self.get(model)?;
        let alone = settings.fallback.is_empty() && settings.cache.is_none();
        (alone && repair::may_be_asked(&settings, request, input, now))
            .then(|| crate::mark::of(request, user, input))
    }

    /// Asks a model, repairing unseen what fails before the first output. Resolves at that commit point: an `Err`
    /// is the whole answer, and what is streamed comes from one attempt alone, unless the context's
    /// [`MidStream`] policy says otherwise and [`crate::Delta::Reset`] tells of it.
    ///
    /// - After a 429, 5xx or broken connection another endpoint of the model is asked; where there is none, a single failure
    ///   is tried once more, after a short `Retry-After` or about half a second, within the tenant's and the endpoint's
    ///   retry budgets; then the fallbacks are asked. Endpoints that rest after failures are passed over.
    /// - A wrong request (400, 404, 422) and filtered content are never tried again; a prompt that does not fit goes
    ///   to a larger window only.
    /// - Every attempt that reached an upstream is in `cx.meter` exactly once, however it ends.
    ///
    /// A model whose answers are kept may answer with one of them, or with the answer to an equal call under way.
    ///
    /// Dropping the future or the reply cancels the upstream, unless others read the same answer.
    pub fn call<'a>(
        &'a self,
        model: &'a ModelName,
        request: ChatRequest,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        self.ask(model, request, Asking::default(), cx)
    }

    /// The same, with what the caller knows of the call besides.
    pub fn call_as<'a>(
        &'a self,
        model: &'a ModelName,
        request: ChatRequest,
        asking: Asking,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        self.ask(model, request, asking, cx)
    }

    fn ask<'a>(
        &'a self,
        model: &'a ModelName,
        request: ChatRequest,
        asking: Asking,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        let table = self.table.read().clone();
        let Some(choice) = table.choices.get(model) else {
            return Box::pin(cache::answer(self, model, request, asking, cx));
        };
        let chosen = choice.choose(model, cx);
        Box::pin(async move { cache::answer(self, &chosen?, request, asking, cx).await })
    }

    /// Asks the model itself.
    pub(crate) fn upstream<'a>(
        &'a self,
        model: &'a ModelName,
        mut request: ChatRequest,
        asking: Asking,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<Completion, Error>> {
        let policy = asking.mid_stream(cx);
        Box::pin(async move {
            // An upstream always streams: only so can its silence be told from its work.
            request.stream = true;
            let now = cx.clock.now();
            if cx.retrying && !self.retries.try_retry(now, &cx.tenant) {
                let m =
                    "the tenant's retries are used up for now: another try would only add to the failures";
                return Err(Error::new(Code::Overloaded, m).limit_source(format!("tenant:{}", cx.tenant)));
            }
            self.retries.called(now, &cx.tenant);
            let mut asked = Asked {
                request,
                input_tokens: asking.input_tokens,
                prompt_version: asking.prompt_version,
                cx,
                slots: &*self.slots,
                retries: &self.retries,
                made: AtomicU32::new(0),
                let_in: AtomicBool::new(false),
                again: None,
                avoid: None,
            };
            let answer = self.repair(model, &mut asked).await?;
            Ok(match policy {
                MidStream::Error => answer,
                _ => answer.rescued_by(Rescue::new(self.clone(), model.clone(), &mut asked, policy)),
            })
        })
    }

    /// Asks the model and all that may be asked in its place.
    pub(crate) async fn repair(&self, model: &ModelName, asked: &mut Asked<'_>) -> Result<Completion, Error> {
        let table = self.table.read().clone();
        if !table.models.contains_key(model) {
            let m = format!("there is no model `{model}`: ask GET /v1/models for those there are");
            return Err(Error::new(Code::NotFound, m).param("model"));
        }
        let candidates = chain(&table.models, model);
        let answer = repair::repair(asked, &candidates).await?;
        Ok(answer.after(repair::attempts(asked)))
    }

    pub(crate) fn retries(&self) -> &Retries {
        &self.retries
    }

    pub(crate) fn slots(&self) -> Arc<dyn Slots> {
        self.slots.clone()
    }

    /// How every endpoint of every model is doing.
    pub fn endpoints(&self, now: Tick) -> Vec<(ModelName, EndpointName, EndpointState)> {
        let table = self.table.read().clone();
        let of = |(model, s): (&ModelName, &Arc<ModelSettings>)| {
            let each = |e: &crate::Endpoint| (model.clone(), e.name.clone(), e.health.state(now));
            s.endpoints.iter().map(each).collect::<Vec<_>>()
        };
        table.models.iter().flat_map(of).collect()
    }
}

/// A model and all that may be asked in its place: each fallback in order, followed by its own. Every model once.
fn chain<'t>(table: &'t BTreeMap<ModelName, Arc<ModelSettings>>, model: &ModelName) -> Vec<Candidate<'t>> {
    let found = |model: &ModelName, on| {
        let (name, settings) = table.get_key_value(model)?;
        Some(Candidate { name, settings, on })
    };
    let mut chain: Vec<Candidate<'_>> = Vec::new();
    let mut next: Vec<_> = found(model, None).into_iter().collect();
    while let Some(candidate) = next.pop() {
        if chain.iter().any(|c| c.name == candidate.name) {
            continue;
        }
        let fallbacks = candidate.settings.fallback.iter().rev();
        next.extend(fallbacks.filter_map(|f| found(&f.model, f.on.as_deref())));
        chain.push(candidate);
    }
    chain
}
