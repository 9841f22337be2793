//! Whether a model treats groups alike, as fairlearn measures it, over groups that are large enough to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::binary::Confusion;
use super::interval::{Interval, IntervalMethod, between};
use crate::error::same_length;
use crate::{Error, Seeded};

/// What is allowed, and from which size on a group counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FairnessLimits {
    /// Rows a group needs to be compared.
    pub min_group: u64,
    /// The probability of the interval of the ratio.
    pub level: f64,
    /// Draws for it.
    pub draws: usize,
}

impl Default for FairnessLimits {
    /// 30 rows, 0.95, 1,000 draws.
    fn default() -> Self {
        FairnessLimits { min_group: 30, level: 0.95, draws: 1_000 }
    }
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The share that was said yes to.
    pub selected: f64,
    /// Of those that were positive, the share said yes to; none without positives.
    pub true_positive_rate: Option<f64>,
    /// Of those that were not, the share said yes to; none without negatives.
    pub false_positive_rate: Option<f64>,
}

/// How far groups are apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// Groups that are large enough.
    pub groups: Vec<Group>,
    /// Groups that are not, with their rows.
    pub too_small: Vec<(String, u64)>,
    /// The largest difference of the share said yes to.
    pub demographic_parity_difference: f64,
    /// The smallest such share by the largest: the four-fifths rule asks for 0.8. One when nobody was said yes to.
    pub demographic_parity_ratio: f64,
    /// Where the ratio is likely to be.
    pub ratio_interval: Option<Interval>,
    /// The larger of the largest differences in true and in false positive rates; none without labels of both kinds.
    pub equalized_odds_difference: Option<f64>,
    /// The smaller of the ratios of the same.
    pub equalized_odds_ratio: Option<f64>,
}

/// Compares groups: what was said, what was true, and who each row is.
///
/// # Errors
/// When they are not of one length, or fewer than two groups are large enough.
pub fn fairness(
    said: &[bool],
    labels: &[bool],
    groups: &[&str],
    limits: &FairnessLimits,
    seed: u64,
) -> Result<Fairness, Error> {
    same_length("predictions and labels", said.len(), labels.len())?;
    same_length("predictions and groups", said.len(), groups.len())?;
    let mut counts: BTreeMap<&str, Confusion> = BTreeMap::new();
    for ((&said, &label), &group) in said.iter().zip(labels).zip(groups) {
        counts.entry(group).or_default().add(said, f64::from(u8::from(label)));
    }
    let (mut large, mut too_small) = (Vec::new(), Vec::new());
    for (name, c) in counts {
        let rows = (c.tp + c.fp + c.fn_ + c.tn) as u64;
        if rows < limits.min_group.max(1) {
            too_small.push((name.to_owned(), rows));
        } else {
            large.push(Group {
                name: name.to_owned(),
                rows,
                selected: (c.tp + c.fp) / rows as f64,
                true_positive_rate: c.recall(),
                false_positive_rate: c.specificity().map(|s| 1.0 - s),
            });
        }
    }
    if large.len() < 2 {
        return Err(Error::TooFew { what: "groups", has: large.len() as u64, needs: 2 });
    }
    let (difference, ratio) = apart(large.iter().map(|g| g.selected));
    let of = |rate: fn(&Group) -> Option<f64>| large.iter().map(rate).collect::<Option<Vec<f64>>>();
    let odds = of(|g| g.true_positive_rate).zip(of(|g| g.false_positive_rate)).map(|(tpr, fpr)| {
        let (t, f) = (apart(tpr.into_iter()), apart(fpr.into_iter()));
        (t.0.max(f.0), t.1.min(f.1))
    });
    Ok(Fairness {
        demographic_parity_difference: difference,
        demographic_parity_ratio: ratio,
        ratio_interval: ratio_interval(&large, limits, seed),
        equalized_odds_difference: odds.map(|o| o.0),
        equalized_odds_ratio: odds.map(|o| o.1),
        groups: large,
        too_small,
    })
}

/// Largest less smallest, and smallest by largest.
fn apart(rates: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = rates.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), r| (l.min(r), h.max(r)));
    (high - low, if high > 0.0 { low / high } else { 1.0 })
}

/// Draws each group's selections again from its own rate.
fn ratio_interval(groups: &[Group], limits: &FairnessLimits, seed: u64) -> Option<Interval> {
    let mut draw = Seeded::new(seed);
    let found =
        (0..limits.draws).map(|_| apart(groups.iter().map(|g| drawn_share(&mut draw, g.selected, g.rows))).1);
    between(found.collect(), limits.level, IntervalMethod::Bootstrap)
}

/// The share of `n` that comes up with probability `p`: drawn one by one, or as a normal when that is exact enough.
fn drawn_share(draw: &mut Seeded, p: f64, n: u64) -> f64 {
    let size = n as f64;
    if size * p.min(1.0 - p) > 200.0 {
        return (p + draw.normal() * (p * (1.0 - p) / size).sqrt()).clamp(0.0, 1.0);
    }
    (0..n).filter(|_| draw.unit() < p).count() as f64 / size
}
