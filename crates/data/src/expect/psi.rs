//! The population stability index: how far a distribution has moved from another.
//!
//! `PSI = Σ (a − e) · ln(a / e)` over bins, `e` the share of a bin in the reference and `a` its share now; shares below 0.0001
//! count as that, so that an empty bin is a large number and not an infinite one. Bins come from the reference alone and so
//! never change with what is compared: the deciles of numbers (exact, from a sort; equal ones are one bin), each value of a
//! text. NaN, null and values that the reference never had are bins of their own.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use serde_json::{Value, json};

use crate::ColumnType;
use crate::expect::shown;

/// The most different values of a text that are compared one by one.
pub(crate) const CATEGORIES: usize = 10_000;
/// The share that an empty bin counts as.
const FLOOR: f64 = 1e-4;
/// Bins a report shows: those that moved most.
const SHOWN: usize = 13;

/// The bins of a column, and how the reference filled them.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    bins: Bins,
    counts: Vec<u64>,
}

#[derive(Debug, Clone)]
enum Bins {
    /// Upper ends, inclusive and ascending. After the bin above the last come NaN and null.
    Numbers(Vec<f64>),
    /// The place of each value. After them come the unseen and null.
    Values(HashMap<String, usize>),
}

impl Reference {
    /// From upper ends and how many values are up to each, of `present` numbers in all.
    pub(crate) fn numbers(ends: &[(f64, u64)], present: u64, nan: u64, null: u64) -> Reference {
        let mut below = 0;
        let mut counts = Vec::with_capacity(ends.len() + 3);
        for (_, upto) in ends {
            counts.push(upto.saturating_sub(below));
            below = *upto;
        }
        counts.extend([present.saturating_sub(below), nan, null]);
        Reference { bins: Bins::Numbers(ends.iter().map(|(end, _)| *end).collect()), counts }
    }

    /// From values and how often each comes.
    pub(crate) fn values(values: Vec<(String, u64)>, null: u64) -> Reference {
        let mut counts: Vec<u64> = values.iter().map(|(_, count)| *count).collect();
        counts.extend([0, null]);
        let places = values.into_iter().enumerate().map(|(at, (value, _))| (value, at)).collect();
        Reference { bins: Bins::Values(places), counts }
    }

    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Counts a batch of the column into its bins.
    pub(crate) fn count(&self, column: &ArrayRef, into: &mut [u64]) -> Result<(), ArrowError> {
        let mut one = |at: usize| {
            if let Some(count) = into.get_mut(at) {
                *count += 1;
            }
        };
        match &self.bins {
            Bins::Numbers(ends) => {
                for value in &numbers(column)? {
                    one(match value {
                        None => ends.len() + 2,
                        Some(x) if x.is_nan() => ends.len() + 1,
                        Some(x) => ends.partition_point(|end| *end < x),
                    });
                }
            }
            Bins::Values(places) => {
                let texts = cast(column, &DataType::Utf8)?;
                for value in texts.as_string::<i32>() {
                    one(match value {
                        None => places.len() + 1,
                        Some(text) => places.get(text).copied().unwrap_or(places.len()),
                    });
                }
            }
        }
        Ok(())
    }

    /// The index of these counts; `None` when there is nothing to compare.
    pub(crate) fn psi(&self, now: &[u64]) -> Option<f64> {
        let parts = self.parts(now)?;
        Some(parts.iter().map(|(_, _, part)| part).sum())
    }

    /// Per bin: its share in the reference, its share now, its part of the index.
    fn parts(&self, now: &[u64]) -> Option<Vec<(f64, f64, f64)>> {
        let (was, is): (u64, u64) = (self.counts.iter().sum(), now.iter().sum());
        if was == 0 || is == 0 {
            return None;
        }
        let share = |count: u64, all: u64| count as f64 / all as f64;
        let part = |(was_here, is_here): (&u64, &u64)| {
            let (e, a) = (share(*was_here, was), share(*is_here, is));
            let (low_e, low_a) = (e.max(FLOOR), a.max(FLOOR));
            (e, a, (low_a - low_e) * (low_a / low_e).ln())
        };
        Some(self.counts.iter().zip(now).map(part).collect())
    }

