//! Curves with no more points than a plot shows.

/// At most about `most` points of a curve within the unit square: the first, the last, and those that are at least so far from the one
/// before. What is left out lies within that distance of what is drawn.
pub fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let most = most.max(2);
    let mut far = 1.0 / most as f64;
    loop {
        let mut out: Vec<(f64, f64)> = Vec::new();
        for (at, point) in points.iter().enumerate() {
            let ends = at == 0 || at + 1 == points.len();
            let distance = |last: &(f64, f64)| (point.0 - last.0).abs().max((point.1 - last.1).abs());
            if ends || out.last().is_none_or(|last| distance(last) >= far) {
                out.push(*point);
            }
        }
        if out.len() <= most || far >= 1.0 {
            return out;
        }
        far *= 1.5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_thinned_curve_keeps_its_ends_and_is_short(
            points in prop::collection::vec((0.0..1.0, 0.0..1.0), 0..400), most in 2_usize..100,
        ) {
            let thin = thinned(&points, most);
            prop_assert!(thin.len() <= most.max(2) + 1);
            prop_assert_eq!(thin.first(), points.first());
            prop_assert_eq!(thin.last(), points.last());
            prop_assert!(thin.iter().all(|p| points.contains(p)));
        }
    }
}
