//! Models: how they are made and in what form they are kept.
//!
//! - [`onnx`]: models as ONNX files with their pre-processing inside; models of other libraries, turned into such files or refused.

pub mod onnx;
