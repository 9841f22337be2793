//! The registry: models by name, and the call that turns a name and a request into one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{BoxFuture, Code, Context, Error, ModelName, Price};
use parking_lot::RwLock;

use crate::attempt::{self, Asked};
use crate::{ChatRequest, Completion, ModelSettings, Slots};

type Table = Arc<BTreeMap<ModelName, Arc<ModelSettings>>>;

/// All models. Clones share one table; replacing it leaves calls under way untouched.
#[derive(Clone)]
pub struct Models {
    table: Arc<RwLock<Table>>,
    slots: Arc<dyn Slots>,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.table.read().keys()).finish()
    }
}

impl Models {
    /// An empty registry whose calls wait at `slots`.
    pub fn new(slots: Arc<dyn Slots>) -> Self {
        Models { table: Arc::default(), slots }
    }

    /// Puts a whole new table in place, for all clones at once.
    pub fn replace(&self, models: impl IntoIterator<Item = (ModelName, ModelSettings)>) {
        let table = models.into_iter().map(|(n, s)| (n, Arc::new(s))).collect();
        *self.table.write() = Arc::new(table);
    }

    /// The settings of a model.
    pub fn get(&self, name: &ModelName) -> Option<Arc<ModelSettings>> {
        self.table.read().get(name).cloned()
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<ModelName> {
        self.table.read().keys().cloned().collect()
    }

    /// The dearest price, part by part, of a model and all that may be asked in its place; free when there is none.
    pub fn dearest(&self, name: &ModelName) -> Price {
        let table = self.table.read().clone();
        chain(&table, name).iter().map(|(_, s)| s.price).fold(Price::FREE, Price::dearest)
    }

    /// Asks a model, repairing unseen what fails before the first output. Resolves at that commit point: an `Err`
    /// is the whole answer, and what is streamed comes from one attempt alone.
    ///
    /// - A single 429, 5xx or broken connection of the preferred endpoint is tried once more, after a short
    ///   `Retry-After` or about half a second; then the other endpoints and the fallbacks are asked.
    /// - A wrong request (400, 404, 422) and filtered content are never tried again; a prompt that does not fit goes
    ///   to a larger window only.
    /// - Every attempt that reached an upstream is in `cx.meter` exactly once, however it ends.
    ///
    /// Dropping the future or the completion cancels the upstream.
    pub fn call<'a>(
        &'a self,
        model: &'a ModelName,
        request: ChatRequest,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<Completion, Error>> {
        self.ask(model, request, (None, None), cx)
    }

    /// The same, naming the version of the prompt for the record.
    pub fn call_with_prompt<'a>(
        &'a self,
        model: &'a ModelName,
        request: ChatRequest,
        prompt_version: Option<String>,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<Completion, Error>> {
        self.ask(model, request, (prompt_version, None), cx)
    }

    /// The same for a caller that has had the prompt counted by this model's own counter: it is not counted again.
    pub fn call_counted<'a>(
        &'a self,
        model: &'a ModelName,
        request: ChatRequest,
        input_tokens: u64,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<Completion, Error>> {
        self.ask(model, request, (None, Some(input_tokens)), cx)
    }

    fn ask<'a>(
        &'a self,
        model: &'a ModelName,
        mut request: ChatRequest,
        (prompt_version, input_tokens): (Option<String>, Option<u64>),
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<Completion, Error>> {
        Box::pin(async move {
            let table = self.table.read().clone();
            if !table.contains_key(model) {
                let m = format!("there is no model `{model}`: ask GET /v1/models for those there are");
                return Err(Error::new(Code::NotFound, m).param("model"));
            }
            // An upstream always streams: only so can its silence be told from its work.
            request.stream = true;
            let candidates = chain(&table, model);
            let asked = Asked { request, input_tokens, prompt_version, cx, slots: &*self.slots };
            attempt::repair(asked, &candidates).await
        })
    }
}

/// A model and all that may be asked in its place: each fallback in order, followed by its own. Every model once.
fn chain<'t>(
    table: &'t BTreeMap<ModelName, Arc<ModelSettings>>,
    model: &ModelName,
) -> Vec<(&'t ModelName, &'t Arc<ModelSettings>)> {
    let mut chain: Vec<(&ModelName, _)> = Vec::new();
    let mut next: Vec<_> = table.get_key_value(model).into_iter().collect();
    while let Some((name, settings)) = next.pop() {
        if chain.iter().any(|(n, _)| *n == name) {
            continue;
        }
        chain.push((name, settings));
        next.extend(settings.fallback.iter().rev().filter_map(|n| table.get_key_value(n)));
    }
    chain
}
