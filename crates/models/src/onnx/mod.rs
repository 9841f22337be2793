//! Models as ONNX files with their pre-processing inside, so that they run anywhere.
//!
//! [`write`] makes a file of a [`Forest`] or a [`Linear`] model: inputs are columns by their names, outputs a `label` with
//! `probabilities`, or a `prediction`. [`lightgbm`] and [`xgboost`] read the models of these libraries into a forest, and
//! [`adopt()`] recognises what somebody brings by its content, and refuses what runs code when it is loaded.
//!
//! Nothing here runs a model, reads a file or starts anything: bytes in, bytes out. Whatever bytes come, nothing panics.

mod adopt;
mod error;
mod features;
mod forest;
mod graph;
pub mod lightgbm;
mod linear;
mod model;
mod proto;
mod trees;
pub mod ubjson;
pub mod xgboost;

pub use adopt::{Adopted, Found, Port, adopt, recognise, with_features};
pub use error::Error;
pub use features::Feature;
pub use forest::{Forest, Link, Node, Step, Test, Tree};
pub use linear::{Cell, Linear, Term, murmur3};
pub use model::{About, Classes, Scorer, write};
