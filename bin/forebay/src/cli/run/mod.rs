//! `forebay run PIPELINE [INPUT]`: a pipeline of the project's folder, or of a running server, streamed to the terminal.
//!
//! Both ways speak the native surface: without a server the gateway's routes are called within this process, over the
//! same admission and the same ledger, so that the answer, `explain` and `costs` do not depend on the way. The answer
//! goes to standard output, everything about it to standard error. Ctrl-C drops the call: that stops the models and
//! settles what was used.

mod input;
mod show;

pub(super) use self::input::param;

use std::io::Write as _;

use bytes::Bytes;
use contract::{Event, Secret, Surface};
use gateway::{App, RunWanted, segment};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use llm::codec::sse::SseParser;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;

use self::input::Input;
use self::show::Show;
use super::client::{Body, whole};
use super::project::{self, Opened};
use super::remote::{Refused, Remote, present};
use super::runs::follow;
use super::signals::heard;
use super::{Global, print_json};
use crate::Error;
use crate::logs::Stderr;

/// The largest answer that is taken whole.
const ANSWER_LIMIT: usize = 256 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "The answer goes to standard output, progress and the sum to standard error.\n\
    Exit codes: 0 complete, 1 no answer, 3 a part of the answer, 130 stopped by Ctrl-C.")]
pub struct Args {
    /// The pipeline's name.
    pipeline: String,
    /// The document: a file, or - for standard input.
    input: Option<String>,
    /// A document; several are run one after the other.
    #[arg(long = "input", value_name = "FILE")]
    inputs: Vec<String>,
    /// A field of the input, for a pipeline that takes JSON: a JSON value, else text.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = input::param)]
    params: Vec<(String, Value)>,
    /// Print the events as JSON lines, as a server sends them.
    #[arg(long, conflicts_with = "json")]
    events: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Partial,
}

/// Where the pipeline is.
enum At {
    Here { app: App, key: Option<Secret> },
    Server(Box<Remote>),
}

impl At {
    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Body>, Error> {
        match self {
            At::Server(remote) => remote.send(request).await,
            At::Here { app, key } => {
                present(&mut request, key.as_ref())?;
                let response = gateway::inside::call(app, request).await;
                Ok(response.map(|b| b.map_err(Into::into).boxed_unsync()))
            }
        }
    }

    /// What is added to a command that looks at the same place.
    fn place(&self) -> String {
        match self {
            At::Here { .. } => String::new(),
            At::Server(remote) => format!(" --server {}", remote.base()),
        }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    if args.input.is_none() && args.inputs.is_empty() && is_durable(global, args)? {
        let params = args.params.iter().cloned().collect();
        let wanted = RunWanted { pipeline: args.pipeline.clone(), params, ..RunWanted::default() };
        return follow::started(global, vec![wanted]);
    }
    let inputs = input::all(args.input.as_deref(), &args.inputs, &args.params)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| {
        Error::new(format!("cannot start: {e}"), "check the limits on open files and threads (`ulimit -a`)")
    })?;
    let ended = runtime.block_on(async {
        if let Some(remote) = Remote::of(global)? {
            return all(global, args, &At::Server(Box::new(remote)), inputs).await;
        }
        let config = project::checked(global)?;
        log(&config.telemetry.log);
        let (opened, assembly, app) =
            Opened::open(global, &config, Surface::Cli, true, &Handle::current()).await?;
        let at = At::Here { app, key: global.key().cloned() };
        let ended = all(global, args, &at, inputs).await;
        drop((at, assembly));
        // What was used is in the ledger before the command ends, however the run ended.
        let closed = opened.close().await;
        ended.and_then(|end| closed.map(|()| end))
    });
    // A read of standard input or a document being taken apart is not waited for.
    runtime.shutdown_background();
    match ended? {
        End::Complete => Ok(()),
        End::Partial => Err(Error::Partial),
    }
}

/// Whether the pipeline is one that durable runs run. Which configuration a server has, nobody here knows: a call without an input is
/// one, and with parameters alone it is one of a pipeline that the server does not list among its models.
fn is_durable(global: &Global, args: &Args) -> Result<bool, Error> {
    if let Some(remote) = Remote::of(global)? {
        if args.params.is_empty() {
            return Ok(true);
        }
        let path = format!("/v1/models/{}", segment(&args.pipeline));
        let found = super::block_on(remote.ask::<Value>(Method::GET, &path, None::<&Value>))?;
        return Ok(matches!(found, Err(refused) if refused.status == StatusCode::NOT_FOUND));
    }
    Ok(follow::is_durable(global, &project::checked(global)?, &args.pipeline))
}

/// Warnings alone, unless the environment asks for more: the terminal belongs to the answer.
pub(super) fn log(configured: &str) {
    let filter =
        if configured.contains("debug") || configured.contains("trace") { configured } else { "warn" };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(super::log_filter(filter))
        .with_writer(|| Stderr)
        .try_init();
}

