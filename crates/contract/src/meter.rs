//! What a request has used so far. One meter a request, shared by all its stages; the ledger record is made of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{AttemptRecord, Budget, Code, Error, Money, StageName, StageRecord, Usage};

/// The sums so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Tokens of all attempts.
    pub usage: Usage,
    /// Money of all attempts.
    pub cost: Money,
}

/// Collects attempts, stages and findings. Recording never waits and never fails.
#[derive(Debug, Default)]
pub struct Meter {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    spent: Spent,
    attempts: Vec<AttemptRecord>,
    stages: Vec<StageRecord>,
    facts: serde_json::Map<String, serde_json::Value>,
    cached: Vec<(Option<StageName>, u64)>,
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether `budget` leaves room for `usage` and `cost` more; otherwise the error a stage ends with.
    ///
    /// Attempts under way are not in the sums: the executor's caller bounds them by the reservation.
    pub fn room(&self, budget: &Budget, usage: u64, cost: Money) -> Result<(), Error> {
        let spent = self.spent();
        if let Some(limit) = budget.tokens
            && spent.usage.total().saturating_add(usage) > limit
        {
            let m = format!("the budget of {limit} tokens is used up ({} spent)", spent.usage.total());
            return Err(Error::new(Code::BudgetExhausted, m));
        }
        if let Some(limit) = budget.usd
            && spent.cost + cost > limit
        {
            let m = format!("the budget of {limit} is used up ({} spent)", spent.cost);
            return Err(Error::new(Code::BudgetExhausted, m));
        }
        Ok(())
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

    /// A copy of the stages that ended.
    pub fn stages(&self) -> Vec<StageRecord> {
        self.lock().stages.clone()
    }

    /// A copy of the findings.
    pub fn facts(&self) -> serde_json::Map<String, serde_json::Value> {
        self.lock().facts.clone()
    }

    /// The version of the model that answered last.
    pub fn model_version(&self) -> Option<String> {
        self.lock().attempts.iter().rev().find_map(|a| a.model_version.clone())
    }
}
