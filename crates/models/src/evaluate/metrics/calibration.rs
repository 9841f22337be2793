//! Whether a probability means what it says: log loss, Brier score, and expected calibration error.

use serde::{Deserialize, Serialize};

use super::{Weights, mean, weight};

/// Log loss: the mean of −ln of the probability that the row's label was given. Probabilities are held off 0 and 1 by the machine's
/// epsilon, so that one wrong certainty is dear and not infinite.
pub fn log_loss(labels: &[bool], probabilities: &[f64], weights: Weights<'_>) -> Option<f64> {
    mean(log_losses(labels, probabilities), weights)
}

/// The log loss of each row.
pub fn log_losses<'a>(labels: &'a [bool], probabilities: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    labels.iter().zip(probabilities).map(|(label, p)| {
        let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        if *label { -p.ln() } else { -(1.0 - p).ln() }
    })
}

/// The Brier score: the mean squared distance between probability and outcome.
pub fn brier(labels: &[bool], probabilities: &[f64], weights: Weights<'_>) -> Option<f64> {
    mean(briers(labels, probabilities), weights)
}

/// The squared distance of each row.
pub fn briers<'a>(labels: &'a [bool], probabilities: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    labels.iter().zip(probabilities).map(|(label, p)| (p - f64::from(*label)).powi(2))
}

/// How probabilities are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bins {
    /// Into bins of one width.
    EqualWidth,
    /// At quantiles: bins of about as many rows each. Equal probabilities always share a bin.
    EqualMass,
}

/// A bin of a calibration curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// The mean probability.
    pub predicted: f64,
    /// The share of positives.
    pub observed: f64,
    /// The weight of its rows.
    pub weight: f64,
}

/// The calibration curve: bins that hold anything, by rising probability. A probability on an edge lies in the bin below it, as in
/// scikit-learn's `calibration_curve`. Quantiles are those of the rows, unweighted, interpolated linearly.
pub fn curve(
    labels: &[bool],
    probabilities: &[f64],
    weights: Weights<'_>,
    (bins, count): (Bins, usize),
) -> Vec<Bin> {
    let count = count.max(1);
    let edges: Vec<f64> = match bins {
        Bins::EqualWidth => (1..count).map(|k| k as f64 / count as f64).collect(),
        Bins::EqualMass => {
            let mut sorted = probabilities.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            (1..count).filter_map(|k| quantile(&sorted, k as f64 / count as f64)).collect()
        }
    };
    let mut sums = vec![(0.0, 0.0, 0.0); count];
    for (row, (label, p)) in labels.iter().zip(probabilities).enumerate() {
        let w = weight(weights, row);
        let Some(sum) = sums.get_mut(edges.partition_point(|edge| edge < p)) else { continue };
        *sum = (sum.0 + w * p, sum.1 + w * f64::from(*label), sum.2 + w);
    }
    let held = sums.into_iter().filter(|(.., w)| *w > 0.0);
    held.map(|(p, y, weight)| Bin { predicted: p / weight, observed: y / weight, weight }).collect()
}

/// Expected calibration error: the distance between probability and outcome in a bin, averaged over the bins by weight. It is above
/// zero for a perfect model too, the more so the fewer rows a bin has.
pub fn ece(curve: &[Bin]) -> Option<f64> {
    let all: f64 = curve.iter().map(|b| b.weight).sum();
    (all > 0.0).then(|| curve.iter().map(|b| b.weight * (b.predicted - b.observed).abs()).sum::<f64>() / all)
}

/// A quantile of sorted values, interpolated linearly between the two nearest (NumPy's default).
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let low = at.floor() as usize;
    let (a, b) = (*sorted.get(low)?, *sorted.get((low + 1).min(last))?);
    Some(a + (b - a) * (at - low as f64))
}
