//! What is kept of a column: bounded in memory, built in one pass over batches, merged, and written down with a model's
//! version. Numbers in a [`NumericSketch`], everything else in a [`CategorySketch`]; the bins that a window is counted
//! in are made from the reference, once ([`Bins`], [`Vocabulary`]).

mod bins;
mod category;
mod numeric;
pub(crate) mod steps;

pub use bins::Bins;
pub use category::{CategorySketch, Vocabulary};
pub use numeric::NumericSketch;
pub use steps::Steps;
