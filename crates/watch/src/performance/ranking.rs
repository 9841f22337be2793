//! Rows by their score, from the highest: what AUC, average precision and recall at a precision are read from. Labels
//! may be shares, for an estimate of what is not known yet. Rows of one score are one step.

/// Positives and negatives of one score, and of all above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) score: f64,
    pub(super) tp: f64,
    pub(super) fp: f64,
}

/// Cumulative counts from the highest score down.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ranking {
    pub(super) steps: Vec<Step>,
}

impl Ranking {
    /// From pairs of a score and the share of a positive, which is 0 or 1 when it is known.
    pub(super) fn new(rows: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut rows: Vec<(f64, f64)> = rows.collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut steps: Vec<Step> = Vec::new();
        let (mut tp, mut fp) = (0.0, 0.0);
        for (score, positive) in rows {
            (tp, fp) = (tp + positive, fp + (1.0 - positive));
            match steps.last_mut() {
                Some(last) if last.score == score => (last.tp, last.fp) = (tp, fp),
                _ => steps.push(Step { score, tp, fp }),
            }
        }
        Ranking { steps }
    }

    fn all(&self) -> (f64, f64) {
        self.steps.last().map_or((0.0, 0.0), |last| (last.tp, last.fp))
    }

    /// The area under the ROC curve; none without positives or without negatives.
    pub(super) fn auc(&self) -> Option<f64> {
        let (positives, negatives) = self.all();
        if positives <= 0.0 || negatives <= 0.0 {
            return None;
        }
        let (mut area, mut tp, mut fp) = (0.0, 0.0, 0.0);
        for step in &self.steps {
            area += (step.fp - fp) * (step.tp + tp) / 2.0;
            (tp, fp) = (step.tp, step.fp);
        }
        Some(area / (positives * negatives))
    }

    /// Average precision: Σ (recall gained) × precision; none without positives.
    pub(super) fn average_precision(&self) -> Option<f64> {
        let (positives, _) = self.all();
        if positives <= 0.0 {
            return None;
        }
        let (mut area, mut tp) = (0.0, 0.0);
        for step in &self.steps {
            area += (step.tp - tp) * step.tp / (step.tp + step.fp);
            tp = step.tp;
        }
        Some(area / positives)
    }

    /// The largest recall at a precision of at least `precision`; 0 when no cut reaches it, none without positives.
    pub(super) fn recall_at(&self, precision: f64) -> Option<f64> {
        let (positives, _) = self.all();
        let reached = self.steps.iter().filter(|s| s.tp / (s.tp + s.fp) >= precision);
        (positives > 0.0).then(|| reached.map(|s| s.tp / positives).fold(0.0, f64::max))
    }
}
