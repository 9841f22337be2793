//! Counters found once for each sort of what is counted, and kept: to find one takes longer than to count.
//!
//! What is kept is a copy of what the families hold: it may be forgotten at any time, and is when names change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use ahash::RandomState;
use parking_lot::Mutex;

/// Sorts that are kept: then all are forgotten, and those that still come are found again.
const MOST: usize = 1024;

/// Counters by sort.
pub(super) struct Handles<K, V>(Mutex<HashMap<K, V, RandomState>>);

impl<K, V> Default for Handles<K, V> {
    fn default() -> Self {
        Handles(Mutex::default())
    }
}

impl<K: Hash + Eq, V> Handles<K, V> {
    /// Calls `count` with those of a sort, which `find` finds when they are not kept. Neither may come back here.
    pub(super) fn with(&self, sort: K, find: impl FnOnce() -> V, count: impl FnOnce(&mut V)) {
        let mut kept = self.0.lock();
        if kept.len() >= MOST {
            kept.clear();
        }
        match kept.entry(sort) {
            Entry::Occupied(mut found) => count(found.get_mut()),
            Entry::Vacant(place) => count(place.insert(find())),
        }
    }

    /// From now on, all are found again.
    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sort_is_found_once_and_again_when_it_was_forgotten_and_few_are_kept() {
        let handles = Handles::<usize, usize>::default();
        let found = std::cell::Cell::new(0);
        let look = |sort| {
            let find = || {
                found.set(found.get() + 1);
                sort
            };
            handles.with(sort, find, |v| assert_eq!(*v, sort));
        };
        (0..3).for_each(|_| look(7));
        assert_eq!(found.get(), 1);
        handles.forget();
        look(7);
        assert_eq!(found.get(), 2);
        (0..3 * MOST).for_each(look);
        assert!(handles.0.lock().len() <= MOST);
    }
}
