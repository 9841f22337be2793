//! Figures of one class out of several. Classes are numbered from zero.

use super::{Weights, mean, ratio, weight};

/// How often each class was called what, by weight: `cells[truth][called]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    cells: Vec<Vec<f64>>,
}

impl Matrix {
    /// Counts rows of `classes` classes; a row of another class counts nowhere.
    pub fn count(truth: &[u32], called: &[u32], weights: Weights<'_>, classes: usize) -> Matrix {
        let mut cells = vec![vec![0.0; classes]; classes];
        for (row, (truth, called)) in truth.iter().zip(called).enumerate() {
            if let Some(cell) = cells.get_mut(*truth as usize).and_then(|row| row.get_mut(*called as usize)) {
                *cell += weight(weights, row);
            }
        }
        Matrix { cells }
    }

    /// `cells[truth][called]`.
    pub fn cells(&self) -> &[Vec<f64>] {
        &self.cells
    }

    fn right(&self, class: usize) -> f64 {
        self.cells.get(class).and_then(|row| row.get(class)).copied().unwrap_or_default()
    }

    /// The share that was called right.
    pub fn accuracy(&self) -> Option<f64> {
        let right: f64 = (0..self.cells.len()).map(|class| self.right(class)).sum();
        ratio(right, self.cells.iter().flatten().sum())
    }

    /// F1 of each class against all others; zero where the class neither is nor was called.
    pub fn f1s(&self) -> Vec<f64> {
        let of = |class: usize| {
            let truth: f64 = self.cells.get(class).into_iter().flatten().sum();
            let called: f64 = self.cells.iter().filter_map(|row| row.get(class)).sum();
            ratio(2.0 * self.right(class), truth + called).unwrap_or(0.0)
        };
        (0..self.cells.len()).map(of).collect()
    }

    /// The mean of the classes' F1, each class counting the same, over those that are or were called.
    pub fn macro_f1(&self) -> Option<f64> {
        let there = |class: &usize| {
            self.cells.get(*class).into_iter().flatten().any(|w| *w > 0.0)
                || self.cells.iter().any(|row| row.get(*class).is_some_and(|w| *w > 0.0))
        };
        let f1s = self.f1s();
        let seen: Vec<f64> =
            (0..self.cells.len()).filter(there).filter_map(|class| f1s.get(class).copied()).collect();
        ratio(seen.iter().sum(), seen.len() as f64)
    }

    /// F1 over all decisions together: with one class a row, the accuracy.
    pub fn micro_f1(&self) -> Option<f64> {
        self.accuracy()
    }
}

/// The class of the highest probability of each row of `classes` probabilities; the first of several.
pub fn called(probabilities: &[f64], classes: usize) -> Vec<u32> {
    let best = |row: &[f64]| {
        let best = row
            .iter()
            .enumerate()
            .fold((0, f64::NEG_INFINITY), |best, (class, p)| if *p > best.1 { (class, *p) } else { best });
        u32::try_from(best.0).unwrap_or(u32::MAX)
    };
    probabilities.chunks_exact(classes.max(1)).map(best).collect()
}

/// Log loss over rows of `classes` probabilities, which add up to one.
pub fn log_loss(truth: &[u32], probabilities: &[f64], weights: Weights<'_>, classes: usize) -> Option<f64> {
    let each = truth.iter().zip(probabilities.chunks_exact(classes.max(1))).map(|(class, row)| {
        let p = row.get(*class as usize).copied().unwrap_or_default();
        -p.clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()
    });
    mean(each, weights)
}
