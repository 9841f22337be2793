//! The record of what arrived and how it ended, with monotonic instants, so that a test can measure in microseconds how
//! fast a cancel reaches the upstream.
//!
//! A ring of the last [`CAPACITY`] requests behind one mutex that is never held over an await. This module is the only
//! one that reads the clock. Request numbers are given even when nothing is recorded.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::Error;

/// How many requests the log keeps.
pub const CAPACITY: usize = 8192;

/// The protocol a request spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// OpenAI chat completions.
    #[serde(rename = "openai")]
    OpenAi,
    /// Anthropic messages.
    Anthropic,
}

/// How a request ended, seen from the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedHow {
    /// The whole answer (or error answer) was handed to the connection.
    Completed,
    /// The client closed the connection before the end.
    ClientLeft,
    /// A fault reset the connection.
    Reset,
    /// A fault cut the answer or closed the connection without one.
    Cut,
    /// The fake upstream was stopped meanwhile.
    Stopped,
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestEnd {
    /// How it ended.
    pub how: EndedHow,
    /// When that was noticed.
    pub at: Instant,
    /// Answer tokens handed to the connection until then.
    pub tokens_sent: u64,
}

/// An API key as it was sent. Prints its last four characters at most.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    pub(crate) fn new(key: &str) -> Self {
        Self(key.to_owned())
    }

    /// The key itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn masked(&self) -> String {
        let hidden = self.0.chars().count().saturating_sub(4).max(4);
        format!("***{}", self.0.chars().skip(hidden).collect::<String>())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// One request to a model, as far as it has come.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// Its number since the start, from 1, in order of arrival.
    pub no: u64,
    /// The protocol.
    pub protocol: Protocol,
    /// The path, without the query.
    pub path: String,
    /// The key it carried.
    pub key: Option<Key>,
    /// The model it asked for.
    pub model: Option<String>,
    /// Whether it asked for a stream.
    pub streaming: bool,
    /// Words in its prompt.
    pub prompt_tokens: u64,
    /// Its body, where [`LogMode::Bodies`](crate::LogMode::Bodies) keeps it.
    pub body: Option<Value>,
    /// When its head had been read.
    pub arrived: Instant,
    /// Status of the answer, once decided.
    pub status: Option<u16>,
    /// When the first byte of the answer's body was handed to the connection.
    pub first_byte: Option<Instant>,
    /// Answer tokens handed to the connection so far.
    pub tokens_sent: u64,
    /// How it ended, once it did.
    pub end: Option<RequestEnd>,
}

/// The monotonic time, and nothing else reads it.
pub(crate) fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the fake measures real time and depends on no Forebay crate"
    )]
    Instant::now()
}

/// Seconds since 1970: the `created` of an answer.
pub(crate) fn unix_seconds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the fake stamps answers and depends on no Forebay crate")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// The ring and those who wait for it to change.
#[derive(Debug)]
pub(crate) struct Log {
    start: Instant,
    start_unix: u64,
    numbers: AtomicU64,
    stopping: AtomicBool,
    ring: Mutex<VecDeque<RequestRecord>>,
    changed: Notify,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            start: now(),
            start_unix: unix_seconds(),
            numbers: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            ring: Mutex::new(VecDeque::new()),
            changed: Notify::new(),
        }
    }

    /// Seconds since 1970 at a monotonic instant.
    pub(crate) fn unix_at(&self, at: Instant) -> u64 {
        self.start_unix + at.saturating_duration_since(self.start).as_secs()
    }

    /// From now on what is dropped was stopped, not left.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Gives a request its number and, if `record` makes one, keeps its record.
    pub(crate) fn arrive(self: &Arc<Self>, record: Option<RequestRecord>) -> Tracker {
        let logged = record.is_some();
        let no = match record {
            None => self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            Some(mut record) => {
                let mut ring = self.ring.lock();
                // Under the lock, so that the ring is sorted by number.
                record.no = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
                let no = record.no;
                if ring.len() == CAPACITY {
                    ring.pop_front();
                }
                ring.push_back(record);
                no
            }
        };
        if logged {
            self.changed.notify_waiters();
        }
        Tracker { log: Arc::clone(self), no, logged, tokens: 0, started: false, ended: false, place: None }
    }

    pub(crate) fn records(&self) -> Vec<RequestRecord> {
        self.ring.lock().iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.ring.lock().clear();
    }

    fn update(&self, no: u64, change: impl FnOnce(&mut RequestRecord)) {
        let mut ring = self.ring.lock();
        let at = ring.partition_point(|record| record.no < no);
        if let Some(record) = ring.get_mut(at).filter(|record| record.no == no) {
            change(record);
        }
        drop(ring);
        self.changed.notify_waiters();
    }

    /// Waits until `read` finds what it looks for in the record of a request, which may not have arrived yet.
    ///
    /// Cancel-safe. Errors with [`Error::NotLogged`] if the request came and has no record.
    pub(crate) async fn wait<T>(
        &self,
        no: u64,
        read: impl Fn(&RequestRecord) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let ring = self.ring.lock();
                let at = ring.partition_point(|record| record.no < no);
                match ring.get(at).filter(|record| record.no == no) {
                    Some(record) => {
                        if let Some(found) = read(record) {
                            return Ok(found);
                        }
                    }
                    None if self.numbers.load(Ordering::Relaxed) >= no => {
                        return Err(Error::NotLogged { no });
                    }
                    None => {}
                }
            }
            changed.await;
        }
    }

    /// The log as `GET /_fake/log` answers it: instants in microseconds since the start, keys masked.
    pub(crate) fn to_json(&self) -> Value {
        let micros = |at: Instant| at.saturating_duration_since(self.start).as_micros() as u64;
        let requests: Vec<Value> = self
            .ring
            .lock()
            .iter()
            .map(|record| {
                json!({
                    "no": record.no,
                    "protocol": record.protocol,
                    "path": record.path,
                    "key": record.key.as_ref().map(Key::masked),
                    "model": record.model,
                    "streaming": record.streaming,
                    "prompt_tokens": record.prompt_tokens,
                    "body": record.body,
                    "arrived_us": micros(record.arrived),
                    "status": record.status,
                    "first_byte_us": record.first_byte.map(micros),
                    "tokens_sent": record.tokens_sent,
                    "end": record.end.map(|end| json!({"how": end.how, "at_us": micros(end.at)})),
                })
            })
            .collect();
        json!({"started_unix": self.start_unix, "now_us": micros(now()), "requests": requests})
    }
}

