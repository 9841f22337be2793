//! A stage that is run for each element: some at a time, each kept by its content as soon as it is made, so that after a crash or
//! an edit only what changed is made again; its outputs as a list, or as a table with a row for each.
//!
//! An element that fails ends the stage (`fail`: what is under way is waited for, since it is paid for), or is left out
//! (`partial`, `skip`). For want of room with us nothing more is begun, and the attempt is made again later.

use std::sync::Arc;
use std::time::Duration;

use contract::lineage::Lineage;
use contract::{Attempt, Code, Context, Error, Inputs, Meter, Money, Outcome, Stage, StageLog as _, Value};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use serde_json::Value as Json;
use store::StageResult;

use super::collected::Out;
use super::definition::About;
use super::elements::{Common, Elements, Heard, Made};
use super::host::Durable;
use super::kept::Kept;
use super::log::Log;
use super::stage::StageWork;
use crate::runs::{Contract, Task, Tried, Verdict, decide};
use crate::{StageKind, task};

/// A stage and what it is run with.
pub(super) struct Each<'a> {
    pub(super) host: &'a Durable,
    pub(super) kind: &'a dyn StageKind,
    pub(super) stage: &'a Arc<dyn Stage>,
    pub(super) work: &'a StageWork,
    pub(super) task: &'a Task,
    pub(super) about: &'a About,
    pub(super) log: &'a Log,
    pub(super) cx: &'a Context,
    /// The inputs besides the element.
    pub(super) inputs: Inputs,
    /// What the element is called as an input.
    pub(super) element: &'a str,
    /// What its elements' keys begin with.
    pub(super) common: Common,
    /// What this run has spent on it: tokens and money.
    pub(super) spent: Mutex<(u64, Money)>,
}

/// How it ended.
pub(super) struct Went {
    pub(super) outcome: Outcome<Value>,
    /// Every element has an output, so that the whole may be taken by another run.
    pub(super) whole: bool,
    /// How many were made, for people.
    pub(super) note: String,
}

/// What became of an element.
enum Became {
    /// It has an output; one that an earlier attempt or run had made.
    Kept(Made),
    Made(Made),
    /// It failed; with what there is nevertheless.
    Failed(Error, Option<Made>),
    /// There was no room for it.
    Postponed(Error),
}

