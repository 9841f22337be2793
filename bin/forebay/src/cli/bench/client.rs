//! One request from the moment it was meant to be sent to the end of its answer.

use std::time::Duration;

use bytes::Bytes;
use contract::{Clock as _, Secret, SystemClock, Tick};
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;

use super::answer::{self, Events, Outcome, Took};
use super::args::Speaks;
use super::plan::Planned;
use super::wire::Maker;
use crate::Error;
use crate::cli::client::{Body, Client, whole};
use crate::cli::remote::present;

/// The largest answer that is read whole.
const ANSWER_LIMIT: usize = 64 << 20;
/// The largest error that is read.
const ERROR_LIMIT: usize = 1 << 20;

/// What is known of a request that ended.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) planned: Planned,
    /// From the moment it was meant to be sent to the moment it was, in microseconds: the client's own delay.
    pub(super) late_us: u64,
    /// From the moment it was meant to be sent to the first output; a streamed answer's only.
    pub(super) first_us: Option<u64>,
    /// From the moment it was meant to be sent to the end.
    pub(super) total_us: u64,
    pub(super) outcome: Outcome,
    pub(super) took: Took,
}

impl Sample {
    /// When it ended, from the step's beginning.
    pub(super) fn ended(&self) -> Duration {
        self.planned.due + Duration::from_micros(self.total_us)
    }

    /// Between two tokens of a stream: none where fewer than two came.
    pub(super) fn tpot_us(&self) -> Option<u64> {
        let behind = self.took.output_tokens.checked_sub(1).filter(|n| *n > 0)?;
        Some(self.total_us.saturating_sub(self.first_us?) / behind)
    }
}

/// The server under load, and how it is asked.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) base: String,
    /// The key of each tenant.
    pub(super) keys: Vec<Option<Secret>>,
    pub(super) maker: Maker,
    pub(super) timeout: Duration,
    pub(super) clock: SystemClock,
}

impl Target {
    /// A request, whole.
    pub(super) fn prepare(&self, planned: &Planned) -> Result<Request<Bytes>, Error> {
        let mut request = self.maker.request(planned)?;
        let address = format!("{}{}", self.base, request.uri());
        *request.uri_mut() = address.parse::<Uri>().map_err(|e| {
            Error::new(format!("`{}` is no address: {e}", super::clean(&address)), "check --url and --model")
        })?;
        present(&mut request, self.keys.get(planned.tenant).and_then(Option::as_ref))?;
        if self.maker.speaks == Speaks::Anthropic {
            // Anthropic's own clients send the key bare.
            let bearer = request.headers_mut().remove(AUTHORIZATION);
            let bare =
                bearer.and_then(|b| HeaderValue::from_bytes(b.as_bytes().strip_prefix(b"Bearer ")?).ok());
            if let Some(mut key) = bare {
                key.set_sensitive(true);
                request.headers_mut().insert("x-api-key", key);
            }
        }
        Ok(request)
    }

    /// Sends one and reads its answer. `began`: the step's beginning.
    pub(super) async fn ask(&self, planned: Planned, began: Tick) -> Sample {
        let meant = began.after(planned.due);
        let since = |at: Tick| u64::try_from(at.since(meant).as_micros()).unwrap_or(u64::MAX);
        let late_us = since(self.clock.now());
        let mut took = Took::default();
        let mut first_us = None;
        let answered = tokio::time::timeout(
            self.timeout,
            self.answer(&planned, &mut took, || first_us = Some(since(self.clock.now()))),
        );
        let outcome = answered.await.unwrap_or(Outcome::TimedOut);
        Sample { planned, late_us, first_us, total_us: since(self.clock.now()), outcome, took }
    }

    async fn answer(&self, planned: &Planned, took: &mut Took, first: impl FnOnce()) -> Outcome {
        let Ok(request) = self.prepare(planned) else { return Outcome::Broken(answer::NO_CONNECTION) };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(e) if no_socket(&e) => return Outcome::NoSocket,
            Err(e) if e.is_connect() => return Outcome::Broken(answer::NO_CONNECTION),
            Err(_) => return Outcome::Broken(answer::LOST),
        };
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            let said = whole(body, ERROR_LIMIT).await.unwrap_or_default();
            return answer::refused(head.status, &head.headers, &said);
        }
        took.cost_nanousd = answer::cost(&head.headers);
        if !planned.stream {
            return match whole(body, ANSWER_LIMIT).await {
                Ok(bytes) => answer::whole(self.maker.speaks, &bytes, took),
                Err(_) => Outcome::Broken(answer::LOST),
            };
        }
        stream(self.maker.speaks, body, took, first).await
    }

    /// Asks once, to see that there is a server, a key and a model; what is wrong is said with what to do about it.
    pub(super) async fn probe(&self, planned: &Planned) -> Result<(), Error> {
        let response: Response<Body> = self.client.send(self.prepare(planned)?).await?;
        let (head, body) = response.into_parts();
        let bytes = whole(body, ANSWER_LIMIT).await?;
        // An overloaded or failing server is what a bench is for; a wrong question is not.
        if matches!(head.status.as_u16(), 400 | 401 | 403 | 404 | 405 | 413 | 415 | 422) {
            return Err(crate::cli::remote::Refused::read(head.status, &bytes).into_error());
        }
        Ok(())
    }
}

/// Whether a connection failed for want of a file or a port, which is this machine's doing.
fn no_socket(error: &(dyn std::error::Error + 'static)) -> bool {
    // ENFILE and EMFILE, which have no kind of their own.
    const FILES: [i32; 2] = [23, 24];
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && (io.kind() == std::io::ErrorKind::AddrNotAvailable
                || io.raw_os_error().is_some_and(|n| FILES.contains(&n)))
        {
            return true;
        }
        next = e.source();
    }
    false
}

async fn stream(speaks: Speaks, mut body: Body, took: &mut Took, first: impl FnOnce()) -> Outcome {
    let mut events = Events::new(speaks);
    let mut first = Some(first);
    let mut lost = false;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            lost = true;
            break;
        };
        let Some(data) = frame.data_ref() else { continue };
        if events.feed(data)
            && let Some(first) = first.take()
        {
            first();
        }
    }
    let known = took.cost_nanousd;
    let (outcome, said) = events.end(lost);
    *took = said;
    took.cost_nanousd = said.cost_nanousd.or(known);
    outcome
}
