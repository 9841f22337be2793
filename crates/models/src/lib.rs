//! Models: what they are worth, whether they may answer, and how they come to.
//!
//! - [`evaluate`]: figures of predictions against what was true, in total, by slice and by group.
//! - [`gate`]: whether a model may answer, as a signed record.
//! - [`rollout`]: how a version comes to answer, and is taken back.
//! - [`reproduce`]: what a model was made of, and whether it comes out again.
//! - [`card`]: what people read of a model, made from its record.
//!
//! Everything that decides is pure: time and seeds come in as parameters, and equal input gives an equal decision.

pub mod card;
pub mod evaluate;
pub mod gate;
pub mod reproduce;
pub mod rollout;
