//! The kind `http`: asks an address and gives what it answers. It sends the attempt's key as `Idempotency-Key`, so that a receiver
//! that knows of it does what it is asked once, however often it is asked.

use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Code, Context, Effort, Error, Inputs, Kind, Outcome, Signature, Stage, Value};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::template::{Escape, Template, Values};
use super::{Asked, Outside, ask, host, problem};
use crate::registry::{Problem, Site, StageKind, TextField};
use crate::units::{Size, Time};
use crate::word::Word;

/// The longest address and header.
const LONGEST: usize = 8 << 10;
/// The longest body.
const BODY: usize = 64 << 20;
/// Headers that are ours to send.
const OWN: [&str; 8] = [
    "host",
    "content-length",
    "connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "idempotency-key",
];

/// Asks an address over HTTP. Its inputs are those that its templates name as `inputs.NAME`.
///
/// An answer with 408, 425, 429 or 5xx may be tried again, after the time that it names; every other one that is not expected
/// is a failure for good. Redirects are not followed. Addresses of private networks are not asked unless the configuration allows it.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HttpConfig {
    /// The method. Unless given: `POST` when there is a `body`, else `GET`.
    #[serde(default)]
    method: Option<Method>,
    /// The address, a template. Values in it are percent-encoded.
    url: Word,
    /// Headers, templates.
    #[serde(default)]
    headers: IndexMap<String, Word>,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default)]
    api_key: Option<String>,
    /// What is sent, a template: `{{ inputs.rows | tojson }}`. It is sent as JSON when it is some, and `headers` do not say otherwise.
    #[serde(default)]
    #[schemars(with = "Option<Word>")]
    body: Option<Json>,
    /// Inputs that a template names otherwise, such as `inputs['two words']`.
    #[serde(default)]
    inputs: Vec<String>,
    /// The statuses that are no failure. Unless given: all from 200 to 299.
    #[serde(default)]
    #[schemars(inner(range(min = 200, max = 599)))]
    expect: Vec<u16>,
    /// The answer is JSON; else it is text.
    #[serde(default = "yes")]
    json: bool,
    /// How long an answer may take, its end included.
    #[serde(default = "half_a_minute")]
    timeout: Time,
    /// How long an answer may be.
    #[serde(default = "sixteen_megabytes")]
    at_most: Size,
}

fn yes() -> bool {
    true
}
fn half_a_minute() -> Time {
    Time(Duration::from_secs(30))
}
fn sixteen_megabytes() -> Size {
    Size(16_000_000)
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// Makes `http` stages.
pub struct HttpKind {
    outside: Outside,
}

impl HttpKind {
    /// Of these parts.
    pub fn new(outside: Outside) -> Self {
        HttpKind { outside }
    }
}

impl StageKind for HttpKind {
    fn name(&self) -> &'static str {
        "http"
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(HttpConfig).to_value()
    }

    fn templates(&self) -> &'static [TextField] {
        const { &[TextField::plain("url"), TextField::plain("headers"), TextField::quoted("body")] }
    }

    /// What is elsewhere may have changed.
    fn cached(&self, _: &Json) -> bool {
        false
    }

    fn build(&self, config: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let config = HttpConfig::deserialize(config)
            .map_err(|e| vec![problem("", e.to_string(), "see the reference of `http`")])?;
        Ok(Arc::new(Http::new(self.outside.clone(), config)?))
    }
}

/// What is sent.
enum Body {
    Template(Box<Template>),
    Filled(String),
}

struct Http {
    outside: Outside,
    config: HttpConfig,
    url: Template,
    headers: Vec<(String, Template)>,
    body: Option<Body>,
    signature: Signature,
}

