//! What is kept for a while: the least recently used goes first, and the bytes of all never exceed the limit.
//!
//! Pure: time and limits come with each call.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use contract::Tick;

/// A hash that something is found by.
pub type Key = [u8; 32];

/// Something that is kept.
pub trait Shelved {
    /// When it was made.
    fn made(&self) -> Tick;
    /// What it takes, in bytes.
    fn bytes(&self) -> u64;
}

/// What is kept of one kind.
#[derive(Debug)]
pub struct Shelf<T> {
    entries: HashMap<Key, (Arc<T>, u64)>,
    /// Keys by when they were used last.
    used: BTreeMap<u64, Key>,
    bytes: u64,
    clock: u64,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Shelf { entries: HashMap::new(), used: BTreeMap::new(), bytes: 0, clock: 0 }
    }
}

impl<T: Shelved> Shelf<T> {
    /// What is kept there, unless it is older than `ttl`: then it goes.
    pub fn get(&mut self, key: &Key, now: Tick, ttl: Duration) -> Option<Arc<T>> {
        let (kept, used) = self.entries.get_mut(key)?;
        if now.since(kept.made()) >= ttl {
            self.remove(key);
            return None;
        }
        let kept = kept.clone();
        self.used.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.used.insert(self.clock, *key);
        Some(kept)
    }

    /// Keeps something in place of what was there. What is larger than all there may be is not kept.
    pub fn put(&mut self, key: Key, kept: Arc<T>, max_bytes: u64) {
        self.remove(&key);
        if kept.bytes() > max_bytes {
            return;
        }
        self.clock += 1;
        self.bytes += kept.bytes();
        self.used.insert(self.clock, key);
        self.entries.insert(key, (kept, self.clock));
        while self.bytes > max_bytes
            && let Some((_, oldest)) = self.used.first_key_value().map(|(t, k)| (*t, *k))
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some((kept, used)) = self.entries.remove(key) {
            self.used.remove(&used);
            self.bytes -= kept.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Delta;
    use crate::cache::kept::Kept;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_nanos(50);

    fn kept(len: usize, made: u64) -> Kept {
        Kept::new([Delta::Text("x".repeat(len))], None, Default::default(), Tick(made))
    }

    #[test]
    fn what_is_larger_than_the_limit_is_not_kept_and_the_older_one_is_gone() {
        let mut shelf = Shelf::default();
        shelf.put([1; 32], Arc::new(kept(10, 0)), 1_000);
        shelf.put([1; 32], Arc::new(kept(2_000, 0)), 1_000);
        assert_eq!((shelf.get(&[1; 32], Tick(0), TTL), shelf.bytes), (None, 0));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Get(u8),
        Put(u8, usize),
        Wait(u64),
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0u8..8).prop_map(Act::Get),
            (0u8..8, 0usize..600).prop_map(|(k, n)| Act::Put(k, n)),
            (1u64..20).prop_map(Act::Wait),
        ]
    }

    proptest! {
        /// Against a list in order of use, which is obviously right.
        #[test]
        fn it_does_what_a_list_by_use_does(acts in prop::collection::vec(any_act(), 0..80), limit in 300u64..2_000) {
            let mut shelf = Shelf::default();
            let mut list: Vec<(u8, Arc<Kept>)> = Vec::new();
            let mut now = 0;
            for act in acts {
                match act {
                    Act::Wait(n) => now += n,
                    Act::Get(k) => {
                        let at = list.iter().position(|(key, _)| *key == k);
                        let want = at.map(|at| list.remove(at)).filter(|(_, v)| now - v.made().0 < 50);
                        list.extend(want.clone());
                        prop_assert_eq!(shelf.get(&[k; 32], Tick(now), TTL), want.map(|(_, v)| v));
                    }
                    Act::Put(k, len) => {
                        let v = Arc::new(kept(len, now));
                        list.retain(|(key, _)| *key != k);
                        if v.bytes() <= limit {
                            list.push((k, v.clone()));
                        }
                        shelf.put([k; 32], v, limit);
                        while list.iter().map(|(_, v)| v.bytes()).sum::<u64>() > limit {
                            list.remove(0);
                        }
                    }
                }
                prop_assert_eq!(shelf.bytes, list.iter().map(|(_, v)| v.bytes()).sum::<u64>());
                prop_assert!(shelf.bytes <= limit);
                prop_assert_eq!((shelf.entries.len(), shelf.used.len()), (list.len(), list.len()));
            }
        }
    }
}
