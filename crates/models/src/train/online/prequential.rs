//! Figures of rows that were predicted before they were learnt from: over all of them, and over the last ones.

use std::collections::{BTreeMap, VecDeque};

use crate::onnx::Classes;
use crate::train::metric::Metric;
use crate::train::table::Label;

/// What a row was predicted as, and what it was.
pub(super) type Judged = (f64, f64);

/// Figures so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prequential {
    classes: bool,
    window: usize,
    pub(super) rows: u64,
    /// Σ of the loss (log loss or squared error), and of hits or absolute errors.
    pub(super) sums: [f64; 2],
    pub(super) recent: VecDeque<Judged>,
}

impl Prequential {
    pub(super) fn new(classes: bool, window: usize) -> Prequential {
        Prequential { classes, window, rows: 0, sums: [0.0; 2], recent: VecDeque::new() }
    }

    pub(super) fn take(&mut self, answer: f64, truth: f64) {
        self.rows += 1;
        let [loss, other] = if self.classes {
            let of_truth = if truth > 0.5 { answer } else { 1.0 - answer };
            [-of_truth.clamp(1e-15, 1.0).ln(), f64::from(u8::from((answer > 0.5) == (truth > 0.5)))]
        } else {
            [(answer - truth).powi(2), (answer - truth).abs()]
        };
        let [a, b] = &mut self.sums;
        (*a, *b) = (*a + loss, *b + other);
        if self.recent.len() == self.window {
            self.recent.pop_front();
        }
        self.recent.push_back((answer, truth));
    }

    /// Over all rows, by the metrics' names; empty when there was none.
    pub(super) fn all(&self) -> BTreeMap<String, f64> {
        if self.rows == 0 {
            return BTreeMap::new();
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
        let [loss, other] = self.sums.map(|sum| sum / self.rows as f64);
        let figures = if self.classes {
            [("log_loss", loss), ("accuracy", other)]
        } else {
            [("rmse", loss.sqrt()), ("mae", other)]
        };
        figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Over the last rows; the AUC too, when both classes are among them.
    pub(super) fn recent(&self) -> BTreeMap<String, f64> {
        let truth = self.recent.iter().map(|(_, truth)| *truth);
        let (label, metrics): (Label, &[(Metric, &str)]) = if self.classes {
            let of = truth.map(|truth| u32::from(truth > 0.5)).collect();
            let classes = Classes::Numbers(vec![0, 1]);
            (
                Label::Class { of, classes },
                &[(Metric::Auc, "auc"), (Metric::LogLoss, "log_loss"), (Metric::Accuracy, "accuracy")],
            )
        } else {
            (Label::Value(truth.collect()), &[(Metric::Rmse, "rmse"), (Metric::Mae, "mae")])
        };
        let answer =
            |(answer, _): &Judged| if self.classes { vec![1.0 - answer, *answer] } else { vec![*answer] };
        let answers: Vec<Vec<f64>> = self.recent.iter().map(answer).collect();
        let figure =
            |(metric, name): &(Metric, &str)| ((*name).to_owned(), metric.of(&answers, &label, None));
        metrics.iter().map(figure).filter(|(_, value)| value.is_finite()).collect()
    }
}
