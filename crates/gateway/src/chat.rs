//! A chat call, the same for every protocol: key, body, admission, answer. What a protocol differs in is its [`Protocol`].

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::BytesMut;
use contract::{Error, RequestId, Surface};
use futures_util::StreamExt;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use llm::surface::Call;
use llm::{Answer, Delta};

use crate::app::App;
use crate::body::{Encode, StreamBody};
use crate::came::Came;
use crate::deltas::Deltas;
use crate::errors::{self, Failure};
use crate::headers::{Facts, MANY};
use crate::jobs::background;
use crate::openai::event_stream;
use crate::request::Request;
use crate::{inside, router};

/// What a chat protocol differs in.
pub(crate) trait Protocol: 'static {
    /// Its name in records, errors and headers.
    const SURFACE: Surface;
    /// What its answers repeat of the request.
    type Echo: Send + 'static;
    /// Writes the events of its stream.
    type Stream: Encode<Delta> + Unpin + 'static;

    /// Whether the answer is to be made in the background.
    fn is_background(_: &Self::Echo) -> bool {
        false
    }
    /// Reads a body.
    fn parse(body: &[u8]) -> Result<(Call, Self::Echo), Error>;
    /// The events of an answer that begins.
    fn stream(head: &Head, echo: Self::Echo) -> Self::Stream;
    /// Writes an answer that does not stream.
    fn render(out: &mut BytesMut, head: &Head, echo: &Self::Echo, answer: &Answer);
}

/// What every answer repeats.
pub(crate) struct Head {
    pub(crate) id: String,
    /// As the caller named it, whoever answers.
    pub(crate) model: String,
    /// Seconds since the epoch.
    pub(crate) created: i64,
    /// The estimated input.
    pub(crate) input_tokens: u64,
    /// Whether a stream ends with its usage.
    pub(crate) include_usage: bool,
}

/// `POST` of a chat call.
pub(crate) async fn post<P: Protocol>(State(app): State<App>, came: Came) -> Response {
    match answer::<P>(&app, came).await {
        Ok(r) => r,
        Err(failure) => errors::answer(&app, P::SURFACE, failure),
    }
}

async fn answer<P: Protocol>(app: &App, mut came: Came) -> Result<Response, Box<Failure>> {
    let (caller, arrived) = (came.caller(app)?, came.arrived);
    let (call, echo) = P::parse(&came.body)?;
    if P::is_background(&echo) && !inside::is_behalf() {
        return Box::pin(background::accept(app, &caller, came.headers, came.body, call.model)).await;
    }
    // Nothing of it is needed while the answer is made, and an answer may take long.
    drop(came);
    let (stream, include_usage) = (call.request.stream, call.include_usage);
    let (model, input_tokens) = (call.model.as_str().to_owned(), router::input_tokens(app, &call));
    let created = app.inner.clock.wall().0 / 1_000;
    let (request, deltas) = router::call(app, caller, call, input_tokens, P::SURFACE, arrived).await?;
    let head = |id: RequestId| Head { id: id.to_string(), model, created, input_tokens, include_usage };
    let head = head(request.id());
    let (mut response, facts) = if stream {
        let facts = Facts::begun(&request, &deltas);
        let body =
            StreamBody::new(deltas, P::stream(&head, echo), request, app.generation.settings.ping, finish);
        (event_stream(Body::new(body.watched(&app.inner.readers))), facts)
    } else {
        let (answer, facts) = collect(request, deltas).await?;
        let mut out = BytesMut::with_capacity(256 + answer.text.len());
        P::render(&mut out, &head, &echo, &answer);
        let mut response = Response::new(Body::from(out.freeze()));
        response.headers_mut().reserve(MANY);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (response, facts)
    };
    facts.put(P::SURFACE, response.headers_mut());
    Ok(response)
}

/// The whole answer of a call that does not stream. The deltas are dropped before the request: what they used is known
/// when that settles.
async fn collect(mut request: Request, mut deltas: Deltas) -> Result<(Answer, Facts), Box<Failure>> {
    let mut answer = Answer::default();
    while let Some(next) = deltas.next().await {
        match next {
            Ok(delta) => answer.push(delta),
            Err(e) => match deltas.instead() {
                Some((text, finish)) => (answer.text, answer.finish) = (text, Some(finish)),
                None => {
                    drop(deltas);
                    return Err(request.refuse(e));
                }
            },
        }
    }
    request.first_output();
    let facts = Facts::ended_with(&request, &deltas);
    finish(deltas, request);
    Ok((answer, facts))
}

/// Ends the request as its answer ended.
fn finish(deltas: Deltas, request: Request) {
    match &deltas {
        Deltas::Pipeline(p, _) => match p.outcome() {
            Some(outcome) => request.outcome(outcome),
            None => drop(request),
        },
        Deltas::Model(..) => request.complete(),
    }
}
