//! An answer piece by piece, whoever makes it: a model's completion or a pipeline's run, seen as one stream of deltas.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};

use admission::{Amount, Growing};
use contract::{Code, Error, Event, Outcome, Price, StageRecord, StageState, Usage, Value};
use futures_core::Stream;
use llm::tokens::Estimate;
use llm::{Delta, FinishReason, Reply, TokenCounter as _};
use pipeline::live::Live;

use crate::drain::{self, Cut};
use crate::heard::Heard;

/// The deltas of an answer. Ends with `None` only after a finish.
pub(crate) enum Deltas {
    /// With what keeps it within its reservation, and who remembers it.
    Model(Box<Reply>, Cut, (Option<Growth>, Option<Arc<Heard>>)),
    Pipeline(Box<FromPipeline>, Cut),
}

impl Deltas {
    /// The model's answer, when no pipeline stands before it.
    pub(crate) fn reply(&self) -> Option<&Reply> {
        match self {
            Deltas::Model(c, ..) => Some(c),
            Deltas::Pipeline(..) => None,
        }
    }

    /// See [`FromPipeline::instead`].
    pub(crate) fn instead(&mut self) -> Option<(String, FinishReason)> {
        match self {
            Deltas::Model(..) => None,
            Deltas::Pipeline(p, _) => p.instead(),
        }
    }
}

impl Stream for Deltas {
    type Item = Result<Delta, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Deltas::Model(c, cut, (growth, heard)) => {
                match until(cut, cx, |cx| Pin::new(&mut **c).poll_next(cx)) {
                    Poll::Ready(Some(Ok(delta))) => {
                        if let Some(heard) = heard {
                            heard.delta(&delta);
                        }
                        let covered = growth.as_mut().map_or(Ok(()), |g| g.covers(&delta, || c.pays()));
                        Poll::Ready(Some(covered.map(|()| delta)))
                    }
                    other => other,
                }
            }
            Deltas::Pipeline(p, cut) => until(cut, cx, |cx| p.poll(cx)),
        }
    }
}

/// Tokens that an answer's reservation grows by.
const STEP: u64 = 256;

/// Keeps an answer within what is reserved for it: a reservation is capped, and an answer that passes it asks for more
/// before it goes on. Refused, it ends there, with what came.
pub(crate) struct Growth {
    pub(crate) hold: Growing,
    pub(crate) price: Price,
    pub(crate) input_tokens: u64,
    /// Output tokens that are reserved.
    pub(crate) reserved: u64,
    /// Estimated output so far.
    pub(crate) output: u64,
}

impl Growth {
    fn covers(&mut self, delta: &Delta, pays: impl Fn() -> bool) -> Result<(), Error> {
        let text = match delta {
            Delta::Text(t) | Delta::Reasoning(t) => t,
            Delta::ToolCall { arguments, .. } => arguments,
            _ => return Ok(()),
        };
        self.output += Estimate.count(text).max(1);
        // An answer that another request is charged with, or was, needs no room here.
        if self.output <= self.reserved || !pays() {
            return Ok(());
        }
        let (input_tokens, output_tokens) = (self.input_tokens, self.output.saturating_add(STEP));
        let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
        self.hold.to(Amount::of(&usage, self.price.cost(&usage)))?;
        self.reserved = output_tokens;
        Ok(())
    }
}

