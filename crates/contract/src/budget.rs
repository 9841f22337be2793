//! How much time, how many tokens and how much money a boundary may take.

use std::time::Duration;

use crate::Money;

/// The limits of a stage or of a whole pipeline. `None` means the next outer limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Until the caller has something useful on the screen.
    pub first_output: Option<Duration>,
    /// Until the end.
    pub total: Option<Duration>,
    /// Tokens in and out over all attempts.
    pub tokens: Option<u64>,
    /// Money over all attempts.
    pub usd: Option<Money>,
}
