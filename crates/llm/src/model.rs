//! What a model is to the rest of the system: endpoints that can be asked, settings that say how, and the slots that
//! bound how many are asked at once. Engines implement [`ChatModel`]; the fair queue implements [`Slots`].

use std::sync::Arc;
use std::time::Duration;

use contract::{
    BoxFuture, Code, Deadline, EndpointName, Error, ModelName, Price, RequestId, StageName, TenantId,
    TraceContext, UserId,
};

use crate::hedge::Hedge;
use crate::pool::Health;
use crate::{ChatRequest, DeltaStream};

/// One upstream that answers chat requests.
///
/// Contract: `start` resolves when the upstream has taken the request (its status is known) and before its first
/// token; every error names its [`contract::Code`] and retry hint. Dropping the future or the stream cancels the
/// upstream at once. It never retries: that is [`crate::Models`]'s.
pub trait ChatModel: Send + Sync {
    /// Asks once.
    fn start<'a>(
        &'a self,
        request: &'a ChatRequest,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<DeltaStream, Error>>;
}

/// What an endpoint is told about the call it serves.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The request it is part of.
    pub request: RequestId,
    /// Which try for the same answer this is, from 1.
    pub number: u32,
    /// Who pays.
    pub tenant: TenantId,
    /// The end user, when named.
    pub user: Option<UserId>,
    /// The stage that asks, when one does.
    pub stage: Option<StageName>,
    /// The attempt's own span, when the request is traced: the upstream is told.
    pub trace: Option<TraceContext>,
    /// Until when the answer has value.
    pub deadline: Deadline,
    /// How long connecting may take.
    pub connect: Duration,
}

/// An endpoint by its name.
#[derive(Clone)]
pub struct Endpoint {
    /// As records name it. No other endpoint of any model has it.
    pub name: EndpointName,
    /// The upstream.
    pub model: Arc<dyn ChatModel>,
    /// How it is doing.
    pub health: Arc<Health>,
}

impl Endpoint {
    /// An endpoint of which nothing is known yet.
    pub fn new(name: EndpointName, model: Arc<dyn ChatModel>) -> Self {
        Endpoint { name, model, health: Arc::default() }
    }

    /// The same with another breaker.
    #[must_use]
    pub fn resting(mut self, breaker: admission::BreakerSettings) -> Self {
        self.health = Arc::new(Health::new(breaker, admission::RetrySettings::default()));
        self
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Endpoint").field(&self.name).finish()
    }
}

/// How long each phase of an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// From the start of the attempt to its first output. Keep-alives and lifecycle events are not output.
    pub first_token: Duration,
    /// Between two outputs.
    pub silence: Duration,
}

impl Default for Timeouts {
    /// 5 s, 10 s, 15 s.
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(10),
            silence: Duration::from_secs(15),
        }
    }
}

/// How an upstream is told that it shall go on behind the last message, the assistant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefill {
    /// By the message alone: Anthropic's protocol, llama.cpp.
    Plain,
    /// By `continue_final_message` and `add_generation_prompt`: vLLM, SGLang.
    Vllm,
    /// By `prefix: true` in the message: Mistral, DeepSeek.
    Prefix,
}

/// What a fallback can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FallbackOn {
    /// A 5xx, a broken connection or stream, a crashed worker, endpoints that rest.
    Error,
    /// No output in time.
    Timeout,
    /// The provider's rate limit.
    RateLimit,
    /// Refused credentials, a used-up account.
    Credentials,
    /// No place in the model's own queue.
    Overloaded,
    /// A prompt that does not fit.
    ContextLength,
    /// Content that the provider filtered: never unless named.
    ContentFilter,
}

impl FallbackOn {
    /// What an error is; `None` for one that no fallback helps against.
    pub fn of(e: &Error) -> Option<Self> {
        Some(match e.code {
            Code::UpstreamError
            | Code::UpstreamUnreachable
            | Code::UpstreamTruncated
            | Code::WorkerCrashed => Self::Error,
            Code::UpstreamTimeout => Self::Timeout,
            Code::RateLimited => Self::RateLimit,
            Code::UpstreamCredentials => Self::Credentials,
            Code::Overloaded => Self::Overloaded,
            Code::ContextLengthExceeded => Self::ContextLength,
            Code::ContentFiltered => Self::ContentFilter,
            _ => return None,
        })
    }
}

