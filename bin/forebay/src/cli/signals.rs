//! Signals that commands hear.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Error;

/// Signals of that kind from now on, one that comes before it is asked for included: call it before what it is to stop begins.
///
/// # Errors
/// The system takes no more.
pub(super) fn heard(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|e| Error::new(format!("cannot hear signals: {e}"), "check this user's limits"))
}
