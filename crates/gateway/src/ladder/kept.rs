//! Complete answers of a pipeline that are kept for the time when it is busy.
//!
//! An answer is found by its tenant and its whole input, and by the end user where a model of the pipeline keeps answers for
//! each alone. Everything else that decides it is the pipeline's: it belongs to one generation of the configuration, and is
//! forgotten with it. Invariants: only complete answers are kept, as written and not degraded themselves; their bytes stay
//! within [`MAX_BYTES`].

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use contract::{Outcome, TenantId, Tick, UserId, Value};
use llm::{Shelf, Shelved};
use parking_lot::Mutex;

/// All kept answers of a pipeline, in bytes.
const MAX_BYTES: u64 = 64_000_000;
/// What an entry takes besides its answer.
const ENTRY: u64 = 256;

/// Where an answer belongs.
pub(super) type Place = [u8; 32];

/// The answers of one pipeline.
#[derive(Debug)]
pub struct KeptAnswers {
    /// An older one does not do.
    at_most: Duration,
    shelf: Mutex<Shelf<Answer>>,
}

/// An answer that is kept.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) value: Value,
    made: Tick,
    bytes: u64,
}

impl Shelved for Answer {
    fn made(&self) -> Tick {
        self.made
    }
    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl KeptAnswers {
    /// None yet. One that is older than `at_most` does not do.
    pub fn new(at_most: Duration) -> Self {
        KeptAnswers { at_most, shelf: Mutex::default() }
    }

    /// The answer of that place, and how old it is.
    pub(super) fn find(&self, place: &Place, now: Tick) -> Option<(Arc<Answer>, Duration)> {
        let found = self.shelf.lock().get(place, now, self.at_most)?;
        let age = now.since(found.made);
        Some((found, age))
    }

    /// Keeps what is complete.
    pub(super) fn keep(&self, place: Place, outcome: &Outcome<Value>, now: Tick) {
        let Outcome::Complete(value) = outcome else { return };
        let answer = Answer { value: value.clone(), made: now, bytes: size(value) + ENTRY };
        self.shelf.lock().put(place, Arc::new(answer), MAX_BYTES);
    }
}

/// The place of the answer to an input.
pub(super) fn place(tenant: &TenantId, user: Option<&UserId>, input: &Value) -> Place {
    let mut h = Hash(blake3::Hasher::new_derive_key("forebay 2026 kept answers of pipelines 1"));
    h.text(tenant.as_str());
    h.0.update(&[u8::from(user.is_some())]);
    h.text(user.map_or("", |u| u.as_str()));
    match input {
        Value::Text(t) => {
            h.0.update(&[0]);
            h.text(t);
        }
        Value::Document(d) => {
            h.0.update(&[1]);
            h.text(&d.text);
            // What its text does not say. It quotes strings, so that no two are the same text.
            let _ = write!(h, "{:?}", (&d.title, d.media, &d.sections));
        }
        other => {
            h.0.update(&[2]);
            let _ = write!(h, "{other:?}");
        }
    }
    *h.0.finalize().as_bytes()
}

struct Hash(blake3::Hasher);

impl Hash {
    fn text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }
}

impl std::fmt::Write for Hash {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.update(s.as_bytes());
        Ok(())
    }
}

/// About what a value takes in memory, in bytes.
fn size(value: &Value) -> u64 {
    let bytes = match value {
        Value::Text(t) | Value::Table(t) => t.len(),
        Value::List(items) => {
            return items.iter().flatten().map(size).sum::<u64>() + (items.len() * size_of::<Value>()) as u64;
        }
        Value::Embedding(e) => e.len() * size_of::<f32>(),
        // A value takes more in memory than on paper.
        other => other.to_text().len() * 4,
    };
    bytes as u64
}

#[cfg(test)]
mod tests {
    use contract::{Code, Error};
    use proptest::prelude::*;

    use super::*;

    fn any_input() -> impl Strategy<Value = Value> {
        let document = |(title, text): (Option<String>, String)| {
            let (media, sections) = (contract::Media::Plain, Vec::new());
            Value::Document(Arc::new(contract::Document { title, media, text: text.into(), sections }))
        };
        let words = "[a\"\\\\ ]{0,4}";
        prop_oneof![
            words.prop_map(Value::text),
            (prop::option::of(words), words).prop_map(document),
            prop::collection::vec(words, 0..3)
                .prop_map(|all| Value::List(all.into_iter().map(|t| Some(Value::text(t))).collect())),
        ]
    }

    proptest! {
        #[test]
        fn a_place_is_one_tenants_one_users_and_one_inputs(
            a in ("[ab]{1,2}", prop::option::of("[ab]{1,2}"), any_input()),
            b in ("[ab]{1,2}", prop::option::of("[ab]{1,2}"), any_input()),
        ) {
            let of = |(t, u, v): &(String, Option<String>, Value)| {
                let user = u.as_deref().map(UserId::from);
                place(&TenantId::from(t.as_str()), user.as_ref(), v)
            };
            prop_assert_eq!(a == b, of(&a) == of(&b));
        }
    }

    #[test]
    fn only_what_is_complete_and_young_enough_is_given_again() {
        let kept = KeptAnswers::new(Duration::from_nanos(10));
        let (value, e) = (Value::text("all of it"), Error::new(Code::PartFailed, "x"));
        kept.keep([1; 32], &Outcome::Partial(value.clone(), e.clone()), Tick(0));
        kept.keep([2; 32], &Outcome::Failed(e), Tick(0));
        kept.keep([3; 32], &Outcome::Complete(value.clone()), Tick(0));
        assert!(kept.find(&[1; 32], Tick(1)).is_none() && kept.find(&[2; 32], Tick(1)).is_none());
        let (answer, age) = kept.find(&[3; 32], Tick(9)).unwrap();
        assert_eq!((&answer.value, age), (&value, Duration::from_nanos(9)));
        assert!(kept.find(&[3; 32], Tick(10)).is_none());
    }
}
