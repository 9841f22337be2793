//! One request: routes it, validates it, plans its faults and builds its answer.
//!
//! Never holds a lock over an await. Dropping the future is how a client's leaving shows before the answer's head.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    Error, anthropic,
    body::{Body, Course, Pace, Part, ResetFlag, Stream, Whole},
    faults::{self, CutHow, Facts, FaultRule, Instead, Plan},
    log::{self, EndedHow, Key, Log, Protocol, RequestRecord, Tracker},
    openai,
    render::{ApiError, ErrorKind, Finish, Head, Renderer},
    request::ChatBody,
    script::{Beyond, DEFAULT_TOKENS, LogMode, MAX_NATURAL_TOKENS, Places, Script},
    tokens::{Answer, count_words, mix, seed_of, tail_words},
};

/// The largest request body it reads, in bytes.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// The largest request body the log keeps, in bytes.
const MAX_KEPT_BODY: usize = 64 << 10;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: Arc<Log>,
    active: RwLock<Arc<Active>>,
}

/// The script in force since some moment.
#[derive(Debug)]
struct Active {
    script: Script,
    rules: Vec<FaultRule>,
    seen: AtomicU64,
    first: OnceLock<Instant>,
    places: Option<Arc<Semaphore>>,
}

impl Active {
    fn new(script: Script) -> Self {
        let rules = script.rules();
        let places = script.places.map(|p| Arc::new(Semaphore::new(p.count as usize)));
        Self { script, rules, seen: AtomicU64::new(0), first: OnceLock::new(), places }
    }
}

impl Shared {
    pub(crate) fn new(script: Script) -> Result<Self, Error> {
        script.validate()?;
        Ok(Self { log: Arc::new(Log::new()), active: RwLock::new(Arc::new(Active::new(script))) })
    }

    pub(crate) fn script(&self) -> Script {
        self.active.read().script.clone()
    }

    /// Puts another script in force; its faults count requests from now.
    pub(crate) fn set_script(&self, script: Script) -> Result<(), Error> {
        script.validate()?;
        *self.active.write() = Arc::new(Active::new(script));
        Ok(())
    }
}

type Answered = Result<Response<Body>, io::Error>;

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Chat,
    Messages,
    CountTokens,
}

impl Call {
    fn protocol(self) -> Protocol {
        match self {
            Self::Chat => Protocol::OpenAi,
            Self::Messages | Self::CountTokens => Protocol::Anthropic,
        }
    }
}

/// Answers one request. An error closes the connection without an answer.
pub(crate) async fn handle(shared: Arc<Shared>, reset: ResetFlag, request: Request<Incoming>) -> Answered {
    let arrived = log::now();
    let call = match request.uri().path() {
        "/v1/chat/completions" => Call::Chat,
        "/v1/messages" => Call::Messages,
        "/v1/messages/count_tokens" => Call::CountTokens,
        path if path.starts_with("/_fake/") => return control(&shared, request).await,
        _ => return Ok(other(&shared, &request)),
    };
    if request.method() != Method::POST {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let error = ErrorKind::WrongMethod { method, path }.into();
        return Ok(plain_error(&error, call.protocol()));
    }
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let error = ErrorKind::Status(StatusCode::PAYLOAD_TOO_LARGE).into();
            return Ok(plain_error(&error, call.protocol()));
        }
        Err(error) => return Err(io::Error::other(error)),
    };
    let active = Arc::clone(&shared.active.read());
    let overridden = active.script.with_headers(&head.headers);
    let (script, error) = match &overridden {
        Ok(script) => (script.as_ref().unwrap_or(&active.script), None),
        Err(error) => (&active.script, Some(ApiError::invalid(error.to_string()))),
    };
    let parsed = serde_json::from_slice::<ChatBody<'_>>(&body);
    let record = (script.log != LogMode::Off).then(|| {
        let parsed = parsed.as_ref().ok();
        RequestRecord {
            no: 0,
            protocol: call.protocol(),
            path: head.uri.path().to_owned(),
            key: key(&head.headers).map(Key::new),
            model: parsed.and_then(|b| b.model.as_deref()).map(str::to_owned),
            streaming: parsed.is_some_and(ChatBody::streaming),
            prompt_tokens: parsed.map_or(0, ChatBody::prompt_tokens),
            body: (script.log == LogMode::Bodies && body.len() <= MAX_KEPT_BODY)
                .then(|| serde_json::from_slice(&body).ok())
                .flatten(),
            arrived,
            status: None,
            first_byte: None,
            tokens_sent: 0,
            end: None,
        }
    });
    let tracker = shared.log.arrive(record);
    let mut responder = Responder { protocol: call.protocol(), script, reset, tracker };
    let checked = match error {
        Some(error) => Err(error),
        None => {
            authorize(script, &head.headers, call.protocol()).and_then(|()| validate(script, call, parsed))
        }
    };
    let chat = match checked {
        Ok(chat) => chat,
        Err(error) => return Ok(responder.refuse(&error, Duration::ZERO)),
    };
    if call == Call::CountTokens {
        let count = json!({"input_tokens": chat.prompt_tokens()}).to_string();
        return Ok(responder.whole(Bytes::from(count), 0, &Plan::default()));
    }
    if let (Some(places), Some(Places { beyond, retry_after, .. })) = (&active.places, active.script.places) {
        let place = match beyond {
            Beyond::Refuse => Arc::clone(places).try_acquire_owned().ok(),
            Beyond::Wait => Arc::clone(places).acquire_owned().await.ok(),
        };
        match place {
            Some(place) => responder.tracker.hold(place),
            None => {
                let error = ErrorKind::Status(StatusCode::TOO_MANY_REQUESTS).into();
                return Ok(responder.refuse(&error, script.scaled(retry_after)));
            }
        }
    }
    let first = *active.first.get_or_init(|| arrived);
    let facts = Facts {
        number: active.seen.fetch_add(1, Ordering::Relaxed) + 1,
        prompt_tokens: chat.prompt_tokens(),
        prefilled: chat.prefilled(),
        elapsed: crate::script::scale(arrived.saturating_duration_since(first), script.time_scale),
        streaming: chat.streaming(),
    };
    let plan = match &overridden {
        Ok(Some(script)) => faults::plan(&script.rules(), facts),
        _ => faults::plan(&active.rules, facts),
    };
    let created = shared.log.unix_at(arrived);
    responder.answer(&chat, plan, created).await
}

fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = || headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ");
    headers.get("x-api-key").and_then(|key| key.to_str().ok()).or_else(bearer)
}

fn authorize(script: &Script, headers: &HeaderMap, protocol: Protocol) -> Result<(), ApiError> {
    if !script.require_key.is_empty() {
        let key = key(headers).ok_or(ErrorKind::MissingKey)?;
        if !script.require_key.iter().any(|good| good == key) {
            return Err(ErrorKind::WrongKey.into());
        }
    }
    if protocol == Protocol::Anthropic && !headers.contains_key("anthropic-version") {
        return Err(ApiError::invalid("anthropic-version: header is required"));
    }
    Ok(())
}

fn validate<'a>(
    script: &Script,
    call: Call,
    parsed: Result<ChatBody<'a>, serde_json::Error>,
) -> Result<ChatBody<'a>, ApiError> {
    let body = parsed.map_err(|error| match error.is_data() {
        true => ApiError::invalid(format!("Invalid type in the request body: {error}")).code("invalid_type"),
        false => ErrorKind::NotJson(error.to_string()).into(),
    })?;
    match call {
        Call::Chat => openai::validate(&body)?,
        Call::Messages => anthropic::validate(&body, false)?,
        Call::CountTokens => anthropic::validate(&body, true)?,
    }
    let model = body.model.as_deref().unwrap_or_default();
    if script.strict_models && !script.models.iter().any(|known| known == model) {
        return Err(ErrorKind::UnknownModel(model.to_owned()).into());
    }
    Ok(body)
}

/// Answers one valid request.
struct Responder<'a> {
    protocol: Protocol,
    script: &'a Script,
    reset: ResetFlag,
    tracker: Tracker,
}

