//! An answer to a call, wherever it comes from: the model, a call that somebody else has made, or the kept answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use contract::{BoxFuture, Clock, Code, Context, Deadline, Error, Meter, MidStream, ModelName};
use futures_core::Stream;
use futures_util::StreamExt;
use pipeline::task;

use super::flight::{FIRST, Flight, Landed, Told};
use super::kept::Kept;
use super::{AnswerCache, CacheResult, Spot};
use crate::rescue::repairable;
use crate::{Answer, Asking, ChatRequest, Completion, Delta, Models};

/// A committed answer: a stream of deltas as a [`Completion`] gives them. Dropping it cancels the upstream at once, unless
/// others read the same answer.
#[derive(Debug)]
pub struct Reply {
    source: Source,
    cache: Option<CacheResult>,
}

#[expect(clippy::large_enum_variant, reason = "the common one is the large one, and each lives in a box")]
#[derive(Debug)]
enum Source {
    Alone(Completion),
    Shared(Shared, Told),
    Kept { kept: Arc<Kept>, at: usize, model: ModelName, age: Duration },
}

impl Reply {
    /// A call's own answer.
    pub(super) fn alone(completion: Completion, cache: Option<CacheResult>) -> Self {
        Reply { source: Source::Alone(completion), cache }
    }

    pub(super) fn shared(shared: Shared, told: Told) -> Self {
        let cache = if shared.reader == FIRST { CacheResult::Miss } else { CacheResult::Shared };
        Reply { source: Source::Shared(shared, told), cache: Some(cache) }
    }

    pub(super) fn kept(kept: Arc<Kept>, model: ModelName, age: Duration) -> Self {
        Reply { source: Source::Kept { kept, at: 0, model, age }, cache: Some(CacheResult::Hit) }
    }

    /// The model that answers: the one asked for, or a fallback.
    pub fn model(&self) -> &ModelName {
        match &self.source {
            Source::Alone(c) => c.model(),
            Source::Shared(_, told) => &told.model,
            Source::Kept { model, .. } => model,
        }
    }

    /// The version that answers, when known.
    pub fn model_version(&self) -> Option<&str> {
        match &self.source {
            Source::Alone(c) => c.model_version(),
            Source::Shared(_, told) => told.version.as_deref(),
            Source::Kept { kept, .. } => kept.version.as_deref(),
        }
    }

    /// How many attempts this call made for it; none for the answer of another call.
    pub fn attempts(&self) -> u32 {
        match &self.source {
            Source::Alone(c) => c.attempts(),
            Source::Shared(s, told) if s.reader == FIRST => told.attempts,
            Source::Shared(..) | Source::Kept { .. } => 0,
        }
    }

    /// When the attempt that answers began, in µs after the request's arrival, if this call made it.
    pub fn started_us(&self) -> Option<u64> {
        match &self.source {
            Source::Alone(c) => Some(c.record().started_us),
            Source::Shared(s, told) => (s.reader == FIRST).then_some(told.started_us),
            Source::Kept { .. } => None,
        }
    }

    /// Whether this call is charged with the answer. May change while it is shared, when who was charged leaves.
    pub fn pays(&self) -> bool {
        match &self.source {
            Source::Alone(_) => true,
            Source::Shared(s, _) => s.flight.pays(s.reader),
            Source::Kept { .. } => false,
        }
    }

    /// How the model's cache had to do with it; `None` when it has none.
    pub fn cache(&self) -> Option<CacheResult> {
        self.cache
    }

    /// How old it is, when it was kept.
    pub fn age(&self) -> Option<Duration> {
        match &self.source {
            Source::Kept { age, .. } => Some(*age),
            Source::Alone(_) | Source::Shared(..) => None,
        }
    }

    /// Reads it to its end.
    pub async fn collect(mut self) -> Result<Answer, Error> {
        let mut answer = Answer::default();
        while let Some(delta) = self.next().await {
            answer.push(delta?);
        }
        Ok(answer)
    }
}

impl Stream for Reply {
    type Item = Result<Delta, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.source {
            Source::Alone(c) => Pin::new(c).poll_next(cx),
            Source::Shared(s, _) => match ready!(s.poll_next(cx)) {
                Said::Delta(next) => Poll::Ready(next),
                Said::Instead(reply) => {
                    let seen = s.seen;
                    self.source = reply.source;
                    if seen { Poll::Ready(Some(Ok(Delta::Reset))) } else { self.poll_next(cx) }
                }
            },
            Source::Kept { kept, at, .. } => {
                let delta = kept.deltas.get(*at).cloned();
                *at += 1;
                Poll::Ready(delta.map(Ok))
            }
        }
    }
}

/// How long a call may take to end by itself at its deadline.
const BY_ITSELF: Duration = Duration::from_secs(1);

