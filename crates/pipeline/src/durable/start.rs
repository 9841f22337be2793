//! Durable runs of pipelines as the loop starts them and knows of them.
//!
//! A run is given those of its causes' words that its pipeline declares under `params`; all of them are in its cause.

use contract::{BoxFuture, Error, PipelineName, RequestId, RunId, TenantId, UnixMillis};
use serde_json::{Value as Json, json};
use store::RunHead;

use super::definition::Asked;
use super::host::{Durable, KIND};
use crate::runs::Status;
use crate::triggers::{EndedRun, Start, StartRun};

/// Ends that are read at a time.
const PAGE: u32 = 200;

impl Durable {
    fn asked(&self, start: StartRun) -> Asked {
        let StartRun { pipeline, tenant, causes, key } = &start;
        let definitions = self.definitions();
        let declared = definitions.pipelines.get(pipeline).map(|d| d.spec.durable.params.clone());
        let mut params = start.params();
        params.retain(|name, _| declared.as_ref().is_some_and(|d| d.contains_key(name)));
        // The key makes the run the same one; its id only has to be another than every other's.
        let hash = blake3::hash(key.as_bytes());
        let random = hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes));
        let id = RunId::of(RequestId::from_parts(self.inner.clock.wall(), random));
        let tenant = tenant.clone().unwrap_or_else(TenantId::of_the_project);
        let cause = json!({ "triggers": causes });
        let key = Some(key.clone());
        Asked { params, cause, key, ..Asked::of(id, tenant, pipeline.clone()) }
    }
}

fn status(head: &RunHead) -> Option<Status> {
    serde_json::from_value(Json::String(head.status.clone())).ok()
}

impl Start for Durable {
    fn start(&self, start: StartRun) -> BoxFuture<'_, Result<Option<RunId>, Error>> {
        Box::pin(async move { self.submit(self.asked(start)).await.map(Some) })
    }

    fn status(&self, run: RunId) -> BoxFuture<'_, Result<Option<Status>, Error>> {
        Box::pin(async move {
            let found = self.scheduler()?.store().get(run).await.map_err(Error::from)?;
            Ok(found.as_ref().and_then(|stored| status(&stored.head)))
        })
    }

    fn ended<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        since: UnixMillis,
    ) -> BoxFuture<'a, Result<Vec<EndedRun>, Error>> {
        Box::pin(async move {
            let store = self.scheduler()?.store();
            let (mut found, mut after) = (Vec::new(), (since, None));
            loop {
                let heads = store.ended(KIND, after, PAGE).await.map_err(Error::from)?;
                let whole = u32::try_from(heads.len()).is_ok_and(|n| n == PAGE);
                for head in heads {
                    let Some(at) = head.ended_at else { continue };
                    after = (at, Some(head.id));
                    if let (Some(of), Some(status)) = (Durable::pipeline_of(&head), status(&head))
                        && of == *pipeline
                    {
                        found.push(EndedRun { run: head.id, status, at });
                    }
                }
                if !whole {
                    break;
                }
            }
            Ok(found)
        })
    }
}
