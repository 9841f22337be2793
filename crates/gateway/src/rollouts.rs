//! Rollouts of models as operators see them.

/// A version that is being rolled out, as this server divides its traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutState {
    /// The model, as the configuration names it.
    pub model: String,
    /// The version that comes.
    pub version: String,
    /// The share of users that it answers, from 0 to 1.
    pub share: f64,
    /// Whether it answers unheard.
    pub shadow: bool,
    /// Whether it goes no further by itself.
    pub held: bool,
    /// Copies for it that found no room on this server.
    pub dropped: u64,
}

/// Who rolls models out: the wiring.
pub trait Rollouts: Send + Sync {
    /// What is being rolled out. Does not wait.
    fn states(&self) -> Vec<RolloutState>;
}
