//! Whether as much has come as usual: a count beside those of the same phase.

use serde::{Deserialize, Serialize};

use crate::Error;

/// A count beside earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// The median of the earlier ones.
    pub usual: f64,
    /// The count by the usual: 0 when nothing came, 1 when as much as ever; none when usually nothing does.
    pub ratio: Option<f64>,
    /// How many robust standard deviations it is off, below zero when less came. By the median distance from the
    /// median, and at least that of a Poisson count, so that counts that never varied do not make one more row an
    /// alarm.
    pub deviations: f64,
}

/// Compares a count with earlier ones, of the same phase of the season ([`Season::alike`](super::Season::alike)).
///
/// # Errors
/// When there are fewer than three.
pub fn volume(earlier: &[u64], now: u64) -> Result<Volume, Error> {
    if earlier.len() < 3 {
        return Err(Error::TooFew { what: "earlier counts", has: earlier.len() as u64, needs: 3 });
    }
    let usual = median(earlier.iter().map(|c| *c as f64).collect());
    let off = median(earlier.iter().map(|c| (*c as f64 - usual).abs()).collect());
    // 1.4826 times the median distance is the standard deviation of normal values.
    let deviation = (1.4826 * off).max(usual.sqrt()).max(1.0);
    let ratio = (usual > 0.0).then(|| now as f64 / usual);
    Ok(Volume { usual, ratio, deviations: (now as f64 - usual) / deviation })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = ((values.len().saturating_sub(1)) / 2, values.len() / 2);
    let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
    (at(low) + at(high)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_held_beside_the_usual_one() {
        let earlier = [1_000, 1_010, 990, 1_005, 60_000];
        let found = volume(&earlier, 500).unwrap();
        assert_eq!((found.usual, found.ratio), (1_005.0, Some(500.0 / 1_005.0)));
        assert!(found.deviations < -10.0);
        assert!(volume(&[5, 5, 5, 5], 6).unwrap().deviations < 1.0, "one more is no alarm");
        assert_eq!(volume(&[0, 0, 0], 0).unwrap().ratio, None);
        assert!(volume(&[1, 2], 1).is_err());
    }
}
