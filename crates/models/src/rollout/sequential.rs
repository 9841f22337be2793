//! Tests that may be looked at all the time: their error holds over every look together, not for one.
//!
//! A fixed test that is repeated rolls back a sound version sooner or later; these do not [test: an_a_a_canary_is_rolled_back_as_rarely_as_alpha_says].
//!
//! - **Differences of means and proportions**: a confidence sequence by the normal mixture, which is the mixture sequential
//!   probability ratio test (mSPRT) turned around. Robbins, Annals of Mathematical Statistics 41 (1970); in the form for two samples of
//!   Johari, Koomen, Pekelis, Walsh, "Always Valid Inference", Operations Research 70 (2022). It needs only means and variances, so that
//!   batches of any size can be added and delayed labels come when they come; betting sequences for bounded values are tighter for few
//!   values and need every value in its order. It rests on the central limit theorem, hence the minimum samples (Waudby-Smith, Arbour,
//!   Sinha, Kennedy, Ramdas, "Time-uniform central limit theory", Annals of Statistics 52, 2024).
//! - **Limits that end it at once**: an e-process for "the share is at most p₀": likelihood ratios of larger shares, mixed over shares
//!   and over the time at which it began to fail. Each is a supermartingale whatever the share below p₀, so that by Ville's inequality
//!   it ever reaches 1/α with a chance of at most α. Exact, for any number of requests. Mixing over beginnings is what makes a
//!   failure after a day of success seen at once.
//! - **Sample ratio**: the Dirichlet–multinomial mixture of Lindon and Malek, "Anytime-valid inference for multinomial count data",
//!   NeurIPS 2022. Exact too. Pearson's χ², which sees more and may be looked at once, is asked when a step is left.

use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc;
use statrs::function::gamma::ln_gamma;

use super::config::Kind;
use super::moments::Moments;

/// The fewest values on either side of a step for it to count: with fewer its variance is not known.
const STRATUM: u64 = 30;

/// A difference with its interval at all times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// The estimate.
    pub estimate: f64,
    /// The low end.
    pub low: f64,
    /// The high end.
    pub high: f64,
}

/// The variance of a mean. One value more is thought of: of a proportion a hit and a miss, of a mean one that is `margin` away, so that
/// values that are all equal are not taken for certainty.
fn variance(of: &Moments, kind: Kind, margin: f64) -> f64 {
    let n = of.n as f64;
    match kind {
        Kind::Proportion => {
            let p = (n * of.mean + 1.0) / (n + 2.0);
            p * (1.0 - p) / n
        }
        Kind::Mean => (of.squares + margin * margin) / (n - 1.0).max(1.0) / n,
    }
}

/// The difference of the first sides from the second ones, each pair compared within itself and weighted by what it knows, so that
/// steps of different shares do not mix. `None` when no pair has enough values.
///
/// With δ̂ and V the estimate and its variance and τ the scale at which a difference matters, the interval is
/// δ̂ ± √( V (V + τ²)/τ² · ln( (V + τ²) / (V α²) ) ).
pub fn difference(pairs: &[(Moments, Moments)], kind: Kind, margin: f64, alpha: f64) -> Option<Sequence> {
    let (mut information, mut score) = (0.0, 0.0);
    for (a, b) in pairs.iter().filter(|(a, b)| a.n.min(b.n) >= STRATUM) {
        let weight = 1.0 / (variance(a, kind, margin) + variance(b, kind, margin));
        information += weight;
        score += weight * (a.mean - b.mean);
    }
    if !(information > 0.0 && information.is_finite()) {
        return None;
    }
    let (estimate, v, scale) = (score / information, 1.0 / information, margin * margin);
    let radius = (v * (v + scale) / scale * ((v + scale) / (v * alpha * alpha)).ln()).sqrt();
    Some(Sequence { estimate, low: estimate - radius, high: estimate + radius })
}

/// By how much the odds of failing are larger than allowed, in the alternatives of a guard.
const ODDS: [f64; 9] = [1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1_000.0];
/// Requests after which another beginning is thought of.
const EPOCH: u64 = 100;

/// Whether a share is beyond a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// The largest share that is allowed.
    pub limit: f64,
    /// Requests so far.
    pub requests: u64,
    /// Those that were bad.
    pub bad: u64,
    /// The logarithm of each alternative's evidence, over all beginnings; none before the first.
    evidence: Vec<f64>,
    /// Beginnings so far.
    epochs: u64,
    /// Requests since the last one.
    since: u64,
}

