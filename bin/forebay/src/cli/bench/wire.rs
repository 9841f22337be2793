//! A planned request as bytes, for each protocol.

use bytes::Bytes;
use gateway::segment;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request};
use serde_json::json;

use super::args::Speaks;
use super::plan::Planned;
use super::text::{Prompt, Source};
use crate::Error;

/// Makes requests of a run.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) speaks: Speaks,
    pub(super) model: String,
    pub(super) source: Source,
}

const JSON: &str = "application/json";

impl Maker {
    /// The request without its key, its address a path.
    pub(super) fn request(&self, planned: &Planned) -> Result<Request<Bytes>, Error> {
        let prompt = self.source.prompt(planned.number, planned.input, planned.seed);
        let (path, media, body) = match (self.speaks, prompt) {
            (Speaks::Native, Prompt::Document(d)) => (self.path(), d.media, d.bytes.clone()),
            (Speaks::Native, Prompt::Text(text)) => (self.path(), "text/plain", text.into()),
            (_, Prompt::Document(d)) => {
                (self.path(), JSON, self.chat(planned, &String::from_utf8_lossy(&d.bytes)))
            }
            (_, Prompt::Text(text)) => (self.path(), JSON, self.chat(planned, &text)),
        };
        let accept = if planned.stream { "text/event-stream" } else { JSON };
        let mut request = Request::post(path).header(CONTENT_TYPE, media).header(ACCEPT, accept);
        if self.speaks == Speaks::Anthropic {
            request = request.header("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        request.body(body).map_err(|e| Error::new(format!("cannot ask: {e}"), "check --model"))
    }

    fn path(&self) -> String {
        match self.speaks {
            Speaks::Openai => "/v1/chat/completions".into(),
            Speaks::Anthropic => "/v1/messages".into(),
            Speaks::Native => format!("/v1/pipelines/{}", segment(&self.model)),
        }
    }

    fn chat(&self, planned: &Planned, text: &str) -> Bytes {
        let mut body = json!({
            "model": self.model,
            "max_tokens": planned.output,
            "messages": [{"role": "user", "content": text}],
        });
        if let Some(fields) = body.as_object_mut()
            && planned.stream
        {
            fields.insert("stream".into(), true.into());
            if self.speaks == Speaks::Openai {
                fields.insert("stream_options".into(), json!({"include_usage": true}));
            }
        }
        body.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::cli::bench::random::Random;

    fn made(speaks: Speaks, stream: bool) -> Request<Bytes> {
        let source = Source::words(&mut Random::new(1));
        let planned = Planned {
            number: 3,
            due: Duration::ZERO,
            measured: true,
            tenant: 0,
            input: 20,
            output: 7,
            stream,
            seed: 1,
        };
        Maker { speaks, model: "a b".into(), source }.request(&planned).unwrap()
    }

    #[test]
    fn each_protocol_gets_its_own_request() {
        let openai = made(Speaks::Openai, true);
        let body: Value = serde_json::from_slice(openai.body()).unwrap();
        assert_eq!(openai.uri(), "/v1/chat/completions");
        assert_eq!((&body["max_tokens"], &body["stream"]), (&json!(7), &json!(true)));
        assert_eq!(body["stream_options"]["include_usage"], json!(true));
        assert!(body["messages"][0]["content"].as_str().unwrap().starts_with("Text 3. "));

        let anthropic = made(Speaks::Anthropic, false);
        let body: Value = serde_json::from_slice(anthropic.body()).unwrap();
        assert_eq!(anthropic.uri(), "/v1/messages");
        assert_eq!((&body["model"], body.get("stream")), (&json!("a b"), None));
        assert!(anthropic.headers().contains_key("anthropic-version"));

        let native = made(Speaks::Native, true);
        assert_eq!(
            (native.uri().path(), &native.headers()[CONTENT_TYPE]),
            ("/v1/pipelines/a%20b", &HeaderValue::from_static("text/plain"))
        );
        assert_eq!(native.headers()[ACCEPT], "text/event-stream");
        assert_eq!(made(Speaks::Native, false).headers()[ACCEPT], "application/json");
    }
}