/// Polls an answer unless the server cannot wait for it any longer.
fn until(
    cut: &mut Cut,
    cx: &mut Poller<'_>,
    poll: impl FnOnce(&mut Poller<'_>) -> Poll<Option<Result<Delta, Error>>>,
) -> Poll<Option<Result<Delta, Error>>> {
    match poll(cx) {
        Poll::Ready(Some(Ok(_))) if cut.is_cut() => Poll::Ready(Some(Err(drain::error()))),
        Poll::Pending => cut.poll(cx).map(|()| Some(Err(drain::error()))),
        ready => ready,
    }
}

/// A run as a chat answer: its deltas, or its whole text at the end when nothing was streamed.
///
/// An answer that was cut never ends as a complete one: by its limit of tokens it ends with `Length`, otherwise with the
/// error. What a contract took in (a skipped stage, failed parts, a fallback) does not cut it: the record tells of that.
pub(crate) struct FromPipeline {
    live: Live,
    shown: String,
    rest: VecDeque<Result<Delta, Error>>,
    /// What a caller who does not stream gets in place of an error behind the first text.
    instead: Option<(String, FinishReason)>,
    ended: bool,
}

impl FromPipeline {
    pub(crate) fn new(live: Live) -> Self {
        FromPipeline { live, shown: String::new(), rest: VecDeque::new(), instead: None, ended: false }
    }

    fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Delta, Error>>> {
        loop {
            if let Some(next) = self.rest.pop_front() {
                return Poll::Ready(Some(next));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.live).poll_next(cx)) {
                Some(Event::Delta { text }) => {
                    self.shown.push_str(&text);
                    return Poll::Ready(Some(Ok(Delta::Text(text))));
                }
                Some(Event::Reset {}) => {
                    self.shown.clear();
                    return Poll::Ready(Some(Ok(Delta::Reset)));
                }
                Some(Event::Done { usage, model_version, stages, .. }) => {
                    self.ended = true;
                    if let Some(v) = model_version {
                        self.rest.push_back(Ok(Delta::Version(v)));
                    }
                    self.finish(usage, stages.last());
                }
                Some(_) => {}
                None => self.ended = true,
            }
        }
    }

    /// What is left to say once the outcome is known: never a second answer behind the beginning of a first. `last` is the
    /// stage that ended last, which is the one that made the answer.
    fn finish(&mut self, usage: Usage, last: Option<&StageRecord>) {
        let (value, error) = match self.live.outcome() {
            Some(Outcome::Complete(v)) => (v, None),
            Some(Outcome::Partial(v, e)) => (v, Some(e.clone())),
            Some(Outcome::Failed(e)) => return self.rest.push_back(Err(e.clone())),
            None => return,
        };
        let whole = value.to_text();
        let usage = Ok(Delta::Usage(usage));
        let (Some(more), cut) = (whole.strip_prefix(self.shown.as_str()), self.cut(last, &whole)) else {
            // Something else stands in for what was shown. Who has been shown nothing can have it.
            if let Some(e) = error {
                self.rest.extend([usage, Err(e)]);
                self.instead = Some((whole, FinishReason::Stop));
            } else {
                self.rest.extend([Ok(Delta::Finish(FinishReason::Stop)), usage]);
            }
            return;
        };
        if !more.is_empty() {
            self.rest.push_back(Ok(Delta::Text(more.to_owned())));
        }
        match cut {
            None => self.rest.extend([Ok(Delta::Finish(FinishReason::Stop)), usage]),
            Some(e) if e.code == Code::BudgetExhausted => {
                self.rest.extend([Ok(Delta::Finish(FinishReason::Length)), usage]);
            }
            Some(e) if e.code == Code::ContentFiltered && !whole.is_empty() => {
                self.rest.extend([Ok(Delta::Finish(FinishReason::ContentFilter)), usage]);
            }
            Some(e) if whole.is_empty() => self.rest.push_back(Err(e)),
            Some(e) => {
                self.rest.extend([usage, Err(e)]);
                self.instead = Some((whole, FinishReason::Length));
            }
        }
    }

    /// Why the answer is not all of its own text, if it is not. A stage that ended partial and whose text was not shown was
    /// replaced by what its contract names.
    fn cut(&self, last: Option<&StageRecord>, whole: &str) -> Option<Error> {
        let last = last.filter(|s| s.state == StageState::Partial)?;
        let own = !self.shown.is_empty() || whole.is_empty();
        last.error.clone().filter(|e| own && e.code != Code::PartFailed)
    }

    /// The whole of what is usable, and why it ends, when the last delta was an error: for a caller who has been shown
    /// nothing yet. The error is in the record.
    pub(crate) fn instead(&mut self) -> Option<(String, FinishReason)> {
        self.instead.take()
    }

    /// Puts back what was taken to see whether there is anything.
    pub(crate) fn unread(&mut self, delta: Delta) {
        self.rest.push_front(Ok(delta));
    }

    /// How the run ended.
    pub(crate) fn outcome(&self) -> Option<&Outcome<Value>> {
        self.live.outcome()
    }
}
