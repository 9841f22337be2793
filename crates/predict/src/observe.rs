//! Answers as others see them: what was asked and answered, and later what turned out to be true of it.
//!
//! ```text
//! answer made ─▶ answered ─ room ─▶ queue ─▶ every observer
//!                    └─ none ─▶ dropped, and counted
//! feedback ─▶ told ─▶ every observer has taken it ─▶ acknowledged
//! ```
//!
//! Who looks is an [`Observer`]: a rollout, a monitor, a capture. An answer never waits for one: what finds no room in the queue is
//! dropped and counted. What somebody tells is acknowledged when every observer has it.
//!
//! Invariants: without an observer nothing is copied and nothing is queued; the queue is bounded in answers and in bytes, the bytes of
//! tensors whose memory is shared with a request's body counted as theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use contract::{BoxFuture, Code, Error, TenantId, UnixMillis};
use pipeline::task::{self, Task};
use tokio::sync::mpsc;

use crate::tensor::Tensor;

/// Answers that wait for observers.
const WAITING: usize = 8_192;
/// Bytes of their tensors.
const BYTES: usize = 64 << 20;
/// How long answers are brought together before observers have them.
const TOGETHER: Duration = Duration::from_millis(5);

/// For which side of a rollout an answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Arm {
    /// The version that is served; also when there is no rollout.
    #[default]
    Champion,
    /// The same in a place of its own, as large as the canary.
    Control,
    /// The challenger, heard.
    Canary,
    /// The challenger, unheard: the answer went to nobody. [`Answered::id`] is that of the request that was copied.
    Shadow,
    /// A version that the caller named: it counts for no side.
    Named,
}

impl Arm {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Arm::Champion => "champion",
            Arm::Control => "control",
            Arm::Canary => "canary",
            Arm::Shadow => "shadow",
            Arm::Named => "named",
        }
    }
}

/// Where in a rollout an answer was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The version that comes.
    pub challenger: Arc<str>,
    /// The step of its canary, from zero; none in the shadow.
    pub step: Option<usize>,
}

/// A tensor and its name in the model's signature.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The name.
    pub name: Arc<str>,
    /// The elements.
    pub tensor: Tensor,
}

/// What is known of an answer in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it is: `language`, `output`.
    pub name: &'static str,
    /// The word, or a whole text.
    pub text: Option<Arc<str>>,
}

/// A request that a model was asked, and what came of it: a predictive model, or one that writes or a pipeline, of which figures and
/// words are given in place of tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The request's id, as `x-request-id` shows it: what feedback names.
    pub id: Arc<str>,
    /// When it was answered.
    pub at: UnixMillis,
    /// From the head of the request to its answer; of a shadow, the run alone.
    pub took: Duration,
    /// Whose request.
    pub tenant: TenantId,
    /// The model, as the configuration names it.
    pub model: Arc<str>,
    /// What it is called in the registry, if it is of one.
    pub registered: Option<Arc<str>>,
    /// The version that answered.
    pub version: Arc<str>,
    /// For which side it counts.
    pub arm: Arm,
    /// Where in which rollout, when there is one.
    pub place: Option<Place>,
    /// Whom it is about, if the caller said.
    pub entity: Option<Arc<str>>,
    /// What was given, in the order of the signature.
    pub inputs: Arc<[NamedTensor]>,
    /// What was answered, in the order that was asked for; none when it failed.
    pub outputs: Arc<[NamedTensor]>,
    /// Figures of an answer that is written, by name: `cost_usd`, `first_output_ms`.
    pub figures: Arc<[(Arc<str>, f64)]>,
    /// The same in words: `language`, `finish`; those that are not known are there too.
    pub words: Arc<[Word]>,
    /// Why it failed, if it did.
    pub error: Option<Code>,
}

impl Answered {
    /// Whom it is about: the entity, else the request itself.
    pub fn entity(&self) -> &str {
        self.entity.as_deref().unwrap_or(&self.id)
    }

    /// Rows that were asked: those of the first input; of an answer that is written, one.
    pub fn rows(&self) -> usize {
        let written = usize::from(!self.words.is_empty());
        self.inputs.first().map_or(written, |i| i.tensor.rows())
    }

    /// Bytes of what it was given and said.
    pub fn bytes(&self) -> usize {
        let words = self.words.iter().map(|word| word.text.as_ref().map_or(0, |text| text.len()));
        self.inputs.iter().chain(&*self.outputs).map(|t| t.tensor.data().len()).chain(words).sum()
    }
}

/// A label.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// A number; a truth is 0 or 1.
    Number(f64),
    /// A word: a class.
    Text(String),
}

