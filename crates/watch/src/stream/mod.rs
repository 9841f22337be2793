//! Detectors that take one value at a time and say when the stream has changed: for errors, losses and latencies whose
//! windows nobody wants to choose. They behave as `river`'s of the same name, value for value.

mod adwin;
mod page_hinkley;

pub use adwin::{Adwin, AdwinSettings};
pub use page_hinkley::{Direction, PageHinkley, PageHinkleySettings};
