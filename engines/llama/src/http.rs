//! The HTTP surface on the Unix socket: routes, statuses, server-sent events.
//!
//! It never touches the llama.cpp context: it tokenizes, queues a job, and turns its events into a body. A client that goes
//! away drops the body, the body drops the receiver, and the engine ends the sequence.
//!
//! **Invariant:** a status is sent only when the first event of the job is there, so that an error before the first output has
//! its own status.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError},
    },
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming};
use llama_cpp_2::model::LlamaModel;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    engine::{EVENT_QUEUE, Event, Job},
    error::Error,
    protocol::{ChatRequest, Head, TokenizeRequest},
    sampling::Sampler,
    stop::StopMatcher,
    template::{ChatTemplate, Turn},
};

/// Bytes of a request body at most.
const BODY_LIMIT: usize = 16 << 20;
/// Seconds after which a client may try again when the queue is full.
const RETRY_AFTER: &str = "1";

/// A body of this worker.
pub(crate) type Answer = Either<Full<Bytes>, EventStream>;

/// What the routes need.
pub(crate) struct App {
    pub(crate) model: Arc<LlamaModel>,
    pub(crate) template: ChatTemplate,
    /// The name that the model goes by.
    pub(crate) alias: String,
    /// Tokens that one sequence holds.
    pub(crate) limit: usize,
    /// Bounded, with as many places as `places` has permits.
    pub(crate) jobs: SyncSender<Job>,
    /// Running and queued jobs.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) started: u64,
    pub(crate) requests: AtomicU64,
}

impl App {
    /// Answers a request; an error is an answer too.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Infallible> {
        let result = match (request.method(), request.uri().path()) {
            (&Method::GET, "/health") => Ok(json_answer(StatusCode::OK, &json!({ "status": "ok" }))),
            (&Method::GET, "/v1/models") => Ok(json_answer(StatusCode::OK, &self.models())),
            (&Method::POST, "/v1/chat/completions") => self.chat(request).await,
            (&Method::POST, "/tokenize") => self.tokenize(request).await,
            _ => Err(Error::NotFound),
        };
        Ok(result.unwrap_or_else(|error| {
            if matches!(error, Error::Engine(_)) {
                tracing::error!(%error, "a request failed");
            }
            let mut answer = json_answer(error.status(), &error.body());
            if error == Error::QueueFull {
                answer.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static(RETRY_AFTER));
            }
            answer
        }))
    }

    fn models(&self) -> Value {
        json!({ "object": "list", "data": [{
            "id": self.alias, "object": "model", "created": self.started, "owned_by": "llama.cpp",
            "context_length": self.limit,
            "meta": { "n_ctx": self.limit, "n_ctx_train": self.model.n_ctx_train(), "n_params": self.model.n_params(), "size": self.model.size() },
        }] })
    }

    async fn tokenize(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Error> {
        let TokenizeRequest { text } = parse(request).await?;
        let count =
            blocking(move || Ok(self.model.vocab().tokenize(text.as_bytes(), false, false).len())).await?;
        Ok(json_answer(StatusCode::OK, &json!({ "count": count })))
    }

    async fn chat(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Error> {
        let request: ChatRequest = parse(request).await?;
        request.check()?;
        if request.model.as_ref().is_some_and(|model| *model != self.alias) {
            return Err(Error::UnknownModel { served: self.alias.clone() });
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::QueueFull)?;
        let stream = request.stream.unwrap_or(false);
        let head = Head {
            id: format!("chatcmpl-{:x}-{:x}", self.started, self.requests.fetch_add(1, Ordering::Relaxed)),
            created: unix_seconds(),
            model: self.alias.clone(),
            include_usage: request.stream_options.as_ref().is_some_and(|options| options.include_usage),
        };
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        let app = Arc::clone(&self);
        let job = blocking(move || {
            let prompt = app.prompt(&request)?;
            Ok(Job {
                prompt,
                sampler: Sampler::new(&app.model, &request)?,
                max_tokens: request.max_tokens().unwrap_or(u64::MAX),
                stops: StopMatcher::new(request.stops()),
                events: sender,
                permit,
            })
        })
        .await?;
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Error::QueueFull,
            TrySendError::Disconnected(_) => engine_gone(),
        })?;
        match events.recv().await {
            None => Err(engine_gone()),
            Some(Event::Failed(error)) => Err(error),
            Some(first) if stream => {
                let answer = Response::builder()
                    .header(header::CONTENT_TYPE, "text/event-stream")
                    .header(header::CACHE_CONTROL, "no-cache")
                    .body(Either::Right(EventStream::new(head, first, events)));
                answer.map_err(|error| Error::Engine(error.to_string()))
            }
            Some(first) => collect(&head, first, events).await,
        }
    }

    fn prompt(&self, request: &ChatRequest) -> Result<Vec<llama_cpp_2::token::LlamaToken>, Error> {
        let turns: Result<Vec<Turn>, Error> = request
            .messages
            .iter()
            .map(|message| Ok(Turn { role: message.role.template_name(), content: message.text()? }))
            .collect();
        let prompt = self.template.render(turns?)?;
        let vocab = self.model.vocab();
        // A template that writes the first token itself must not get it twice.
        let bos = vocab.should_add_bos() && !self.template.begins_with_bos(&prompt);
        let tokens = vocab.tokenize(prompt.as_bytes(), bos, true);
        if tokens.is_empty() {
            return Err(Error::invalid("messages", "the prompt is empty"));
        }
        if tokens.len() >= self.limit {
            return Err(Error::ContextLength { tokens: tokens.len(), limit: self.limit });
        }
        Ok(tokens)
    }
}