impl Each<'_> {
    /// Whether the stage goes on without an element that failed.
    fn tolerates(&self) -> bool {
        matches!(self.task.stage.on_failure, Contract::Partial | Contract::Skip)
    }

    /// Runs the stage for every element.
    pub(super) async fn run(&self, over: Option<Value>) -> Result<Went, Error> {
        let collect = self.work.collect.as_ref();
        let over = over.unwrap_or_else(|| Value::List(Arc::new([])));
        let folder = self.cx.attempt.as_ref().map(|a| a.folder.clone()).unwrap_or_default();
        let tables = self.host.tables();
        let (mut waiting, count) = Elements::of(&over, tables.as_ref(), &folder).await?;
        let mut out = Out::new(collect, self.cx, count)?;
        let mut running = FuturesUnordered::new();
        let (mut index, mut done, mut kept, mut failed) = (0_usize, 0_u64, 0_u64, 0_u64);
        // What ends the stage before all elements have.
        let mut cut: Option<Error> = None;
        self.log.progress(0, Some(count as u64));
        loop {
            while cut.is_none() && running.len() < self.work.parallel.max(1) {
                let Some(item) = waiting.next().await? else { break };
                let at = index;
                index += 1;
                running.push(async move {
                    let became = self.element(at, item.as_ref()).await;
                    (at, item, became)
                });
            }
            let Some((at, item, became)) = running.next().await else { break };
            done += 1;
            self.log.progress(done, Some(count as u64));
            let ended = match became {
                Became::Kept(made) => {
                    kept += 1;
                    Ok(made)
                }
                Became::Made(made) => Ok(made),
                Became::Postponed(e) => {
                    cut.get_or_insert(e);
                    continue;
                }
                Became::Failed(e, made) => {
                    failed += 1;
                    self.log.line(&format!("element {} failed: {e}", at + 1));
                    if !self.tolerates() {
                        let message = format!("element {}: {e}", at + 1);
                        cut.get_or_insert(Error { message, ..e });
                        continue;
                    }
                    Err((e, made))
                }
            };
            out.take(collect, (at, item.as_ref()), ended)?;
        }
        if let Some(e) = cut {
            return Ok(Went { outcome: Outcome::Failed(e), whole: false, note: String::new() });
        }
        let made = done - kept - failed;
        let mut note = format!("{count} elements: {made} made");
        for (n, what) in [(kept, "kept from before"), (failed, "failed")] {
            if n > 0 {
                note.push_str(&format!(", {n} {what}"));
            }
        }
        self.log.line(&note);
        let tables = tables.as_deref();
        let outcome = out.together(collect, self.cx, tables).await?;
        let outcome = match outcome {
            // What is left out is no failure.
            Outcome::Partial(value, _) if self.task.stage.on_failure == Contract::Skip => {
                Outcome::Complete(value)
            }
            outcome => outcome,
        };
        Ok(Went { outcome, whole: failed == 0, note })
    }

    /// One element: taken from what is kept, or made.
    async fn element(&self, index: usize, item: Option<&Value>) -> Became {
        let Some(item) = item else {
            let e = Error::new(Code::PartFailed, "the element before it is missing");
            return Became::Failed(e, None);
        };
        let key = match self.common.key(self.kind, &self.work.config, (index, item)) {
            Ok(key) => key,
            Err(e) => return Became::Failed(e, None),
        };
        if let Some(made) = self.kept(&key).await {
            return Became::Kept(made);
        }
        let mut failures = 0;
        loop {
            if let Some(e) = self.over_budget() {
                return Became::Failed(e, None);
            }
            let (outcome, made) = self.call(index, item, failures).await;
            let (e, part) = match outcome {
                Outcome::Complete(()) => {
                    let Some(made) = made else {
                        let e = Error::new(Code::Internal, "it ended without a value");
                        return Became::Failed(e, None);
                    };
                    self.keep(key, &made).await;
                    return Became::Made(made);
                }
                Outcome::Partial((), e) => (e, made),
                Outcome::Failed(e) => (e, None),
            };
            let tried = Tried { run: self.task.run, attempts: self.task.attempt, failures, postponed: 0 };
            let now = self.cx.clock.wall();
            match decide(&self.task.stage.retry, tried, &e, now) {
                Verdict::Later(_) => return Became::Postponed(e),
                // Where the stage fails, the whole of it is tried again.
                Verdict::Again(at) if self.tolerates() => {
                    let pause = u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0);
                    task::sleep(Duration::from_millis(pause)).await;
                    failures += 1;
                }
                Verdict::Again(_) | Verdict::Never => return Became::Failed(e, part),
            }
        }
    }

    /// Calls the stage for an element; what it gave, and what that took.
    async fn call(&self, index: usize, item: &Value, failures: u32) -> (Outcome<()>, Option<Made>) {
        let mut given = self.inputs.clone();
        if self.stage.signature().inputs.contains_key("index") {
            given.insert("index".to_owned(), Value::Json(Arc::new((index + 1).into())));
        }
        given.insert(self.element.to_owned(), item.clone());
        let mut own = self.cx.clone();
        own.meter = Arc::new(Meter::default());
        // Of the stage's own attempts nobody knows which elements they came to: most were never asked.
        own.retrying = failures > 0;
        let heard = self.cx.attempt.as_ref().map(|a| Arc::new(Heard::new(a.log.clone())));
        own.attempt = self.cx.attempt.as_ref().zip(heard.clone()).map(|(a, log)| {
            // An effect of its own for each element.
            let effect = blake3::hash(format!("{} {index}", a.effect).as_bytes()).to_hex().to_string();
            Arc::new(Attempt { effect, again: failures, log, ..(**a).clone() })
        });
        let outcome = self.host.call(self.stage, &self.task.stage.name, &own, given).await;
        let facts = own.meter.facts();
        let usage = |name: &str| facts.get("usage").and_then(|u| u.get(name)).and_then(Json::as_u64);
        let cost_nanousd = facts.get("cost_nanousd").and_then(Json::as_i64);
        let (input_tokens, output_tokens) = (usage("input_tokens"), usage("output_tokens"));
        self.spend(input_tokens, output_tokens, cost_nanousd);
        let made = |value: &Value| Made {
            value: Kept::from(value),
            request_id: facts.get("request_id").and_then(Json::as_str).map(str::to_owned),
            input_tokens,
            output_tokens,
            cost_nanousd,
            of: heard.as_ref().map(|heard| heard.read()).unwrap_or_default(),
        };
        let made = outcome.value().map(made);
        (outcome.map(|_| ()), made)
    }

    fn spend(&self, input: Option<u64>, output: Option<u64>, nanos: Option<i64>) {
        let mut spent = self.spent.lock();
        spent.0 = spent.0.saturating_add(input.unwrap_or(0)).saturating_add(output.unwrap_or(0));
        spent.1 += Money::from_nanos(nanos.unwrap_or(0));
    }

    /// Why nothing more may be spent, if so.
    fn over_budget(&self) -> Option<Error> {
        let (tokens, cost) = *self.spent.lock();
        let name = &self.task.stage.name;
        let said = match (self.work.tokens, self.work.nanousd.map(Money::from_nanos)) {
            (Some(limit), _) if tokens >= limit => {
                format!("the budget of stage `{name}` of {limit} tokens is used up ({tokens})")
            }
            (_, Some(limit)) if cost >= limit => {
                format!("the budget of stage `{name}` of {limit} is used up ({cost})")
            }
            _ => return None,
        };
        Some(Error::new(Code::BudgetExhausted, said))
    }

    /// What was made of the same before.
    async fn kept(&self, key: &[u8; 32]) -> Option<Made> {
        let found = self.host.inner.results.get(key).await;
        let found =
            found.inspect_err(|e| tracing::warn!(error = %e, "failed to look for an element")).ok()??;
        let made: Made = serde_json::from_slice(&found.value).ok()?;
        if found.run == self.task.run {
            // An attempt of this run has paid for it.
            self.spend(made.input_tokens, made.output_tokens, made.cost_nanousd);
        }
        // Whoever answered then has a part in what is made now.
        self.log.lineage(Lineage::of(made.of.clone()));
        Some(made)
    }

    async fn keep(&self, key: [u8; 32], made: &Made) {
        let Ok(value) = serde_json::to_vec(made) else { return };
        let result = StageResult {
            key,
            tenant: self.task.tenant.clone(),
            pipeline: self.about.pipeline.to_string(),
            // Beside the stage: it is no result of the whole.
            stage: format!("{}[]", self.task.stage.name),
            run: self.task.run,
            of: "{}".to_owned(),
            value,
            at: self.host.inner.clock.wall(),
        };
        if let Err(e) = self.host.inner.results.put(&result).await {
            tracing::warn!(error = %e, "failed to keep the result of an element");
        }
    }
}
