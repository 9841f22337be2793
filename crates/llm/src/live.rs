//! An attempt under way: what is recorded of it, and what its end teaches.
//!
//! Invariant: it is recorded once, however it ends; its slot and its place at the endpoint end with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::{
    AttemptRecord, Clock, Code, Context, Ending, Error, Meter, ModelName, Money, Price, RetryHint, Tick,
    Usage,
};

use crate::pool::health::Turn;
use crate::{Delta, Endpoint, FinishReason, ModelSettings, Slot, SlotOutcome, TokenCounter, tokens};

/// An attempt under way: its record, its slot, and what has been seen of it. Dropping it records a cancellation.
pub(crate) struct Live {
    pub(crate) record: AttemptRecord,
    /// Whether the upstream took the request: from then on its input counts.
    pub(crate) accepted: bool,
    /// The estimate of the input.
    pub(crate) input: u64,
    /// Set when it runs beside another attempt: whether one of the two answers.
    pub(crate) race: Option<Arc<AtomicBool>>,
    slot: Option<Box<dyn Slot>>,
    turn: Turn,
    meter: Arc<Meter>,
    pub(crate) clock: Arc<dyn Clock>,
    arrived: Tick,
    asked: Tick,
    pub(crate) price: Price,
    output: u64,
    pub(crate) reported: Option<Usage>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) finished: bool,
}

impl Live {
    pub(crate) fn new(
        cx: &Context,
        model: &ModelName,
        endpoint: &Endpoint,
        settings: &ModelSettings,
        (slot, turn): (Box<dyn Slot>, Turn),
    ) -> Self {
        Live {
            record: AttemptRecord {
                stage: cx.stage.clone(),
                ordinal: cx.meter.begin_attempt(),
                number: 1,
                reason: None,
                instead_of: None,
                model: model.clone(),
                endpoint: endpoint.name.clone(),
                model_version: None,
                prompt_version: None,
                started_us: 0,
                queued_us: 0,
                first_token_us: None,
                ended_us: 0,
                usage: Usage::default(),
                cost: Money::ZERO,
                finish_reason: None,
                ending: Ending::Cancelled,
                error: None,
            },
            accepted: false,
            input: 0,
            race: None,
            slot: Some(slot),
            turn,
            meter: cx.meter.clone(),
            clock: cx.clock.clone(),
            arrived: cx.arrived,
            asked: cx.clock.now(),
            price: settings.price,
            output: 0,
            reported: None,
            finish: None,
            finished: false,
        }
    }

    pub(crate) fn finished(&self) -> bool {
        self.finished
    }

    pub(crate) fn truncated() -> Error {
        Error::new(Code::UpstreamTruncated, "the provider's stream ended before the answer was complete")
            .retry(RetryHint::Elsewhere)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.clock.now().since(self.arrived).as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn saw(&mut self, delta: &Delta) {
        let made = match delta {
            Delta::Text(t) | Delta::Reasoning(t) => tokens::Estimate.count(t),
            Delta::ToolCall { name, arguments, .. } => {
                name.as_ref().map_or(0, |n| tokens::Estimate.count(n) + 4) + tokens::Estimate.count(arguments)
            }
            Delta::Logprobs(_) | Delta::Signature(_) | Delta::Reset => return,
            Delta::Version(v) => {
                self.record.model_version = Some(v.clone());
                return;
            }
            Delta::Finish(reason) => {
                self.finished = true;
                self.finish = Some(reason.clone());
                return;
            }
            Delta::Usage(u) => {
                self.reported = Some(*u);
                return;
            }
        };
        if made > 0 {
            self.output += made;
            if self.record.first_token_us.is_none() {
                self.record.first_token_us = Some(self.now_us());
                self.turn.answered();
            }
            if let Some(s) = &mut self.slot {
                s.output(made);
            }
        }
    }

    /// What was used, as far as it is known: reported by a complete answer, else estimated.
    pub(crate) fn usage(&self) -> Usage {
        match self.reported {
            Some(u) if self.finished => u,
            Some(u) => Usage { output_tokens: u.output_tokens.max(self.output), estimated: true, ..u },
            None if self.accepted => Usage {
                input_tokens: self.input,
                output_tokens: self.output,
                estimated: true,
                ..Usage::default()
            },
            None => Usage::default(),
        }
    }

    pub(crate) fn fail(&mut self, e: &Error) {
        let ending = if self.output > 0 { Ending::Partial } else { Ending::Failed };
        let outcome = match (e.code, e.upstream_status) {
            (Code::RateLimited | Code::UpstreamTimeout, _) | (_, Some(429 | 503 | 529)) => {
                SlotOutcome::Overloaded
            }
            (Code::InvalidRequest | Code::NotFound | Code::TooLarge, _)
            | (Code::ContextLengthExceeded | Code::ContentFiltered | Code::DeadlineExceeded, _) => {
                SlotOutcome::Cancelled
            }
            _ => SlotOutcome::Failed,
        };
        self.turn.failed(e);
        self.end(ending, Some(e.clone()), outcome);
    }

    pub(crate) fn complete(&mut self) {
        self.turn.answered();
        let first = self.record.first_token_us.unwrap_or_else(|| self.now_us());
        let asked = u64::try_from(self.asked.since(self.arrived).as_micros()).unwrap_or(u64::MAX);
        let latency = Duration::from_micros(first.saturating_sub(asked));
        self.end(Ending::Complete, None, SlotOutcome::Success(latency));
    }

    /// Taking the slot out is what makes this happen once.
    fn end(&mut self, ending: Ending, error: Option<Error>, outcome: SlotOutcome) {
        let Some(slot) = self.slot.take() else { return };
        let usage = self.usage();
        self.record.usage = usage;
        self.record.cost = self.price.cost(&usage);
        self.record.ended_us = self.now_us();
        self.record.finish_reason = self.finish.as_ref().map(|f| f.as_str().to_owned());
        self.record.ending = ending;
        self.record.error = error;
        self.meter.attempt(self.record.clone());
        self.turn.leave();
        slot.finish(outcome);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.finished {
            self.complete();
        } else {
            let lost = self.race.as_ref().is_some_and(|r| r.load(Ordering::Relaxed));
            if lost && self.output == 0 {
                self.turn.outrun();
            }
            let why = if lost { "the attempt beside it answered first" } else { "the caller left" };
            let e = Error::new(Code::Cancelled, why);
            self.end(Ending::Cancelled, Some(e), SlotOutcome::Cancelled);
        }
    }
}
