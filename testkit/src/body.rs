//! The body of an answer, paced by the script and broken by its faults.
//!
//! Whatever is due goes out as one frame of at most [`FRAME_BYTES`] and a chunk, so that a fast stream costs few writes.
//! The body owns its [`Tracker`]: hyper drops the body when the connection is gone, and that is the client's leaving.
//! Invariants: never ahead of the reader by more than a frame and hyper's own buffer; no clock is read without a delay.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::{
    faults::CutHow,
    log::{EndedHow, Tracker},
    render::{Finish, Renderer},
    script::scale,
    tokens::{Answer, unit},
};

/// A frame is sent once it has this many bytes, even if more is due.
const FRAME_BYTES: usize = 16 * 1024;

/// Marks the connection to be reset rather than closed.
pub(crate) type ResetFlag = Arc<AtomicBool>;

/// The body of any answer.
pub(crate) enum Body {
    /// Bytes that belong to no request to a model.
    Plain(Bytes),
    Whole(Whole),
    Stream(Box<Stream>),
}

/// Ends the connection without an end of the message.
fn fail(how: EndedHow, tracker: &mut Tracker, reset: &ResetFlag) -> io::Error {
    if how == EndedHow::Reset {
        reset.store(true, Ordering::Release);
    }
    tracker.end(how);
    io::Error::new(io::ErrorKind::ConnectionAborted, "ended by the script")
}

fn poll_pause(pause: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = pause {
        std::task::ready!(sleep.as_mut().poll(cx));
        *pause = None;
    }
    Poll::Ready(())
}

/// One part of an answer that is not streamed.
#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Bytes, usize),
    Pause(Duration),
    /// Lets the connection flush what it has.
    Flush,
    Fail(EndedHow),
}

/// An answer that is not streamed.
pub(crate) struct Whole {
    pub(crate) parts: VecDeque<Part>,
    /// The announced `content-length`.
    pub(crate) length: u64,
    pub(crate) pause: Option<Pin<Box<Sleep>>>,
    pub(crate) tracker: Tracker,
    pub(crate) reset: ResetFlag,
}

impl Whole {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        loop {
            std::task::ready!(poll_pause(&mut self.pause, cx));
            match self.parts.pop_front() {
                None => return Poll::Ready(None),
                Some(Part::Pause(delay)) => self.pause = Some(Box::pin(tokio::time::sleep(delay))),
                Some(Part::Flush) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Part::Fail(how)) => {
                    return Poll::Ready(Some(Err(fail(how, &mut self.tracker, &self.reset))));
                }
                Some(Part::Bytes(bytes, tokens)) => {
                    self.tracker.sent(tokens);
                    if self.parts.is_empty() {
                        self.tracker.end(EndedHow::Completed);
                    }
                    return Poll::Ready(Some(Ok(bytes)));
                }
            }
        }
    }
}

/// Delays between tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) interval: Duration,
    pub(crate) jitter: f64,
    pub(crate) seed: u64,
}

impl Pace {
    /// A delay with its jitter; `draw` distinguishes the draws of one request.
    pub(crate) fn jittered(&self, delay: Duration, draw: u64) -> Duration {
        if self.jitter == 0.0 {
            return delay;
        }
        let offset = 2.0 * unit(self.seed.wrapping_add(draw)) - 1.0;
        scale(delay, 1.0 + self.jitter * offset)
    }
}

/// What a stream sends, and where it breaks. Positions are tokens sent before.
pub(crate) struct Course {
    pub(crate) renderer: Renderer,
    pub(crate) answer: Answer,
    /// Tokens to send.
    pub(crate) total: usize,
    pub(crate) finish: Finish,
    pub(crate) pace: Pace,
    pub(crate) keep_alive: Duration,
    pub(crate) cut: Option<(usize, CutHow)>,
    pub(crate) stall: Option<(usize, Duration)>,
    pub(crate) malformed: Option<usize>,
    pub(crate) no_done: bool,
    pub(crate) usage_in_every_chunk: bool,
}

/// `Running → Ended` after a proper end of the message, `Running → Failing → (error)` otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Running,
    Ended(EndedHow),
    Failing { how: EndedHow, flushed: bool },
}

/// A streamed answer.
pub(crate) struct Stream {
    course: Course,
    tracker: Tracker,
    reset: ResetFlag,
    phase: Phase,
    next: usize,
    started: bool,
    /// When the next token is due; `None` is now.
    due: Option<Instant>,
    pause: Option<Pin<Box<Sleep>>>,
    out: Vec<u8>,
    out_tokens: usize,
}

