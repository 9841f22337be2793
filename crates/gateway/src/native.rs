//! The native surface: `POST /v1/pipelines/{name}` answers JSON or an event stream. The WebSocket in `socket.rs` shows
//! the same events.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use contract::{Code, Deadline, Document, Error, Event, Kind, Media, Meter, Outcome, Surface, Tick, Value};
use futures_core::Stream;
use futures_util::StreamExt;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use pipeline::live::Live;
use pipeline::task;
use serde_json::{Value as Json, json};

use crate::app::{App, Pipeline};
use crate::auth::Caller;
use crate::body::{Encode, StreamBody};
use crate::came::Came;
use crate::drain::{self, Cut};
use crate::errors::{self, Failure};
use crate::headers::Facts;
use crate::heard::Heard;
use crate::ladder;
use crate::nested::Answered;
use crate::openai::{event_stream, json_response};
use crate::replay::{self, Told};
use crate::request::{Ask, Request, Target, storage_unavailable};
use crate::upload::{self, Given};

/// `POST /v1/pipelines/{name}`: a document in the body, as JSON `{"input": …}` or in a form's `file`.
pub(crate) async fn post(
    Path(name): Path<String>,
    State(app): State<App>,
    Query(query): Query<BTreeMap<String, String>>,
    came: Came,
) -> Response {
    match answer(&app, &name, &query, came).await {
        Ok(r) => r,
        Err(failure) => errors::answer(&app, Surface::Native, failure),
    }
}

async fn answer(
    app: &App,
    name: &str,
    query: &BTreeMap<String, String>,
    mut came: Came,
) -> Result<Response, Box<Failure>> {
    let caller = came.caller(app)?;
    let Came { arrived, headers, body, .. } = came;
    let found = app.pipeline(name).ok_or_else(unknown)?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut given = taken(app, &caller, &found.1, arrived, &content_type, body).await?;
    let wants = |k: &str| headers.get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains(k));
    given.stream |= wants("text/event-stream") || query.get("stream").is_some_and(|v| v == "true");
    let resume = found.1.resume.filter(|_| given.stream);
    if let Some(window) = resume {
        return resumable(app, caller, found, &given, arrived, window).await;
    }
    let (request, live) = start(app, caller, found, &given, arrived)?;
    if !given.stream {
        return whole(app.inner.drain.cut(), request, live).await;
    }
    Ok(streamed(app, request, live))
}

/// A stream that goes on for a while without its reader, because its pipeline says so.
async fn resumable(
    app: &App,
    caller: Caller,
    found: (contract::PipelineName, Pipeline),
    given: &Given,
    arrived: Tick,
    window: std::time::Duration,
) -> Result<Response, Box<Failure>> {
    if let Some(told) = replay::current() {
        // Its caller has it kept already.
        told.goes_on_for(window);
        let (request, live) = start(app, caller, found, given, arrived)?;
        return Ok(streamed(app, request, live));
    }
    let (tenant, told) = (caller.tenant.clone(), Arc::new(Told::default()));
    let (request, live) = told.clone().hear_now(|| start(app, caller, found, given, arrived))?;
    let response = streamed(app, request, live);
    Ok(replay::resumable(app, &tenant, told, window, response).await)
}

/// The events of a run whose input is the first message of a socket.
pub(crate) async fn events(
    app: App,
    caller: Caller,
    found: (contract::PipelineName, Pipeline),
    arrived: Tick,
    content_type: &'static str,
    body: Bytes,
) -> Response {
    let started = async {
        let mut given = taken(&app, &caller, &found.1, arrived, content_type, body).await?;
        given.stream = true;
        start(&app, caller, found, &given, arrived)
    };
    match started.await {
        Ok((request, live)) => streamed(&app, request, live),
        Err(failure) => errors::answer(&app, Surface::Native, failure),
    }
}

/// A run's events as an answer.
fn streamed(app: &App, request: Request, live: Live) -> Response {
    let facts = Facts::admitted(&request);
    let encode = Native::new(&request);
    let events = Events { live, cut: app.inner.drain.cut() };
    let body = StreamBody::new(events, encode, request, app.generation.settings.ping, finish);
    let mut response = event_stream(Body::new(body.watched(&app.inner.readers)));
    facts.put(Surface::Native, response.headers_mut());
    response
}

