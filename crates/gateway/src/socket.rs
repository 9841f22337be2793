//! A pipeline over a WebSocket: `GET /v1/pipelines/{name}` with an upgrade.
//!
//! The first message is the input; then events flow, each with an increasing `event_id`, and the server closes.
//! A first message `{"type":"resume",…}` reads on in a run that is kept (see [`crate::replay`]), as does the same input
//! under the same `Idempotency-Key`. Meanwhile the caller may say `{"type":"cancel"}`, which stops the run, and `{"type":"pong"}`, which says nothing.
//! What it says is heard even while it does not read. After a silence the server sends a ping.
//!
//! One task drives the run, the reader and the writer: dropping it cancels everything.

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use contract::{Code, Deadline, Error, Event, PipelineName, Surface};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use pipeline::live::Live;
use pipeline::task;
use serde::Deserialize;

use crate::app::{App, Pipeline};
use crate::auth::Caller;
use crate::drain::{self, Conversation};
use crate::native::{accepted, done, start, taken, unknown};
use crate::replay::{self, Kept, Next, Opening};
use crate::request::Request;
use crate::{auth, errors, native};

/// How long the last events may take to be written to a caller that reads slowly.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(5);

/// The same for the closing handshake of a server that ends.
const HURRIED: std::time::Duration = std::time::Duration::from_millis(500);

pub(crate) async fn socket(
    Path(name): Path<String>,
    State(app): State<App>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let checked = auth::caller(&app, &headers).and_then(|caller| {
        let found = app.pipeline(&name).ok_or_else(unknown)?;
        let m = "GET opens a WebSocket here, and this is no WebSocket handshake: upgrade, or use POST";
        let opening = replay::opening(&headers, found.1.resume)?;
        Ok((caller, found, opening, upgrade.map_err(|_| Error::new(Code::InvalidRequest, m))?))
    });
    match checked {
        Ok((caller, found, opening, upgrade)) => {
            let limit = app.generation.settings.limits.body_bytes;
            // From here on: the connection is no longer there for the drain to wait for.
            let going_on = app.inner.drain.conversation();
            upgrade
                .max_message_size(limit)
                .max_frame_size(limit)
                .on_upgrade(move |socket| converse(app, caller, found, opening, socket, going_on))
        }
        Err(e) => errors::answer(&app, Surface::Native, &e),
    }
}

async fn converse(
    app: App,
    caller: Caller,
    found: (PipelineName, Pipeline),
    opening: Option<Opening>,
    socket: WebSocket,
    _going_on: Conversation,
) {
    let (out, mut from) = socket.split();
    let mut out = Out { socket: out, next: 0 };
    if let Err(e) = run(&app, caller, found, opening, &mut out, &mut from).await {
        let _ = tokio::time::timeout(FAREWELL, out.send(&Event::error(&e, false))).await;
    }
    // The closing handshake: what the caller still says is read until it closes too.
    let closing = async {
        let _ = out.socket.close().await;
        while let Some(Ok(_)) = from.next().await {}
    };
    let hurried = async {
        app.inner.drain.started().await;
        task::sleep(HURRIED).await;
    };
    tokio::select! {
        _ = tokio::time::timeout(FAREWELL, closing) => {}
        () = hurried => {}
    }
}

/// A request that is under way.
struct Open {
    /// Taken when it settles.
    request: Option<Request>,
    /// Whether something useful was told.
    useful: bool,
}

/// How the conversation went on while the run did.
enum Heard {
    Cancel,
    Left,
    Cut,
}

impl Heard {
    fn error(self) -> Error {
        match self {
            Heard::Left => left(),
            Heard::Cancel => stopped(),
            Heard::Cut => drain::error(),
        }
    }
}

