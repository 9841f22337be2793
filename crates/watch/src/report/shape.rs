//! What the values of a column look like on both sides, in few enough numbers to be drawn.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::drift::{ColumnReference, ColumnSketch};
use crate::sketch::{Bins, CategorySketch, NumericSketch, Vocabulary};

/// Bars of a plot of numbers, at most.
const BARS: usize = 40;
/// Categories that are told by name, at most.
const NAMED: usize = 12;
/// The share of each side that a plot leaves out at either end: one far value does not make the rest a line.
const TAIL: f64 = 0.002;

/// Figures of a column of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Values that are numbers.
    pub count: u64,
    /// The share of rows that holds none.
    pub missing: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
    /// The smallest.
    pub min: f64,
    /// The median, within the sketch's error.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// A category, or one bar of a plot: its share of all rows on both sides, from 0 to 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// The category, or the upper end of the bar.
    pub label: String,
    /// Its share of the reference.
    pub reference: f64,
    /// Its share of the window.
    pub window: f64,
}

/// A column on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Shape {
    /// Of numbers.
    Numbers {
        /// Figures of the reference.
        reference: Summary,
        /// Figures of the window.
        window: Summary,
        /// Where the first bar begins.
        from: f64,
        /// Where the last bar ends.
        to: f64,
        /// Bars of equal width between; what is beyond is in the first and the last.
        bars: Vec<Bar>,
    },
    /// Of categories.
    Categories {
        /// Those that are most frequent on either side.
        values: Vec<Bar>,
        /// All others that the reference knows, taken together.
        others: Bar,
        /// Those that the reference does not know; nothing when it is too varied to tell.
        unseen: Vec<Bar>,
        /// The share of rows whose category the reference does not know.
        unseen_share: f64,
        /// The share of rows without one, of the reference and of the window.
        missing: (f64, f64),
    },
}

impl Shape {
    pub(super) fn of(reference: &ColumnReference, window: &ColumnSketch) -> Option<Shape> {
        match (reference, window) {
            (ColumnReference::Numeric(reference), ColumnSketch::Numeric(window)) => {
                numbers(reference.sketch(), window)
            }
            (ColumnReference::Category(bins, counts), ColumnSketch::Category(window)) => {
                Some(categories(bins, counts, window))
            }
            _ => None,
        }
    }
}

fn share(n: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { n as f64 / of as f64 }
}

fn summary(sketch: &NumericSketch) -> Option<Summary> {
    Some(Summary {
        count: sketch.count(),
        missing: share(sketch.missing(), sketch.count() + sketch.missing()),
        mean: sketch.mean()?,
        deviation: sketch.deviation()?,
        min: sketch.min()?,
        median: sketch.quantile(0.5)?,
        max: sketch.max()?,
    })
}

fn numbers(was: &NumericSketch, is: &NumericSketch) -> Option<Shape> {
    let (reference, window) = (summary(was)?, summary(is)?);
    let (before, after) = (was.steps(), is.steps());
    let end = |q: f64, pick: fn(f64, f64) -> f64| Some(pick(before.quantile(q)?, after.quantile(q)?));
    let (from, to) = (end(TAIL, f64::min)?, end(1.0 - TAIL, f64::max)?);
    let whole = before.is_whole() && after.is_whole();
    // A bar for each value when they are whole and near each other, so that none is without values only by its place.
    let (from, to, bars) = match to - from {
        width if whole && width < BARS as f64 => (from - 0.5, to + 0.5, width as usize + 1),
        width if width > 0.0 => (from, to, BARS),
        _ => (from - 0.5, to + 0.5, 1),
    };
    let step = (to - from) / bars as f64;
    let edges: Vec<f64> = (1..bars).map(|i| from + step * i as f64).collect();
    let bins = Bins::from_edges(edges).ok()?;
    let (a, b) = (bins.of_steps(&before, 0), bins.of_steps(&after, 0));
    let bar = |(i, (was, is)): (usize, (&u64, &u64))| Bar {
        label: format!("{}", from + step * (i + 1) as f64),
        reference: share(*was, reference.count),
        window: share(*is, window.count),
    };
    let bars = a.iter().zip(&b).take(bars).enumerate().map(bar).collect();
    Some(Shape::Numbers { reference, window, from, to, bars })
}

fn categories(bins: &Vocabulary, counts: &[u64], is: &CategorySketch) -> Shape {
    let (was_all, is_all) = (counts.iter().sum::<u64>(), is.count() + is.missing());
    let after = bins.of_sketch(is);
    let both = counts.iter().zip(&after);
    let bar = |label: &str, was: u64, is: u64| Bar {
        label: label.to_owned(),
        reference: share(was, was_all),
        window: share(is, is_all),
    };
    let mut values: Vec<Bar> =
        bins.names().zip(both.clone()).map(|(name, (was, is))| bar(name, *was, *is)).collect();
    let largest = |b: &Bar| b.reference.max(b.window);
    values.sort_by(|a, b| largest(b).total_cmp(&largest(a)).then_with(|| a.label.cmp(&b.label)));
    let mut others = Bar { label: "others".to_owned(), ..Bar::default() };
    for rest in values.iter().skip(NAMED) {
        others.reference += rest.reference;
        others.window += rest.window;
    }
    values.truncate(NAMED);
    let mut behind = both.skip(bins.count().saturating_sub(2));
    let beyond = behind.next().map_or((0, 0), |(was, is)| (*was, *is));
    let missing = behind.next().map_or((0, 0), |(was, is)| (*was, *is));
    let (mut unseen, mut unseen_share) = (Vec::new(), 0.0);
    if bins.complete() {
        unseen_share = share(beyond.1, is_all);
        let known: BTreeSet<&str> = bins.names().collect();
        let new = is.top().into_iter().filter(|(name, _)| !known.contains(name)).take(NAMED);
        unseen = new.map(|(name, n)| bar(name, 0, n)).collect();
    } else {
        others.reference += share(beyond.0, was_all);
        others.window += share(beyond.1, is_all);
    }
    let missing = (share(missing.0, was_all), share(missing.1, is_all));
    Shape::Categories { values, others, unseen, unseen_share, missing }
}
