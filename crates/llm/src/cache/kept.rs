//! Answers that are kept: the least recently used goes first, and their bytes never exceed the limit.
//!
//! Pure: time and limits come with each call.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use contract::{Money, Tick, Usage};

use super::key::Key;
use crate::Delta;

/// What an entry takes besides what its deltas say.
const ENTRY: usize = 256;

/// A whole answer.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) deltas: Vec<Delta>,
    pub(super) version: Option<String>,
    /// What it used and cost when it was made.
    pub(super) usage: Usage,
    pub(super) cost: Money,
    pub(super) made: Tick,
    bytes: u64,
}

impl Kept {
    /// Keeps the deltas of an answer, text that followed text put together.
    pub(super) fn new(
        deltas: impl IntoIterator<Item = Delta>,
        version: Option<String>,
        (usage, cost): (Usage, Money),
        made: Tick,
    ) -> Self {
        let mut whole: Vec<Delta> = Vec::new();
        for delta in deltas {
            match (whole.last_mut(), delta) {
                (Some(Delta::Text(all)), Delta::Text(more))
                | (Some(Delta::Reasoning(all)), Delta::Reasoning(more)) => all.push_str(&more),
                // Who is given it later has nothing to forget.
                (_, Delta::Reset) => whole.clear(),
                (_, delta) => whole.push(delta),
            }
        }
        whole.shrink_to_fit();
        let bytes = whole.iter().map(size).sum::<usize>() + ENTRY;
        Kept { deltas: whole, version, usage, cost, made, bytes: bytes as u64 }
    }
}

/// About what a delta takes in memory.
pub(super) fn size(delta: &Delta) -> usize {
    let inside = match delta {
        Delta::Text(t) | Delta::Reasoning(t) | Delta::Signature(t) | Delta::Version(t) => t.len(),
        // A value takes more in memory than on paper.
        Delta::Logprobs(json) => json.to_string().len() * 4,
        Delta::ToolCall { id, name, arguments, .. } => {
            arguments.len() + id.as_ref().map_or(0, String::len) + name.as_ref().map_or(0, String::len)
        }
        Delta::Finish(_) | Delta::Usage(_) | Delta::Reset => 0,
    };
    inside + size_of::<Delta>()
}

/// The kept answers of a model.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    entries: HashMap<Key, (Arc<Kept>, u64)>,
    /// Keys by when they were used last.
    used: BTreeMap<u64, Key>,
    bytes: u64,
    clock: u64,
}

impl Shelf {
    /// The answer, unless it is older than `ttl`: then it goes.
    pub(super) fn get(&mut self, key: &Key, now: Tick, ttl: Duration) -> Option<Arc<Kept>> {
        let (kept, used) = self.entries.get_mut(key)?;
        if now.since(kept.made) >= ttl {
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

    /// Keeps an answer in place of an older one. One larger than all there may be is not kept.
    pub(super) fn put(&mut self, key: Key, kept: Arc<Kept>, max_bytes: u64) {
        self.remove(&key);
        if kept.bytes > max_bytes {
            return;
        }
        self.clock += 1;
        self.bytes += kept.bytes;
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
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_nanos(50);

    fn kept(len: usize, made: u64) -> Kept {
        Kept::new([Delta::Text("x".repeat(len))], None, Default::default(), Tick(made))
    }

    #[test]
    fn text_is_put_together_and_nothing_else_is() {
        let text = |t: &str| Delta::Text(t.into());
        let logprobs = || Delta::Logprobs(Box::new(serde_json::json!({"content": []})));
        let deltas = vec![text("a"), text("b"), logprobs(), text("c"), Delta::Reasoning("d".into())];
        let kept = |d: Vec<Delta>| Kept::new(d, None, Default::default(), Tick(0)).deltas;
        assert_eq!(kept(deltas), [text("ab"), logprobs(), text("c"), Delta::Reasoning("d".into())]);
        assert_eq!(
            kept(vec![text("a"), Delta::Reset, text("b")]),
            [text("b")],
            "what was taken back is not kept"
        );
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
                        let want = at.map(|at| list.remove(at)).filter(|(_, v)| now - v.made.0 < 50);
                        list.extend(want.clone());
                        prop_assert_eq!(shelf.get(&[k; 32], Tick(now), TTL), want.map(|(_, v)| v));
                    }
                    Act::Put(k, len) => {
                        let v = Arc::new(kept(len, now));
                        list.retain(|(key, _)| *key != k);
                        if v.bytes <= limit {
                            list.push((k, v.clone()));
                        }
                        shelf.put([k; 32], v, limit);
                        while list.iter().map(|(_, v)| v.bytes).sum::<u64>() > limit {
                            list.remove(0);
                        }
                    }
                }
                prop_assert_eq!(shelf.bytes, list.iter().map(|(_, v)| v.bytes).sum::<u64>());
                prop_assert!(shelf.bytes <= limit);
                prop_assert_eq!((shelf.entries.len(), shelf.used.len()), (list.len(), list.len()));
            }
        }
    }
}
