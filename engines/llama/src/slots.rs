//! Which slot of the KV cache serves a prompt, and how much of what the slot holds can be used again. Pure: it never
//! touches llama.cpp, it says what must be done there.
//!
//! Arrows of a slot: idle --[`Slots::assign`]--> busy --[`Slots::release`]--> idle. What a slot holds survives its release
//! and is what the next prompt is compared with.
//!
//! **Invariants:** a busy slot is never assigned. What a slot is said to hold is exactly what the cache holds for it, as long
//! as the caller carries out each [`Assignment`] and reports each decoded token. At least one token of a prompt is always
//! left to decode, because its logits are needed.

/// A token id of the vocabulary.
pub(crate) type Token = i32;

/// A prefix in another slot is copied only if it saves at least this many tokens of prefill: a copy moves the whole cache
/// of a sequence, which takes about as long as the prefill of a few tokens.
pub(crate) const COPY_FROM_TOKENS: usize = 32;

/// The slots of one context.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    assignments: u64,
}

#[derive(Debug, Default, Clone)]
struct Slot {
    held: Vec<Token>,
    busy: bool,
    /// The number of the assignment that used it last; 0 if none did.
    used: u64,
}

/// What to do in the cache before the rest of the prompt is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The slot, which is also the sequence id.
    pub(crate) slot: usize,
    /// First replace the content of the slot by that of this other slot.
    pub(crate) copy_from: Option<usize>,
    /// Then remove everything from this position on: so many tokens of the prompt are there already.
    pub(crate) keep: usize,
}

impl Slots {
    /// All idle and empty.
    pub(crate) fn new(count: usize) -> Self {
        Self { slots: vec![Slot::default(); count], assignments: 0 }
    }

    /// Takes the idle slot with the longest common prefix (differences of a few tokens do not count), of equals the one with
    /// most busy neighbours, of those the least recently used; `None` if all are busy. Neighbours are decoded together, a gap
    /// splits the batch. Another slot that holds at least [`COPY_FROM_TOKENS`] more of the prompt is named as the source of a copy.
    pub(crate) fn assign(&mut self, prompt: &[Token]) -> Option<Assignment> {
        let limit = prompt.len().saturating_sub(1);
        let shared = |slot: &Slot| common_prefix(&slot.held, prompt).min(limit);
        let (target, own) = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.busy)
            .max_by_key(|&(at, slot)| {
                let busy =
                    |at: Option<usize>| at.and_then(|at| self.slots.get(at)).is_some_and(|slot| slot.busy);
                let neighbours = u8::from(busy(at.checked_sub(1))) + u8::from(busy(at.checked_add(1)));
                let shared = shared(slot);
                (shared / COPY_FROM_TOKENS, neighbours, shared, std::cmp::Reverse(slot.used))
            })
            .map(|(index, slot)| (index, shared(slot)))?;
        let source = self
            .slots
            .iter()
            .enumerate()
            .map(|(index, slot)| (index, shared(slot)))
            .filter(|&(index, other)| index != target && other >= own + COPY_FROM_TOKENS)
            .max_by_key(|&(_, other)| other);
        let keep = source.map_or(own, |(_, other)| other);

        self.assignments += 1;
        let used = self.assignments;
        let slot = self.slots.get_mut(target)?;
        slot.busy = true;
        slot.used = used;
        slot.held.clear();
        slot.held.extend_from_slice(prompt.get(..keep).unwrap_or_default());
        Some(Assignment { slot: target, copy_from: source.map(|(index, _)| index), keep })
    }

    /// These tokens were decoded at the end of the slot.
    pub(crate) fn decoded(&mut self, slot: usize, tokens: &[Token]) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.held.extend_from_slice(tokens);
        }
    }

    /// The cache of the slot was emptied.
    pub(crate) fn emptied(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.held.clear();
        }
    }

    /// The slot is idle again and keeps what it holds.
    pub(crate) fn release(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.busy = false;
        }
    }

    /// Tokens that the slot holds.
    pub(crate) fn held(&self, slot: usize) -> usize {
        self.slots.get(slot).map_or(0, |slot| slot.held.len())
    }
}

