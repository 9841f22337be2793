//! What comes in about rollouts, brought together: answers by arm, and what turned out to be true of them, as the batches that
//! [`crate::rollout`] judges by.
//!
//! Pure: told of answers and labels, asked for what came since. A unit is whom an answer is about, else the request. It counts for the
//! step and the arm in which it was answered, also when its labels come later, and gives one value a metric: the first. A label may
//! come before the answer that it is about: it waits.
//!
//! Metrics by name: `latency_ms`, `error` (0 or 1) and whatever other figures it brings of the answer itself; `correct`, `wrong`, `brier`, `log_loss`, `absolute_error`
//! and `squared_error` of an answer and its label; every other name is that of a score.
//!
//! Bounded: the newest predictions are kept for their labels, and the newest labels for their predictions; what is older is forgotten,
//! and counts for nothing. Nothing of it outlives the process.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use contract::TenantId;
use predict::observe::{Answered, Arm, Told};

use super::score::{Said, said_of, worth};
use crate::rollout::{ArmBatch, Batch, Input, Moments, ShadowBatch, place};

/// Predictions that are kept for their labels.
const PREDICTIONS: usize = 200_000;
/// Labels that are kept for their predictions.
const EARLY: usize = 20_000;
/// Rows of a prediction that are kept.
const ROWS: usize = 64;
/// Units of an arm that are told apart.
const UNITS: usize = 1 << 20;

/// A rollout that is collected for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The version that comes.
    pub challenger: String,
    /// The metrics that decide.
    pub metrics: Vec<String>,
    /// The longest an answer may take, in milliseconds.
    pub slow_above_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Cell {
    step: usize,
    canary: bool,
}

/// What is known of an arm in a step.
#[derive(Debug, Default)]
struct OfArm {
    /// Since it was last asked for.
    batch: ArmBatch,
    units: HashSet<u64>,
    /// Units that gave a metric's value, by the metric's place.
    given: HashSet<(u64, usize)>,
}

#[derive(Debug)]
struct Own {
    watched: Watched,
    arms: BTreeMap<Cell, OfArm>,
    shadow: ShadowBatch,
}

/// A prediction that waits for its labels.
#[derive(Debug)]
struct Prediction {
    tenant: TenantId,
    challenger: Arc<str>,
    cell: Cell,
    unit: u64,
    rows: Vec<Said>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Collector {
    own: BTreeMap<String, Own>,
    predictions: HashMap<Arc<str>, Prediction>,
    order: VecDeque<Arc<str>>,
    early: HashMap<Arc<str>, Vec<Told>>,
    early_order: VecDeque<Arc<str>>,
}

impl Collector {
    /// Collects for these rollouts, and for no others.
    pub fn watch(&mut self, all: &[Watched]) {
        self.own.retain(|challenger, _| all.iter().any(|w| w.challenger == *challenger));
        for watched in all {
            let fresh =
                || Own { watched: watched.clone(), arms: BTreeMap::new(), shadow: ShadowBatch::default() };
            self.own.entry(watched.challenger.clone()).or_insert_with(fresh).watched = watched.clone();
        }
        if self.own.is_empty() {
            *self = Collector::default();
        }
    }

    /// Whether there is anything to collect for.
    pub fn is_idle(&self) -> bool {
        self.own.is_empty()
    }

    /// An answer was made.
    pub fn answered(&mut self, answered: &Answered) {
        let Some(place) = &answered.place else { return };
        let Some(own) = self.own.get_mut(&*place.challenger) else { return };
        let took = i64::try_from(answered.took.as_millis()).unwrap_or(i64::MAX);
        let slow = u64::from(own.watched.slow_above_ms.is_some_and(|most| took > most));
        let failed = u64::from(answered.error.is_some());
        if answered.arm == Arm::Shadow {
            own.shadow.requests += 1;
            own.shadow.errors += failed;
            own.shadow.slow += slow;
            return;
        }
        let canary = match answered.arm {
            Arm::Canary => true,
            Arm::Control => false,
            Arm::Champion | Arm::Shadow | Arm::Named => return,
        };
        let Some(step) = place.step else { return };
        let (cell, unit) = (Cell { step, canary }, unit(&answered.tenant, answered.entity()));
        let of = own.arms.entry(cell).or_default();
        of.batch.requests += 1;
        of.batch.errors += failed;
        of.batch.slow += slow;
        if of.units.len() < UNITS && of.units.insert(unit) {
            of.batch.units += 1;
        }
        let mut labelled = false;
        for (at, metric) in own.watched.metrics.iter().enumerate() {
            match metric.as_str() {
                "latency_ms" => of.give(at, metric, unit, answered.took.as_secs_f64() * 1e3),
                #[expect(clippy::cast_precision_loss, reason = "it is 0 or 1")]
                "error" => of.give(at, metric, unit, failed as f64),
                _ => match answered.figures.iter().find(|(name, _)| **name == **metric) {
                    Some((_, value)) => of.give(at, metric, unit, *value),
                    None => labelled = true,
                },
            }
        }
        if labelled && failed == 0 {
            let mut rows = said_of(&answered.outputs);
            rows.truncate(ROWS);
            let (tenant, challenger) = (answered.tenant.clone(), place.challenger.clone());
            self.keep(answered.id.clone(), Prediction { tenant, challenger, cell, unit, rows });
        }
    }

