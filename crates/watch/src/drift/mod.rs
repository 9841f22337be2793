//! Whether a window of data is still like the reference: distances, tests, and one verdict over many of them.
//!
//! Each distance is exact for two samples ([`Sample`]) and comes with a bound from sketches ([`NumericSketch`]); the
//! result says which it was ([`Basis`]). The tests never change with the number of rows: with many rows everything is
//! significant, so that a verdict asks for a large *effect* as well, and with few rows every effect is large, so that
//! it asks for significance over the whole family of features and slices ([`judge`]).
//!
//! Pure: no randomness but from a given seed, no clock.
//!
//! [`NumericSketch`]: crate::sketch::NumericSketch

mod column;
mod distance;
mod fdr;
mod kolmogorov;
mod ks;
mod mmd;
mod profile;
mod shares;
mod verdict;

pub use column::{Basis, CategoryDrift, NumericDrift, NumericReference, Sample, Side, compare_categories};
pub use distance::{wasserstein, wasserstein_of_steps};
pub use fdr::benjamini_hochberg;
pub use ks::{Ks, KsMethod, ks, ks_of_steps};
pub use mmd::{Mmd, Vectors, mmd, mmd_linear};
pub(crate) use profile::ColumnReference;
pub use profile::{ColumnSketch, Profile, Reference, SchemaChange};
pub use shares::{ChiSquared, EMPTY, chi_squared, chi_squared_pooled, jensen_shannon, psi, share_test};
pub use verdict::{DriftLimits, Level, Measured, Subject, Verdict, judge, judge_by};
