//! All that is said of one column: one sort of the window, one walk over both, one count in the reference's bins.

use serde::{Deserialize, Serialize};

use super::distance::{self, Distances};
use super::ks::{self, Ks};
use super::shares::{ChiSquared, chi_squared_pooled, jensen_shannon, psi, share_test};
use crate::Error;
use crate::order;
use crate::sketch::steps::Sorted;
use crate::sketch::{Bins, NumericSketch, Steps};

/// A column of a window as it is: the numbers sorted, and how many were none.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    sorted: Vec<f64>,
    missing: u64,
}

impl Sample {
    /// Sorts the values in place; what is no number is missing.
    pub fn new(mut values: Vec<f64>) -> Self {
        let all = values.len();
        values.retain(|v| order::is_number(*v));
        let missing = (all - values.len()) as u64;
        order::sort(&mut values);
        Sample { sorted: values, missing }
    }

    /// With values besides that were null.
    #[must_use]
    pub fn with_missing(mut self, n: u64) -> Self {
        self.missing += n;
        self
    }

    /// The numbers in ascending order.
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// How many were none.
    pub fn missing(&self) -> u64 {
        self.missing
    }
}

/// A column as a sample or as a sketch.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    /// Every value.
    Sample(&'a Sample),
    /// Its summary.
    Sketch(&'a NumericSketch),
}

impl Side<'_> {
    fn missing(&self) -> u64 {
        match self {
            Side::Sample(sample) => sample.missing,
            Side::Sketch(sketch) => sketch.missing(),
        }
    }
}

/// What a result was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Every value of both sides: there is no error.
    Exact,
    /// At least one sketch: errors are stated.
    Sketched,
}

/// The reference of a numeric column: made once, kept with the model's version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumericReference {
    sketch: NumericSketch,
    bins: Bins,
    counts: Vec<u64>,
}

/// What has moved in a column of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NumericDrift {
    /// The Kolmogorov–Smirnov test of the values that are there.
    pub ks: Ks,
    /// Wasserstein-1, in the units of the column.
    pub w1: f64,
    /// How far [`NumericDrift::w1`] can be off.
    pub w1_error: f64,
    /// Wasserstein-1 in standard deviations of the reference; none when the reference does not vary.
    pub w1_normalised: Option<f64>,
    /// Population stability index over the reference's bins, the one for missing values included.
    pub psi: f64,
    /// Jensen–Shannon distance over the same bins.
    pub js: f64,
    /// The test of the share that is missing.
    pub missing: ChiSquared,
    /// From what.
    pub basis: Basis,
    /// Rows of the reference, and of the window.
    pub rows: (u64, u64),
}

impl NumericReference {
    /// Bins from the deciles of the sketch.
    ///
    /// # Errors
    /// When it holds no number.
    pub fn new(sketch: NumericSketch) -> Result<Self, Error> {
        let steps = sketch.steps();
        let bins = Bins::of_equal_share(&steps, 10)?;
        let counts = bins.of_steps(&steps, sketch.missing());
        Ok(NumericReference { sketch, bins, counts })
    }

    /// What it was made from.
    pub fn sketch(&self) -> &NumericSketch {
        &self.sketch
    }

    /// The bins that windows are counted in.
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// How many of the reference are in each.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Compares a window with the sketch of the reference.
    ///
    /// # Errors
    /// When the window holds no number.
    pub fn compare(&self, window: Side<'_>) -> Result<NumericDrift, Error> {
        self.measure(None, window)
    }

    /// Compares a window with the reference's own values, exactly if the window is a sample too.
    ///
    /// # Errors
    /// When one side holds no number.
    pub fn compare_exactly(&self, reference: &Sample, window: Side<'_>) -> Result<NumericDrift, Error> {
        self.measure(Some(reference), window)
    }

    fn measure(&self, exact: Option<&Sample>, window: Side<'_>) -> Result<NumericDrift, Error> {
        let own: Steps;
        let (found, counts) = match (exact, window) {
            (Some(reference), Side::Sample(window)) => {
                let found = distance::walk_samples(&reference.sorted, &window.sorted)?;
                (found, self.bins.of_sorted(&window.sorted, window.missing))
            }
            (Some(reference), window) => self.walk(&Sorted(&reference.sorted), 0.0, window)?,
            (None, window) => {
                own = self.sketch.steps();
                self.walk(&own, own.error(), window)?
            }
        };
        let reference: std::borrow::Cow<'_, [u64]> = match exact {
            Some(sample) => self.bins.of_sorted(sample.sorted(), sample.missing()).into(),
            None => self.counts.as_slice().into(),
        };
        let missing = exact.map_or(self.sketch.missing(), Sample::missing);
        let rows = (found.reference + missing, found.current + window.missing());
        let deviation = self.sketch.deviation().filter(|d| *d > 0.0);
        Ok(NumericDrift {
            ks: ks::from_distances(&found),
            w1: found.w1,
            w1_error: found.error * found.range,
            w1_normalised: deviation.map(|d| found.w1 / d),
            psi: psi(&reference, &counts)?,
            js: jensen_shannon(&reference, &counts)?,
            missing: share_test((missing, rows.0), (window.missing(), rows.1))?,
            basis: if found.error > 0.0 { Basis::Sketched } else { Basis::Exact },
            rows,
        })
    }

    /// One walk, and the window's counts in the bins.
    fn walk(
        &self,
        reference: &impl crate::sketch::steps::Cumulative,
        error: f64,
        window: Side<'_>,
    ) -> Result<(Distances, Vec<u64>), Error> {
        match window {
            Side::Sample(sample) => {
                let mut found = distance::walk(reference, &Sorted(&sample.sorted))?;
                found.error = error;
                Ok((found, self.bins.of_sorted(&sample.sorted, sample.missing)))
            }
            Side::Sketch(sketch) => {
                let steps = sketch.steps();
                let mut found = distance::walk(reference, &steps)?;
                found.error = error + steps.error();
                Ok((found, self.bins.of_steps(&steps, sketch.missing())))
            }
        }
    }
}

/// What has moved in a column of categories.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CategoryDrift {
    /// The test over all bins, those for what is beyond the reference and for what is missing included, and rare ones
    /// taken together.
    pub chi_squared: ChiSquared,
    /// Population stability index.
    pub psi: f64,
    /// Jensen–Shannon distance.
    pub js: f64,
    /// Rows of the reference, and of the window.
    pub rows: (u64, u64),
}

/// Compares two rows of counts in the bins of one [`Vocabulary`](crate::sketch::Vocabulary).
///
/// # Errors
/// When they are not of one length, or one holds nothing.
pub fn compare_categories(reference: &[u64], window: &[u64]) -> Result<CategoryDrift, Error> {
    Ok(CategoryDrift {
        chi_squared: chi_squared_pooled(reference, window)?,
        psi: psi(reference, window)?,
        js: jensen_shannon(reference, window)?,
        rows: (reference.iter().sum(), window.iter().sum()),
    })
}
