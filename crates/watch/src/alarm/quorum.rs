//! m of the last n: one odd window is no alarm.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How many of the last windows have to be beyond the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// So many.
    pub m: usize,
    /// Of the last so many.
    pub n: usize,
}

impl Default for Quorum {
    /// One of one.
    fn default() -> Self {
        Quorum { m: 1, n: 1 }
    }
}

impl Quorum {
    /// Refuses `m` of fewer than `m`, and none at all.
    ///
    /// # Errors
    /// When it can never be met, or always is.
    pub fn check(&self) -> Result<(), Error> {
        if self.m == 0 || self.m > self.n {
            let why = format!("{} of {} windows cannot be asked for: 1 ≤ m ≤ n", self.m, self.n);
            return Err(Error::Setting { name: "m of n", why });
        }
        Ok(())
    }

    /// Adds the newest window to those before it, keeps the last `n`, and says whether enough of them are beyond.
    pub(crate) fn met(&self, last: &mut VecDeque<bool>, beyond: bool) -> bool {
        last.push_back(beyond);
        while last.len() > self.n {
            last.pop_front();
        }
        last.iter().filter(|b| **b).count() >= self.m
    }
}
