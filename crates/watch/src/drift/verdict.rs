//! One verdict over many tests: an effect that is large *and* a probability that is small over the whole family.
//!
//! The effect is PSI, normalised Wasserstein-1 or Jensen–Shannon distance; the probability is that of one test for each
//! kind of column, whatever its number of rows: Kolmogorov–Smirnov and the share that is missing for numbers (twice the
//! smaller of both), chi-squared for categories, MMD for embeddings; adjusted by Benjamini and Hochberg over features ×
//! slices. A column with too few rows is not judged, and counts for nothing in the family.

use serde::{Deserialize, Serialize};

use super::column::{CategoryDrift, NumericDrift};
use super::fdr::benjamini_hochberg;
use super::mmd::Mmd;

/// From where on an effect is large, and how sure it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftLimits {
    /// PSI that warns.
    pub psi_warn: f64,
    /// PSI that alerts.
    pub psi_alert: f64,
    /// Wasserstein-1 that alerts, in standard deviations of the reference.
    pub w1: f64,
    /// Jensen–Shannon distance that alerts.
    pub js: f64,
    /// MMD² that alerts.
    pub mmd: f64,
    /// The false discovery rate over the family.
    pub q: f64,
    /// Rows that either side needs to be judged.
    pub min_rows: u64,
}

impl Default for DriftLimits {
    /// PSI 0.1 and 0.2, W1 and JS 0.1, MMD² 0.02, q < 0.01, 30 rows.
    fn default() -> Self {
        DriftLimits { psi_warn: 0.1, psi_alert: 0.2, w1: 0.1, js: 0.1, mmd: 0.02, q: 0.01, min_rows: 30 }
    }
}

/// What was tested: a feature, or a feature within a slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The column.
    pub feature: String,
    /// The slice, if not all rows.
    pub slice: Option<String>,
}

/// What was found of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// A column of numbers.
    Numeric(NumericDrift),
    /// A column of categories.
    Category(CategoryDrift),
    /// Embeddings, with how many vectors either side has.
    Embedding(Mmd, (u64, u64)),
}

impl Measured {
    /// The probability that enters the family.
    pub fn p_value(&self) -> f64 {
        match self {
            Measured::Numeric(d) => (2.0 * d.ks.p_value.min(d.missing.p_value)).min(1.0),
            Measured::Category(d) => d.chi_squared.p_value,
            Measured::Embedding(d, _) => d.p_value,
        }
    }

    fn rows(&self) -> u64 {
        let (reference, window) = match self {
            Measured::Numeric(d) => d.rows,
            Measured::Category(d) => d.rows,
            Measured::Embedding(_, rows) => *rows,
        };
        reference.min(window)
    }

    /// The largest effect as a share of its limit, by its name, and how loud it would be.
    fn effect(&self, limits: &DriftLimits) -> (&'static str, f64, Level) {
        let of = |value: f64, limit: f64| value / limit.max(f64::MIN_POSITIVE);
        let psi_and = |psi: f64, others: &[(&'static str, f64, f64)]| {
            let (mut name, mut share) = ("psi", of(psi, limits.psi_alert));
            for &(other, value, limit) in others {
                if of(value, limit) > share {
                    (name, share) = (other, of(value, limit));
                }
            }
            let beyond = psi >= limits.psi_alert || others.iter().any(|(_, value, limit)| value >= limit);
            let level = match beyond {
                true => Level::Alert,
                false if psi >= limits.psi_warn => Level::Warn,
                false => Level::Calm,
            };
            (name, share, level)
        };
        match self {
            Measured::Numeric(d) => {
                psi_and(d.psi, &[("w1", d.w1_normalised.unwrap_or(0.0), limits.w1), ("js", d.js, limits.js)])
            }
            Measured::Category(d) => psi_and(d.psi, &[("js", d.js, limits.js)]),
            Measured::Embedding(d, _) => {
                let level = if d.statistic >= limits.mmd { Level::Alert } else { Level::Calm };
                ("mmd", of(d.statistic, limits.mmd), level)
            }
        }
    }
}

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not enough rows to say anything.
    TooFew,
    /// As the reference.
    Calm,
    /// Moved, not much.
    Warn,
    /// Moved.
    Alert,
}

/// What is said of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Of what.
    pub subject: Subject,
    /// How loud.
    pub level: Level,
    /// The effect that is largest beside its limit: `psi`, `w1`, `js` or `mmd`.
    pub by: String,
    /// That effect as a share of the limit that alerts.
    pub of_limit: f64,
    /// The adjusted probability; none when it was not judged.
    pub q: Option<f64>,
    /// What was found.
    pub measured: Measured,
}

/// Judges a family of subjects: everything that is looked at together, over all features and slices.
pub fn judge(found: Vec<(Subject, Measured)>, limits: &DriftLimits) -> Vec<Verdict> {
    judge_by(found, |_| *limits)
}

/// As [`judge`], with limits that each subject has for itself, as after a calibration
/// ([`calibrate`](crate::alarm::calibrate)).
pub fn judge_by(found: Vec<(Subject, Measured)>, limits: impl Fn(&Subject) -> DriftLimits) -> Vec<Verdict> {
    let judged = |s: &Subject, m: &Measured| m.rows() >= limits(s).min_rows;
    let p: Vec<f64> = found.iter().map(|(s, m)| if judged(s, m) { m.p_value() } else { f64::NAN }).collect();
    let q = benjamini_hochberg(&p);
    found
        .into_iter()
        .zip(q)
        .map(|((subject, measured), q)| {
            let limits = limits(&subject);
            let (by, of_limit, level) = measured.effect(&limits);
            let level = match level {
                _ if q.is_nan() => Level::TooFew,
                level if q < limits.q => level,
                _ => Level::Calm,
            };
            let q = (!q.is_nan()).then_some(q);
            Verdict { subject, level, by: by.to_owned(), of_limit, q, measured }
        })
        .collect()
}
