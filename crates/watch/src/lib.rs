//! Whether a model is still right: sketches of what it was trained on, drift of what it sees now, performance once the
//! truth is known and an estimate until then, fairness, alarms with a stated rate of false ones, the states of an
//! alert, and the decision to train again.
//!
//! Everything here is pure: it is given data, the time and a seed, and gives numbers and actions. No clock, no I/O, no
//! spawn, no message is sent and no run started; state that has to survive a restart can be serialised.

mod error;
mod exact;
mod order;
mod random;

pub mod alarm;
pub mod alert;
pub mod drift;
pub mod monitor;
pub mod performance;
pub mod report;
pub mod retrain;
pub mod sketch;
pub mod stream;

pub use error::Error;
pub use random::Seeded;