async fn collect(
    head: &Head,
    first: Event,
    mut events: mpsc::Receiver<Event>,
) -> Result<Response<Answer>, Error> {
    let mut text = String::new();
    let mut next = Some(first);
    loop {
        match next {
            Some(Event::Delta(delta)) => text.push_str(&delta),
            Some(Event::Done(reason, usage)) => {
                return Ok(json_answer(StatusCode::OK, &head.completion(&text, reason, usage)));
            }
            Some(Event::Failed(error)) => return Err(error),
            None => return Err(engine_gone()),
        }
        next = events.recv().await;
    }
}

/// The body of a stream. It pulls: a client that does not read stops its own sequence, after [`EVENT_QUEUE`] events.
pub(crate) struct EventStream {
    head: Head,
    /// Encoded and not sent yet.
    ready: VecDeque<String>,
    /// `None` once the last event is encoded.
    events: Option<mpsc::Receiver<Event>>,
}

impl EventStream {
    fn new(head: Head, first: Event, events: mpsc::Receiver<Event>) -> Self {
        let ready = VecDeque::from([head.opening()]);
        let mut stream = Self { head, ready, events: Some(events) };
        stream.encode(Some(first));
        stream
    }

    fn encode(&mut self, event: Option<Event>) {
        let (text, last) = match event {
            Some(Event::Delta(text)) => (self.head.delta(&text), false),
            Some(Event::Done(reason, usage)) => (self.head.closing(reason, usage), true),
            Some(Event::Failed(error)) => (self.head.failure(&error), true),
            None => (self.head.failure(&engine_gone()), true),
        };
        self.ready.push_back(text);
        if last {
            self.events = None;
        }
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ready.is_empty() {
            let Some(events) = &mut self.events else { return Poll::Ready(None) };
            let event = std::task::ready!(events.poll_recv(context));
            self.encode(event);
        }
        // What is ready goes out in one piece.
        let text: String = self.ready.drain(..).collect();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}

async fn parse<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Error> {
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Error::TooLarge { limit: BODY_LIMIT }
        } else {
            Error::Invalid { param: None, message: "the body could not be read".to_owned() }
        }
    })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| Error::Invalid {
        param: None,
        message: format!("the body is not a valid request: {error}"),
    })
}

/// Runs work that takes longer than a poll may: a prompt of 50,000 tokens takes a quarter of a second to tokenize.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Error::Engine("preparing the request failed".to_owned())))
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Answer> {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(body.to_string()))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

fn engine_gone() -> Error {
    Error::Engine("the engine has ended".to_owned())
}

/// Seconds since 1970, for the `created` fields.
#[expect(clippy::disallowed_methods, reason = "a label in an answer: nothing is decided by it")]
pub(crate) fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