/// A model to ask when another cannot answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The model.
    pub model: ModelName,
    /// What it is for; everything but filtered content when absent.
    pub on: Option<Vec<FallbackOn>>,
}

impl<T: Into<ModelName>> From<T> for Fallback {
    fn from(model: T) -> Self {
        Fallback { model: model.into(), on: None }
    }
}

/// A model of the registry.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// Its upstreams, equal to each other: the one that would be done first is asked, of those that do not rest. At most 64.
    pub endpoints: Vec<Endpoint>,
    /// The models to ask when all endpoints fail, in order, each with its own fallbacks behind it; no model is
    /// asked twice.
    pub fallback: Vec<Fallback>,
    /// A second attempt beside one that is slow to begin.
    pub hedge: Option<Arc<Hedge>>,
    /// Whether and how its upstreams go on behind an assistant's words.
    pub prefill: Option<Prefill>,
    /// What it costs.
    pub price: Price,
    /// Input and output tokens it can hold together; `None` leaves the check to the provider.
    pub context_window: Option<u64>,
    /// At most this many output tokens: the default of a request that names none, the cap of one that names more.
    pub max_output_tokens: Option<u64>,
    /// The version when the provider does not name one.
    pub version: Option<String>,
    /// What stands behind the name: another provider, address, upstream id or file gives another identity. Answers that are
    /// kept are kept for it; nobody is shown it.
    pub identity: String,
    /// How its answers are kept, if they are.
    pub cache: Option<crate::CacheSettings>,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// How its tokens are counted.
    pub counter: Arc<dyn crate::TokenCounter>,
}

impl ModelSettings {
    /// A model with one endpoint, free of charge, with everything else at its default.
    pub fn new(endpoint: EndpointName, model: Arc<dyn ChatModel>) -> Self {
        ModelSettings::over(vec![Endpoint::new(endpoint, model)])
    }

    /// A model over these endpoints, free of charge, with everything else at its default.
    pub fn over(endpoints: Vec<Endpoint>) -> Self {
        ModelSettings {
            endpoints,
            fallback: Vec::new(),
            hedge: None,
            prefill: None,
            price: Price::FREE,
            context_window: None,
            max_output_tokens: None,
            version: None,
            identity: String::new(),
            cache: None,
            timeouts: Timeouts::default(),
            counter: Arc::new(crate::tokens::Estimate),
        }
    }
}

/// Who goes next, and how many at once.
///
/// Contract: `acquire` waits until there is room, at most until the deadline, and fails with `Overloaded`,
/// `RateLimited`, `BudgetExhausted` or `DeadlineExceeded`; dropping the future leaves the queue.
pub trait Slots: Send + Sync {
    /// Whether what this task asks for waits behind what others ask for.
    fn gives_way(&self) -> bool {
        false
    }

    /// Waits for room for one attempt. `tokens` is its estimated input, for the virtual token counter. With a `mark` nothing
    /// was done yet for the caller: it may be refused because too many wait, and is known by the mark when it comes again.
    fn acquire<'a>(
        &'a self,
        model: &'a ModelName,
        tenant: &'a TenantId,
        tokens: u64,
        deadline: Deadline,
        mark: Option<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn Slot>, Error>>;
}

/// Room for one attempt. Dropping it without `finish` frees it as cancelled.
pub trait Slot: Send {
    /// This many more output tokens were made. Called for each delta: it must be cheap.
    fn output(&mut self, tokens: u64);
    /// The attempt ended.
    fn finish(self: Box<Self>, outcome: SlotOutcome);
}

/// How an attempt ended, for the adaptive limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotOutcome {
    /// Well; the time to its first output.
    Success(Duration),
    /// The upstream said 429 or 503, or was too slow.
    Overloaded,
    /// It failed for another reason.
    Failed,
    /// The caller left: it says nothing about the upstream.
    Cancelled,
}

/// Room for everyone: no queue, no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl Slots for Unlimited {
    fn acquire<'a>(
        &'a self,
        _: &'a ModelName,
        _: &'a TenantId,
        _: u64,
        _: Deadline,
        _: Option<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn Slot>, Error>> {
        Box::pin(async { Ok(Box::new(Unlimited) as Box<dyn Slot>) })
    }
}

impl Slot for Unlimited {
    fn output(&mut self, _: u64) {}
    fn finish(self: Box<Self>, _: SlotOutcome) {}
}