impl Responder<'_> {
    async fn answer(self, chat: &ChatBody<'_>, plan: Plan, created: u64) -> Answered {
        if let Some(instead) = plan.instead {
            return self.instead(instead, chat.prompt_tokens()).await;
        }
        let script = self.script;
        let pace = Pace {
            interval: script.scaled(script.token_interval),
            jitter: script.jitter,
            seed: mix(script.seed).wrapping_add(mix(self.tracker.number())),
        };
        let first = plan.first_token.unwrap_or(script.first_token);
        let first = pace.jittered(script.scaled(first), u64::MAX);
        let (answer, total, finish) = compose(script, chat, &plan);
        let head = Head {
            id: format!("{:024}", self.tracker.number()),
            model: chat.model.as_deref().unwrap_or_default().to_owned(),
            created,
            prompt_tokens: chat.prompt_tokens(),
            logprobs: chat.logprobs(),
            tool: called_tool(script, chat),
        };
        let renderer = match self.protocol {
            Protocol::OpenAi => {
                Renderer::OpenAi(openai::Renderer::new(head, script.usage, chat.include_usage()))
            }
            Protocol::Anthropic => Renderer::Anthropic(anthropic::Renderer::new(head, script.usage)),
        };
        if !chat.streaming() {
            let delay = (1..total as u64)
                .map(|i| pace.jittered(pace.interval, i))
                .take_while(|delay| !delay.is_zero())
                .fold(first, |sum, delay| sum + delay);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let mut out = Vec::with_capacity(768 + 8 * total);
            renderer.whole(&answer, total, finish, &mut out);
            return Ok(self.whole(Bytes::from(out), total, &plan));
        }
        if !script.early_headers && !first.is_zero() {
            tokio::time::sleep(first).await;
        }
        let first = if script.early_headers { first } else { Duration::ZERO };
        let course = Course {
            renderer,
            answer,
            total,
            finish,
            pace,
            keep_alive: script.scaled(script.keep_alive),
            cut: plan.cut,
            stall: plan.stall.map(|(at, lasting)| (at, script.scaled(lasting))),
            malformed: plan.malformed,
            no_done: plan.no_done,
            usage_in_every_chunk: plan.usage_in_every_chunk,
        };
        self.tracker.status(200);
        let number = self.tracker.number();
        let stream = Stream::new(course, first, self.tracker, self.reset);
        let mut response = Response::new(Body::Stream(Box::new(stream)));
        set_type(&mut response, "text/event-stream; charset=utf-8");
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        set_request_id(&mut response, self.protocol, number);
        Ok(response)
    }

    async fn instead(mut self, instead: Instead, prompt: u64) -> Answered {
        let script = self.script;
        let error: ApiError = match instead {
            Instead::Reset => {
                self.reset.store(true, Ordering::Release);
                self.tracker.end(EndedHow::Reset);
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset by the script"));
            }
            Instead::Silence(lasting) => {
                tokio::time::sleep(script.scaled(lasting)).await;
                self.tracker.end(EndedHow::Cut);
                return Err(io::Error::new(io::ErrorKind::TimedOut, "silent by the script"));
            }
            Instead::Status { status, retry_after } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Ok(self.refuse(&ErrorKind::Status(status).into(), script.scaled(retry_after)));
            }
            Instead::ContextLength(window) => {
                // Without a window of its own the fault claims one that the prompt just misses.
                let window = if window == 0 { prompt.saturating_sub(1) } else { window };
                ErrorKind::ContextLength { window, prompt }.into()
            }
            Instead::ContentFilter => ErrorKind::ContentFilter.into(),
            Instead::RefusePrefill => ErrorKind::RefusePrefill.into(),
        };
        Ok(self.refuse(&error, Duration::ZERO))
    }

    /// An answer in one body, with the faults that break such a body.
    fn whole(self, bytes: Bytes, tokens: usize, plan: &Plan) -> Response<Body> {
        self.tracker.status(200);
        let half = bytes.len() / 2;
        let mut length = bytes.len();
        let mut parts = VecDeque::with_capacity(1);
        if plan.malformed.is_some() {
            length = half;
            parts.push_back(Part::Bytes(bytes.slice(..half), tokens));
        } else if let Some((at, how)) = plan.cut.filter(|(at, _)| *at < tokens) {
            let how = if how == CutHow::Reset { EndedHow::Reset } else { EndedHow::Cut };
            parts.extend([Part::Bytes(bytes.slice(..half), at), Part::Flush, Part::Fail(how)]);
        } else if let Some((at, lasting)) = plan.stall.filter(|(at, _)| *at < tokens) {
            parts.extend([
                Part::Bytes(bytes.slice(..half), at),
                Part::Pause(self.script.scaled(lasting)),
                Part::Bytes(bytes.slice(half..), tokens - at),
            ]);
        } else {
            parts.push_back(Part::Bytes(bytes, tokens));
        }
        self.respond(StatusCode::OK, parts, length)
    }

    fn refuse(self, error: &ApiError, retry_after: Duration) -> Response<Body> {
        self.tracker.status(error.status.as_u16());
        let body = error.body(self.protocol, self.tracker.number());
        let length = body.len();
        let mut response =
            self.respond(error.status, VecDeque::from([Part::Bytes(Bytes::from(body), 0)]), length);
        if !retry_after.is_zero() {
            let seconds = retry_after.as_millis().div_ceil(1000) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            if retry_after.subsec_nanos() != 0 {
                let millis = HeaderValue::from(retry_after.as_millis() as u64);
                response.headers_mut().insert("retry-after-ms", millis);
            }
        }
        response
    }

    fn respond(self, status: StatusCode, parts: VecDeque<Part>, length: usize) -> Response<Body> {
        let number = self.tracker.number();
        let whole =
            Whole { parts, length: length as u64, pause: None, tracker: self.tracker, reset: self.reset };
        let mut response = Response::new(Body::Whole(whole));
        *response.status_mut() = status;
        set_type(&mut response, "application/json");
        set_request_id(&mut response, self.protocol, number);
        response
    }
}

fn called_tool(script: &Script, chat: &ChatBody<'_>) -> Option<String> {
    let call = script.tool_call.as_ref()?;
    let first = chat.callable_tool()?;
    Some(call.name.clone().unwrap_or_else(|| first.to_owned()))
}

