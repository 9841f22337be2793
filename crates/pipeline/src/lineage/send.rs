//! Brings events to whoever wants them: an address, a file of lines, or both. Never makes a run wait.
//!
//! ```text
//! stage ── offer ── queue of a bounded number ── worker ── file, then address
//!                └ full: dropped, counted        └ refused or silent after some tries: dropped, counted
//! ```

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::Secret;
use serde_json::Value as Json;
use tokio::sync::{Notify, mpsc};

use crate::outside::{Asked, Call, Came};
use crate::task;

/// Events that wait at most.
const QUEUE: usize = 1_000;
/// How often an event is brought at most, and the pause before the second time.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// Where events go.
#[derive(Clone, Default)]
pub struct Receivers {
    /// An address that takes one event at a time, as OpenLineage's clients send them.
    pub url: Option<String>,
    /// What is sent along as a bearer token.
    pub api_key: Option<Secret>,
    /// A file that each event is a line of.
    pub file: Option<PathBuf>,
}

/// What was told, and what was not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events that are with everybody who wants them.
    pub sent: u64,
    /// Events that are not.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// Where stages leave events. Cheap to clone.
#[derive(Clone)]
pub struct Emitter {
    queue: mpsc::Sender<Json>,
    counts: Arc<Counts>,
    stop: Arc<Notify>,
    namespace: Arc<str>,
}

impl std::fmt::Debug for Emitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emitter").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Emitter {
    /// An emitter, and the work behind it. `call`: who asks the address.
    pub fn new(
        namespace: &str,
        to: Receivers,
        call: Option<Arc<dyn Call>>,
    ) -> (Emitter, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut events) = mpsc::channel::<Json>(QUEUE);
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(Notify::new());
        let emitter =
            Emitter { queue, counts: counts.clone(), stop: stop.clone(), namespace: namespace.into() };
        let work = async move {
            let mut stopped = std::pin::pin!(stop.notified());
            let mut stopping = false;
            loop {
                let next = tokio::select! {
                    biased;
                    () = &mut stopped, if !stopping => {
                        stopping = true;
                        // What is left is brought; nothing more comes.
                        events.close();
                        continue;
                    }
                    next = events.recv() => next,
                };
                let Some(event) = next else { return };
                match bring(&to, call.as_ref(), event.to_string()).await {
                    Ok(()) => counts.sent.fetch_add(1, Ordering::Relaxed),
                    Err(why) => {
                        let dropped = counts.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                        // Each power of two: somebody sees it, and nobody drowns in it.
                        if dropped.is_power_of_two() {
                            tracing::warn!(dropped, %why, "an event of lineage was not taken");
                        }
                        dropped
                    }
                };
            }
        };
        (emitter, work)
    }

    /// Tells the worker to bring what is left and end. Returns at once; wait for the worker, with a limit.
    pub fn close(&self) {
        self.stop.notify_one();
    }

    /// What OpenLineage calls the project.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Leaves an event. One that there is no room for is dropped.
    pub(crate) fn offer(&self, event: Json) {
        if self.queue.try_send(event).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was told so far.
    pub fn sent(&self) -> Sent {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Sent { sent: of(&self.counts.sent), dropped: of(&self.counts.dropped) }
    }
}

async fn bring(to: &Receivers, call: Option<&Arc<dyn Call>>, event: String) -> Result<(), String> {
    if let Some(file) = to.file.clone() {
        let line = format!("{event}\n");
        let written = task::reading("lineage", move || {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
            file.and_then(|mut f| f.write_all(line.as_bytes()))
        });
        let written = written.await.map_err(|e| e.to_string())?;
        written.map_err(|e| format!("the file cannot be written: {}", e.kind()))?;
    }
    let (Some(url), Some(call)) = (&to.url, call) else { return Ok(()) };
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    if let Some(key) = &to.api_key {
        headers.push(("authorization".to_owned(), format!("Bearer {}", key.expose())));
    }
    let mut pause = PAUSE;
    for number in 1..=TRIES {
        let asked = Asked {
            method: "POST",
            url: url.clone(),
            headers: headers.clone(),
            body: event.clone().into_bytes(),
            timeout: ANSWER,
            at_most: 1 << 10,
        };
        let why = match call.call(asked).await {
            Came::Answer { status: 200..=299, .. } => return Ok(()),
            Came::Answer { status, .. } if status < 500 && status != 408 && status != 429 => {
                return Err(format!("the address answered {status}"));
            }
            Came::Answer { status, .. } => format!("the address answered {status}"),
            Came::Late => "the address did not answer in time".to_owned(),
            Came::Unreachable(why) => why,
            Came::Forbidden(why) => return Err(why),
        };
        if number == TRIES {
            return Err(why);
        }
        task::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}