async fn run(
    app: &App,
    caller: Caller,
    found: (PipelineName, Pipeline),
    opening: Option<Opening>,
    out: &mut Out,
    from: &mut SplitStream<WebSocket>,
) -> Result<(), Error> {
    // Who has asked for nothing yet is not waited for.
    let first = tokio::select! {
        first = input(app, from) => first?,
        () = app.inner.drain.started() => return Err(drain::refusal()),
    };
    let arrived = app.inner.clock.now();
    let json = first.trim_ascii_start().starts_with(b"{");
    if word(&first) == Some(Word::Cancel) {
        return Err(stopped());
    }
    let content_type = if json { "application/json" } else { "" };
    if let Some(kept) = replay::resume(app, &caller, &first) {
        return follow(app, kept?, out, from).await;
    }
    if let Some(opening) = opening {
        let (name, of) = (found.0.clone(), caller.clone());
        let input = first.clone();
        let call = || native::events(app.clone(), caller, found, arrived, content_type, input);
        let kept = replay::run(app, &of, opening, name.as_str(), &first, call)?;
        return follow(app, kept, out, from).await;
    }
    let mut given = tokio::select! {
        given = taken(app, &caller, &found.1, arrived, content_type, first) => given?,
        heard = listen(from) => return Err(heard.error()),
    };
    given.stream = true;
    let (request, live) = start(app, caller, found, &given, arrived)?;
    let mut open = Open { request: Some(request), useful: false };
    // Declared last and so dropped first: what it used is known when the request settles.
    let mut live = live;
    let heard = {
        let mut cut = app.inner.drain.cut();
        tokio::select! {
            ended = tell(app, &mut live, &mut open, out) => return ended,
            heard = listen(from) => heard,
            () = std::future::poll_fn(|cx| cut.poll(cx)) => Heard::Cut,
        }
    };
    if matches!(heard, Heard::Left) {
        return Err(left());
    }
    let e = heard.error();
    let Some(request) = open.request.take() else { return Ok(()) };
    drop(live);
    let (done, useful) = (done(&request.cx.meter), open.useful);
    request.failed(&e, useful);
    let farewell = async {
        out.send(&Event::error(&e, useful)).await?;
        out.send(&done).await
    };
    tokio::time::timeout(FAREWELL, farewell).await.unwrap_or(Ok(()))
}

/// Shows a run that is kept. The caller who leaves it leaves it to others, and to himself.
async fn follow(
    app: &App,
    mut kept: Kept,
    out: &mut Out,
    from: &mut SplitStream<WebSocket>,
) -> Result<(), Error> {
    let mut cut = app.inner.drain.cut();
    let heard = tokio::select! {
        ended = forward(&mut kept, out) => return ended,
        heard = listen(from) => heard,
        () = std::future::poll_fn(|cx| cut.poll(cx)) => Heard::Cut,
    };
    match heard {
        Heard::Left => return Err(left()),
        Heard::Cancel => {
            kept.stop(stopped());
            if !kept.has_begun() {
                return Err(stopped());
            }
        }
        Heard::Cut => {}
    }
    // The run says itself how it ended.
    tokio::time::timeout(FAREWELL, forward(&mut kept, out)).await.unwrap_or(Ok(()))
}

/// Sends events until the last. Cancel-safe: what was taken was handed over.
async fn forward(kept: &mut Kept, out: &mut Out) -> Result<(), Error> {
    loop {
        out.ready().await?;
        match kept.next().await {
            Some(Ok(Next::Message(m))) => out.hand_over(m.id, m.data)?,
            Some(Ok(Next::Ping)) => out.hand_over_ping()?,
            Some(Err(e)) => return Err(e),
            None => return Ok(()),
        }
    }
}

