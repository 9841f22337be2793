//! Student's test of the rows' differences.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The mean gain, the lower end of its one-sided interval, and the p-value of "worse by the margin or more". `None` of fewer than two
/// rows.
pub fn paired_t(gains: &[f64], margin: f64, alpha: f64) -> Option<(f64, f64, f64)> {
    let n = gains.len() as f64;
    if n < 2.0 {
        return None;
    }
    let gain = gains.iter().sum::<f64>() / n;
    let se = (gains.iter().map(|g| (g - gain).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    if se == 0.0 {
        return Some((gain, gain, if gain >= -margin { 0.0 } else { 1.0 }));
    }
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    Some((gain, gain - t.inverse_cdf(1.0 - alpha) * se, t.sf((gain + margin) / se)))
}
