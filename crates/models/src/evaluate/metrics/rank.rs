//! Figures that depend on the order of scores alone: area under the ROC curve, average precision, and the two curves.

use super::{Weights, ratio, weight};

/// The order of some scores, highest first, with ties together. Made once, it serves every weighting of the same rows, which is what
/// a bootstrap needs: sorting is the dear part.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Rows, highest score first.
    rows: Vec<u32>,
    /// How many of `rows` each tie ends behind, rising.
    ends: Vec<usize>,
    /// The score of each tie.
    scores: Vec<f64>,
}

/// Where a threshold stands: what is at or above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// The score.
    pub threshold: f64,
    /// The weight of positives at or above it.
    pub tp: f64,
    /// The weight of negatives at or above it.
    pub fp: f64,
}

impl Ranking {
    /// The order of `scores`, of which there are fewer than 2³².
    pub fn of(scores: &[f64]) -> Ranking {
        let score = |row: u32| scores.get(row as usize).copied().unwrap_or(f64::NEG_INFINITY);
        let mut rows: Vec<u32> = (0..u32::try_from(scores.len()).unwrap_or(u32::MAX)).collect();
        rows.sort_unstable_by(|a, b| score(*b).total_cmp(&score(*a)));
        let (mut ends, mut ties) = (Vec::new(), Vec::new());
        let mut sorted = rows.iter().enumerate().peekable();
        while let Some((at, row)) = sorted.next() {
            // -0.0 and 0.0 are one score.
            if sorted.peek().is_none_or(|(_, next)| score(**next) != score(*row)) {
                ends.push(at + 1);
                ties.push(score(*row));
            }
        }
        Ranking { rows, ends, scores: ties }
    }

    /// Every place where a threshold can stand, from the highest score down; thresholds that no weight lies on are left out.
    pub fn cuts(&self, labels: &[bool], weights: Weights<'_>) -> Vec<Cut> {
        let mut out = Vec::with_capacity(self.ends.len());
        self.walk(labels, weights, |cut| out.push(cut));
        out
    }

    fn walk(&self, labels: &[bool], weights: Weights<'_>, mut each: impl FnMut(Cut)) {
        let (mut tp, mut fp, mut from) = (0.0, 0.0, 0);
        for (end, threshold) in self.ends.iter().zip(&self.scores) {
            let before = (tp, fp);
            for row in self.rows.get(from..*end).unwrap_or_default() {
                let w = weight(weights, *row as usize);
                if labels.get(*row as usize).copied().unwrap_or_default() { tp += w } else { fp += w }
            }
            from = *end;
            if (tp, fp) != before {
                each(Cut { threshold: *threshold, tp, fp });
            }
        }
    }

    /// The area under the ROC curve: the chance that a positive scores above a negative, ties counting half.
    pub fn roc_auc(&self, labels: &[bool], weights: Weights<'_>) -> Option<f64> {
        let (mut area, mut last) = (0.0, Cut { threshold: 0.0, tp: 0.0, fp: 0.0 });
        self.walk(labels, weights, |cut| {
            area += (cut.fp - last.fp) * (cut.tp + last.tp) / 2.0;
            last = cut;
        });
        ratio(area, last.tp * last.fp)
    }

    /// Average precision: precision at each threshold, weighted by the recall that is gained there. Not interpolated.
    pub fn average_precision(&self, labels: &[bool], weights: Weights<'_>) -> Option<f64> {
        let (mut sum, mut tp) = (0.0, 0.0);
        self.walk(labels, weights, |cut| {
            sum += (cut.tp - tp) * cut.tp / (cut.tp + cut.fp);
            tp = cut.tp;
        });
        ratio(sum, tp)
    }

    /// The highest recall of any threshold whose precision is at least `precision`; zero when there is none.
    pub fn recall_at_precision(&self, labels: &[bool], weights: Weights<'_>, precision: f64) -> Option<f64> {
        let (mut best, mut all) = (0.0_f64, 0.0);
        self.walk(labels, weights, |cut| {
            if cut.tp >= precision * (cut.tp + cut.fp) {
                best = best.max(cut.tp);
            }
            all = cut.tp;
        });
        ratio(best, all)
    }
}

/// See [`Ranking::roc_auc`].
pub fn roc_auc(labels: &[bool], scores: &[f64], weights: Weights<'_>) -> Option<f64> {
    Ranking::of(scores).roc_auc(labels, weights)
}

/// See [`Ranking::average_precision`].
pub fn average_precision(labels: &[bool], scores: &[f64], weights: Weights<'_>) -> Option<f64> {
    Ranking::of(scores).average_precision(labels, weights)
}

/// The ROC curve: (false positive rate, true positive rate) from (0, 0) to (1, 1). Empty when a class is missing.
pub fn roc_points(cuts: &[Cut]) -> Vec<(f64, f64)> {
    let Some(all) = cuts.last().filter(|all| all.tp > 0.0 && all.fp > 0.0) else { return Vec::new() };
    let points = cuts.iter().map(|c| (c.fp / all.fp, c.tp / all.tp));
    std::iter::once((0.0, 0.0)).chain(points).collect()
}

/// The precision-recall curve: (recall, precision), recall rising. Empty when there are no positives.
pub fn pr_points(cuts: &[Cut]) -> Vec<(f64, f64)> {
    let Some(all) = cuts.last().filter(|all| all.tp > 0.0) else { return Vec::new() };
    let points = cuts.iter().map(|c| (c.tp / all.tp, c.tp / (c.tp + c.fp)));
    std::iter::once((0.0, 1.0)).chain(points).collect()
}