impl Http {
    fn new(outside: Outside, config: HttpConfig) -> Result<Self, Vec<Problem>> {
        let mut found = Vec::new();
        let mut parsed = |pointer: &str, text: &Word, escape| {
            Template::parse(&text.0, escape)
                .map_err(|e| found.push(problem(pointer, e, "correct the template")))
                .ok()
        };
        let url = parsed("/url", &config.url, Escape::Url);
        let body = config.body.as_ref().map(|body| match body {
            Json::String(text) => {
                parsed("/body", &Word(text.clone()), Escape::None).map(|t| Body::Template(Box::new(t)))
            }
            // Filled in by the run: it is what it is.
            other => Some(Body::Filled(other.to_string())),
        });
        let headers: Vec<_> = config
            .headers
            .iter()
            .map(|(name, text)| (name.clone(), parsed(&format!("/headers/{name}"), text, Escape::None)))
            .collect();
        for name in config.headers.keys() {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let pointer = format!("/headers/{name}");
            if name.is_empty() || !name.bytes().all(plain) {
                found.push(problem(
                    &pointer,
                    format!("`{name}` cannot be a header's name"),
                    "correct the name",
                ));
            } else if OWN.contains(&name.to_ascii_lowercase().as_str()) {
                found.push(problem(&pointer, format!("`{name}` is sent by Forebay itself"), "remove it"));
            }
        }
        // What a template makes of it is looked at when it is asked.
        if let Some(call) = &self::named(&outside, &config.url.0)
            && let Err(why) = call.check(&config.url.0)
        {
            found.push(problem("/url", format!("the address cannot be asked: {why}"), "correct the address"));
        }
        if matches!(config.method, Some(Method::Get | Method::Head)) && config.body.is_some() {
            found.push(problem("/body", "this method sends no body", "use `method: POST`"));
        }
        if config.timeout.0.is_zero() {
            found.push(problem("/timeout", "nobody answers in no time", "write it as 30s"));
        }
        let headers: Option<Vec<_>> = headers.into_iter().map(|(n, t)| Some((n, t?))).collect();
        let (Some(url), Some(headers), true) = (url, headers, found.is_empty()) else { return Err(found) };
        let body = body.flatten();
        let of_body = body.as_ref().and_then(|b| match b {
            Body::Template(t) => Some(&**t),
            Body::Filled(_) => None,
        });
        let all = [&url].into_iter().chain(headers.iter().map(|(_, t)| t)).chain(of_body);
        let inputs = Template::inputs(all, &config.inputs)
            .map_err(|e| vec![problem("/inputs", e, "list them: `inputs: [rows]`")])?;
        let output = if config.json { Kind::Json(None) } else { Kind::Text };
        let signature = Signature { inputs, output, streams: false, instant: false, effort: Effort::Waits };
        Ok(Http { outside, config, url, headers, body, signature })
    }

    fn asked(&self, cx: &Context, inputs: &Inputs) -> Result<Asked, Error> {
        let config = &self.config;
        let inputs = &Values { named: &self.signature.inputs, given: inputs };
        let body = match &self.body {
            None => None,
            Some(Body::Template(t)) => Some(t.render(cx, inputs, BODY)?),
            Some(Body::Filled(text)) => Some(text.clone()),
        };
        let mut headers = Vec::new();
        for (name, template) in &self.headers {
            let value = template.render(cx, inputs, LONGEST)?;
            if value.chars().any(char::is_control) {
                let m = format!("the header `{name}` would hold more than one line");
                return Err(Error::new(Code::InvalidRequest, m));
            }
            headers.push((name.to_ascii_lowercase(), value));
        }
        let mut unless_given = |name: &str, value: String| {
            if !headers.iter().any(|(n, _)| n == name) {
                headers.push((name.to_owned(), value));
            }
        };
        if let Some(key) = &config.api_key {
            unless_given("authorization", format!("Bearer {key}"));
        }
        if let Some(text) = &body {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
            unless_given("content-type", kind.to_owned());
        }
        if config.json {
            unless_given("accept", "application/json".to_owned());
        }
        if let Some(trace) = &cx.trace {
            unless_given("traceparent", trace.to_string());
        }
        if let Some(attempt) = &cx.attempt {
            unless_given("idempotency-key", attempt.effect.clone());
        }
        let usual = if body.is_some() { Method::Post } else { Method::Get };
        Ok(Asked {
            method: config.method.unwrap_or(usual).as_str(),
            url: self.url.render(cx, inputs, LONGEST)?,
            headers,
            body: body.unwrap_or_default().into_bytes(),
            timeout: config.timeout.0,
            at_most: usize::try_from(config.at_most.0).unwrap_or(usize::MAX),
        })
    }

    async fn answer(&self, cx: &Context, inputs: Inputs) -> Result<Value, Error> {
        let asked = self.asked(cx, &inputs)?;
        let said = format!("{} {}", asked.method, host(&asked.url));
        let expect = &self.config.expect;
        let is_expected =
            |s: u16| if expect.is_empty() { (200..300).contains(&s) } else { expect.contains(&s) };
        let came = ask(self.outside.call.as_ref(), asked, is_expected).await;
        if let Some(attempt) = &cx.attempt {
            attempt.log.line(&match &came {
                Ok((status, body)) => format!("{said}: {status}, {} bytes", body.len()),
                Err(e) => format!("{said}: {e}"),
            });
        }
        let (_, body) = came?;
        if !self.config.json {
            return Ok(Value::text(String::from_utf8_lossy(&body).into_owned()));
        }
        // An answer such as 204 has nothing to say.
        if body.is_empty() {
            return Ok(Value::Json(Json::Null.into()));
        }
        let json: Json = serde_json::from_slice(&body).map_err(|e| {
            let m = format!(
                "the answer is no JSON (line {}, column {}): set `json: false` if it is text",
                e.line(),
                e.column()
            );
            Error::new(Code::InvalidDocument, m)
        })?;
        Ok(Value::Json(json.into()))
    }
}

/// Who looks at an address that is written out.
fn named<'a>(outside: &'a Outside, url: &str) -> Option<&'a Arc<dyn super::Call>> {
    outside.call.as_ref().filter(|_| !url.contains("{{") && !url.contains("{%"))
}

impl Stage for Http {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move { self.answer(cx, inputs).await.into() })
    }
}
