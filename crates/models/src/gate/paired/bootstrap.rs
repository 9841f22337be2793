//! The bootstrap of a difference: rows are drawn for both models together, so that what is hard is hard for both.

use super::Pair;
use crate::evaluate::Resampling;
use crate::evaluate::metrics::calibration::quantile;
use crate::evaluate::resample::draw;

/// The lower end of the one-sided percentile interval of the gain, and the p-value of "worse by the margin or more". `None` when the
/// metric is not defined on more than half of the draws.
pub fn bootstrap(pair: &Pair<'_>, margin: f64, alpha: f64, resampling: Resampling) -> Option<(f64, f64)> {
    let rows = pair.challenger.rows();
    let mut generator = resampling.generator(&format!("bootstrap {}", pair.metric));
    let mut counts = vec![0.0; rows.len()];
    let mut gains = Vec::with_capacity(resampling.replicates as usize);
    for _ in 0..resampling.replicates {
        draw(&mut generator, rows.weights(), &mut counts);
        let of = (pair.challenger.weighted(Some(&counts)), pair.champion.weighted(Some(&counts)));
        if let (Some(challenger), Some(champion)) = of {
            gains.push(pair.metric.gain(challenger, champion));
        }
    }
    if gains.is_empty() || gains.len() * 2 < resampling.replicates as usize {
        return None;
    }
    gains.sort_unstable_by(f64::total_cmp);
    let worse = gains.partition_point(|gain| *gain <= -margin);
    // One draw more is the rows as they are (Davison, Hinkley 1997): never zero.
    Some((quantile(&gains, alpha)?, (worse + 1) as f64 / (gains.len() + 1) as f64))
}
