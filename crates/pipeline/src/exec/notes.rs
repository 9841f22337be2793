//! Where a command notes what it tries, so that what it logs is found beside the run that it was part of. Who keeps such notes says how
//! it is reached, by variables; nothing here knows a protocol.

use contract::{Attempt, BoxFuture, TenantId};

/// Keeps notes of commands.
pub trait Notes: Send + Sync {
    /// A place for what an attempt's command notes; nothing when there is none now. `stage` is the stage's name.
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        attempt: &'a Attempt,
        stage: &'a str,
    ) -> BoxFuture<'a, Option<Box<dyn Noted>>>;
}

/// The place of an attempt. Dropped, nobody reaches it any more.
pub trait Noted: Send + Sync {
    /// Variables for the command: names, values, and whether a value is a secret, which no log shows.
    fn env(&self) -> Vec<(String, String, bool)>;

    /// The command has ended: what it left open is closed, as done or as failed.
    fn ended<'a>(&'a self, well: bool) -> BoxFuture<'a, ()>;
}
