//! Calls that stages of durable runs make of pipelines that answer requests: through the very route, on behalf of the run's
//! tenant, in the batch lane of every model. So whatever holds for a request holds for them: admission, limits, budgets, the
//! ladder of a busy pipeline, the ledger.

use contract::{BoxFuture, Code, Error, Media, ModelName, Money, Outcome, Usage, Value};
use http::header::CONTENT_TYPE;
use pipeline::nested::{Answer, Call, Given, Live};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use text::extract;

use crate::current::{Current, Latest};
use crate::errors::Said;
use crate::inside::{self, Behalf};
use crate::router::router;
use crate::segment::segment;

/// Who calls. The gateway keeps what the runs work with, so this does not keep the gateway; each call is made under the
/// configuration of its time.
pub(crate) struct Caller {
    gateway: Latest,
}

impl Caller {
    pub(crate) fn of(current: &Current) -> Caller {
        Caller { gateway: current.downgrade() }
    }
}

/// The models that an answer came from: beside it, for who calls from inside.
#[derive(Clone)]
pub(crate) struct Answered(pub(crate) Vec<(ModelName, Option<String>)>);

/// An answer of the native surface.
#[derive(Deserialize)]
struct Body {
    output: Json,
    complete: bool,
    #[serde(default)]
    error: Option<Event>,
    #[serde(default)]
    usage: Usage,
    #[serde(default)]
    cost_nanousd: Money,
}

/// The error of one that is not complete.
#[derive(Deserialize)]
struct Event {
    code: Code,
    message: String,
}

fn failed(e: Error) -> Answer {
    Answer { outcome: Outcome::Failed(e), usage: Usage::default(), cost: Money::ZERO, models: Vec::new() }
}

fn media_type(media: Option<Media>) -> &'static str {
    match media {
        Some(Media::Plain) => "text/plain",
        Some(Media::Markdown) => "text/markdown",
        Some(Media::Html) => "text/html",
        Some(Media::Pdf) => "application/pdf",
        // The bytes tell.
        None => "application/octet-stream",
    }
}

/// The request that a call is.
fn request(name: &str, given: Given) -> Result<http::Request<bytes::Bytes>, Error> {
    let (kind, body) = match given {
        Given::File { name, bytes } => (media_type(extract::media_of_name(&name)), bytes),
        Given::Value(value) => {
            let input = match &value {
                Value::Messages(messages) => serde_json::to_value(&**messages).unwrap_or_default(),
                value => value.to_json(),
            };
            ("application/json", json!({ "input": input }).to_string().into_bytes())
        }
    };
    http::Request::post(format!("/v1/pipelines/{}", segment(name)))
        .header(CONTENT_TYPE, kind)
        // An answer now, and no job in its place.
        .header(crate::auth::ACCEPT, "answer")
        .body(body.into())
        .map_err(|e| Error::new(Code::Internal, format!("the pipeline `{name}` cannot be asked: {e}")))
}

/// What an answer says.
fn answer(response: &http::Response<bytes::Bytes>) -> Answer {
    if let Some(said) = response.extensions().get::<Said>() {
        return failed(Error::clone(&said.0));
    }
    let Ok(body) = serde_json::from_slice::<Body>(response.body()) else {
        return failed(Error::new(Code::Internal, format!("the route answered {}", response.status())));
    };
    let outcome = match (body.complete, body.error) {
        (true, _) => Outcome::Complete(body.output),
        (false, error) => {
            let error = error.map(|e| Error::new(e.code, e.message));
            let unknown = || Error::new(Code::PartFailed, "the answer is not complete");
            Outcome::Partial(body.output, error.unwrap_or_else(unknown))
        }
    };
    let models = response.extensions().get::<Answered>().map(|a| a.0.clone()).unwrap_or_default();
    Answer { outcome, usage: body.usage, cost: body.cost_nanousd, models }
}

impl Live for Caller {
    fn call(&self, call: Call) -> BoxFuture<'static, Answer> {
        let app = self.gateway.app();
        Box::pin(async move {
            let Some(app) = app else { return failed(crate::drain::refusal()) };
            // The end of the server waits for it, as for every answer under way.
            let _going_on = app.inner.drain.conversation();
            let request = match request(call.pipeline.as_str(), call.input) {
                Ok(request) => request,
                Err(e) => return failed(e),
            };
            let behalf = Behalf::of(call.tenant, None, admission::Priority::Batch, call.id).again(call.again);
            answer(&inside::call_for(behalf, router(app), request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_is_one_segment_that_reads_back(name in "\\PC{1,20}") {
            let segment = segment(&name);
            prop_assert!(segment.is_ascii() && !segment.contains(['/', '?', '#', ' ']));
            let mut bytes = Vec::new();
            let mut rest = segment.as_bytes();
            while let [first, tail @ ..] = rest {
                if *first == b'%' {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
                    rest = &tail[2..];
                } else {
                    bytes.push(*first);
                    rest = tail;
                }
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), name);
        }
    }

    #[test]
    fn an_answer_that_is_not_complete_says_why_and_what_it_used() {
        let body = json!({
            "id": "req_1", "output": "half", "complete": false, "usage": {"input_tokens": 3, "output_tokens": 1},
            "cost_nanousd": 70, "error": {"type": "error", "code": "deadline_exceeded", "message": "late", "partial": true},
        });
        let got = answer(&http::Response::new(body.to_string().into()));
        assert!(
            matches!(&got.outcome, Outcome::Partial(v, e) if v == "half" && e.code == Code::DeadlineExceeded)
        );
        assert_eq!((got.usage.total(), got.cost), (4, Money::from_nanos(70)));
        let none = answer(&http::Response::new("<html>".into()));
        assert!(matches!(none.outcome, Outcome::Failed(e) if e.code == Code::Internal));
    }
}
