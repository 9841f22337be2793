//! An attempt at a job: the stored request through the routes, on behalf of who asked.

use std::collections::HashMap;
use std::sync::Arc;

use admission::Priority;
use bytes::Bytes;
use contract::{BoxFuture, Code, Error, RequestId, RunId, StageName, StageRecord};
use http::header::CONTENT_TYPE;
use parking_lot::Mutex;
use pipeline::runs::{Execute, Finished, Run, Task};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{NewDelivery, RunHead};
use tokio::sync::Notify;

use super::stored::About;
use super::view;
use crate::current::{Current, Latest};
use crate::errors::Said;
use crate::inside::{self, Behalf};
use crate::router::router;

/// What is kept of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept<'a> {
    /// Its status.
    pub(crate) status: u16,
    /// Its id in the ledger.
    pub(crate) request_id: RequestId,
    /// Its body.
    #[serde(borrow)]
    pub(crate) body: &'a RawValue,
}

/// Attempts under way, by the job.
#[derive(Debug, Clone, Default)]
pub(super) struct Live(Arc<Mutex<HashMap<RunId, Behalf>>>);

impl Live {
    /// The stages of its pipeline that have ended, while a job runs.
    pub(super) fn stages(&self, run: RunId) -> Option<Vec<StageRecord>> {
        let behalf = self.0.lock().get(&run).cloned()?;
        Some(behalf.meter()?.stages())
    }
}

/// Removes an attempt when it is over, however it ends.
struct Shown(Live, RunId);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.0.lock().remove(&self.1);
    }
}

/// Does jobs.
pub(super) struct Worker {
    /// The gateway keeps the jobs, so they do not keep it. Each attempt is made under the configuration of its time.
    gateway: Latest,
    live: Live,
    /// Told when a line of a batch has ended.
    lines: Arc<Notify>,
}

impl Worker {
    pub(super) fn of(current: &Current) -> Worker {
        Worker { gateway: current.downgrade(), live: Live::default(), lines: Arc::default() }
    }

    /// One that does nothing.
    pub(super) fn nobody() -> Worker {
        Worker { gateway: Latest::default(), live: Live::default(), lines: Arc::default() }
    }

    pub(super) fn lines(&self) -> Arc<Notify> {
        self.lines.clone()
    }

    pub(super) fn live(&self) -> Live {
        self.live.clone()
    }

    pub(super) fn gateway(&self) -> Latest {
        self.gateway.clone()
    }
}

impl Execute for Worker {
    fn execute(&self, task: Task) -> BoxFuture<'static, Finished> {
        let (app, live) = (self.gateway.app(), self.live.clone());
        Box::pin(async move {
            let Some(app) = app else { return nothing(crate::drain::refusal()) };
            // The end of the server waits for it, as for every answer under way.
            let _going_on = app.inner.drain.conversation();
            let about = About::read(&task.about);
            let now = app.inner.clock.wall();
            if let Some(key) = &about.key
                && app.inner.keys.stands(key, now).is_err()
            {
                let m = "the key that submitted the job is not valid any more";
                return nothing(Error::new(Code::InvalidKey, m));
            }
            let request = match about.request(Bytes::from_owner(task.input)) {
                Ok(request) => request,
                Err(e) => return nothing(e),
            };
            let id = task.run.request().attempt(task.attempt);
            let behalf = Behalf::of(task.tenant, about.key, Priority::Batch, id).again(task.attempt > 1);
            live.0.lock().insert(task.run, behalf.clone());
            let _shown = Shown(live, task.run);
            finished(id, inside::call_for(behalf, router(app), request).await)
        })
    }

    fn progress(&self, run: RunId, _: &StageName) -> Option<(u64, Option<u64>)> {
        let ended = self.live.stages(run)?.len();
        (ended > 0).then_some((ended as u64, None))
    }

    fn announce(&self, run: &Run, head: &RunHead, output: Option<&[u8]>) -> Option<NewDelivery> {
        let about = About::read(&head.about);
        let url = about.webhook?;
        let at = run.ended_at()?;
        // One message for each end, and a run has one.
        let id = format!("msg_{}", run.id().serial());
        if about.background.is_some() {
            let body = super::background::event(run, at, output);
            return Some(NewDelivery { id, url, body: body.into_bytes(), at });
        }
        let body = view::event(&id, run, head, output)
            .inspect_err(|e| tracing::error!(error = %e, "no webhook"))
            .ok()?;
        Some(NewDelivery { id, url, body: body.into_bytes(), at })
    }

    fn ended(&self, head: &RunHead) {
        if About::read(&head.about).custom_id.is_some() {
            self.lines.notify_one();
        }
    }
}

/// An attempt that did not come to a call.
fn nothing(e: Error) -> Finished {
    Finished::failed(e)
}

fn finished(id: RequestId, response: http::Response<Bytes>) -> Finished {
    let status = response.status();
    let said = response.extensions().get::<Said>().map(|s| Error::clone(&s.0));
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let result = match said {
        Some(e) => Err(e),
        None if kind.starts_with("text/event-stream") => Err(super::submit::streams()),
        None if status.is_success() => Ok(()),
        None => Err(Error::new(Code::Internal, format!("the route answered {status}"))),
    };
    let body = match serde_json::from_slice::<&RawValue>(response.body()) {
        Ok(json) => json.to_owned(),
        Err(_) => {
            let text = serde_json::to_string(&String::from_utf8_lossy(response.body()));
            text.and_then(RawValue::from_string).unwrap_or_default()
        }
    };
    let kept = Kept { status: status.as_u16(), request_id: id, body: &body };
    match serde_json::to_vec(&kept) {
        Ok(output) => Finished { result, ..Finished::done(output) },
        Err(e) => nothing(Error::new(Code::Internal, format!("the answer cannot be kept: {e}"))),
    }
}
