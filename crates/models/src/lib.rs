//! Models: how they are made and in what form they are kept.
//!
//! - [`train`]: from a table of columns to a model, by gradient-boosted trees, linear models and online learning.
//! - [`onnx`]: models as ONNX files with their pre-processing inside; models of other libraries, turned into such files or refused.

pub mod onnx;
pub mod train;