/// Takes an input apart: not while the server can begin nothing, and for no longer than the run may take.
pub(crate) async fn taken(
    app: &App,
    caller: &Caller,
    pipeline: &Pipeline,
    arrived: Tick,
    content_type: &str,
    body: Bytes,
) -> Result<Given, Error> {
    let refusal = match () {
        () if app.is_draining() => Some(drain::refusal()),
        () if !app.inner.ledger.is_healthy() => Some(storage_unavailable()),
        () => None,
    };
    if let Some(e) = refusal {
        app.inner.metrics.refused(crate::metrics::At::Gate, &caller.tenant, &e);
        return Err(e);
    }
    let total = pipeline.graph.budget.total.unwrap_or(app.generation.settings.total);
    let read = upload::read(app, &pipeline.graph.input, content_type, body);
    let read = app.inner.drain.cut().or(read);
    match task::within(&*app.inner.clock, Deadline::from_now(arrived, total), read).await {
        Ok(given) => given,
        Err(task::Elapsed) => {
            let m = "the input could not be taken apart within the pipeline's time: send a smaller document";
            Err(Error::new(Code::DeadlineExceeded, m))
        }
    }
}

pub(crate) fn unknown() -> Error {
    Error::new(Code::NotFound, "there is no pipeline of that name: GET /v1/models lists them").param("name")
}

/// Admits a call of a pipeline. The run is to be dropped before its request: what it used is known when that settles.
pub(crate) fn start(
    app: &App,
    caller: Caller,
    found: (contract::PipelineName, Pipeline),
    given: &Given,
    arrived: Tick,
) -> Result<(Request, Live), Box<Failure>> {
    let asked = found.0.clone();
    let ((name, pipeline), chosen) = app.choose(found, &caller.tenant, given.user.as_ref())?;
    let of = ladder::Call {
        name: &name,
        caller: &caller,
        user: given.user.as_ref(),
        input: &given.input,
        stream: given.stream,
        takes_job: caller.takes_job != Some(false),
    };
    let (pipeline, instead, start) = ladder::descend(app, &of, pipeline)?.parts();
    let ask = Ask {
        heard: app.hears(&[asked.as_str(), name.as_str()], |names, texts| {
            Heard::of_value(names, texts, &given.input)
        }),
        instead,
        chosen,
        surface: app.generation.settings.surface,
        target: Target::Pipeline(name, Box::new(pipeline)),
        user: given.user.clone(),
        stream: given.stream,
        input_tokens: upload::tokens(&given.input),
        max_output_tokens: None,
        arrived,
    };
    let request = Request::admit(app, caller, ask, |_| None)?;
    let live = start.live(given.input.clone(), request.cx.clone());
    Ok((request, live))
}

pub(crate) fn accepted(request: &Request) -> Event {
    let outlook = request.outlook();
    let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    Event::Accepted {
        id: request.id(),
        queue_position: outlook.ahead as u64,
        expected_wait_ms: outlook.wait.map_or(0, millis),
    }
}

fn finish(events: Events, request: Request) {
    match events.live.outcome() {
        Some(outcome) => request.outcome(outcome),
        None => drop(request),
    }
}

/// The whole answer as one JSON object: the output, how it ended, and what it took. A partial answer is a 200 with its
/// error beside it.
async fn whole(cut: Cut, mut request: Request, mut live: Live) -> Result<Response, Box<Failure>> {
    let mut done = Json::Null;
    let mut draft = None;
    let to_the_end = async {
        while let Some(event) = live.next().await {
            match event {
                Event::Draft { text } => draft = Some(text),
                Event::Done { .. } => done = serde_json::to_value(&event).unwrap_or_default(),
                _ => {}
            }
        }
        Ok(())
    };
    if let Err(e) = cut.or(to_the_end).await {
        drop(live);
        return Err(request.refuse(e));
    }
    let Some(outcome) = live.outcome().cloned() else {
        let e = Error::new(Code::Internal, "the run ended without an outcome; this is a defect");
        return Err(request.refuse(e));
    };
    let (output, error) = match &outcome {
        Outcome::Complete(v) => (v.clone(), None),
        Outcome::Partial(v, e) => (v.clone(), Some(e)),
        Outcome::Failed(e) => match draft {
            Some(text) if !matches!(e.code, Code::Cancelled) => (Value::text(text), Some(e)),
            _ => return Err(request.refuse(e.clone())),
        },
    };
    request.first_output();
    let (id, facts) = (request.id(), Facts::ended(&request));
    let answered = Answered(request.cx.meter.answered());
    request.outcome(&outcome);
    let mut body = json!({"id": id, "output": output.to_json()});
    if let (Some(map), Json::Object(done)) = (body.as_object_mut(), done) {
        map.insert("complete".into(), error.is_none().into());
        if let Some(e) = error {
            map.insert("error".into(), serde_json::to_value(Event::error(e, true)).unwrap_or_default());
        }
        map.extend(done.into_iter().filter(|(k, _)| !["type", "done", "output"].contains(&k.as_str())));
    }
    let mut response = json_response(StatusCode::OK, &body);
    facts.put(Surface::Native, response.headers_mut());
    response.extensions_mut().insert(answered);
    Ok(response)
}

