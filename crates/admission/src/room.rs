//! What the endpoints of a model bear together, as each says for itself: what its queue lets through.
//!
//! One atomic: every endpoint adds what it bears now and takes back what it said before. Zero means that nobody says
//! anything (all of them rest), and limits nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The sum. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<AtomicU32>);

impl Room {
    /// Requests that may run at the same time; `None` when nobody says.
    pub fn get(&self) -> Option<u32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|n| *n > 0)
    }

    /// An endpoint bears `now` and no longer `before`. It says no more than the truth: sums of all are below 2³².
    pub fn correct(&self, before: u32, now: u32) {
        // Wraps around and back: the sum of what all say is never negative.
        self.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}
