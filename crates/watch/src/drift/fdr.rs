//! Many tests at once: the false discovery rate of Benjamini and Hochberg (1995).

/// Adjusted p-values in the order of the given ones: the smallest rate at which each would be called a discovery, as
/// SciPy's `false_discovery_control`. A NaN stays one and counts as no test.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.retain(|&i| p_values.get(i).is_some_and(|p| !p.is_nan()));
    let p = |i: usize| p_values.get(i).copied().unwrap_or(f64::NAN);
    order.sort_by(|&a, &b| p(a).total_cmp(&p(b)));
    let mut q = vec![f64::NAN; p_values.len()];
    let (tests, mut least) = (order.len() as f64, 1.0f64);
    for (rank, &i) in order.iter().enumerate().rev() {
        least = least.min(p(i) * tests / (rank + 1) as f64);
        if let Some(q) = q.get_mut(i) {
            *q = least;
        }
    }
    q
}