/// A reader of a call under way. Dropping it leaves the call.
pub(super) struct Shared {
    pub(super) flight: Arc<Flight>,
    pub(super) reader: u64,
    spot: Spot,
    cache: Arc<AnswerCache>,
    clock: Arc<dyn Clock>,
    meter: Arc<Meter>,
    deadline: Deadline,
    timer: Option<BoxFuture<'static, ()>>,
    ended: bool,
    /// Whether output was given to this reader.
    seen: bool,
    again: Option<Box<Again>>,
    /// Why it is asked again, and the asking.
    asking: Option<(Error, BoxFuture<'static, Result<Reply, Error>>)>,
}

/// What a reader asks with whose answer may begin anew, when the call that it reads is one that does not.
pub(super) struct Again {
    pub(super) models: Models,
    pub(super) model: ModelName,
    pub(super) request: ChatRequest,
    pub(super) asking: Asking,
    pub(super) cx: Context,
}

/// What a reader is given next.
enum Said {
    Delta(Option<Result<Delta, Error>>),
    /// Another answer, from its beginning.
    Instead(Box<Reply>),
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        (flight, reader): (Arc<Flight>, u64),
        spot: Spot,
        cache: Arc<AnswerCache>,
        cx: &Context,
    ) -> Self {
        Shared {
            flight,
            reader,
            spot,
            cache,
            clock: cx.clock.clone(),
            meter: cx.meter.clone(),
            deadline: cx.deadline,
            timer: None,
            ended: false,
            seen: false,
            again: None,
            asking: None,
        }
    }

    /// Resolves at the commit point.
    pub(super) async fn committed(&mut self) -> Result<Told, Error> {
        std::future::poll_fn(|cx| {
            let (polled, landed) = self.flight.poll_commit(self.reader, cx);
            self.land(landed);
            match polled {
                Poll::Pending => self.poll_late(cx).map(Err),
                Poll::Ready(r) => Poll::Ready(r),
            }
        })
        .await?;
        self.flight.told().ok_or_else(|| Error::new(Code::Internal, "an answer began without a model"))
    }

    /// The end of this reader's own time. The first one's is the call's, which ends by itself: but not while it waits for a
    /// reader that does not read.
    fn poll_late(&mut self, cx: &mut Poller<'_>) -> Poll<Error> {
        let left = self.deadline.remaining(self.clock.now());
        let Some(left) = left else { return Poll::Pending };
        let left = if self.reader == FIRST { left + BY_ITSELF } else { left };
        let timer = self.timer.get_or_insert_with(|| Box::pin(task::sleep(left)));
        timer.as_mut().poll(cx).map(|()| Error::new(Code::DeadlineExceeded, "the latency budget ran out"))
    }

    /// Has the answer begin anew when the call breaks off, if that is what this reader wants and the call does not do itself.
    pub(super) fn may_begin_anew(&mut self, again: Again) {
        let wants = self.spot.mid_stream == MidStream::Restart;
        if wants && self.flight.mid_stream() != MidStream::Restart {
            self.again = Some(Box::new(again));
        }
    }

    fn poll_next(&mut self, cx: &mut Poller<'_>) -> Poll<Said> {
        loop {
            if let Some((broke, asking)) = &mut self.asking {
                return Poll::Ready(match ready!(asking.as_mut().poll(cx)) {
                    Ok(reply) => Said::Instead(Box::new(reply)),
                    Err(_) => {
                        let broke = broke.clone();
                        (self.asking, self.ended) = (None, true);
                        Said::Delta(Some(Err(broke)))
                    }
                });
            }
            match ready!(self.poll_flight(cx)) {
                Some(Err(e)) => match self.again.take() {
                    Some(a)
                        if repairable(&e) && a.models.retries().try_retry(self.clock.now(), &a.cx.tenant) =>
                    {
                        let Again { models, model, request, asking, cx } = *a;
                        let call: BoxFuture<'static, _> =
                            Box::pin(async move { models.call_as(&model, request, asking, &cx).await });
                        (self.asking, self.ended) = (Some((e, call)), false);
                    }
                    _ => return Poll::Ready(Said::Delta(Some(Err(e)))),
                },
                Some(Ok(Delta::Reset)) if self.spot.mid_stream != MidStream::Restart => {
                    // It cannot be told to forget what it has. What it has not got needs no telling.
                    if self.seen {
                        self.ended = true;
                        let m = "the provider's stream ended before the answer was complete";
                        return Poll::Ready(Said::Delta(Some(Err(Error::new(Code::UpstreamTruncated, m)))));
                    }
                }
                delta => {
                    self.seen |= matches!(&delta, Some(Ok(d)) if d.is_output());
                    return Poll::Ready(Said::Delta(delta));
                }
            }
        }
    }

    fn poll_flight(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Delta, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let (polled, landed) = self.flight.poll_next(self.reader, cx);
        self.land(landed);
        match &polled {
            Poll::Pending => {
                let late = ready!(self.poll_late(cx));
                self.ended = true;
                return Poll::Ready(Some(Err(late)));
            }
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_))) => self.ended = true,
            Poll::Ready(None) => {
                self.ended = true;
                if !self.flight.pays(self.reader)
                    && let Some(told) = self.flight.told()
                {
                    super::saved(&self.meter, &self.spot.model, &told.usage, told.cost);
                }
            }
        }
        polled
    }

    fn land(&self, landed: Landed) {
        if landed == Landed::Yes {
            let kept = self.flight.kept(&self.spot.model, self.clock.now());
            self.cache.landed(&self.spot, &self.flight, kept);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.flight.leave(self.reader) {
            self.cache.landed(&self.spot, &self.flight, None);
        }
    }
}