fn common_prefix(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn serve(slots: &mut Slots, prompt: &[Token]) -> Assignment {
        let assignment = slots.assign(prompt).unwrap();
        slots.decoded(assignment.slot, &prompt[assignment.keep..]);
        assignment
    }

    #[test]
    fn the_next_turn_of_a_conversation_finds_its_slot() {
        let mut slots = Slots::new(2);
        let first = serve(&mut slots, &[1, 2, 3]);
        let other = serve(&mut slots, &[9, 9, 9]);
        slots.release(first.slot);
        slots.release(other.slot);
        assert_eq!(
            slots.assign(&[1, 2, 3, 4]),
            Some(Assignment { slot: first.slot, copy_from: None, keep: 3 })
        );
    }

    #[test]
    fn the_same_prompt_again_leaves_its_last_token_to_decode() {
        let mut slots = Slots::new(1);
        let first = serve(&mut slots, &[1, 2, 3]);
        slots.release(first.slot);
        assert_eq!(slots.assign(&[1, 2, 3]).unwrap().keep, 2);
    }

    #[test]
    fn the_least_recently_used_slot_serves_a_stranger() {
        let mut slots = Slots::new(2);
        let first = serve(&mut slots, &[1, 1]);
        let second = serve(&mut slots, &[2, 2]);
        slots.release(second.slot);
        slots.release(first.slot);
        assert_eq!(slots.assign(&[3, 3]).unwrap().slot, first.slot);
    }

    #[test]
    fn sequences_that_run_together_are_neighbours() {
        let mut slots = Slots::new(5);
        let taken: Vec<usize> = (0..5).map(|n| serve(&mut slots, &[n]).slot).collect();
        taken.iter().for_each(|slot| slots.release(*slot));
        let first = serve(&mut slots, &[taken[2] as Token + 7]).slot;
        for running in 1..5 {
            let next = serve(&mut slots, &[running]).slot;
            assert!(
                slots.slots.iter().enumerate().filter(|(_, s)| s.busy).any(|(at, _)| at.abs_diff(next) == 1)
            );
        }
        assert_eq!(first, taken[0], "the least recently used of strangers");
    }

    #[test]
    fn a_long_prefix_is_copied_from_a_busy_slot() {
        let mut slots = Slots::new(2);
        let instructions: Vec<Token> = (0..COPY_FROM_TOKENS as Token).collect();
        let busy = serve(&mut slots, &[&instructions[..], &[100]].concat());
        let next = slots.assign(&[&instructions[..], &[200]].concat()).unwrap();
        assert_eq!((next.copy_from, next.keep), (Some(busy.slot), COPY_FROM_TOKENS));
    }

    #[test]
    fn nothing_is_assigned_when_all_slots_are_busy() {
        let mut slots = Slots::new(1);
        serve(&mut slots, &[1]);
        assert_eq!(slots.assign(&[1]), None);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Prompt(Vec<Token>),
        Release(usize),
        Empty(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0usize..3, prop::collection::vec(0..3i32, 1..6)).prop_map(|(family, tail)| {
                // Families share a prefix that is long enough to be copied.
                let head = (0..(family * 40)).map(|at| at as Token);
                Step::Prompt(head.chain(tail).collect())
            }),
            2 => (0usize..3).prop_map(Step::Release),
            1 => (0usize..3).prop_map(Step::Empty),
        ]
    }

    proptest! {
        /// The model is the cache itself: a list of tokens for each sequence.
        #[test]
        fn the_cache_holds_the_prompt_after_every_assignment(steps in prop::collection::vec(step(), 1..40)) {
            let mut slots = Slots::new(3);
            let mut cache: Vec<Vec<Token>> = vec![Vec::new(); 3];
            let mut busy = [false; 3];
            for step in steps {
                match step {
                    Step::Prompt(prompt) => match slots.assign(&prompt) {
                        None => prop_assert!(busy.iter().all(|busy| *busy)),
                        Some(Assignment { slot, copy_from, keep }) => {
                            prop_assert!(!busy[slot]);
                            busy[slot] = true;
                            if let Some(source) = copy_from {
                                prop_assert!(source != slot);
                                cache[slot] = cache[source].clone();
                            }
                            prop_assert!(keep < prompt.len() && keep <= cache[slot].len());
                            cache[slot].truncate(keep);
                            cache[slot].extend_from_slice(&prompt[keep..]);
                            slots.decoded(slot, &prompt[keep..]);
                            prop_assert_eq!(&cache[slot], &prompt);
                        }
                    },
                    Step::Release(slot) => {
                        slots.release(slot);
                        busy[slot] = false;
                    }
                    Step::Empty(slot) => {
                        slots.emptied(slot);
                        cache[slot].clear();
                    }
                }
                for (slot, held) in cache.iter().enumerate() {
                    prop_assert_eq!(slots.held(slot), held.len());
                }
            }
        }

        #[test]
        fn no_idle_slot_would_have_saved_more(
            held in prop::collection::vec(prop::collection::vec(0..2i32, 1..8), 3),
            prompt in prop::collection::vec(0..2i32, 1..8),
        ) {
            let mut slots = Slots::new(3);
            for tokens in &held {
                serve(&mut slots, tokens);
            }
            (0..3).for_each(|slot| slots.release(slot));
            let best = slots.slots.iter().map(|slot| common_prefix(&slot.held, &prompt).min(prompt.len() - 1)).max().unwrap();
            prop_assert_eq!(slots.assign(&prompt).unwrap().keep, best);
        }
    }
}
