//! Which tries are worth being finished. Pure: figures in, decisions out, the same for the same figures however fast they came.

use serde::{Deserialize, Serialize};

use super::metric::Metric;

/// Tries that are finished before any is given up.
const FIRST: usize = 4;
/// A try is looked at every so many rounds, from the second look on.
const EVERY: u32 = 10;

/// A try, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number; the first is what was configured.
    pub number: u32,
    /// Its parameters.
    pub params: serde_json::Value,
    /// The figure; none when it was given up on the way.
    pub value: Option<f64>,
    /// The rounds, or the solver's steps, that were best; the round at which it was given up.
    pub rounds: u32,
    /// Whether it was given up.
    pub pruned: bool,
}

/// Gives up what is worse than the median of what was finished, at the same round (Golovin et al., 2017).
#[derive(Debug)]
pub struct Pruner {
    metric: Metric,
    /// The best figure up to each round, of the tries that were finished.
    finished: Vec<Vec<f64>>,
}

impl Pruner {
    /// Nothing was tried yet.
    pub fn new(metric: Metric) -> Pruner {
        Pruner { metric, finished: Vec::new() }
    }

    /// Whether a try goes on whose best figure up to `round` is `best`.
    pub fn goes_on(&self, round: u32, best: f64) -> bool {
        if self.finished.len() < FIRST || round < 2 * EVERY || !round.is_multiple_of(EVERY) {
            return true;
        }
        let at = |curve: &Vec<f64>| curve.get(round as usize - 1).or(curve.last()).copied();
        let mut others: Vec<f64> = self.finished.iter().filter_map(at).collect();
        others.sort_by(f64::total_cmp);
        let Some(median) = others.get(others.len() / 2) else { return true };
        !self.metric.better(*median, best)
    }

    /// A try was finished, with these figures round by round.
    pub fn finish(&mut self, curve: &[f64]) {
        let mut best = f64::NAN;
        let so_far = |value: &f64| {
            if best.is_nan() || self.metric.better(*value, best) {
                best = *value;
            }
            best
        };
        let curve: Vec<f64> = curve.iter().map(so_far).collect();
        self.finished.push(curve);
    }
}

/// How many rounds each of three rungs has, the last one all.
pub fn rungs(rounds: u32) -> [u32; 3] {
    [(rounds / 9).max(1), (rounds / 3).max(1), rounds]
}

/// The better third of tries, at least one, in the order of their numbers.
pub fn better_third(trials: &[(u32, Option<f64>)], metric: Metric) -> Vec<u32> {
    let mut ranked: Vec<(u32, f64)> =
        trials.iter().filter_map(|(n, value)| value.map(|value| (*n, value))).collect();
    ranked.sort_by(|a, b| {
        let order = a.1.total_cmp(&b.1);
        (if metric.rising() { order.reverse() } else { order }).then(a.0.cmp(&b.0))
    });
    ranked.truncate(trials.len().div_ceil(3));
    let mut kept: Vec<u32> = ranked.into_iter().map(|(number, _)| number).collect();
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_worse_than_the_median_is_given_up_and_only_then() {
        let mut pruner = Pruner::new(Metric::Auc);
        for top in [0.70, 0.75, 0.80, 0.85] {
            assert!(pruner.goes_on(20, 0.5), "nothing is given up before there is something to compare with");
            pruner.finish(&[top; 20]);
        }
        assert!(!pruner.goes_on(20, 0.79) && pruner.goes_on(20, 0.80) && pruner.goes_on(20, 0.81));
        assert!(pruner.goes_on(10, 0.5) && pruner.goes_on(25, 0.5), "only at its looks");
        assert!(!pruner.goes_on(200, 0.5), "a try that ended early is compared with its end");
    }

    proptest! {
        #[test]
        fn the_better_third_is_better_than_the_rest(values in prop::collection::vec(0..1000_u32, 1..30), rising: bool) {
            let metric = if rising { Metric::Auc } else { Metric::Rmse };
            let trials: Vec<(u32, Option<f64>)> = (0_u32..).zip(values.iter().map(|v| Some(f64::from(*v)))).collect();
            let kept = better_third(&trials, metric);
            prop_assert_eq!(kept.len(), trials.len().div_ceil(3));
            for (number, value) in &trials {
                for other in &kept {
                    let kept_value = f64::from(values[*other as usize]);
                    prop_assert!(kept.contains(number) || !metric.better(value.unwrap(), kept_value));
                }
            }
        }
    }
}
