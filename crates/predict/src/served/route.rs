//! Who answers whoever names no version, where that is not the same for all.

use std::sync::Arc;

use crate::observe::{Arm, Place};

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The version.
    pub version: Arc<str>,
    /// For which side it counts.
    pub arm: Arm,
    /// Where in which rollout, when there is one.
    pub place: Option<Place>,
}

/// Says who answers. Pure and quick: it is on the way of every request.
pub trait Router: Send + Sync {
    /// Who answers that entity; nothing leaves it to the version that is served.
    fn route(&self, entity: &str) -> Option<Routed>;
}

/// A router's place. The pointer is swapped: requests under way keep the one that they found.
pub(super) struct Way(pub(super) Arc<dyn Router>);
