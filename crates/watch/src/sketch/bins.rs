//! The bins that a column of numbers is counted in: made from the deciles of the reference once, and never again.
//!
//! A bin is `(edge before it, its edge]`; the first and the last are open to the sides, and behind them comes one bin
//! for what is missing. A value that holds several deciles (many zeros) gets a bin for itself alone, so that a column
//! that is nearly constant still shows a move to either side.
//!
//! Invariant: however a window is counted (sorted, unsorted, from a sketch), the counts add up to all its rows.

use serde::{Deserialize, Serialize};

use super::{NumericSketch, Steps};
use crate::Error;
use crate::order;

/// Bins of the reference unless told otherwise.
const BINS: usize = 10;

/// Edges between bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// Ascending, each of them once; the upper end of all bins but the last.
    #[serde(with = "crate::exact::many")]
    edges: Vec<f64>,
}

impl Bins {
    /// Bins between the deciles of the reference.
    ///
    /// # Errors
    /// When the reference holds no number.
    pub fn deciles(reference: &NumericSketch) -> Result<Bins, Error> {
        Bins::of_equal_share(&reference.steps(), BINS)
    }

    /// `n` bins that hold about the same share of the reference each.
    ///
    /// # Errors
    /// When the reference holds no number.
    pub fn of_equal_share(reference: &Steps, n: usize) -> Result<Bins, Error> {
        if reference.count() == 0 {
            return Err(Error::TooFew { what: "the reference", has: 0, needs: 1 });
        }
        let cuts = (1..n.max(2)).filter_map(|i| reference.quantile(i as f64 / n.max(2) as f64));
        Ok(Bins::at(cuts))
    }

    /// Bins at given edges, in ascending order; one that comes twice gets a bin for itself.
    fn at(cuts: impl Iterator<Item = f64>) -> Bins {
        let mut edges: Vec<f64> = Vec::new();
        for cut in cuts {
            match edges.last() {
                Some(&last) if last == cut => {
                    let below = cut.next_down();
                    let before = edges.len().checked_sub(2).and_then(|i| edges.get(i)).copied();
                    if before != Some(below) && below < cut {
                        edges.insert(edges.len() - 1, below);
                    }
                }
                _ => edges.push(cut),
            }
        }
        Bins { edges }
    }

    /// Bins at edges of the caller's own, for an oracle or a plot.
    ///
    /// # Errors
    /// When the edges do not ascend, or one is not finite.
    pub fn from_edges(edges: Vec<f64>) -> Result<Bins, Error> {
        if edges.iter().any(|e| !e.is_finite()) || !edges.is_sorted_by(|a, b| a < b) {
            return Err(Error::Unlike { what: "edges", why: "they do not ascend" });
        }
        Ok(Bins { edges })
    }

    /// The edges between the bins.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// Bins, the one for what is missing included.
    pub fn count(&self) -> usize {
        self.edges.len() + 2
    }

    /// Counts a sorted sample. `missing` is what is not in it.
    pub fn of_sorted(&self, sorted: &[f64], missing: u64) -> Vec<u64> {
        let upto = |edge: &f64| sorted.partition_point(|v| v <= edge) as u64;
        self.differences(self.edges.iter().map(upto), sorted.len() as u64, missing)
    }

    /// Counts a distribution in steps.
    pub fn of_steps(&self, steps: &Steps, missing: u64) -> Vec<u64> {
        self.differences(self.edges.iter().map(|&edge| steps.at_most(edge)), steps.count(), missing)
    }

    /// Counts what a sketch holds, each bin within twice its bound.
    pub fn of_sketch(&self, sketch: &NumericSketch) -> Vec<u64> {
        self.of_steps(&sketch.steps(), sketch.missing())
    }

    /// Counts values in any order; what is no number is missing.
    pub fn of_values(&self, values: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; self.count()];
        let last = self.count() - 1;
        for &value in values {
            let bin = if order::is_number(value) { self.edges.partition_point(|&e| e < value) } else { last };
            if let Some(count) = counts.get_mut(bin) {
                *count += 1;
            }
        }
        counts
    }

    fn differences(&self, upto: impl Iterator<Item = u64>, all: u64, missing: u64) -> Vec<u64> {
        let mut counts = Vec::with_capacity(self.count());
        let mut before = 0;
        for upto in upto.chain([all]) {
            counts.push(upto.saturating_sub(before));
            before = upto;
        }
        counts.push(missing);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_holds_several_deciles_has_a_bin_for_itself() {
        let mut zeros = NumericSketch::default();
        zeros.extend(&[vec![0.0; 60], (0..40).map(|i| f64::from(i) - 5.0).collect()].concat());
        let bins = Bins::deciles(&zeros).unwrap();
        let counts = bins.of_values(&[-1.0, 0.0, 0.0, 1e-9]);
        let zero = bins.edges().iter().position(|&e| e == 0.0).unwrap();
        assert_eq!((counts[zero - 1], counts[zero], counts[zero + 1]), (1, 2, 1));
    }

    #[test]
    fn a_constant_column_shows_a_move_to_either_side() {
        let mut constant = NumericSketch::default();
        constant.extend(&[3.0; 50]);
        let bins = Bins::deciles(&constant).unwrap();
        assert_eq!(bins.of_values(&[2.0, 3.0, 3.0, 4.0, f64::NAN]), [1, 2, 1, 1]);
    }
}
