//! Training: from a table of columns to a model in a file.
//!
//! [`run()`] is the whole way: roles of columns ([`Table`]), parts ([`split()`]), tries ([`search`]), the best model by trees
//! ([`gbdt`], grown by a [`worker`]) or by a [`linear`] model, its figures on what was held back, its ONNX file.
//!
//! [`online`] learns row by row instead.
//!
//! Nothing here reads a table or a file, and no randomness enters but the seed: the same table, configuration and program give
//! the same bytes [test: the_same_seed_gives_the_same_bytes]. Dropping a training ends it, with its worker.

mod check;
pub mod config;
mod error;
mod fitted;
pub mod frozen;
pub mod gbdt;
mod importance;
pub mod linear;
mod metric;
pub mod online;
mod run;
pub mod search;
mod split;
mod table;
mod trial;
pub mod worker;

pub use check::problems;
pub use config::{AdoptedConfig, SplitConfig, Task, TrainConfig};
pub use error::Error;
pub use fitted::Model;
pub use importance::Importance;
pub use metric::Metric;
pub use run::{Job, Progress, Report, Trained, Unwatched, Watch, run};
pub use search::Trial;
pub use split::{Parts, folds, split};
pub use table::{Column, Frame, Label, Roles, Table, Values};

use rand::SeedableRng;
use rand_pcg::Pcg64;

/// Everything that is drawn is drawn from this: its values are part of what a seed promises.
fn seeded(seed: u64) -> Pcg64 {
    Pcg64::seed_from_u64(seed)
}

/// A seed for one of several purposes.
fn mixed(seed: u64, purpose: u64) -> u64 {
    // SplitMix64's finaliser: neighbouring purposes have unrelated seeds.
    let mut z = seed.wrapping_add(purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
