//! What is told of a comparison: each column with its test, effect, verdict and shape, the worst first; as JSON by serialising it,
//! as a page by [`DriftReport::page`].
//!
//! A verdict is that of [`judge`]: a large effect *and* significance over all columns. Columns that are gone, hold another kind of
//! values or hold nothing any more cannot be tested and are louder than any test.

mod page;
mod shape;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

pub use shape::{Bar, Shape, Summary};

use crate::Error;
use crate::drift::{Basis, DriftLimits, Level, Measured, Profile, Reference, SchemaChange, Verdict, judge};

/// One side of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// What it is: a file, a version, a window.
    pub name: String,
    /// Its rows.
    pub rows: u64,
}

/// What is said of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnReport {
    /// Which.
    pub column: String,
    /// How loud.
    pub level: Level,
    /// The test that enters the family: `ks`, `chi_squared` or `mmd`; `missing` when the share of missing values says more.
    pub test: String,
    /// Its probability.
    pub p: f64,
    /// The same adjusted over all columns; none when there were too few rows to judge.
    pub q: Option<f64>,
    /// The effect that is largest beside its limit: `psi`, `w1`, `js` or `mmd`.
    pub by: String,
    /// That effect.
    pub effect: f64,
    /// That effect as a share of the limit that alerts.
    pub of_limit: f64,
    /// Population stability index.
    pub psi: Option<f64>,
    /// Jensen–Shannon distance.
    pub js: Option<f64>,
    /// Kolmogorov–Smirnov distance.
    pub ks: Option<f64>,
    /// Wasserstein-1 in standard deviations of the reference; none of categories, and when the reference does not vary.
    pub w1: Option<f64>,
    /// Whether the figures are exact or from sketches.
    pub basis: Basis,
    /// What the values look like on both sides.
    pub shape: Shape,
}

/// A comparison of two tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// When it was made.
    pub at: UnixMillis,
    /// What was.
    pub reference: Side,
    /// What is.
    pub window: Side,
    /// The loudest of all that is said.
    pub level: Level,
    /// From where on an effect is large, and how sure it has to be.
    pub limits: DriftLimits,
    /// The columns that were compared, the worst first.
    pub columns: Vec<ColumnReport>,
    /// Columns that cannot be compared.
    pub schema: SchemaChange,
    /// Columns that held values and hold none any more.
    pub emptied: Vec<String>,
    /// Columns that were not looked at: times and nested values.
    pub left_out: Vec<String>,
}

impl DriftReport {
    /// Compares a window with a reference.
    ///
    /// # Errors
    /// Never for profiles that were made by this version.
    pub fn new(
        at: UnixMillis,
        (reference, was): (Side, &Reference),
        (window, is): (Side, &Profile),
        limits: DriftLimits,
    ) -> Result<DriftReport, Error> {
        let (found, schema) = was.compare(is, None)?;
        let verdicts = judge(found, &limits);
        let mut columns: Vec<ColumnReport> =
            verdicts.into_iter().filter_map(|verdict| ColumnReport::of(verdict, was, is)).collect();
        columns.sort_by(|a, b| b.level.cmp(&a.level).then(b.of_limit.total_cmp(&a.of_limit)));
        let emptied: Vec<String> = schema.empty.iter().filter(|name| was.holds(name)).cloned().collect();
        let worst = columns.iter().map(|c| c.level).max().unwrap_or(Level::Calm);
        let of_schema = match () {
            () if !(schema.gone.is_empty() && schema.other_kind.is_empty() && emptied.is_empty()) => {
                Level::Alert
            }
            () if !schema.new.is_empty() => Level::Warn,
            () => Level::TooFew,
        };
        let level = worst.max(of_schema);
        Ok(DriftReport {
            at,
            reference,
            window,
            level,
            limits,
            columns,
            schema,
            emptied,
            left_out: Vec::new(),
        })
    }

    /// With columns that were not looked at.
    #[must_use]
    pub fn leaving_out(mut self, columns: Vec<String>) -> Self {
        self.left_out = columns;
        self
    }

    /// Columns of a level.
    pub fn of(&self, level: Level) -> impl Iterator<Item = &ColumnReport> {
        self.columns.iter().filter(move |column| column.level == level)
    }

    /// One page of HTML with plots: no script, no font, no picture from anywhere.
    pub fn page(&self) -> String {
        page::of(self)
    }
}

impl ColumnReport {
    fn of(verdict: Verdict, was: &Reference, is: &Profile) -> Option<ColumnReport> {
        let Verdict { subject, level, by, of_limit, q, measured } = verdict;
        let shape = Shape::of(was.of(&subject.feature)?, is.column_named(&subject.feature)?)?;
        let p = measured.p_value();
        let (test, psi, js, ks, w1, basis) = match &measured {
            Measured::Numeric(d) => {
                let test = if d.missing.p_value < d.ks.p_value { "missing" } else { "ks" };
                (test, Some(d.psi), Some(d.js), Some(d.ks.statistic), d.w1_normalised, d.basis)
            }
            Measured::Category(d) => ("chi_squared", Some(d.psi), Some(d.js), None, None, Basis::Exact),
            Measured::Embedding(..) => ("mmd", None, None, None, None, Basis::Exact),
        };
        let effect = match (by.as_str(), &measured) {
            ("w1", _) => w1.unwrap_or(0.0),
            ("js", _) => js.unwrap_or(0.0),
            (_, Measured::Embedding(d, _)) => d.statistic,
            _ => psi.unwrap_or(0.0),
        };
        let column = subject.feature;
        let test = test.to_owned();
        Some(ColumnReport { column, level, test, p, q, by, effect, of_limit, psi, js, ks, w1, basis, shape })
    }
}
