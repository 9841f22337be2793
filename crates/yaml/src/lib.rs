//! Files that people write, as trees in which every key and value knows its line and column.
//!
//! [`spans`] reads the text, [`tree`] holds it, [`shape`] sets it against a JSON Schema and [`problem`] says what is wrong
//! where, and what to do about it. Pure: nothing here reads a file. Arbitrary text never panics and costs bounded memory.

mod placeholder;
pub mod problem;
pub mod shape;
pub mod spans;
pub mod tree;

pub use problem::Problem;
pub use tree::{Node, Place};
