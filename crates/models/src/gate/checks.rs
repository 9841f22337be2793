//! The checks of a gate. What cannot be looked at does not hold: a check that was asked for and has no evidence fails.

pub(super) mod facts;
pub(super) mod figures;
pub(super) mod parts;
