//! Whether a model treats groups alike: demographic parity, equalised odds and the 80 % ratio, with intervals.
//!
//! Figures are those of fairlearn [test: fairness_is_that_of_fairlearn]: a difference is the largest between any two groups, a ratio
//! the smallest. Groups below a minimum size are left out and named, because a rate of seven rows says nothing about a group.
//! Intervals are by bootstrap within each group. Differences of noisy rates are not negative, so that they lie too high for small
//! groups: the interval's high end is the safe one to hold against a limit.

use rand_distr::{Binomial, Distribution};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::metrics::threshold::Confusion;
use super::resample::{Interval, Resampling, draw};
use super::rows::{Key, Rows, Truth};

/// How groups of one column fare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// The column.
    pub column: String,
    /// The groups that are compared.
    pub groups: Vec<Group>,
    /// Groups that are too small to compare, with their rows.
    pub small: Vec<(String, u64)>,
    /// The fewest rows of a group that is compared.
    pub minimum: u64,
    /// The largest difference of selection rates.
    pub dp_difference: Option<Interval>,
    /// The smallest ratio of selection rates: the 80 % rule asks for 0.8.
    pub dp_ratio: Option<Interval>,
    /// The larger of the largest differences of true and of false positive rates.
    pub eo_difference: Option<Interval>,
    /// How it was resampled.
    pub resampling: Resampling,
}

/// How a group fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The value of the column.
    pub value: String,
    /// Its rows.
    pub rows: u64,
    /// The share called positive.
    pub selection_rate: Option<f64>,
    /// The share of positives called so.
    pub tpr: Option<f64>,
    /// The share of negatives called positive.
    pub fpr: Option<f64>,
    /// How it was called.
    pub confusion: Confusion,
}

/// The rows of a group that is compared.
struct Members {
    labels: Vec<bool>,
    called: Vec<bool>,
    weights: Option<Vec<f64>>,
    whole: Confusion,
}

impl Members {
    fn of(rows: &Rows, chosen: &[u32], threshold: f64) -> Option<Members> {
        let subset = rows.subset(chosen)?;
        let Truth::Binary { labels, scores } = subset.truth() else { return None };
        let called: Vec<bool> = scores.iter().map(|s| *s >= threshold).collect();
        let whole = Confusion::count(labels, called.iter().copied(), subset.weights());
        let weights = subset.weights().map(<[f64]>::to_vec);
        Some(Members { labels: labels.clone(), called, weights, whole })
    }

    /// The group with its rows drawn anew. Rows of equal weight are drawn as counts, which is the same and costs nothing.
    fn drawn(&self, generator: &mut Pcg64, room: &mut Vec<f64>) -> Confusion {
        if let Some(weights) = &self.weights {
            room.resize(self.labels.len(), 0.0);
            draw(generator, Some(weights), room);
            return Confusion::count(&self.labels, self.called.iter().copied(), Some(room));
        }
        let mut left = self.whole.total();
        let mut share = 1.0;
        let mut part = |count: f64| {
            // Of what is left, so many fall on this cell: a multinomial draw, cell by cell.
            let p = (count / (share * self.whole.total()).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
            let n = Binomial::new(left as u64, p).map_or(0, |b| b.sample(generator)) as f64;
            share -= count / self.whole.total();
            left -= n;
            n
        };
        let (tp, fp, tn) = (part(self.whole.tp), part(self.whole.fp), part(self.whole.tn));
        Confusion { tp, fp, tn, fn_: left.max(0.0) }
    }
}

/// The smallest and the largest of rates that are defined, when there are two.
fn spread(rates: impl Iterator<Item = Option<f64>>) -> Option<(f64, f64)> {
    let (mut n, mut low, mut high) = (0, f64::INFINITY, f64::NEG_INFINITY);
    for rate in rates.flatten() {
        (n, low, high) = (n + 1, low.min(rate), high.max(rate));
    }
    (n >= 2).then_some((low, high))
}

/// Demographic parity difference of groups.
pub fn dp_difference(groups: &[Confusion]) -> Option<f64> {
    spread(groups.iter().map(Confusion::selection_rate)).map(|(low, high)| high - low)
}

/// Demographic parity ratio of groups. One where nobody is called positive.
pub fn dp_ratio(groups: &[Confusion]) -> Option<f64> {
    let (low, high) = spread(groups.iter().map(Confusion::selection_rate))?;
    Some(if high > 0.0 { low / high } else { 1.0 })
}

/// Equalised odds difference of groups: the larger of the two rates' (fairlearn's `worst_case`).
pub fn eo_difference(groups: &[Confusion]) -> Option<f64> {
    let of = |(low, high): (f64, f64)| high - low;
    let tpr = spread(groups.iter().map(Confusion::recall)).map(of);
    let fpr = spread(groups.iter().map(Confusion::fpr)).map(of);
    match (tpr, fpr) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (one, other) => one.or(other),
    }
}

/// How the groups of a column fare; of a binary classification, at a threshold. `None` for other predictions.
pub fn compare(
    rows: &Rows,
    column: &Key,
    threshold: f64,
    minimum: u64,
    resampling: Resampling,
) -> Option<Fairness> {
    let Truth::Binary { .. } = rows.truth() else { return None };
    let (mut groups, mut small, mut members) = (Vec::new(), Vec::new(), Vec::new());
    for (value, chosen) in column.parts() {
        let group = Members::of(rows, &chosen, threshold);
        let Some(group) = group.filter(|_| chosen.len() as u64 >= minimum) else {
            small.push((value.to_owned(), chosen.len() as u64));
            continue;
        };
        groups.push(Group {
            value: value.to_owned(),
            rows: chosen.len() as u64,
            selection_rate: group.whole.selection_rate(),
            tpr: group.whole.recall(),
            fpr: group.whole.fpr(),
            confusion: group.whole,
        });
        members.push(group);
    }
    let whole: Vec<Confusion> = members.iter().map(|m| m.whole).collect();
    type Figure = fn(&[Confusion]) -> Option<f64>;
    let figures: [Figure; 3] = [dp_difference, dp_ratio, eo_difference];
    let mut replicates = [Vec::new(), Vec::new(), Vec::new()];
    let mut generator = resampling.generator(&format!("fairness {}", column.name));
    let mut room = Vec::new();
    if members.len() >= 2 {
        for _ in 0..resampling.replicates {
            let drawn: Vec<Confusion> = members.iter().map(|m| m.drawn(&mut generator, &mut room)).collect();
            for (figure, all) in figures.iter().zip(&mut replicates) {
                all.extend(figure(&drawn));
            }
        }
    }
    let mut intervals = figures.iter().zip(replicates).map(|(figure, replicates)| {
        figure(&whole).and_then(|value| resampling.percentiles(value, replicates))
    });
    let mut next = || intervals.next().flatten();
    let (dp_difference, dp_ratio, eo_difference) = (next(), next(), next());
    let column = column.name.clone();
    Some(Fairness { column, groups, small, minimum, dp_difference, dp_ratio, eo_difference, resampling })
}
