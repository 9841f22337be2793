//! An answer after its commit point: the deltas of one attempt, watched for silence and for its deadline; and of those that
//! take its place when it breaks off and may be rescued.
//!
//! Invariants: it ends with `None` only after a finish reason; a cut stream ends with `upstream_truncated`. On the
//! path of a delta there is no allocation, no lock and no timer: one timer is kept, and when it fires it looks at how
//! long the stream has really been waiting. Time in which nobody polls does not count as silence.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use contract::{
    AttemptRecord, BoxFuture, Code, Deadline, Error, MidStream, ModelName, Money, RetryHint, Tick, Usage,
};
use futures_core::Stream;
use pipeline::task;

use crate::live::Live;
use crate::rescue::{Rescue, Rescuing};
use crate::{Answer, Delta, DeltaStream};

/// A committed answer: a stream of deltas that ends with `None` when complete and with one `Err` when not.
///
/// [`Delta::Usage`] always comes before the end of a complete answer, estimated when the provider reported none.
pub struct Completion {
    live: Live,
    head: VecDeque<Delta>,
    stream: Option<DeltaStream>,
    timer: Option<BoxFuture<'static, ()>>,
    /// Since when the upstream has been polled in vain.
    waiting: Option<Tick>,
    silence: Duration,
    deadline: Deadline,
    attempts: u32,
    ended: bool,
    rescue: Option<Box<Rescue>>,
    rescuing: Option<Rescuing>,
    /// What the text begins with that the reader has already.
    seam: String,
}

impl std::fmt::Debug for Completion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completion").field("record", &self.live.record).finish_non_exhaustive()
    }
}

impl Completion {
    pub(crate) fn new(
        live: Live,
        head: VecDeque<Delta>,
        stream: Option<DeltaStream>,
        silence: Duration,
        deadline: Deadline,
    ) -> Self {
        Completion {
            live,
            head,
            stream,
            timer: None,
            waiting: None,
            silence,
            deadline,
            attempts: 1,
            ended: false,
            rescue: None,
            rescuing: None,
            seam: String::new(),
        }
    }

    /// It took this many attempts.
    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// What it is begun anew with when it breaks off.
    pub(crate) fn rescued_by(mut self, rescue: Box<Rescue>) -> Self {
        self.rescue = Some(rescue);
        self
    }

    /// The model that answers: the one asked for, or a fallback.
    pub fn model(&self) -> &ModelName {
        &self.live.record.model
    }

    /// The version that answers, when known.
    pub fn model_version(&self) -> Option<&str> {
        self.live.record.model_version.as_deref()
    }

    /// What is recorded of this attempt so far.
    pub fn record(&self) -> &AttemptRecord {
        &self.live.record
    }

    /// How many attempts it took, this one included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What this attempt used so far; final once the stream has ended.
    pub fn usage(&self) -> Usage {
        self.live.usage()
    }

    /// What this attempt cost so far; final once the stream has ended.
    pub fn cost(&self) -> Money {
        self.live.price.cost(&self.live.usage())
    }

    /// Reads it to its end.
    pub async fn collect(mut self) -> Result<Answer, Error> {
        let mut answer = Answer::default();
        while let Some(delta) = futures_util::StreamExt::next(&mut self).await {
            answer.push(delta?);
        }
        Ok(answer)
    }

    /// It broke off: `None` when it is asked for again.
    fn stop(&mut self, mut e: Error) -> Option<Result<Delta, Error>> {
        self.stream = None;
        self.live.fail(&e);
        if let Some(mut rescue) = self.rescue.take() {
            if rescue.policy() == MidStream::Continue {
                let used = self.live.usage();
                let before = rescue.before.get_or_insert(Usage { output_tokens: 0, ..used });
                before.output_tokens += used.output_tokens;
            }
            match rescue.start(e, self.live.record.endpoint.clone(), self.attempts) {
                Ok(rescuing) => {
                    self.rescuing = Some(rescuing);
                    return None;
                }
                Err(same) => e = same,
            }
        }
        self.ended = true;
        Some(Err(e))
    }

    /// The answer that takes its place is there, or there is none.
    fn replaced(
        &mut self,
        mut rescue: Box<Rescue>,
        answer: Result<Completion, Error>,
        broke: Error,
    ) -> Option<Error> {
        match answer {
            Ok(new) => {
                self.head = new.head;
                self.seam.clear();
                if rescue.resets() {
                    // Not before there is something to take its place.
                    rescue.forgotten();
                    self.head.push_front(Delta::Reset);
                } else {
                    self.seam.push_str(rescue.trailing());
                }
                self.live = new.live;
                self.stream = new.stream;
                self.silence = new.silence;
                self.attempts = new.attempts;
                (self.timer, self.waiting) = (None, None);
                self.rescue = Some(rescue);
                None
            }
            // What became of the answer; the record has what stood in the way of another.
            Err(_) => {
                self.ended = true;
                Some(broke)
            }
        }
    }