/// The first message with content. It may be long in coming, since a person may have to choose it, but not for ever.
async fn input(app: &App, from: &mut SplitStream<WebSocket>) -> Result<Bytes, Error> {
    let limits = app.generation.settings.limits;
    let clock = &*app.inner.clock;
    let deadline = Deadline::from_now(clock.now(), limits.read.saturating_mul(4));
    loop {
        match task::within(clock, deadline, from.next()).await {
            Ok(Some(Ok(Frame::Text(t)))) if word(t.as_bytes()) == Some(Word::Pong) => {}
            Ok(Some(Ok(Frame::Text(t)))) => return Ok(Bytes::from(t)),
            Ok(Some(Ok(Frame::Binary(b)))) => return Ok(b),
            Ok(Some(Ok(Frame::Ping(_) | Frame::Pong(_)))) => {}
            Ok(Some(Ok(Frame::Close(_))) | None) => return Err(left()),
            Ok(Some(Err(_))) => {
                let m = "the message cannot be read: send text in UTF-8, or bytes";
                return Err(Error::new(Code::InvalidRequest, format!("{m}, {} at most", limits.body_bytes)));
            }
            Err(task::Elapsed) => {
                return Err(Error::new(Code::DeadlineExceeded, "no input came, and the socket was given up"));
            }
        }
    }
}

/// Sends the run's events until its last.
async fn tell(app: &App, live: &mut Live, open: &mut Open, out: &mut Out) -> Result<(), Error> {
    if let Some(request) = &open.request {
        out.send(&accepted(request)).await?;
    }
    loop {
        let event = match tokio::time::timeout(app.generation.settings.ping, live.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(()),
            Err(_) => {
                out.ping().await?;
                continue;
            }
        };
        if matches!(event, Event::Draft { .. } | Event::Delta { .. })
            && let Some(request) = &mut open.request
        {
            open.useful = true;
            request.first_output();
        }
        if matches!(event, Event::Done { .. })
            && let (Some(outcome), Some(request)) = (live.outcome(), open.request.take())
        {
            // The ledger first, then the last event: who has seen the end finds it in the ledger.
            request.outcome(outcome);
        }
        out.send(&event).await?;
    }
}

/// Hears what the caller says until it matters.
async fn listen(from: &mut SplitStream<WebSocket>) -> Heard {
    loop {
        match from.next().await {
            Some(Ok(Frame::Text(t))) if word(t.as_bytes()) == Some(Word::Cancel) => return Heard::Cancel,
            Some(Ok(Frame::Close(_)) | Err(_)) | None => return Heard::Left,
            Some(Ok(_)) => {}
        }
    }
}

/// What the caller may say that carries nothing.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Word {
    Cancel,
    Pong,
}

fn word(message: &[u8]) -> Option<Word> {
    // A document is not read twice to find that it is none.
    if message.len() > 1_024 { None } else { serde_json::from_slice(message).ok() }
}

fn left() -> Error {
    Error::new(Code::Cancelled, "the caller left")
}

fn stopped() -> Error {
    Error::new(Code::Cancelled, "the caller said stop")
}

/// The caller's side of the socket, with the number of the next event.
struct Out {
    socket: SplitSink<WebSocket, Frame>,
    next: u64,
}

impl Out {
    async fn send(&mut self, event: &Event) -> Result<(), Error> {
        self.ready().await?;
        let json = serde_json::to_string(event).unwrap_or_default();
        self.hand_over(self.next, json)?;
        self.ready().await
    }

    /// Resolves when the last message was written and there is room for another.
    async fn ready(&mut self) -> Result<(), Error> {
        self.socket.flush().await.map_err(|_| left())?;
        std::future::poll_fn(|cx| self.socket.poll_ready_unpin(cx)).await.map_err(|_| left())
    }

    /// Hands over an event, which is a JSON object. There has to be room for it.
    fn hand_over(&mut self, id: u64, mut json: String) -> Result<(), Error> {
        // Every event is an object with a `type`.
        json.pop();
        json.push_str(&format!(",\"event_id\":{id}}}"));
        self.next = id + 1;
        self.socket.start_send_unpin(Frame::Text(json.into())).map_err(|_| left())
    }

    fn hand_over_ping(&mut self) -> Result<(), Error> {
        self.socket.start_send_unpin(Frame::Ping(Bytes::new())).map_err(|_| left())
    }

    async fn ping(&mut self) -> Result<(), Error> {
        self.socket.send(Frame::Ping(Bytes::new())).await.map_err(|_| left())
    }
}
