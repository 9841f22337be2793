//! A column of categories in bounded memory: the frequent ones by name, the others together.
//!
//! Misra and Gries (1982), mergeable as of Agarwal and others (2012): when more names than fit have come, the smallest
//! count is taken from all and those at zero go. What was taken is in `other`, so that the counts still add up. A count
//! is never too large, and too small by no more than [`CategorySketch::undercount`]; without an overflow all is exact.
//!
//! A window is counted in the bins of the reference ([`Vocabulary`]): one for each of its frequent categories, one for
//! `other`, one for what is missing. While the reference has dropped nothing, a value that it does not know is
//! *unseen*, and that is a bin of its own; a reference that has dropped some cannot tell the two apart and counts such
//! values as `other`.

use std::collections::BTreeMap;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Categories kept by name unless told otherwise.
const CAPACITY: usize = 256;

/// A mergeable summary of a column of categories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct CategorySketch {
    capacity: usize,
    counts: AHashMap<Box<str>, u64>,
    other: u64,
    missing: u64,
    undercount: u64,
}

/// In the order of names, so that equal sketches are written alike.
#[derive(Serialize, Deserialize)]
struct Written {
    capacity: usize,
    counts: BTreeMap<Box<str>, u64>,
    other: u64,
    missing: u64,
    undercount: u64,
}

impl From<Written> for CategorySketch {
    fn from(w: Written) -> Self {
        let counts = w.counts.into_iter().collect();
        CategorySketch {
            capacity: w.capacity,
            counts,
            other: w.other,
            missing: w.missing,
            undercount: w.undercount,
        }
    }
}

impl From<CategorySketch> for Written {
    fn from(s: CategorySketch) -> Self {
        let counts = s.counts.into_iter().collect();
        Written { capacity: s.capacity, counts, other: s.other, missing: s.missing, undercount: s.undercount }
    }
}

impl Default for CategorySketch {
    fn default() -> Self {
        CategorySketch::with_capacity(CAPACITY)
    }
}

impl CategorySketch {
    /// An empty sketch that keeps at most `capacity` categories by name.
    pub fn with_capacity(capacity: usize) -> Self {
        CategorySketch {
            capacity: capacity.max(1),
            counts: AHashMap::new(),
            other: 0,
            missing: 0,
            undercount: 0,
        }
    }

    /// Takes a batch in; `None` is missing.
    pub fn extend<'a>(&mut self, values: impl IntoIterator<Item = Option<&'a str>>) {
        for value in values {
            match value {
                Some(value) => self.add(value, 1),
                None => self.missing += 1,
            }
        }
    }

    /// Counts values that were null.
    pub fn add_missing(&mut self, n: u64) {
        self.missing += n;
    }

    /// Takes a category in that came `n` times, as a dictionary-encoded batch has it.
    pub fn add(&mut self, value: &str, n: u64) {
        match self.counts.get_mut(value) {
            Some(count) => *count += n,
            None if n > 0 => {
                self.counts.insert(value.into(), n);
                // Room for as many again before the next cut: a cut costs a walk over all.
                if self.counts.len() > self.capacity * 2 {
                    self.cut();
                }
            }
            None => {}
        }
    }

    /// Back to the capacity: the count of the first that does not fit is taken from all.
    fn cut(&mut self) {
        if self.counts.len() <= self.capacity {
            return;
        }
        let mut ordered: Vec<u64> = self.counts.values().copied().collect();
        let (_, &mut taken, _) = ordered.select_nth_unstable_by(self.capacity, |a, b| b.cmp(a));
        let mut moved = 0;
        self.counts.retain(|_, count| {
            moved += taken.min(*count);
            *count = count.saturating_sub(taken);
            *count > 0
        });
        self.other += moved;
        self.undercount += taken;
    }

    /// Takes another sketch in.
    ///
    /// # Errors
    /// When the other one has another capacity.
    pub fn merge(&mut self, other: &CategorySketch) -> Result<(), Error> {
        if self.capacity != other.capacity {
            return Err(Error::Unlike { what: "two sketches", why: "they have different capacities" });
        }
        for (value, &count) in &other.counts {
            *self.counts.entry(value.clone()).or_insert(0) += count;
        }
        self.other += other.other;
        self.missing += other.missing;
        self.undercount += other.undercount;
        if self.counts.len() > self.capacity * 2 {
            self.cut();
        }
        Ok(())
    }

    /// Rows with a category.
    pub fn count(&self) -> u64 {
        self.other + self.counts.values().sum::<u64>()
    }

    /// Rows without one.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Rows whose category is not known by name any more.
    pub fn other(&self) -> u64 {
        self.other
    }

    /// By how much a count can be too small: 0 when all is exact.
    pub fn undercount(&self) -> u64 {
        self.undercount
    }

    /// Rows of one category that are counted by name.
    pub fn of(&self, value: &str) -> u64 {
        self.counts.get(value).copied().unwrap_or(0)
    }

    /// Categories held by name: at most twice the capacity.
    pub fn held(&self) -> usize {
        self.counts.len()
    }

    /// The categories by frequency, then by name.
    pub fn top(&self) -> Vec<(&str, u64)> {
        let mut top: Vec<(&str, u64)> = self.counts.iter().map(|(v, &n)| (&**v, n)).collect();
        top.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        top
    }

    /// The bins of this reference.
    pub fn vocabulary(&self) -> Vocabulary {
        let mut names: Vec<Box<str>> =
            self.top().into_iter().take(self.capacity).map(|(v, _)| v.into()).collect();
        let complete = self.other == 0 && names.len() == self.counts.len();
        names.sort_unstable();
        Vocabulary { names, complete }
    }
}

/// The bins that a column of categories is counted in: the reference's frequent categories in the order of their names,
/// then what is beyond them, then what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocabulary {
    names: Vec<Box<str>>,
    /// Whether the reference holds no other category: then the bin beyond is of *unseen* ones.
    complete: bool,
}

impl Vocabulary {
    /// The categories with a bin of their own.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Whether what is beyond the names was never seen in the reference. Otherwise it may only have been rare.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Bins: the names, one beyond, one for what is missing.
    pub fn count(&self) -> usize {
        self.names.len() + 2
    }

    /// Counts a sketch in these bins.
    pub fn of_sketch(&self, sketch: &CategorySketch) -> Vec<u64> {
        let mut counts: Vec<u64> = self.names.iter().map(|name| sketch.of(name)).collect();
        let named: u64 = counts.iter().sum();
        counts.push(sketch.count().saturating_sub(named));
        counts.push(sketch.missing());
        counts
    }

    /// Counts rows in these bins, exactly however many categories there are.
    pub fn of_values<'a>(&self, values: impl IntoIterator<Item = Option<&'a str>>) -> Vec<u64> {
        let index: AHashMap<&str, usize> = self.names.iter().enumerate().map(|(i, n)| (&**n, i)).collect();
        let mut counts = vec![0; self.count()];
        for value in values {
            let bin = match value {
                Some(value) => index.get(value).copied().unwrap_or(self.names.len()),
                None => self.names.len() + 1,
            };
            if let Some(count) = counts.get_mut(bin) {
                *count += 1;
            }
        }
        counts
    }
}
