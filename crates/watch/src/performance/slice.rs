//! Slices: the rows of one value, or of one combination of values, so that whatever is measured of all rows is measured
//! of each of them. Bounded in number, and none smaller than a minimum: the rest is counted, not hidden.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::same_length;

/// Which slices count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SliceLimits {
    /// Rows a slice needs.
    pub min_rows: usize,
    /// Slices at most, the largest first.
    pub most: usize,
}

impl Default for SliceLimits {
    /// 30 rows, 200 slices.
    fn default() -> Self {
        SliceLimits { min_rows: 30, most: 200 }
    }
}

/// Which rows a slice holds: columns with their values, in the order of the columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SliceKey(pub Vec<(String, String)>);

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (column, value)) in self.0.iter().enumerate() {
            let and = if at == 0 { "" } else { ", " };
            write!(f, "{and}{column}={value}")?;
        }
        Ok(())
    }
}

/// Slices with the numbers of their rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slices {
    /// In the order of their keys.
    pub rows: BTreeMap<SliceKey, Vec<usize>>,
    /// Slices that are too small.
    pub too_small: usize,
    /// Slices that would have been more than the most.
    pub beyond: usize,
}

/// Makes slices of columns of values (all of one length; a row without a value is in no slice of that column). `by`
/// lists which columns make a kind of slice: `[[0], [0, 2]]` is by the first, and by the first and third together.
///
/// # Errors
/// When columns are not of one length, or `by` names one that is not there.
pub fn slices(
    columns: &[(&str, Vec<Option<&str>>)],
    by: &[Vec<usize>],
    limits: SliceLimits,
) -> Result<Slices, Error> {
    let rows = columns.first().map_or(0, |(_, values)| values.len());
    for (_, values) in columns {
        same_length("columns of slices", rows, values.len())?;
    }
    let mut found: BTreeMap<SliceKey, Vec<usize>> = BTreeMap::new();
    for kind in by {
        let picked: Vec<&(&str, Vec<Option<&str>>)> = kind.iter().filter_map(|&c| columns.get(c)).collect();
        same_length("slices and their columns", kind.len(), picked.len())?;
        let mut of_kind: BTreeMap<Vec<&str>, Vec<usize>> = BTreeMap::new();
        for row in 0..rows {
            let values: Option<Vec<&str>> =
                picked.iter().map(|(_, values)| values.get(row).copied().flatten()).collect();
            if let Some(values) = values.filter(|values| !values.is_empty()) {
                of_kind.entry(values).or_default().push(row);
            }
        }
        for (values, rows) in of_kind {
            let pairs =
                picked.iter().zip(values).map(|((name, _), value)| ((*name).to_owned(), value.to_owned()));
            found.insert(SliceKey(pairs.collect()), rows);
        }
    }
    let all = found.len();
    found.retain(|_, rows| rows.len() >= limits.min_rows);
    let too_small = all - found.len();
    let beyond = found.len().saturating_sub(limits.most);
    if beyond > 0 {
        let mut by_size: Vec<(usize, SliceKey)> = found.iter().map(|(k, r)| (r.len(), k.clone())).collect();
        by_size.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        by_size.iter().skip(limits.most).for_each(|(_, key)| drop(found.remove(key)));
    }
    Ok(Slices { rows: found, too_small, beyond })
}
