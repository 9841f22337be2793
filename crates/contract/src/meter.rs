//! What a request has used so far. One meter a request, shared by all its stages; the ledger record is made of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    AttemptRecord, Budget, Code, Ending, Error, ModelName, Money, Price, StageName, StageRecord, Usage,
};

/// The sums so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Tokens of all attempts.
    pub usage: Usage,
    /// Money of all attempts.
    pub cost: Money,
}

/// What a request holds of the budgets of whoever pays for it.
pub trait Reserve: Send + Sync + std::fmt::Debug {
    /// Holds this much in all from now on, or what it holds already when that is more.
    ///
    /// # Errors
    /// The budget that has no room for it; what was held stays held.
    fn grow(&self, tokens: u64, cost: Money) -> Result<(), Error>;
}

/// Collects attempts, stages and findings. Recording never waits and never fails.
#[derive(Debug, Default)]
pub struct Meter {
    inner: Mutex<Inner>,
    reserve: Option<Box<dyn Reserve>>,
    /// Whose ordinals its attempts get.
    ordinals: Option<Arc<Meter>>,
}

#[derive(Debug, Default)]
struct Inner {
    spent: Spent,
    attempts: Vec<AttemptRecord>,
    stages: Vec<StageRecord>,
    facts: serde_json::Map<String, serde_json::Value>,
    cached: Vec<(Option<StageName>, u64)>,
    /// Stages with limits of their own.
    limits: Vec<(StageName, Budget)>,
    /// What calls under way may still use.
    held: Vec<Hold>,
    next_hold: u64,
    /// Attempts that began.
    begun: u32,
}

#[derive(Debug)]
struct Hold {
    number: u64,
    stage: Option<StageName>,
    tokens: u64,
    cost: Money,
}

impl Inner {
    /// What was spent and is held: by one stage, or by all.
    fn used(&self, stage: Option<&StageName>) -> (u64, Money) {
        let of = |s: Option<&StageName>| stage.is_none() || s == stage;
        let (mut tokens, mut cost) = match stage {
            None => (self.spent.usage.total(), self.spent.cost),
            Some(_) => self
                .attempts
                .iter()
                .filter(|a| of(a.stage.as_ref()))
                .fold((0, Money::ZERO), |(t, c): (u64, Money), a| {
                    (t.saturating_add(a.usage.total()), c + a.cost)
                }),
        };
        for h in self.held.iter().filter(|h| of(h.stage.as_ref())) {
            tokens = tokens.saturating_add(h.tokens);
            cost += h.cost;
        }
        (tokens, cost)
    }

    /// How much of `output` a budget leaves beside `input`.
    fn room(
        &self,
        stage: Option<&StageName>,
        budget: &Budget,
        price: &Price,
        input: u64,
        mut output: u64,
    ) -> Result<u64, Error> {
        let cost =
            |output_tokens| price.cost(&Usage { input_tokens: input, output_tokens, ..Usage::default() });
        let whose =
            || stage.map_or_else(|| "the budget".to_owned(), |s| format!("the budget of stage `{s}`"));
        let (used_tokens, used_cost) = self.used(stage);
        if let Some(limit) = budget.tokens {
            let left = limit.saturating_sub(used_tokens).saturating_sub(input);
            if left == 0 {
                let m = format!(
                    "{} of {limit} tokens has no room for {input} more and an answer ({used_tokens} spent or held)",
                    whose()
                );
                return Err(Error::new(Code::BudgetExhausted, m));
            }
            output = output.min(left);
        }
        if let Some(limit) = budget.usd {
            let left = limit.saturating_sub(used_cost);
            if cost(1) > left {
                let m = format!("{} of {limit} is used up ({used_cost} spent or held)", whose());
                return Err(Error::new(Code::BudgetExhausted, m));
            }
            let per_token = price.for_prompt(input).output;
            if per_token > 0 {
                let nanos = i128::from(left.saturating_sub(cost(0)).nanos()) * 1_000_000;
                let affordable = nanos / i128::from(per_token);
                output = output.min(u64::try_from(affordable).unwrap_or(u64::MAX)).max(1);
            }
        }
        Ok(output)
    }
}

/// What one call may use, taken out of a budget until it is dropped: after the call's attempts are in the meter.
#[derive(Debug)]
#[must_use = "dropping it gives back what it holds"]
pub struct Held {
    meter: Arc<Meter>,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.lock().held.retain(|h| h.number != self.number);
    }
}

