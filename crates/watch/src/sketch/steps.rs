//! A distribution as the steps of its cumulative share: of a sorted sample exactly, of a sketch within its bound.

/// What a distance between two distributions needs to know of each.
pub(crate) trait Cumulative {
    /// Places where it steps.
    fn len(&self) -> usize;
    /// The value at a place; places are in ascending order of their values.
    fn value(&self, at: usize) -> Option<f64>;
    /// Weight of all places before `at`.
    fn before(&self, at: usize) -> u64;
    /// The first place behind `from` whose value is greater than `value`.
    fn past(&self, from: usize, value: f64) -> usize;
    /// All of the weight.
    fn total(&self) -> u64 {
        self.before(self.len())
    }
}

/// A sorted sample: each value weighs one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sorted<'a>(pub(crate) &'a [f64]);

impl Cumulative for Sorted<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn value(&self, at: usize) -> Option<f64> {
        self.0.get(at).copied()
    }
    fn before(&self, at: usize) -> u64 {
        at as u64
    }
    fn past(&self, mut from: usize, value: f64) -> usize {
        while self.0.get(from).is_some_and(|&v| v <= value) {
            from += 1;
        }
        from
    }
}

/// Distinct values in ascending order, and how many values lie at or below each.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    values: Vec<f64>,
    upto: Vec<u64>,
    error: f64,
}

impl Steps {
    /// From weighted values in any order. `error` is the largest error of a share that is read from it.
    pub(crate) fn new(mut weighted: Vec<(f64, u64)>, error: f64) -> Self {
        weighted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut values, mut upto) = (Vec::with_capacity(weighted.len()), Vec::with_capacity(weighted.len()));
        let mut sum = 0;
        for (value, weight) in weighted {
            sum += weight;
            // 0.0 and -0.0 are one value.
            if values.last().is_some_and(|&last: &f64| last == value) {
                if let Some(last) = upto.last_mut() {
                    *last = sum;
                }
            } else {
                values.push(value);
                upto.push(sum);
            }
        }
        Steps { values, upto, error }
    }

    /// The largest error of a share that is read from it.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.total()
    }

    /// Whether all values are whole numbers.
    pub(crate) fn is_whole(&self) -> bool {
        self.values.iter().all(|value| value.fract() == 0.0)
    }

    /// How many values lie at or below `value`.
    pub fn at_most(&self, value: f64) -> u64 {
        self.before(self.values.partition_point(|&v| v <= value))
    }

    /// The value at the share `q` of the order: the smallest with at least that share at or below it.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q.clamp(0.0, 1.0) * self.total() as f64).ceil().max(1.0) as u64;
        let at = self.upto.partition_point(|&upto| upto < rank);
        self.values.get(at.min(self.values.len().saturating_sub(1))).copied()
    }
}

impl Cumulative for Steps {
    fn len(&self) -> usize {
        self.values.len()
    }
    fn value(&self, at: usize) -> Option<f64> {
        self.values.get(at).copied()
    }
    fn before(&self, at: usize) -> u64 {
        at.checked_sub(1).and_then(|last| self.upto.get(last)).copied().unwrap_or(0)
    }
    fn past(&self, mut from: usize, value: f64) -> usize {
        while self.values.get(from).is_some_and(|&v| v <= value) {
            from += 1;
        }
        from
    }
}
