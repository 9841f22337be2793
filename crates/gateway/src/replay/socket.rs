//! Answers that are kept, over a WebSocket: the events of the same journal, as messages.
//!
//! A run is kept when the upgrade says so (`Idempotency-Key`, `forebay-resume`) or its pipeline does. The message
//! `{"type":"resume","id":"req_…","last_event_id":7}` in place of an input reads on.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use contract::{Code, Error, RequestId, RetryHint};
use http::HeaderMap;
use serde::Deserialize;

use super::answer::{Broken, Read, Reader};
use super::events::{Message, Messages};
use super::layer;
use super::said::{self, Said};
use crate::app::App;
use crate::auth::Caller;

/// The longest body of an error.
const ERROR: usize = 64 << 10;

/// What the upgrade said about the run to come.
#[derive(Debug)]
pub(crate) struct Opening(Said);

/// Reads the head of an upgrade to a pipeline that may say itself how long it goes on without a reader: nothing when the
/// run is not to be kept.
pub(crate) fn opening(headers: &HeaderMap, window: Option<Duration>) -> Result<Option<Opening>, Error> {
    if !said::is_asked(headers) {
        return Ok(window.map(|_| Opening(Said { window, ..Said::default() })));
    }
    let said = Said::of(headers)?;
    Ok(Some(Opening(Said { window: said.window.or(window), ..said })))
}

/// The message that reads on.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum First {
    Resume {
        id: String,
        #[serde(default)]
        last_event_id: Option<u64>,
    },
}

/// A reader of the caller's own run, when that is what the first message asks for.
pub(crate) fn resume(app: &App, caller: &Caller, first: &[u8]) -> Option<Result<Kept, Error>> {
    if first.len() > 1_024 {
        return None;
    }
    let First::Resume { id, last_event_id } = match serde_json::from_slice(first) {
        Ok(resume) => resume,
        Err(e) => return says_resume(first).then(|| Err(malformed(&e))),
    };
    let found = id.parse::<RequestId>().map_err(|e| Error::new(Code::InvalidRequest, e).param("id"));
    let found = found.and_then(|id| layer::by_id(app, caller, id, last_event_id));
    // In the words of this message, which has no headers.
    let found = found.map_err(|e| match e.param.as_deref() {
        Some("last-event-id") => e.param("last_event_id"),
        _ => e,
    });
    Some(found.map(Kept::new))
}

/// Whether a message means to read on, however it says what.
fn says_resume(first: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    serde_json::from_slice::<Typed>(first).is_ok_and(|t| t.r#type == "resume")
}

fn malformed(e: &serde_json::Error) -> Error {
    let m = format!("the message `resume` needs the `id` of a request and may have a `last_event_id`: {e}");
    Error::new(Code::InvalidRequest, m).param("type")
}

/// Starts a run that is kept, or joins the one that goes on. `call` answers with a stream of native events.
pub(crate) fn run<F>(
    app: &App,
    caller: &Caller,
    opening: Opening,
    path: &str,
    first: &Bytes,
    call: impl FnOnce() -> F,
) -> Result<Kept, Error>
where
    F: Future<Output = Response> + Send + 'static,
{
    let asked = said::hash([b"socket", path.as_bytes(), first]);
    layer::enter(app, caller, asked, opening.0, call).map(|(reader, _)| Kept::new(reader))
}

/// The error that a response says.
fn refusal(body: &[u8], headers: &HeaderMap) -> Error {
    #[derive(Deserialize)]
    struct Body {
        error: Said,
    }
    #[derive(Deserialize)]
    struct Said {
        message: String,
        code: Code,
        #[serde(default)]
        param: Option<String>,
    }
    let Ok(Body { error }) = serde_json::from_slice(body) else { return broken() };
    let after = headers.get("retry-after-ms").and_then(|v| v.to_str().ok()?.parse().ok());
    let e = Error::new(error.code, error.message);
    let e = after.map_or(e.clone(), |ms| e.retry(RetryHint::After(Duration::from_millis(ms))));
    match error.param {
        Some(param) => e.param(param),
        None => e,
    }
}

fn broken() -> Error {
    Error::new(Code::Internal, "the run was given up before its end; this is a defect")
}

/// What comes over the socket.
#[derive(Debug)]
pub(crate) enum Next {
    Message(Message),
    Ping,
}

/// A run that is kept, as its reader sees it. Its drop is leaving.
#[derive(Debug)]
pub(crate) struct Kept {
    reader: Reader,
    messages: Messages,
    /// Whether the run is known to have begun.
    begun: bool,
}

impl Kept {
    fn new(reader: Reader) -> Kept {
        Kept { reader, messages: Messages::default(), begun: false }
    }

    /// What comes next; `None` behind the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Next, Error>> {
        if !self.begun {
            if let Err(e) = self.begin().await {
                return Some(Err(e));
            }
            self.begun = true;
        }
        loop {
            if let Some(message) = self.messages.next() {
                return Some(Ok(Next::Message(message)));
            }
            match self.reader.next().await? {
                Ok(Read::Bytes(bytes)) => self.messages.push(&bytes),
                Ok(Read::Ping(_)) => return Some(Ok(Next::Ping)),
                Err(Broken) => return Some(Err(broken())),
            }
        }
    }

    /// Waits for the run to begin, or for the error that refuses it.
    async fn begin(&mut self) -> Result<(), Error> {
        let head = self.reader.head().await.map_err(|Broken| broken())?;
        if head.status.is_success() {
            return Ok(());
        }
        let mut body = Vec::new();
        while let Some(Ok(Read::Bytes(bytes))) = self.reader.next().await
            && body.len() < ERROR
        {
            body.extend_from_slice(&bytes);
        }
        Err(refusal(&body, &head.headers))
    }

    /// Whether anything of it has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Stops the run, for everybody who reads it.
    pub(crate) fn stop(&self, e: Error) {
        Arc::clone(self.reader.answer()).stop(e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_means_to_read_on_is_no_input_and_what_is_wrong_with_it_is_said() {
        for (message, means) in [
            (r#"{"type":"resume"}"#, true),
            (r#"{"type":"resume","id":7}"#, true),
            (r#"{"type":"resume","id":"req_1","last":3}"#, true),
            (r#"{"input":"resume"}"#, false),
            (r#"{"type":"text","text":"resume"}"#, false),
            ("resume", false),
        ] {
            assert_eq!(says_resume(message.as_bytes()), means, "{message}");
            let Err(e) = serde_json::from_str::<First>(message) else { panic!("{message}") };
            let said = malformed(&e);
            assert!(said.code == Code::InvalidRequest && said.message.contains("last_event_id"), "{said}");
        }
    }
}