/// Runs every input in turn. The first that fails ends it.
async fn all(global: &Global, args: &Args, at: &At, inputs: Vec<Input>) -> Result<End, Error> {
    let several = inputs.len() > 1;
    let (mut ended, mut results) = (End::Complete, Vec::new());
    for input in inputs {
        if several && !global.json {
            let _ = writeln!(std::io::stderr(), "== {}", input.name);
        }
        let name = input.name.clone();
        let mut interrupted = heard(SignalKind::interrupt())?;
        // Dropping the call is what stops it, here and at a server.
        let end = tokio::select! {
            end = once(global, args, at, input) => end?,
            _ = interrupted.recv() => {
                let _ = writeln!(std::io::stderr(), "\nstopped; what was used is in the ledger");
                return Err(Error::Cancelled);
            }
        };
        match end {
            (End::Complete, result) => results.extend(result),
            (End::Partial, result) => {
                ended = End::Partial;
                results.extend(result);
            }
        }
        if several && let Some(Value::Object(result)) = results.last_mut() {
            result.insert("input".into(), name.into());
        }
    }
    if global.json {
        match (several, results.pop()) {
            (false, Some(one)) => print_json(&one)?,
            (_, last) => {
                results.extend(last);
                print_json(&json!({"runs": results}))?;
            }
        }
    }
    Ok(ended)
}

async fn once(global: &Global, args: &Args, at: &At, input: Input) -> Result<(End, Option<Value>), Error> {
    let mut request = Request::post(format!("/v1/pipelines/{}", segment(&args.pipeline)));
    let accept = if global.json { "application/json" } else { "text/event-stream" };
    request =
        request.header(ACCEPT, accept).header(CONTENT_TYPE, input.media).header("forebay-accept", "answer");
    let request = request.body(input.bytes).map_err(|e| {
        Error::new(format!("cannot ask for `{}`: {e}", args.pipeline), "check the pipeline's name")
    })?;
    let (head, mut body) = at.send(request).await?.into_parts();
    if !head.status.is_success() {
        let bytes = whole(body, ANSWER_LIMIT).await?;
        return Err(Refused::read(head.status, &bytes).into_error());
    }
    if global.json {
        let bytes = whole(body, ANSWER_LIMIT).await?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| something_else(&e))?;
        let complete = value.get("complete").and_then(Value::as_bool).unwrap_or(false);
        return Ok((if complete { End::Complete } else { End::Partial }, Some(value)));
    }
    let mut show = (!args.events).then(|| Show::new(at.place()));
    let mut parser = SseParser::default();
    let mut last = Last::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| cut(&format!("the connection broke: {e}")))?;
        let Some(data) = frame.data_ref() else { continue };
        let mut problem = None;
        let fed = parser.feed(data, |_, data| match serde_json::from_slice::<Event>(data) {
            Ok(event) => {
                last.note(&event);
                match &mut show {
                    Some(show) => show.event(&event, data),
                    None => super::print(&String::from_utf8_lossy(data)),
                }
            }
            Err(e) => problem = Some(something_else(&e)),
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        fed.map_err(|e| cut(&e.to_string()))?;
    }
    if let Some(show) = show {
        show.end();
    }
    last.end().map(|end| (end, None))
}

fn cut(why: &str) -> Error {
    Error::new(
        format!("the answer was cut: {why}"),
        "`forebay explain` with the request's id says what happened",
    )
}

fn something_else(e: &serde_json::Error) -> Error {
    Error::new(
        format!("the server answers something else: {e}"),
        "check that --server is a Forebay of this version",
    )
}

/// What decides how a stream ended.
#[derive(Debug, Default)]
struct Last {
    done: bool,
    error: Option<(String, bool)>,
}

impl Last {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Done { .. } => self.done = true,
            Event::Error { code, message, partial, .. } => {
                self.error = Some((format!("{code}: {}", super::storage::clean(message)), *partial));
            }
            _ => {}
        }
    }

    fn end(self) -> Result<End, Error> {
        match (self.done, self.error) {
            (true, None) => Ok(End::Complete),
            (_, Some((_, true))) => Ok(End::Partial),
            (_, Some((why, false))) => Err(Error::new(
                why,
                "docs/errors has a page for each code; `forebay explain` shows the attempts",
            )),
            (false, None) => Err(cut("its last event is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{Code, Error as Failure};

    use super::*;

    fn ended(events: &[Event]) -> Result<End, Error> {
        let mut last = Last::default();
        events.iter().for_each(|e| last.note(e));
        last.end()
    }

    #[test]
    fn a_stream_is_complete_only_with_its_last_event_and_no_error() {
        let done: Event = serde_json::from_value(json!({
            "type": "done", "done": true, "usage": {"input_tokens": 1, "output_tokens": 1}, "cost_nanousd": 0, "stages": [],
        }))
        .unwrap();
        let error = |partial| Event::error(&Failure::new(Code::UpstreamError, "broke"), partial);
        assert_eq!(ended(std::slice::from_ref(&done)).unwrap(), End::Complete);
        assert_eq!(ended(&[error(true), done.clone()]).unwrap(), End::Partial);
        assert_eq!(ended(&[error(false), done]).unwrap_err().exit_code(), 1);
        assert!(ended(&[]).unwrap_err().to_string().contains("cut"));
    }
}
