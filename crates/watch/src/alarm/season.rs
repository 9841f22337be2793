//! A reference that knows its season: blocks of the same phase are alike, others need not be.

use serde::{Deserialize, Serialize};

/// After how many blocks everything repeats: 7 for days with a week, 168 for hours; 1 for no season.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Season(pub usize);

impl Season {
    /// No season.
    pub const NONE: Season = Season(1);

    /// The phase of the block with this number.
    pub fn phase(self, block: usize) -> usize {
        block % self.0.max(1)
    }

    /// The blocks of a reference that a window of `width` blocks from number `first` on is compared with: those of its
    /// phases. The reference's first block has phase 0. A window should be shorter than a season, or whole seasons
    /// long: otherwise phases that it holds twice weigh once.
    pub fn alike<B>(self, reference: &[B], first: usize, width: usize) -> Vec<&B> {
        let season = self.0.max(1);
        if width >= season {
            return reference.iter().collect();
        }
        let from = self.phase(first);
        let within = |at: usize| (self.phase(at) + season - from) % season < width;
        reference.iter().enumerate().filter(|(at, _)| within(*at)).map(|(_, block)| block).collect()
    }
}

/// The sum of counts in the same bins.
pub fn summed<'a>(blocks: impl IntoIterator<Item = &'a Vec<u64>>) -> Vec<u64> {
    let mut sum: Vec<u64> = Vec::new();
    for block in blocks {
        if sum.len() < block.len() {
            sum.resize(block.len(), 0);
        }
        sum.iter_mut().zip(block).for_each(|(s, c)| *s += c);
    }
    sum
}