    /// What the reader is given of a delta.
    fn shown(&mut self, delta: Delta) -> Option<Delta> {
        let Some(rescue) = &mut self.rescue else { return Some(delta) };
        let delta = match (delta, rescue.before) {
            (Delta::Text(t), _) if !self.seam.is_empty() => {
                let seam = std::mem::take(&mut self.seam);
                let same =
                    seam.chars().zip(t.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
                Delta::Text(t.get(same..).unwrap_or_default().to_owned())
            }
            // The reader knows the version of the answer that it began with.
            (Delta::Version(_), Some(_)) => return None,
            (Delta::Usage(u), Some(before)) => Delta::Usage(joined(before, u)),
            (delta, _) => delta,
        };
        rescue.saw(&delta);
        Some(delta)
    }

    /// The upstream has no more to say, and said why.
    fn done(&mut self) -> Poll<Option<Result<Delta, Error>>> {
        self.ended = true;
        self.stream = None;
        let reported = self.live.reported.is_some();
        let mut usage = self.live.usage();
        if let Some(before) = self.rescue.as_ref().and_then(|r| r.before) {
            usage = joined(before, usage);
        }
        self.live.complete();
        Poll::Ready((!reported).then_some(Ok(Delta::Usage(usage))))
    }

    /// Resolves when the silence or the deadline has lasted too long; `None` when it is complete all the same.
    fn poll_limits(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Error>> {
        let mut now = self.live.clock.now();
        let since = *self.waiting.get_or_insert(now);
        loop {
            if self.deadline.passed(now) {
                return Poll::Ready(Some(Error::new(Code::DeadlineExceeded, "the latency budget ran out")));
            }
            let silent_until = since.after(self.silence);
            if now >= silent_until {
                let m = format!("the provider fell silent for {:?}", self.silence);
                let e = Error::new(Code::UpstreamTimeout, m).retry(RetryHint::Elsewhere);
                return Poll::Ready((!self.live.finished).then_some(e));
            }
            let until = self.deadline.tick().map_or(silent_until, |t| t.min(silent_until));
            let timer = self.timer.get_or_insert_with(|| Box::pin(task::sleep(until.since(now))));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            now = self.live.clock.now();
        }
    }
}

impl Stream for Completion {
    type Item = Result<Delta, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(d) = this.head.pop_front() {
                match this.shown(d) {
                    Some(d) => return Poll::Ready(Some(Ok(d))),
                    None => continue,
                }
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(rescuing) = &mut this.rescuing {
                let (rescue, answer) = ready!(rescuing.future.as_mut().poll(cx));
                let Some(Rescuing { error, .. }) = this.rescuing.take() else { continue };
                match this.replaced(rescue, answer, error) {
                    Some(e) => return Poll::Ready(Some(Err(e))),
                    None => continue,
                }
            }
            let polled = match &mut this.stream {
                Some(s) => s.as_mut().poll_next(cx),
                None => Poll::Ready(None),
            };
            let broken = match polled {
                Poll::Ready(Some(Ok(delta))) => {
                    this.waiting = None;
                    this.live.saw(&delta);
                    if this.rescue.is_none() {
                        return Poll::Ready(Some(Ok(delta)));
                    }
                    match this.shown(delta) {
                        Some(d) => return Poll::Ready(Some(Ok(d))),
                        None => continue,
                    }
                }
                // What breaks behind the finish reason takes nothing away from the answer.
                Poll::Ready(Some(Err(_))) if this.live.finished => return this.done(),
                Poll::Ready(Some(Err(e))) => e,
                Poll::Ready(None) if this.live.finished => return this.done(),
                Poll::Ready(None) => Live::truncated(),
                Poll::Pending => match ready!(this.poll_limits(cx)) {
                    Some(e) => e,
                    None => return this.done(),
                },
            };
            if let Some(said) = this.stop(broken) {
                return Poll::Ready(Some(said));
            }
        }
    }
}

/// What an answer used that was gone on with: its prompt once, and all that was said.
fn joined(before: Usage, last: Usage) -> Usage {
    let output_tokens = before.output_tokens.saturating_add(last.output_tokens);
    Usage { output_tokens, estimated: true, ..before }
}
