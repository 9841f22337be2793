//! Linear, logistic and multinomial regression with L1 and L2 regularisation of the standardised coefficients.
//!
//! What is minimised: the weighted mean loss of a row, plus `l1 · Σ|w| + l2/2 · Σw²`; intercepts are free. In scikit-learn's words
//! `C = 1/(n·l2)`, and for `ElasticNet` `alpha·l1_ratio = l1`, `alpha·(1−l1_ratio) = l2`.
//! [test: coefficients_are_those_of_scikit_learn].

mod design;
mod solver;

use std::sync::atomic::{AtomicBool, Ordering};

use design::Design;
use solver::Objective;

use rand::RngExt;

use super::config::{LinearConfig, Tuned};
use super::table::{Label, Table};
use super::{Error, seeded};
use crate::onnx::{Linear, Link};

/// Where the gradient counts as vanished.
const TOLERANCE: f64 = 1e-8;

/// A fitted model, and in how many steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The model.
    pub model: Linear,
    /// Steps of the solver.
    pub steps: u32,
    /// Whether it came to an end by itself.
    pub converged: bool,
}

/// Fits a model to all rows of `table`; `cancel` is looked at in every step. Occupies one core.
///
/// # Errors
/// It was cancelled, or the values are so large that no loss can be had of them.
pub fn fit(table: &Table, config: &LinearConfig, cancel: &AtomicBool) -> Result<Fit, Error> {
    let design = Design::of(table);
    let scores = table.label().scores();
    let width = design.width();
    let truth: Vec<f64> = table.label().numbers().collect();
    let ones = vec![1.0; design.rows];
    let weights = table.weights().unwrap_or(&ones);
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        return Err(Error::Diverged("no row counts: all weights are 0".to_owned()));
    }
    let loss = Loss {
        design: &design,
        truth: &truth,
        weights,
        total,
        scores,
        width,
        label: table.label(),
        config,
        cancel,
    };
    let mut x = vec![0.0; scores * (width + 1)];
    let ended = solver::minimise(&loss, &mut x, config.steps, TOLERANCE).ok_or(Error::Cancelled)?;
    if !ended.value.is_finite() || x.iter().any(|x| !x.is_finite()) {
        return Err(Error::Diverged(
            "the loss is not finite; look for values out of any range in the columns".to_owned(),
        ));
    }
    let rows: Vec<Vec<f64>> =
        x.chunks(width + 1).map(|score| score.iter().take(width).copied().collect()).collect();
    let intercepts = x.chunks(width + 1).map(|score| score.last().copied().unwrap_or(0.0)).collect();
    let link = match table.label() {
        Label::Value(_) => Link::Identity,
        Label::Class { .. } if scores == 1 => Link::Sigmoid { scale: 1.0 },
        Label::Class { .. } => Link::Softmax,
    };
    let model = Linear { intercepts, terms: design.terms(&rows), link };
    Ok(Fit { model, steps: ended.steps, converged: ended.converged })
}

/// The mean loss of the rows. Coordinates are, score by score, the coefficients and then the intercept.
struct Loss<'a> {
    design: &'a Design,
    truth: &'a [f64],
    weights: &'a [f64],
    total: f64,
    scores: usize,
    width: usize,
    label: &'a Label,
    config: &'a LinearConfig,
    cancel: &'a AtomicBool,
}

impl Loss<'_> {
    /// Puts each row's residual (weight × derivative of its loss) in the place of its scores; the sum of losses.
    fn residuals(&self, scores: &mut [Vec<f64>]) -> f64 {
        match (self.label, scores) {
            (Label::Value(_), [margins]) => self.each(margins, |m, t| ((m - t).powi(2) / 2.0, m - t)),
            (Label::Class { .. }, [margins]) => self.each(margins, |m, t| {
                // ln(1 + exp(m)) − t·m, without overflow.
                let positive = m.max(0.0);
                let loss = positive + (-m.abs()).exp().ln_1p() - t * m;
                (loss, 1.0 / (1.0 + (-m).exp()) - t)
            }),
            (_, scores) => self.softmax(scores),
        }
    }

    fn each(&self, margins: &mut [f64], loss: impl Fn(f64, f64) -> (f64, f64)) -> f64 {
        let mut sum = 0.0;
        for ((margin, truth), weight) in margins.iter_mut().zip(self.truth).zip(self.weights) {
            let (value, slope) = loss(*margin, *truth);
            sum += weight * value;
            *margin = weight * slope;
        }
        sum
    }

    fn softmax(&self, scores: &mut [Vec<f64>]) -> f64 {
        let mut sum = 0.0;
        for (row, (truth, weight)) in self.truth.iter().zip(self.weights).enumerate() {
            let at = |scores: &[Vec<f64>], k: usize| {
                scores.get(k).and_then(|s| s.get(row)).copied().unwrap_or(0.0)
            };
            let top = (0..self.scores).map(|k| at(scores, k)).fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = (0..self.scores).map(|k| (at(scores, k) - top).exp()).sum();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the number of a class"
            )]
            let truth = *truth as usize;
            sum += weight * (total.ln() + top - at(scores, truth));
            for (k, score) in scores.iter_mut().enumerate() {
                if let Some(score) = score.get_mut(row) {
                    *score = weight * ((*score - top).exp() / total - f64::from(u8::from(k == truth)));
                }
            }
        }
        sum
    }
}

impl Objective for Loss<'_> {
    fn at(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        let mut scores: Vec<Vec<f64>> = x
            .chunks(self.width + 1)
            .map(|own| {
                let (weights, intercept) = own.split_at(self.width);
                let mut margins = vec![intercept.first().copied().unwrap_or(0.0); self.design.rows];
                self.design.add(weights, &mut margins);
                margins
            })
            .collect();
        let mut value = self.residuals(&mut scores) / self.total;
        for ((residuals, gradient), x) in
            scores.iter().zip(gradient.chunks_mut(self.width + 1)).zip(x.chunks(self.width + 1))
        {
            gradient.fill(0.0);
            let (own, intercept) = gradient.split_at_mut(self.width);
            self.design.pull(residuals, own);
            for (g, x) in own.iter_mut().zip(x) {
                *g = *g / self.total + self.config.l2 * x;
                value += self.config.l2 / 2.0 * x * x;
            }
            if let Some(g) = intercept.first_mut() {
                *g = residuals.iter().sum::<f64>() / self.total;
            }
        }
        value
    }

    fn l1(&self, coordinate: usize) -> f64 {
        if coordinate % (self.width + 1) == self.width { 0.0 } else { self.config.l1 }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Another try of the search.
pub(super) fn drawn(config: &LinearConfig, tuned: &Tuned, seed: u64) -> LinearConfig {
    let mut rng = seeded(seed);
    let mut between = |range: Option<[f64; 2]>, now: f64| {
        let at = rng.random::<f64>();
        range.map_or(now, |[low, high]| (low.ln() + at * (high.ln() - low.ln())).exp())
    };
    let (l1, l2) = (between(tuned.l1, config.l1), between(tuned.l2, config.l2));
    LinearConfig { l1, l2, ..config.clone() }
}
