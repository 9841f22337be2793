//! Lists of lists in JSON, as [`super::Dialect::rows`] makes them.

use serde::Deserialize;

use super::Pair;
use crate::Error;

/// Reads them.
pub(super) fn rows<'a, T: Deserialize<'a>>(text: &'a str) -> Result<Vec<T>, Error> {
    Ok(serde_json::from_str(text)?)
}

/// Keys and values.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair>, Error> {
    rows(text)
}
