//! What is done about an answer that breaks off after its first output: begun anew, or gone on with.
//!
//! ```text
//! broken ── restart: ask again, not the endpoint that broke it ──▶ reset, then the new answer's deltas
//!   │ ───── continue: ask a model that can, behind what was said ──▶ the rest, without a seam
//!   └ no policy, no time, no retry left, nobody who can ──▶ the error
//! ```
//!
//! Invariant: a reader never has pieces of two answers in one: a restart is told, and a continuation was asked to begin
//! where the text ends. What cannot be gone on with (a tool call, log probabilities) is not.

use std::sync::atomic::{AtomicBool, AtomicU32};

use contract::{BoxFuture, Context, EndpointName, Error, Message, MidStream, ModelName, Reason, Role, Usage};

use crate::attempt::Asked;
use crate::completion::Completion;
use crate::model::FallbackOn;
use crate::{ChatRequest, Delta, Models};

/// How often one answer is rescued at most.
const RESCUES: u8 = 2;

/// What a broken answer is begun anew with.
pub(crate) struct Rescue {
    pub(crate) models: Models,
    pub(crate) model: ModelName,
    pub(crate) request: ChatRequest,
    pub(crate) prompt_version: Option<String>,
    pub(crate) cx: Context,
    policy: MidStream,
    left: u8,
    /// What was said, for a continuation.
    said: String,
    /// Something was said that nobody can go on with.
    sealed: bool,
    /// Anything at all was said.
    began: bool,
    /// What the attempts before this one used.
    pub(crate) before: Option<Usage>,
}

/// Whether another try may do better than an answer that broke off so: what a fallback is there for, once it has begun.
pub(crate) fn repairable(e: &Error) -> bool {
    matches!(FallbackOn::of(e), Some(FallbackOn::Error | FallbackOn::Timeout))
}

/// A rescue under way.
pub(crate) struct Rescuing {
    pub(crate) future: BoxFuture<'static, (Box<Rescue>, Result<Completion, Error>)>,
    /// Why it is needed.
    pub(crate) error: Error,
}

impl Rescue {
    pub(crate) fn new(
        models: Models,
        model: ModelName,
        asked: &mut Asked<'_>,
        policy: MidStream,
    ) -> Box<Rescue> {
        Box::new(Rescue {
            models,
            model,
            request: std::mem::take(&mut asked.request),
            prompt_version: asked.prompt_version.take(),
            cx: asked.cx.clone(),
            policy,
            left: RESCUES,
            said: String::new(),
            sealed: false,
            began: false,
            before: None,
        })
    }

    pub(crate) fn policy(&self) -> MidStream {
        self.policy
    }

    /// Whether the reader is told to forget what it has.
    pub(crate) fn resets(&self) -> bool {
        self.began && self.policy == MidStream::Restart
    }

    /// The reader was given this.
    pub(crate) fn saw(&mut self, delta: &Delta) {
        self.began |= delta.is_output();
        if self.policy == MidStream::Continue {
            match delta {
                Delta::Text(t) => self.said.push_str(t),
                Delta::ToolCall { .. } | Delta::Logprobs(_) => self.sealed = true,
                _ => {}
            }
        }
    }

    /// The reader was told to forget what it has.
    pub(crate) fn forgotten(&mut self) {
        self.said.clear();
        (self.sealed, self.began) = (false, false);
    }

    /// Blanks at the end of what was said, which no model is given to go on behind.
    pub(crate) fn trailing(&self) -> &str {
        self.said.get(self.said.trim_end().len()..).unwrap_or_default()
    }

    /// Asks again after `error`, or says no and gives it back. `made` attempts were made so far.
    pub(crate) fn start(
        mut self: Box<Self>,
        error: Error,
        broke: EndpointName,
        made: u32,
    ) -> Result<Rescuing, Error> {
        let going_on = self.policy == MidStream::Continue && self.began;
        let now = self.cx.clock.now();
        let possible = repairable(&error)
            && self.left > 0
            && !(going_on && (self.sealed || self.said.trim().is_empty()))
            && !self.cx.deadline.passed(now)
            && self.models.retries().try_retry(now, &self.cx.tenant);
        if !possible {
            return Err(error);
        }
        self.left -= 1;
        let future = Box::pin(async move {
            let answer = self.again(broke, made, going_on).await;
            (self, answer)
        });
        Ok(Rescuing { future, error })
    }

    async fn again(&mut self, broke: EndpointName, made: u32, going_on: bool) -> Result<Completion, Error> {
        let reason = if going_on { Reason::Continue } else { Reason::Restart };
        let mut request = std::mem::take(&mut self.request);
        if going_on {
            request.messages.push(Message::text(Role::Assistant, self.said.trim_end()));
            request.continues = true;
        }
        let models = self.models.clone();
        let slots = models.slots();
        let mut asked = Asked {
            request,
            input_tokens: None,
            prompt_version: self.prompt_version.clone(),
            cx: &self.cx,
            slots: &*slots,
            retries: models.retries(),
            made: AtomicU32::new(made),
            let_in: AtomicBool::new(true),
            again: Some(reason),
            avoid: Some(broke),
        };
        let answer = models.repair(&self.model, &mut asked).await;
        self.request = asked.request;
        if going_on {
            self.request.messages.pop();
            self.request.continues = false;
        }
        answer
    }
}