/// The answer, how much of it is sent, and why it ends.
fn compose(script: &Script, chat: &ChatBody<'_>, plan: &Plan) -> (Answer, usize, Finish) {
    let limit = chat.max_tokens().and_then(|max| usize::try_from(max).ok());
    let (answer, finish) = match (&script.tool_call, chat.callable_tool()) {
        (Some(call), Some(_)) => {
            (Answer::pieces(call.arguments.clone(), openai::ARGUMENT_PIECE), Finish::ToolCall)
        }
        _ => {
            let natural = || limit.unwrap_or(DEFAULT_TOKENS).min(MAX_NATURAL_TOKENS);
            let length = script.tokens.unwrap_or_else(natural);
            let answer = match &script.text {
                Some(text) => Answer::text(text.clone()),
                None if script.echo && count_words(chat.last_text()) > 0 => {
                    Answer::text(tail_words(chat.last_text(), length.max(1)).trim().to_owned())
                }
                None => {
                    let salt = script.seed ^ chat.prompt_tokens();
                    Answer::words(seed_of(chat.last_text(), salt), length)
                }
            };
            (answer, Finish::Stop)
        }
    };
    let (total, finish) = match limit {
        Some(limit) if limit < answer.len() => (limit, Finish::Length),
        _ => (answer.len(), finish),
    };
    match plan.filter {
        Some(at) if at < total => (answer, at, Finish::Filtered),
        _ => (answer, total, finish),
    }
}

fn set_type(response: &mut Response<Body>, kind: &'static str) {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
}

fn set_request_id(response: &mut Response<Body>, protocol: Protocol, number: u64) {
    let name = match protocol {
        Protocol::OpenAi => "x-request-id",
        Protocol::Anthropic => "request-id",
    };
    if let Ok(value) = HeaderValue::from_str(&format!("req_{number:024}")) {
        response.headers_mut().insert(name, value);
    }
}

fn plain(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::Plain(Bytes::from(body)));
    *response.status_mut() = status;
    set_type(&mut response, "application/json");
    response
}

fn plain_json(status: StatusCode, body: &Value) -> Response<Body> {
    plain(status, body.to_string().into_bytes())
}

fn plain_error(error: &ApiError, protocol: Protocol) -> Response<Body> {
    plain(error.status, error.body(protocol, 0))
}

/// Models, and whatever has no address here.
fn other(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    let active = Arc::clone(&shared.active.read());
    let script = &active.script;
    let anthropic = request.headers().contains_key("anthropic-version");
    let protocol = if anthropic { Protocol::Anthropic } else { Protocol::OpenAi };
    let path = request.uri().path();
    let named = path.strip_prefix("/v1/models/");
    if *request.method() != Method::GET || (named.is_none() && path != "/v1/models") {
        let (method, path) = (request.method().to_string(), path.to_owned());
        return plain_error(&ErrorKind::UnknownUrl { method, path }.into(), protocol);
    }
    if let Err(error) = authorize(script, request.headers(), protocol) {
        return plain_error(&error, protocol);
    }
    let created = shared.log.unix_at(log::now());
    let body = match (named, anthropic) {
        (None, false) => openai::models(&script.models, created),
        (None, true) => anthropic::models(&script.models),
        (Some(id), _) if !script.models.iter().any(|known| known == id) => {
            return plain_error(&ErrorKind::UnknownModel(id.to_owned()).into(), protocol);
        }
        (Some(id), false) => openai::model(id, created),
        (Some(id), true) => anthropic::model(id),
    };
    plain_json(StatusCode::OK, &body)
}

/// `GET|DELETE /_fake/log`, `GET|POST /_fake/script`.
async fn control(shared: &Shared, request: Request<Incoming>) -> Answered {
    let refused = |why: String| plain_json(StatusCode::BAD_REQUEST, &json!({"error": why}));
    let script = |script: &Script| plain(StatusCode::OK, serde_json::to_vec(script).unwrap_or_default());
    let (head, body) = request.into_parts();
    Ok(match (&head.method, head.uri.path()) {
        (&Method::GET, "/_fake/log") => plain_json(StatusCode::OK, &shared.log.to_json()),
        (&Method::DELETE, "/_fake/log") => {
            shared.log.clear();
            plain_json(StatusCode::OK, &json!({"cleared": true}))
        }
        (&Method::GET, "/_fake/script") => script(&shared.script()),
        (&Method::POST, "/_fake/script") => {
            let body = match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) => return Ok(refused(error.to_string())),
            };
            match Script::from_json(&body).and_then(|new| shared.set_script(new)) {
                Ok(()) => script(&shared.script()),
                Err(error) => refused(error.to_string()),
            }
        }
        _ => plain_json(StatusCode::NOT_FOUND, &json!({"error": "no such control"})),
    })
}