/// Follows one request. Dropped before [`end`](Self::end), it records that the client left (or the fake was stopped):
/// hyper drops the answer's future or body the moment the connection is gone.
#[derive(Debug)]
pub(crate) struct Tracker {
    log: Arc<Log>,
    no: u64,
    logged: bool,
    tokens: u64,
    started: bool,
    ended: bool,
    place: Option<OwnedSemaphorePermit>,
}

impl Tracker {
    /// The request has this place until it ends.
    pub(crate) fn hold(&mut self, place: OwnedSemaphorePermit) {
        self.place = Some(place);
    }

    pub(crate) fn number(&self) -> u64 {
        self.no
    }

    pub(crate) fn status(&self, status: u16) {
        if self.logged {
            self.log.update(self.no, |record| record.status = Some(status));
        }
    }

    /// Bytes of the body were handed over, with that many tokens in them.
    pub(crate) fn sent(&mut self, tokens: usize) {
        self.tokens += tokens as u64;
        if self.logged {
            let first = (!self.started).then(now);
            self.started = true;
            let total = self.tokens;
            self.log.update(self.no, |record| {
                record.first_byte = record.first_byte.or(first);
                record.tokens_sent = total;
            });
        }
    }

    pub(crate) fn end(&mut self, how: EndedHow) {
        // Before the reader has the last byte: whoever comes then finds it free.
        self.place = None;
        if !std::mem::replace(&mut self.ended, true) && self.logged {
            let end = RequestEnd { how, at: now(), tokens_sent: self.tokens };
            self.log.update(self.no, |record| record.end = Some(end));
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let stopping = self.log.stopping.load(Ordering::Acquire);
        self.end(if stopping { EndedHow::Stopped } else { EndedHow::ClientLeft });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RequestRecord {
        RequestRecord {
            no: 0,
            protocol: Protocol::OpenAi,
            path: "/v1/chat/completions".to_owned(),
            key: Some(Key::new("sk-secret-1234")),
            model: None,
            streaming: false,
            prompt_tokens: 0,
            body: None,
            arrived: now(),
            status: None,
            first_byte: None,
            tokens_sent: 0,
            end: None,
        }
    }

    #[test]
    fn the_ring_keeps_the_last_requests_and_their_numbers() {
        let log = Arc::new(Log::new());
        for _ in 0..CAPACITY + 10 {
            log.arrive(Some(record())).end(EndedHow::Completed);
        }
        let records = log.records();
        assert_eq!(records.len(), CAPACITY);
        assert_eq!(records.first().unwrap().no, 11);
    }

    #[test]
    fn a_dropped_tracker_means_that_the_client_left() {
        let log = Arc::new(Log::new());
        drop(log.arrive(Some(record())));
        assert_eq!(log.records()[0].end.unwrap().how, EndedHow::ClientLeft);
    }

    #[test]
    fn keys_are_masked_in_json_and_in_debug_output() {
        let log = Arc::new(Log::new());
        let _tracker = log.arrive(Some(record()));
        let shown = format!("{} {:?}", log.to_json(), log.records());
        assert!(shown.contains("***1234") && !shown.contains("secret"), "{shown}");
        assert_eq!(format!("{:?}", Key::new("abcd")), "***");
    }

    #[tokio::test]
    async fn waiting_for_an_unrecorded_request_is_an_error() {
        let log = Arc::new(Log::new());
        drop(log.arrive(None));
        assert!(matches!(log.wait(1, |r| r.end).await, Err(Error::NotLogged { no: 1 })));
    }
}