impl Stream {
    /// A stream whose first token is due after `first` from now.
    pub(crate) fn new(course: Course, first: Duration, tracker: Tracker, reset: ResetFlag) -> Self {
        let due = (!first.is_zero()).then(|| Instant::now() + first);
        Self {
            course,
            tracker,
            reset,
            phase: Phase::Running,
            next: 0,
            started: false,
            due,
            pause: None,
            out: Vec::new(),
            out_tokens: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        loop {
            match self.phase {
                Phase::Ended(_) if self.out.is_empty() => return Poll::Ready(None),
                Phase::Ended(how) => {
                    let frame = self.frame();
                    self.tracker.end(how);
                    return frame;
                }
                Phase::Failing { .. } if !self.out.is_empty() => return self.frame(),
                Phase::Failing { how, flushed: false } => {
                    // hyper flushes when the body has nothing more to say for now, and only then.
                    self.phase = Phase::Failing { how, flushed: true };
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Phase::Failing { how, .. } => {
                    return Poll::Ready(Some(Err(fail(how, &mut self.tracker, &self.reset))));
                }
                Phase::Running => {}
            }
            if self.out.len() >= FRAME_BYTES {
                return self.frame();
            }
            if !self.is_due() {
                if !self.out.is_empty() {
                    return self.frame();
                }
                std::task::ready!(self.poll_wait(cx));
                continue;
            }
            self.step();
        }
    }

    fn frame(&mut self) -> Poll<Option<Result<Bytes, io::Error>>> {
        self.tracker.sent(std::mem::take(&mut self.out_tokens));
        Poll::Ready(Some(Ok(Bytes::from(std::mem::take(&mut self.out)))))
    }

    fn is_due(&mut self) -> bool {
        if let Some((_, lasting)) = self.course.stall.take_if(|(at, _)| *at == self.next) {
            self.due = Some(self.due.unwrap_or_else(Instant::now).max(Instant::now()) + lasting);
        }
        self.due.is_none_or(|due| due <= Instant::now())
    }

    /// Waits until the next token is due, or sends a keep-alive when it was silent for long enough.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pause.is_none() {
            let now = Instant::now();
            let due = self.due.unwrap_or(now);
            let wake =
                if self.course.keep_alive.is_zero() { due } else { due.min(now + self.course.keep_alive) };
            self.pause = Some(Box::pin(tokio::time::sleep_until(wake)));
        }
        std::task::ready!(poll_pause(&mut self.pause, cx));
        if self.due.is_some_and(|due| due > Instant::now()) {
            self.course.renderer.keep_alive(&mut self.out);
        }
        Poll::Ready(())
    }

    /// Renders the next event.
    fn step(&mut self) {
        let Self { course, out, .. } = self;
        if !std::mem::replace(&mut self.started, true) {
            course.renderer.start(out);
        }
        if course.malformed.take_if(|at| *at <= self.next).is_some() {
            course.renderer.malformed(out);
        }
        if let Some((_, how)) = course.cut.filter(|(at, _)| *at <= self.next) {
            self.phase = match how {
                CutHow::Close => Phase::Failing { how: EndedHow::Cut, flushed: false },
                CutHow::Reset => Phase::Failing { how: EndedHow::Reset, flushed: false },
                CutHow::CleanEnd => Phase::Ended(EndedHow::Cut),
                CutHow::ErrorEvent => {
                    course.renderer.error_event(out);
                    Phase::Ended(EndedHow::Cut)
                }
            };
            return;
        }
        if self.next >= course.total {
            course.renderer.finish(self.next, course.finish, out);
            if !course.no_done {
                course.renderer.done(out);
            }
            self.phase = Phase::Ended(EndedHow::Completed);
            return;
        }
        course.renderer.delta(&course.answer, self.next, course.usage_in_every_chunk, out);
        self.next += 1;
        self.out_tokens += 1;
        // After the last token the end follows at once.
        if !course.pace.interval.is_zero() && self.next < course.total {
            let delay = course.pace.jittered(course.pace.interval, self.next as u64);
            self.due = Some(self.due.unwrap_or_else(Instant::now) + delay);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = match self.get_mut() {
            Self::Plain(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Plain(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Self::Whole(whole) => whole.poll(cx),
            Self::Stream(stream) => stream.poll(cx),
        };
        polled.map(|frame| frame.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(bytes) => bytes.is_empty(),
            Self::Whole(whole) => whole.parts.is_empty(),
            Self::Stream(stream) => matches!(stream.phase, Phase::Ended(_)) && stream.out.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Whole(whole) => SizeHint::with_exact(whole.length),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