    /// The index and the bins that moved most, for a report.
    pub(crate) fn observed(&self, now: &[u64], ty: &ColumnType) -> Value {
        let Some(parts) = self.parts(now) else { return Value::Null };
        let labels = self.labels(ty);
        let mut bins: Vec<_> =
            labels.iter().zip(&parts).filter(|(_, (e, a, _))| *e > 0.0 || *a > 0.0).collect();
        let all = bins.len();
        if all > SHOWN {
            bins.sort_by(|(_, (_, _, a)), (_, (_, _, b))| b.total_cmp(a));
            bins.truncate(SHOWN);
        }
        let bins: Vec<Value> =
            bins.iter().map(|(bin, (e, a, _))| json!({"bin": bin, "reference": e, "now": a})).collect();
        json!({"psi": self.psi(now), "bins": bins, "of": all})
    }

    fn labels(&self, ty: &ColumnType) -> Vec<String> {
        match &self.bins {
            Bins::Numbers(ends) => {
                let mut labels: Vec<String> =
                    ends.iter().map(|end| format!("≤ {}", shown(*end, ty))).collect();
                labels.push(
                    ends.last().map_or_else(|| "any".to_owned(), |end| format!("> {}", shown(*end, ty))),
                );
                labels.extend(["NaN".to_owned(), "null".to_owned()]);
                labels
            }
            Bins::Values(places) => {
                let mut labels = vec![String::new(); places.len()];
                for (value, at) in places {
                    if let Some(label) = labels.get_mut(*at) {
                        label.clone_from(value);
                    }
                }
                labels.extend(["not in the reference".to_owned(), "null".to_owned()]);
                labels
            }
        }
    }
}

/// A column of numbers, dates or times as doubles: times in microseconds since the epoch, dates in days.
pub(crate) fn numbers(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    let whole = match column.data_type() {
        DataType::Date32 => cast(column, &DataType::Int32)?,
        DataType::Timestamp(..) => cast(column, &DataType::Int64)?,
        _ => std::sync::Arc::clone(column),
    };
    Ok(cast(&whole, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn tens() -> Reference {
        let ends: Vec<(f64, u64)> = (1..10).map(|i| (f64::from(i) * 10.0, i as u64 * 10)).collect();
        Reference::numbers(&ends, 100, 0, 0)
    }

    #[test]
    fn the_same_shares_are_zero_whatever_the_number_of_rows() {
        let mut now: Vec<u64> = vec![5000; 10];
        now.extend([0, 0]);
        assert!(tens().psi(&now).unwrap().abs() < 1e-12);
    }

    #[test]
    fn the_index_is_that_of_the_formula() {
        let reference = Reference::values(vec![("a".into(), 50), ("b".into(), 50)], 0);
        let psi = reference.psi(&[80, 20, 0, 0]).unwrap();
        let expected = 0.3 * (0.8_f64 / 0.5).ln() - 0.3 * (0.2_f64 / 0.5).ln();
        assert!((psi - expected).abs() < 1e-12, "{psi}");
    }

    #[test]
    fn nan_null_and_the_unseen_have_bins_of_their_own() {
        let mut now = vec![0; 12];
        let column: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(10.0), Some(10.1), Some(f64::NAN), None, Some(1e9)]));
        tens().count(&column, &mut now).unwrap();
        assert_eq!(now, [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
        let reference = Reference::values(vec![("a".into(), 9)], 1);
        let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![Some("a"), Some("z"), None]));
        let mut now = vec![0; 3];
        reference.count(&texts, &mut now).unwrap();
        assert_eq!(now, [1, 1, 1]);
    }

    #[test]
    fn nothing_compares_with_nothing() {
        assert_eq!(tens().psi(&[0; 12]), None);
    }
}