impl Guard {
    /// One that has seen nothing; `limit` lies within 0 and 1.
    pub fn new(limit: f64) -> Guard {
        Guard { limit, requests: 0, bad: 0, evidence: Vec::new(), epochs: 0, since: EPOCH }
    }

    /// Takes a batch of requests, of which some were bad.
    pub fn see(&mut self, bad: u64, requests: u64) {
        if requests == 0 {
            return;
        }
        let bad = bad.min(requests);
        (self.requests, self.bad) = (self.requests + requests, self.bad + bad);
        let begins = self.since >= EPOCH;
        if begins {
            (self.epochs, self.since) = (self.epochs + 1, 0);
        }
        self.since += requests;
        let t = self.epochs as f64;
        self.evidence.resize(ODDS.len(), f64::NEG_INFINITY);
        for (evidence, odds) in self.evidence.iter_mut().zip(ODDS) {
            let before = if begins { add_logs(*evidence, -(t * (t + 1.0)).ln()) } else { *evidence };
            let other = self.limit * odds / (1.0 - self.limit + self.limit * odds);
            let each = (other / self.limit).ln();
            let none = ((1.0 - other) / (1.0 - self.limit)).ln();
            *evidence = before + bad as f64 * each + (requests - bad) as f64 * none;
        }
    }

    /// The logarithm of the evidence that the share is beyond the limit. Reaching ln 1/α is a test at level α.
    pub fn log_evidence(&self) -> f64 {
        let all = self.evidence.iter().fold(f64::NEG_INFINITY, |all, e| add_logs(all, *e));
        // Beginnings that are still to come have seen nothing: their weight is what is left of one.
        let unspent = 1.0 / (self.epochs as f64 + 1.0);
        add_logs(all - (ODDS.len() as f64).ln(), unspent.ln())
    }

    /// The share that was bad.
    pub fn share(&self) -> f64 {
        self.bad as f64 / self.requests.max(1) as f64
    }

    /// Whether it is beyond the limit, at a level.
    pub fn broken(&self, alpha: f64) -> bool {
        self.log_evidence() >= -alpha.ln()
    }
}

/// ln(eᵃ + eᵇ).
fn add_logs(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// How sure a division is thought to be before any unit is seen: as if so many had been.
const PRIOR: f64 = 100.0;

/// The p-value, at all times, of "units fall on the parts by these shares", which add up to one and are above zero.
pub fn division(counts: &[u64], shares: &[f64]) -> f64 {
    let all: f64 = counts.iter().map(|n| *n as f64).sum();
    let part = |(n, share): (&u64, &f64)| {
        let (n, prior) = (*n as f64, PRIOR * share);
        ln_gamma(prior + n) - ln_gamma(prior) - n * share.ln()
    };
    let log = ln_gamma(PRIOR) - ln_gamma(PRIOR + all) + counts.iter().zip(shares).map(part).sum::<f64>();
    (-log).exp().min(1.0)
}

/// Whether two sides got their shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// What the first got.
    pub first: u64,
    /// What the second got.
    pub second: u64,
    /// The share of both that the first was to get.
    pub expected: f64,
    /// The p-value that may be looked at all the time.
    pub p: f64,
    /// The p-value of Pearson's χ² test, which may be looked at once.
    pub chi_squared_p: f64,
}

impl Ratio {
    /// Looks at two counts.
    pub fn of(first: u64, second: u64, expected: f64) -> Ratio {
        let (a, b) = (first as f64, second as f64);
        let (n, off) = (a + b, a - (a + b) * expected);
        let spread = n * expected * (1.0 - expected);
        let chi_squared = if spread > 0.0 { off * off / spread } else { 0.0 };
        Ratio {
            first,
            second,
            expected,
            p: division(&[first, second], &[expected, 1.0 - expected]),
            chi_squared_p: erfc((chi_squared / 2.0).sqrt()),
        }
    }

    /// The division in words, when it is not what it was to be.
    pub fn sentence(&self) -> String {
        format!(
            "{} units came to the canary and {} to the control, where {} % were to come to the canary (p = {:.1e}): who was \
             seen is not who was to be, so nothing is known",
            self.first,
            self.second,
            super::report::said(self.expected * 100.0),
            self.p.min(self.chi_squared_p)
        )
    }
}
