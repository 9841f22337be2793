//! DeLong's test of two areas under the ROC curve of the same rows.

/// Two areas, and how far their difference may be from what it would be on all rows there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delong {
    /// The area of the first.
    pub a: f64,
    /// The area of the second.
    pub b: f64,
    /// The standard error of the difference.
    pub se: f64,
}

impl Delong {
    /// How much larger the first is.
    pub fn gain(&self) -> f64 {
        self.a - self.b
    }
}

/// The placements of positives among negatives and of negatives among positives: for each positive the share of negatives that it is
/// above, for each negative the share of positives that are above it. From midranks, as Sun and Xu (IEEE Signal Processing Letters 21,
/// 2014) have it: O(n log n) instead of every pair.
fn placements(labels: &[bool], scores: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let of = |wanted: bool| -> Vec<f64> {
        let rows = labels.iter().zip(scores).filter(|(label, _)| **label == wanted);
        rows.map(|(_, score)| *score).collect()
    };
    let (positives, negatives) = (of(true), of(false));
    let share = |of: &[f64], among: &[f64], above: bool| -> Vec<f64> {
        let mut sorted = among.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let place = |x: &f64| {
            let (below, within) = (sorted.partition_point(|y| y < x), sorted.partition_point(|y| y <= x));
            let under = (below + within) as f64 / 2.0 / sorted.len().max(1) as f64;
            if above { under } else { 1.0 - under }
        };
        of.iter().map(place).collect()
    };
    (share(&positives, &negatives, true), share(&negatives, &positives, false))
}

/// The mean of values, and the variance of that mean.
fn mean_and_its_variance(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| (mean, squares / (n - 1.0) / n))
}

/// Compares two areas. `None` with fewer than two positives or negatives.
pub fn delong(labels: &[bool], a: &[f64], b: &[f64]) -> Option<Delong> {
    let ((a10, a01), (b10, b01)) = (placements(labels, a), placements(labels, b));
    let difference = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
    // The variance of a difference is that of the rows' differences: the covariance is in it.
    let (_, positives) = mean_and_its_variance(&difference(&a10, &b10))?;
    let (_, negatives) = mean_and_its_variance(&difference(&a01, &b01))?;
    let (a, b) = (mean_and_its_variance(&a10)?.0, mean_and_its_variance(&b10)?.0);
    Some(Delong { a, b, se: (positives + negatives).sqrt() })
}
