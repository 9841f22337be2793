//! Where runs are: the project's folder, or a server. Both give the same JSON.

use std::sync::Arc;

use contract::{RequestId, RunId, SystemClock, TenantId};
use gateway::{RunWanted, Runs, segment};
use http::Method;
use serde_json::{Value, json};
use store::Reader;

use super::super::Global;
use super::super::remote::Remote;
use super::super::storage::{self, Need};
use crate::Error;

pub(in crate::cli) enum Place {
    /// Runs in the folder; with a reader that is to be closed, where nobody works on them.
    Here(Runs, Option<Box<Reader>>),
    Server(Box<Remote>),
}

fn refused(e: contract::Error) -> Error {
    let help = match e.code {
        contract::Code::NotFound => {
            "`forebay runs list` shows the runs there are, forebay.yaml the pipelines"
        }
        contract::Code::StorageUnavailable => "check .forebay in the project and the disk",
        _ => "see docs/errors",
    };
    Error::new(e.message, help)
}

fn read(text: Result<String, contract::Error>) -> Result<Value, Error> {
    let text = text.map_err(refused)?;
    serde_json::from_str(&text).map_err(|e| Error::new(format!("cannot read the answer: {e}"), "report this"))
}

fn id(text: &str) -> Result<RunId, Error> {
    text.parse().map_err(|e: String| Error::new(e, "`forebay runs list` shows the runs there are"))
}

fn new_id() -> Result<RequestId, Error> {
    let mut random = [0; 16];
    store::os_random(&mut random)
        .map_err(|e| Error::new(e.to_string(), "check the system's random source"))?;
    Ok(RequestId::from_parts(super::super::time::now(), u128::from_le_bytes(random)))
}

/// Who asks at the command line.
fn by() -> Value {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "cli".into());
    json!({"by": user})
}

impl Place {
    /// The server when one is named, else the runs in the folder, on which nobody works here.
    pub(super) async fn at_rest(global: &Global) -> Result<Place, Error> {
        if let Some(remote) = Remote::of(global)? {
            return Ok(Place::Server(Box::new(remote)));
        }
        let reader = storage::open(global, Need::Records).await?;
        let runs = Runs::at_rest(&global.project, &reader, Arc::new(SystemClock::default()));
        Ok(Place::Here(runs, Some(Box::new(reader))))
    }

    pub(super) async fn close(&self) {
        if let Place::Here(_, Some(reader)) = self {
            reader.close().await;
        }
    }

    async fn ask(
        &self,
        remote: &Remote,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        remote.must(method, path, body).await
    }

    pub(super) async fn list(
        &self,
        pipeline: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Value, Error> {
        match self {
            Place::Here(runs, _) => {
                let after = after.map(id).transpose()?;
                read(runs.list(None, pipeline, after, limit).await)
            }
            Place::Server(remote) => {
                let mut path = format!("/v1/runs?limit={limit}");
                if let Some(p) = pipeline {
                    path.push_str(&format!("&pipeline={}", segment(p)));
                }
                if let Some(a) = after {
                    path.push_str(&format!("&after={}", segment(a)));
                }
                self.ask(remote, Method::GET, &path, None).await
            }
        }
    }

    pub(super) async fn show(&self, run: &str) -> Result<Value, Error> {
        match self {
            Place::Here(runs, _) => read(runs.show(id(run)?, None).await),
            Place::Server(remote) => {
                self.ask(remote, Method::GET, &format!("/v1/runs/{}", segment(run)), None).await
            }
        }
    }

    pub(super) async fn cancel(&self, run: &str) -> Result<Value, Error> {
        match self {
            Place::Here(runs, _) => read(runs.cancel(id(run)?, None).await),
            Place::Server(remote) => {
                let path = format!("/v1/runs/{}/cancel", segment(run));
                self.ask(remote, Method::POST, &path, Some(&json!({}))).await
            }
        }
    }

    pub(super) async fn decide(
        &self,
        run: &str,
        stage: &str,
        approved: bool,
        reason: Option<&str>,
    ) -> Result<Value, Error> {
        match self {
            Place::Here(runs, _) => {
                let who = by().get("by").and_then(Value::as_str).unwrap_or("cli").to_owned();
                read(runs.decide(id(run)?, None, stage, who, (approved, reason.map(str::to_owned))).await)
            }
            Place::Server(remote) => {
                let body = json!({"stage": stage, "approved": approved, "reason": reason});
                let path = format!("/v1/runs/{}/approve", segment(run));
                self.ask(remote, Method::POST, &path, Some(&body)).await
            }
        }
    }

    pub(super) async fn log(&self, run: &str, stage: &str, from: u64) -> Result<Value, Error> {
        match self {
            Place::Here(runs, _) => read(runs.log(id(run)?, None, stage, from).await),
            Place::Server(remote) => {
                let path = format!("/v1/runs/{}/logs?stage={}&from={from}", segment(run), segment(stage));
                self.ask(remote, Method::GET, &path, None).await
            }
        }
    }

    pub(super) async fn output(&self, run: &str, stage: Option<&str>) -> Result<Value, Error> {
        match self {
            Place::Here(runs, _) => read(runs.output(id(run)?, None, stage).await),
            Place::Server(remote) => {
                let of = stage.map_or_else(String::new, |s| format!("?stage={}", segment(s)));
                let path = format!("/v1/runs/{}/output{of}", segment(run));
                self.ask(remote, Method::GET, &path, None).await
            }
        }
    }

    /// Asks for a run; what it is like then.
    pub(super) async fn start(&self, wanted: &RunWanted) -> Result<Value, Error> {
        match self {
            Place::Here(runs, _) => {
                let made = runs.ask(new_id()?, &TenantId::of_the_project(), wanted.clone(), by(), None).await;
                read(runs.show(made.map_err(refused)?, None).await)
            }
            Place::Server(remote) => {
                let body = serde_json::to_value(wanted)
                    .map_err(|e| Error::new(format!("cannot write the request: {e}"), "report this"))?;
                self.ask(remote, Method::POST, "/v1/runs", Some(&body)).await
            }
        }
    }

    /// Asks for what a run did not bring to its end.
    pub(super) async fn again(&self, run: &str) -> Result<Value, Error> {
        match self {
            Place::Here(runs, _) => {
                let made = runs.again(new_id()?, id(run)?, None, by()).await;
                read(runs.show(made.map_err(refused)?, None).await)
            }
            Place::Server(remote) => {
                let path = format!("/v1/runs/{}/retry", segment(run));
                self.ask(remote, Method::POST, &path, Some(&json!({}))).await
            }
        }
    }
}