    fn keep(&mut self, id: Arc<str>, prediction: Prediction) {
        if self.order.len() >= PREDICTIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.predictions.remove(&oldest);
        }
        self.order.push_back(id.clone());
        self.predictions.insert(id.clone(), prediction);
        for told in self.early.remove(&id).unwrap_or_default() {
            self.told(&told);
        }
    }

    /// A copy was answered beside the champion: whether both said the same of every row.
    pub fn compared(&mut self, challenger: &str, agreed: bool) {
        if let Some(own) = self.own.get_mut(challenger) {
            own.shadow.compared += 1;
            own.shadow.agreed += u64::from(agreed);
        }
    }

    /// A copy found no room.
    pub fn dropped(&mut self, challenger: &str) {
        if let Some(own) = self.own.get_mut(challenger) {
            own.shadow.dropped += 1;
        }
    }

    /// Something turned out to be true of an answer.
    pub fn told(&mut self, told: &Told) {
        if self.is_idle() {
            return;
        }
        let Some(prediction) = self.predictions.get(&told.id) else {
            return self.wait(told);
        };
        // Nobody tells anything of what is another's.
        if prediction.tenant != told.tenant {
            return;
        }
        let Some(own) = self.own.get_mut(&*prediction.challenger) else { return };
        let of = own.arms.entry(prediction.cell).or_default();
        let said = usize::try_from(told.row).ok().and_then(|row| prediction.rows.get(row));
        for (at, metric) in own.watched.metrics.iter().enumerate() {
            let by_label = || worth(metric, said?, told.label.as_ref()?);
            let by_score = || told.score.filter(|_| *told.name == **metric);
            if let Some(value) = by_label().or_else(by_score) {
                of.give(at, metric, prediction.unit, value);
            }
        }
    }

    fn wait(&mut self, told: &Told) {
        // In words it says nothing that is counted.
        if told.label.is_none() && told.score.is_none() {
            return;
        }
        if self.early_order.len() >= EARLY
            && let Some(oldest) = self.early_order.pop_front()
        {
            self.early.remove(&oldest);
        }
        self.early_order.push_back(told.id.clone());
        self.early.entry(told.id.clone()).or_default().push(Told { comment: None, ..told.clone() });
    }

    /// Whether something came that may end a rollout at once.
    pub fn is_urgent(&self) -> bool {
        let bad = |of: &OfArm| of.batch.errors + of.batch.slow > 0;
        let arms = |own: &Own| own.arms.iter().any(|(cell, of)| cell.canary && bad(of));
        self.own.values().any(|own| own.shadow.errors + own.shadow.slow > 0 || arms(own))
    }

    /// What came since, by version. Whoever cannot hand it on gives it back.
    pub fn take(&mut self) -> Vec<(String, Input)> {
        let mut all = Vec::new();
        for (challenger, own) in &mut self.own {
            let mut steps: BTreeMap<usize, Batch> = BTreeMap::new();
            for (cell, of) in &mut own.arms {
                let batch = std::mem::take(&mut of.batch);
                let of = steps.entry(cell.step).or_insert(Batch { step: cell.step, ..Batch::default() });
                if cell.canary {
                    of.canary = batch;
                } else {
                    of.control = batch;
                }
            }
            let empty = ArmBatch::default();
            let some = steps.into_values().filter(|b| b.canary != empty || b.control != empty);
            all.extend(some.map(|batch| (challenger.clone(), Input::Seen(batch))));
            let shadow = std::mem::take(&mut own.shadow);
            if shadow != ShadowBatch::default() {
                all.push((challenger.clone(), Input::Shadowed(shadow)));
            }
        }
        all
    }

    /// What was taken and could not be handed on.
    pub fn give_back(&mut self, taken: Vec<(String, Input)>) {
        for (challenger, input) in taken {
            let Some(own) = self.own.get_mut(&challenger) else { continue };
            match input {
                Input::Seen(Batch { step, canary, control }) => {
                    for (canary, batch) in [(true, canary), (false, control)] {
                        add(&mut own.arms.entry(Cell { step, canary }).or_default().batch, batch);
                    }
                }
                Input::Shadowed(b) => {
                    let s = &mut own.shadow;
                    s.compared += b.compared;
                    s.agreed += b.agreed;
                    s.requests += b.requests;
                    s.errors += b.errors;
                    s.slow += b.slow;
                    s.dropped += b.dropped;
                }
                _ => {}
            }
        }
    }
}

impl OfArm {
    fn give(&mut self, at: usize, metric: &str, unit: u64, value: f64) {
        // Who is not told apart from others gives no value: it would give several.
        if self.units.contains(&unit) && self.given.insert((unit, at)) {
            let of = self.batch.metrics.entry(metric.to_owned()).or_default();
            of.add(Moments { n: 1, mean: value, squares: 0.0 });
        }
    }
}

fn add(to: &mut ArmBatch, batch: ArmBatch) {
    to.units += batch.units;
    to.requests += batch.requests;
    to.errors += batch.errors;
    to.slow += batch.slow;
    for (name, moments) in batch.metrics {
        to.metrics.entry(name).or_default().add(moments);
    }
}

/// Whom an answer is about, told apart from those whom other tenants call the same.
fn unit(tenant: &TenantId, entity: &str) -> u64 {
    place(tenant.as_str(), entity)
}

#[cfg(test)]
mod tests;
