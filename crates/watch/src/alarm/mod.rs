//! Thresholds with a stated rate of false alarms: what would have happened on the reference itself, and how long a
//! known drift would have gone unseen.
//!
//! The reference is a row of *blocks* (a day, an hour), each summed up as the statistic needs it: counts in bins, a
//! sketch. Months are made of blocks drawn from it, windows slide over them, and the threshold is the one at which such
//! months raise as many alarms as are borne ([`calibrate`]). With a *season* a window is compared with blocks of the
//! same phase alone, so that a Sunday is held beside Sundays.

mod calibrate;
mod quorum;
mod season;
mod volume;

pub use calibrate::{Calibrated, Delay, Plan, calibrate, delay};
pub use quorum::Quorum;
pub use season::{Season, summed};
pub use volume::{Volume, volume};
