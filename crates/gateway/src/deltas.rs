//! An answer piece by piece, whoever makes it: a model's completion or a pipeline's run, seen as one stream of deltas.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};

use contract::{Error, Event, Outcome, Value};
use futures_core::Stream;
use llm::{Completion, Delta, FinishReason};
use pipeline::live::Live;

use crate::drain::{self, Cut};

/// The deltas of an answer. Ends with `None` only after a finish.
pub(crate) enum Deltas {
    Model(Box<Completion>, Cut),
    Pipeline(Box<FromPipeline>, Cut),
}

impl Deltas {
    /// The model's answer, when no pipeline stands before it.
    pub(crate) fn completion(&self) -> Option<&Completion> {
        match self {
            Deltas::Model(c, _) => Some(c),
            Deltas::Pipeline(..) => None,
        }
    }
}

impl Stream for Deltas {
    type Item = Result<Delta, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Deltas::Model(c, cut) => until(cut, cx, |cx| Pin::new(&mut **c).poll_next(cx)),
            Deltas::Pipeline(p, cut) => until(cut, cx, |cx| p.poll(cx)),
        }
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
pub(crate) struct FromPipeline {
    live: Live,
    shown: String,
    rest: VecDeque<Result<Delta, Error>>,
    ended: bool,
}

impl FromPipeline {
    pub(crate) fn new(live: Live) -> Self {
        FromPipeline { live, shown: String::new(), rest: VecDeque::new(), ended: false }
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
                Some(Event::Done { usage, model_version, .. }) => {
                    self.ended = true;
                    if let Some(v) = model_version {
                        self.rest.push_back(Ok(Delta::Version(v)));
                    }
                    self.finish(usage);
                }
                Some(_) => {}
                None => self.ended = true,
            }
        }
    }

    /// What is left to say once the outcome is known: never a second answer behind the beginning of a first.
    fn finish(&mut self, usage: contract::Usage) {
        let (value, error) = match self.live.outcome() {
            Some(Outcome::Complete(v)) => (v.clone(), None),
            Some(Outcome::Partial(v, e)) => (v.clone(), Some(e.clone())),
            Some(Outcome::Failed(e)) => return self.rest.push_back(Err(e.clone())),
            None => return,
        };
        let whole = render(&value);
        match (whole.strip_prefix(self.shown.as_str()), error) {
            (Some(""), _) => {}
            (Some(more), _) => self.rest.push_back(Ok(Delta::Text(more.to_owned()))),
            (None, Some(e)) => return self.rest.push_back(Err(e)),
            (None, None) => {}
        }
        self.rest.push_back(Ok(Delta::Finish(FinishReason::Stop)));
        self.rest.push_back(Ok(Delta::Usage(usage)));
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

/// A value as text, for surfaces that know nothing else.
pub(crate) fn render(value: &Value) -> String {
    match value {
        Value::Text(t) => t.to_string(),
        Value::Document(d) => d.text.to_string(),
        Value::Json(j) => j.to_string(),
        Value::Chunks(chunks) => join(chunks.iter().map(|c| c.text.to_string())),
        Value::List(items) => join(items.iter().flatten().map(render)),
        Value::Messages(m) => join(m.iter().map(|m| m.content.to_text().into_owned())),
        Value::Table(t) => t.to_string(),
        Value::Embedding(e) => format!("{e:?}"),
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("\n\n")
}