impl Meter {
    /// A meter whose calls are held in `reserve` too before they are made.
    pub fn with_reserve(reserve: Box<dyn Reserve>) -> Self {
        Meter { reserve: Some(reserve), ..Meter::default() }
    }

    /// A meter for a call of `asker`'s that other requests may come to share: what it collects is nobody's until somebody
    /// takes it. Its attempts are numbered with the asker's.
    pub fn apart(asker: Arc<Meter>) -> Self {
        Meter { ordinals: Some(asker), ..Meter::default() }
    }

    /// Whether calls are held in a reserve.
    pub fn is_reserved(&self) -> bool {
        self.reserve.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ordinal of an attempt that begins now, from 1.
    pub fn begin_attempt(&self) -> u32 {
        if let Some(asker) = &self.ordinals {
            return asker.begin_attempt();
        }
        let mut inner = self.lock();
        inner.begun = inner.begun.saturating_add(1);
        inner.begun
    }

    /// Adds an attempt that ended, however it ended.
    pub fn attempt(&self, a: AttemptRecord) {
        let mut inner = self.lock();
        inner.spent.usage += a.usage;
        inner.spent.cost += a.cost;
        inner.attempts.push(a);
    }

    /// Adds a stage that ended.
    pub fn stage(&self, s: StageRecord) {
        self.lock().stages.push(s);
    }

    /// Keeps a finding for the `done` event and the ledger; a later one of the same name replaces it.
    pub fn fact(&self, name: &str, value: serde_json::Value) {
        self.lock().facts.insert(name.to_owned(), value);
    }

    /// Keeps one of several findings of a name, apart for each `of`: `{of: value}`. The first one stays, and is given back.
    pub fn note(&self, name: &str, of: &str, value: serde_json::Value) -> serde_json::Value {
        let mut inner = self.lock();
        let all =
            inner.facts.entry(name).or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
        match all.as_object_mut() {
            Some(all) => all.entry(of).or_insert(value).clone(),
            None => value,
        }
    }

    /// What was noted under a name of `of`.
    pub fn noted(&self, name: &str, of: &str) -> Option<serde_json::Value> {
        self.lock().facts.get(name)?.get(of).cloned()
    }

    /// Adds figures to the finding `name`, apart for each `of`: `{of: {figure: sum}}`.
    pub fn tally(&self, name: &str, of: &str, figures: &[(&str, u64)]) {
        use serde_json::{Map, Value};
        let mut inner = self.lock();
        let all = inner.facts.entry(name).or_insert_with(|| Value::Object(Map::new()));
        let Some(all) = all.as_object_mut() else { return };
        let Some(own) = all.entry(of).or_insert_with(|| Value::Object(Map::new())).as_object_mut() else {
            return;
        };
        for (figure, n) in figures {
            let sum = own.get(*figure).and_then(Value::as_u64).unwrap_or(0).saturating_add(*n);
            own.insert((*figure).to_owned(), sum.into());
        }
    }

    /// Counts an answer of `stage` that came from a cache instead of a model.
    pub fn cached(&self, stage: Option<&StageName>) {
        let mut inner = self.lock();
        match inner.cached.iter_mut().find(|(s, _)| s.as_ref() == stage) {
            Some((_, n)) => *n += 1,
            None => inner.cached.push((stage.cloned(), 1)),
        }
    }

    /// How many answers of `stage` came from a cache.
    pub fn cache_hits(&self, stage: &StageName) -> u64 {
        self.lock().cached.iter().find(|(s, _)| s.as_ref() == Some(stage)).map_or(0, |(_, n)| *n)
    }

    /// The sums so far.
    pub fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// Sets a limit of its own for a stage, beside the budget of the whole.
    pub fn limit(&self, stage: &StageName, budget: &Budget) {
        let mut inner = self.lock();
        if (budget.tokens.is_some() || budget.usd.is_some()) && !inner.limits.iter().any(|(s, _)| s == stage)
        {
            inner.limits.push((stage.clone(), *budget));
        }
    }

    /// Whether a stage has a limit of its own.
    pub fn is_limited(&self, stage: &StageName) -> bool {
        self.lock().limits.iter().any(|(s, _)| s == stage)
    }

    /// Takes room for a call of `stage` out of what `budget`, and the stage's own limit, leave: its input, and as much of
    /// `output` as fits. Calls at the same time hold different room, so that together they never pass the budget by more
    /// than their inputs were underestimated. What is spent and held by then is reserved at whoever pays. Returns the output
    /// the call may ask for, at least one token.
    ///
    /// # Errors
    /// `budget_exhausted` when there is no room for the input and one token of output; what the reserve says.
    pub fn hold(
        self: &Arc<Self>,
        stage: Option<&StageName>,
        budget: &Budget,
        price: &Price,
        input: u64,
        output: u64,
    ) -> Result<(u64, Held), Error> {
        let mut inner = self.lock();
        let mut output = inner.room(None, budget, price, input, output.max(1))?;
        let own = inner.limits.iter().find(|(s, _)| Some(s) == stage).map(|(_, b)| *b);
        if let Some(own) = own {
            output = inner.room(stage, &own, price, input, output)?;
        }
        let usage = Usage { input_tokens: input, output_tokens: output, ..Usage::default() };
        let (tokens, cost) = (input.saturating_add(output), price.cost(&usage));
        if let Some(reserve) = &self.reserve {
            let (used_tokens, used_cost) = inner.used(None);
            reserve.grow(used_tokens.saturating_add(tokens), used_cost + cost)?;
        }
        let number = inner.next_hold;
        inner.next_hold += 1;
        inner.held.push(Hold { number, stage: stage.cloned(), tokens, cost });
        Ok((output, Held { meter: Arc::clone(self), number }))
    }

    /// Takes everything out: attempts, stages, findings.
    pub fn take(
        &self,
    ) -> (Spent, Vec<AttemptRecord>, Vec<StageRecord>, serde_json::Map<String, serde_json::Value>) {
        let mut inner = self.lock();
        let i = std::mem::take(&mut *inner);
        (i.spent, i.attempts, i.stages, i.facts)
    }

    /// How many calls to models ended.
    pub fn attempts(&self) -> usize {
        self.lock().attempts.len()
    }

    /// Microseconds in which at least one call to a model that has ended was under way or waited for its turn: time that is
    /// the model's, not ours.
    pub fn called_us(&self) -> u64 {
        let inner = self.lock();
        let mut calls: Vec<(u64, u64)> = inner.attempts.iter().map(|a| (a.started_us, a.ended_us)).collect();
        calls.sort_unstable();
        let (mut sum, mut until) = (0u64, 0);
        for (start, end) in calls {
            sum += end.saturating_sub(start.max(until));
            until = until.max(end);
        }
        sum
    }

    /// A copy of the stages that ended.
    pub fn stages(&self) -> Vec<StageRecord> {
        self.lock().stages.clone()
    }

    /// A copy of the findings.
    pub fn facts(&self) -> serde_json::Map<String, serde_json::Value> {
        self.lock().facts.clone()
    }

    /// Models that answered whole, by the versions that they gave themselves, each once, in order of their ends.
    pub fn answered(&self) -> Vec<(ModelName, Option<String>)> {
        let mut all = Vec::new();
        for attempt in self.lock().attempts.iter().filter(|a| a.ending == Ending::Complete) {
            let one = (attempt.model.clone(), attempt.model_version.clone());
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    /// The version of the model that answered last.
    pub fn model_version(&self) -> Option<String> {
        self.lock().attempts.iter().rev().find_map(|a| a.model_version.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRICE: Price = Price { input: 1_000_000, output: 4_000_000, cached_input: 1_000_000, long: None };

    proptest! {
        #[test]
        fn calls_at_the_same_time_never_hold_more_than_the_budget(
            tokens in prop::option::of(1u64..500), usd in prop::option::of(1i64..2_000),
            calls in prop::collection::vec((1u64..100, 1u64..200, any::<bool>()), 1..30),
        ) {
            let meter = Arc::new(Meter::default());
            let budget = Budget { tokens, usd: usd.map(Money::from_nanos), ..Budget::default() };
            let mut living = Vec::new();
            for (input, output, ends) in calls {
                if let Ok((granted, held)) = meter.hold(None, &budget, &PRICE, input, output) {
                    prop_assert!(1 <= granted && granted <= output);
                    living.push(held);
                }
                let inner = meter.lock();
                let (held_tokens, held_cost) = inner.used(None);
                prop_assert!(tokens.is_none_or(|t| held_tokens <= t));
                prop_assert!(usd.is_none_or(|u| held_cost <= Money::from_nanos(u)));
                drop(inner);
                if ends {
                    living.pop();
                }
            }
            living.clear();
            let inner = meter.lock();
            prop_assert_eq!(inner.used(None), (0, Money::ZERO));
        }
    }

    #[test]
    fn what_fits_is_granted_and_what_does_not_is_refused() {
        let meter = Arc::new(Meter::default());
        let budget = Budget { tokens: Some(100), ..Budget::default() };
        let (granted, held) = meter.hold(None, &budget, &Price::FREE, 40, 1_000).unwrap();
        assert_eq!(granted, 60);
        assert_eq!(meter.hold(None, &budget, &Price::FREE, 1, 1).unwrap_err().code, Code::BudgetExhausted);
        drop(held);
        assert!(meter.hold(None, &budget, &Price::FREE, 1, 1).is_ok());
    }

    #[test]
    fn a_stages_own_limit_counts_its_own_calls_alone() {
        let meter = Arc::new(Meter::default());
        let (notes, summary) = (StageName::from("notes"), StageName::from("summary"));
        let whole = Budget { tokens: Some(1_000), ..Budget::default() };
        meter.limit(&summary, &Budget { tokens: Some(100), ..Budget::default() });
        let (_, _held) = meter.hold(Some(&notes), &whole, &Price::FREE, 400, 100).unwrap();
        let (granted, held) = meter.hold(Some(&summary), &whole, &Price::FREE, 40, 500).unwrap();
        assert_eq!(granted, 60, "what the notes hold is not the summary's");
        let refused = meter.hold(Some(&summary), &whole, &Price::FREE, 40, 1).unwrap_err();
        assert!(refused.message.contains("`summary`"), "{}", refused.message);
        drop(held);
        assert!(meter.hold(Some(&summary), &whole, &Price::FREE, 40, 1).is_ok());
    }

    fn call(started_us: u64, ended_us: u64) -> AttemptRecord {
        AttemptRecord {
            stage: None,
            ordinal: 0,
            number: 1,
            model: "m".into(),
            reason: None,
            instead_of: None,
            endpoint: "e".into(),
            model_version: None,
            prompt_version: None,
            started_us,
            queued_us: 0,
            first_token_us: None,
            ended_us,
            usage: Usage::default(),
            cost: Money::ZERO,
            finish_reason: None,
            ending: crate::Ending::Complete,
            error: None,
        }
    }

    #[test]
    fn figures_add_up_apart_for_each_name() {
        let meter = Meter::default();
        meter.tally("cache", "a", &[("hits", 1), ("saved", 5)]);
        meter.tally("cache", "b", &[("hits", 1)]);
        meter.tally("cache", "a", &[("saved", 7)]);
        let facts = serde_json::json!({"a": {"hits": 1, "saved": 12}, "b": {"hits": 1}});
        assert_eq!(meter.facts()["cache"], facts);
    }

    #[test]
    fn a_call_apart_is_numbered_with_its_askers_and_counted_by_nobody() {
        let asker = Arc::new(Meter::default());
        let apart = Meter::apart(asker.clone());
        assert_eq!((asker.begin_attempt(), apart.begin_attempt(), asker.begin_attempt()), (1, 2, 3));
        apart.attempt(call(1, 2));
        assert_eq!((asker.attempts(), apart.attempts()), (0, 1));
    }

    #[test]
    fn time_in_which_calls_overlap_counts_once() {
        let meter = Meter::default();
        for (start, end) in [(50, 60), (10, 30), (20, 40), (22, 25)] {
            meter.attempt(call(start, end));
        }
        assert_eq!(meter.called_us(), 30 + 10);
        assert_eq!(Meter::default().called_us(), 0);
    }

    #[test]
    fn what_calls_may_use_is_reserved_before_they_are_made() {
        #[derive(Debug, Default)]
        struct Purse(Arc<Mutex<Vec<u64>>>);
        impl Reserve for Purse {
            fn grow(&self, tokens: u64, _: Money) -> Result<(), Error> {
                self.0.lock().unwrap().push(tokens);
                if tokens > 500 { Err(Error::new(Code::BudgetExhausted, "empty")) } else { Ok(()) }
            }
        }
        let asked = Arc::default();
        let meter = Arc::new(Meter::with_reserve(Box::new(Purse(Arc::clone(&asked)))));
        let hold = |input, output| meter.hold(None, &Budget::default(), &Price::FREE, input, output);
        let first = hold(100, 100).unwrap();
        let second = hold(100, 200).unwrap();
        assert_eq!(hold(1, 1).unwrap_err().code, Code::BudgetExhausted);
        drop(first);
        assert!(hold(100, 50).is_ok(), "what a call has given back is there for another");
        drop(second);
        assert_eq!(*asked.lock().unwrap(), [200, 500, 502, 450]);
    }
}
