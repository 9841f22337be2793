//! What the gateway knows of monitors: how they stand, for metrics. Who looks and decides is elsewhere.

use contract::UnixMillis;

/// How a monitor stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MonitorState {
    /// Its name.
    pub monitor: String,
    /// Series that fire.
    pub firing: u64,
    /// Series that are about to.
    pub pending: u64,
    /// Series that are well.
    pub inactive: u64,
    /// The largest drift of a column in the last window, in the units of the monitor's threshold.
    pub drift: Option<f64>,
    /// The newest row of what is watched.
    pub newest: Option<UnixMillis>,
    /// It cannot look.
    pub problem: bool,
    /// Messages that nobody could be told.
    pub lost: u64,
}

/// Whoever watches.
pub trait Monitors: Send + Sync {
    /// How each monitor stood when it last looked.
    fn states(&self) -> Vec<MonitorState>;
    /// Answers that were to be kept, and that there was no room for.
    fn dropped(&self) -> u64;
}
