//! Scores made into probabilities by the best ascending steps through what was true, with straight lines between them:
//! the pool-adjacent-violators algorithm, as scikit-learn's `IsotonicRegression(out_of_bounds="clip")`.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::same_length;

/// A calibration of scores, made once from labelled rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    #[serde(with = "crate::exact::many")]
    scores: Vec<f64>,
    #[serde(with = "crate::exact::many")]
    levels: Vec<f64>,
}

/// Rows of one level: from where to where, their mean and how many.
struct Block {
    low: f64,
    high: f64,
    mean: f64,
    weight: f64,
}

impl Isotonic {
    /// Fits to labelled scores.
    ///
    /// # Errors
    /// When there is none, they are not of one length, or a score is not finite.
    pub fn fit(scores: &[f64], labels: &[bool]) -> Result<Self, Error> {
        same_length("scores and labels", scores.len(), labels.len())?;
        if scores.is_empty() {
            return Err(Error::TooFew { what: "a calibration", has: 0, needs: 1 });
        }
        if let Some(&value) = scores.iter().find(|s| !s.is_finite()) {
            return Err(Error::Value { what: "a score", value, why: "it is not finite" });
        }
        let mut rows: Vec<(f64, f64)> =
            scores.iter().zip(labels).map(|(&s, &l)| (s, f64::from(u8::from(l)))).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut blocks: Vec<Block> = Vec::new();
        for row in rows.chunk_by(|a, b| a.0 == b.0) {
            let (weight, sum) = (row.len() as f64, row.iter().map(|r| r.1).sum::<f64>());
            let score = row.first().map_or(0.0, |r| r.0);
            let mut block = Block { low: score, high: score, mean: sum / weight, weight };
            while let Some(last) = blocks.pop_if(|last| last.mean >= block.mean) {
                let weight = last.weight + block.weight;
                block.mean = (last.mean * last.weight + block.mean * block.weight) / weight;
                (block.low, block.weight) = (last.low, weight);
            }
            blocks.push(block);
        }
        let (mut at, mut levels) = (Vec::new(), Vec::new());
        for block in blocks {
            at.push(block.low);
            levels.push(block.mean);
            if block.high > block.low {
                at.push(block.high);
                levels.push(block.mean);
            }
        }
        Ok(Isotonic { scores: at, levels })
    }

    /// The probability of a score; beyond the ends, that of the end.
    pub fn probability(&self, score: f64) -> f64 {
        let above = self.scores.partition_point(|&s| s < score);
        let at = |i: usize| Some((*self.scores.get(i)?, *self.levels.get(i)?));
        match (above.checked_sub(1).and_then(at), at(above)) {
            (Some((x0, y0)), Some((x1, y1))) => {
                // Rounding must not make it descend at the end of a step.
                (y0 + (y1 - y0) * (score - x0) / (x1 - x0)).clamp(y0, y1)
            }
            (None, Some((_, level))) | (Some((_, level)), None) => level,
            (None, None) => f64::NAN,
        }
    }
}