/// What turned out to be true of an answer, or what somebody thought of it. It has a label, a score or a comment.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Whose answer: nobody tells anything of another tenant's.
    pub tenant: TenantId,
    /// The request that was answered.
    pub id: Arc<str>,
    /// Which of its rows, from zero; the first unless said.
    pub row: u32,
    /// What was true.
    pub label: Option<Label>,
    /// What the score is of: `thumbs_up`, `judge`. `score` unless said.
    pub name: Arc<str>,
    /// How good it was.
    pub score: Option<f64>,
    /// In words.
    pub comment: Option<String>,
    /// When it became known.
    pub at: UnixMillis,
}

/// Somebody who looks at answers.
pub trait Observer: Send + Sync {
    /// Whether it looks at nothing now. While all are idle no answer is put together for them.
    fn is_idle(&self) -> bool {
        false
    }

    /// Whether it looks at the answer to this request, once there is one: what nobody looks at is not put together. Asked on the path of
    /// the request.
    fn looks_at(&self, model: &str, id: &str) -> bool {
        let _ = (model, id);
        !self.is_idle()
    }

    /// An answer was made. Must not wait: it is called on the task that all observers share, behind the answers. What is kept of it is
    /// bounded by whoever keeps it.
    fn answered(&self, answered: &Arc<Answered>);

    /// Something turned out to be true. Resolves when it is kept as well as this observer keeps it: then it is acknowledged. May come
    /// before the answer it is about, and again after a failure.
    ///
    /// # Errors
    /// In words for the caller, who is to tell it again; `overloaded` when there is no room.
    fn told<'a>(&'a self, told: &'a [Told]) -> BoxFuture<'a, Result<(), Error>>;
}

struct Watching {
    observers: Arc<[Arc<dyn Observer>]>,
    queue: mpsc::Sender<Arc<Answered>>,
    /// Bytes of tensors that wait.
    bytes: Arc<AtomicUsize>,
    _task: Task<()>,
}

#[derive(Default)]
struct Inner {
    watching: ArcSwapOption<Watching>,
    dropped: AtomicU64,
}

/// All who look at answers. Clones are the same; nobody looks until [`Observers::watch`].
#[derive(Clone, Default)]
pub struct Observers(Arc<Inner>);

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.watching.load().as_ref().map_or(0, |w| w.observers.len());
        f.debug_struct("Observers").field("count", &count).finish_non_exhaustive()
    }
}

impl Observers {
    /// From now on these look, and no others. Must be called within a runtime; what waits for those before is still brought to them.
    pub fn watch(&self, observers: Vec<Arc<dyn Observer>>) {
        if observers.is_empty() {
            self.0.watching.store(None);
            return;
        }
        let observers: Arc<[Arc<dyn Observer>]> = observers.into();
        let (queue, waiting) = mpsc::channel(WAITING);
        let bytes = Arc::new(AtomicUsize::new(0));
        let task = task::spawn("observe answers", bring(waiting, observers.clone(), bytes.clone()));
        self.0.watching.store(Some(Arc::new(Watching { observers, queue, bytes, _task: task })));
    }

    /// Whether anybody looks: who is about to make an [`Answered`] asks this first.
    pub fn any(&self) -> bool {
        self.0.watching.load().as_ref().is_some_and(|w| w.observers.iter().any(|o| !o.is_idle()))
    }

    /// Whether anybody looks at the answer to a request of a predictive model.
    pub fn look_at(&self, model: &str, id: &str) -> bool {
        self.0.watching.load().as_ref().is_some_and(|w| w.observers.iter().any(|o| o.looks_at(model, id)))
    }

    /// Answers that nobody saw, because too many waited.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// An answer was made. Never waits: with too many before it, it is dropped and counted.
    pub fn answered(&self, answered: Answered) {
        let Some(watching) = &*self.0.watching.load() else { return };
        let bytes = answered.bytes();
        let before = watching.bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = before.saturating_add(bytes) <= BYTES;
        if !room || watching.queue.try_send(Arc::new(answered)).is_err() {
            watching.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells every observer, in turn.
    ///
    /// # Errors
    /// The first refusal. Those before it have taken it, and take it again when it is told again.
    pub async fn told(&self, told: &[Told]) -> Result<(), Error> {
        let observers = self.0.watching.load().as_ref().map(|w| w.observers.clone());
        for observer in observers.iter().flat_map(|all| all.iter()) {
            observer.told(told).await?;
        }
        Ok(())
    }
}

async fn bring(
    mut waiting: mpsc::Receiver<Arc<Answered>>,
    observers: Arc<[Arc<dyn Observer>]>,
    bytes: Arc<AtomicUsize>,
) {
    while let Some(answered) = waiting.recv().await {
        let mut next = Some(answered);
        while let Some(answered) = next {
            bytes.fetch_sub(answered.bytes(), Ordering::Relaxed);
            for observer in &*observers {
                observer.answered(&answered);
            }
            next = waiting.try_recv().ok();
            // Others have their turn between many.
            tokio::task::consume_budget().await;
        }
        // Who answers meanwhile wakes nobody: what comes is brought together.
        task::sleep(TOGETHER).await;
    }
}

#[cfg(test)]
mod tests;