/// A run's events. The stream itself fails only when the server cannot wait for its end.
struct Events {
    live: Live,
    cut: Cut,
}

impl Stream for Events {
    type Item = Result<Event, Error>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut self.live).poll_next(cx) {
            Poll::Ready(Some(_)) if self.cut.is_cut() => Poll::Ready(Some(Err(drain::error()))),
            Poll::Pending => self.cut.poll(cx).map(|()| Some(Err(drain::error()))),
            ready => ready.map(|e| e.map(Ok)),
        }
    }
}

/// The last event of a run that was broken off, from what is known of it. The run itself must be gone already.
pub(crate) fn done(meter: &Meter) -> Event {
    let spent = meter.spent();
    Event::Done {
        done: true,
        usage: spent.usage,
        cost_nanousd: spent.cost,
        stages: meter.stages(),
        output: None,
        facts: meter.facts(),
        model_version: meter.model_version(),
    }
}

/// Server-sent events with increasing ids.
struct Native {
    next: u64,
    opening: Option<Event>,
    /// Whether something useful was shown.
    useful: bool,
    meter: Arc<Meter>,
}

impl Native {
    fn new(request: &Request) -> Native {
        let next = if request.is_kept() { replay::first_event(request.id()) } else { 0 };
        Native { next, opening: Some(accepted(request)), useful: false, meter: request.cx.meter.clone() }
    }

    fn write(&mut self, out: &mut BytesMut, event: &Event) {
        write(out, self.next, event);
        self.next += 1;
    }
}

/// Writes an event with its id.
pub(crate) fn write(out: &mut BytesMut, id: u64, event: &Event) {
    use std::fmt::Write;
    let json = serde_json::to_string(event).unwrap_or_default();
    // A BytesMut takes whatever is written.
    let _ = write!(out, "id: {id}\nevent: {}\ndata: {json}\n\n", event.name());
}

impl Encode<Event> for Native {
    fn open(&mut self, out: &mut BytesMut) {
        if let Some(event) = self.opening.take() {
            self.write(out, &event);
        }
    }
    fn item(&mut self, out: &mut BytesMut, event: Event) -> bool {
        self.write(out, &event);
        let useful = matches!(event, Event::Draft { .. } | Event::Delta { .. });
        self.useful |= useful;
        useful
    }
    fn close(&mut self, out: &mut BytesMut, end: Result<(), &Error>) {
        if let Err(e) = end {
            self.write(out, &Event::error(e, self.useful));
            self.write(out, &done(&self.meter));
        }
    }
}

/// Text as the kind a pipeline takes.
pub(crate) fn text_input(kind: &Kind, text: String) -> Result<Value, Error> {
    match kind {
        Kind::Document => Ok(Value::Document(Arc::new(Document {
            title: None,
            media: Media::Plain,
            text: text.into(),
            sections: Vec::new(),
        }))),
        Kind::Json(_) => Ok(Value::Json(Arc::new(Json::String(text)))),
        _ => Ok(Value::text(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events that a run shows which is broken off after `shown`.
    fn broken_off(shown: Vec<Event>) -> Vec<Json> {
        let meter = Arc::new(Meter::default());
        let mut native = Native { next: 0, opening: None, useful: false, meter };
        let mut out = BytesMut::new();
        for event in shown {
            native.item(&mut out, event);
        }
        native.close(&mut out, Err(&Error::new(Code::DeadlineExceeded, "too late")));
        let text = String::from_utf8(out.to_vec()).unwrap();
        let data = text.lines().filter_map(|l| l.strip_prefix("data: "));
        data.map(|d| serde_json::from_str(d).unwrap()).collect()
    }

    #[test]
    fn a_stream_that_is_broken_off_says_whether_its_output_is_usable_and_is_done() {
        for (shown, partial) in [(vec![], false), (vec![Event::Draft { text: "a".into() }], true)] {
            let events = broken_off(shown);
            let [.., error, done] = events.as_slice() else { panic!("{events:?}") };
            assert_eq!(
                (&error["code"], &error["partial"], &done["type"], &done["done"]),
                (&json!("deadline_exceeded"), &json!(partial), &json!("done"), &json!(true)),
            );
        }
    }
}
