//! Whose turn it is to commit to a dataset, among those of this process.
//!
//! Which commit becomes the next version, the log alone decides. But of many that are made against the same version at once one
//! lands and the others have worked for nothing, again and again: those of one process go one behind the other instead.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// The turns at datasets, by name.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>);

/// A turn: the next one's when this is dropped.
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
    /// Whether somebody else had it before, so that there may be a newer version than was known.
    pub(crate) waited: bool,
}

impl Turns {
    /// Waits for those that came before. Dropping the future gives the place up.
    pub(crate) async fn wait(&self, dataset: &Arc<str>) -> Turn {
        let turn = {
            let mut all = self.0.lock();
            // Whoever waits or works holds one: of others nothing is kept.
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            all.entry(dataset.clone()).or_default().clone()
        };
        match turn.clone().try_lock_owned() {
            Ok(guard) => Turn { _guard: guard, waited: false },
            Err(_) => Turn { _guard: turn.lock_owned().await, waited: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn one_at_a_time_has_the_turn_at_a_dataset_and_who_gives_up_holds_nobody_up() {
        let (turns, a, b) = (Turns::default(), Arc::from("a"), Arc::from("b"));
        let first = turns.wait(&a).now_or_never().unwrap();
        assert!(!first.waited && turns.wait(&b).now_or_never().is_some_and(|t| !t.waited));
        let mut gives_up = Box::pin(turns.wait(&a));
        let mut waits = Box::pin(turns.wait(&a));
        assert!(gives_up.as_mut().now_or_never().is_none() && waits.as_mut().now_or_never().is_none());
        drop((gives_up, first));
        let second = waits.now_or_never().unwrap();
        assert!(second.waited);
        drop(second);
        drop(turns.wait(&b).now_or_never());
        assert!(turns.0.lock().len() <= 1, "nothing is kept of those that are over");
    }
}
