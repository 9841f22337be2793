//! Durable runs of pipelines for callers: to ask for one, look at it, end it, say whether a stage may start.
//!
//! What a run does is [`pipeline::durable`]'s; here is who may see it and how it is shown. The same over HTTP and by the
//! command line. A tenant sees its own runs alone.

mod routes;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::{Clock, Code, Error, RequestId, RunId, StageName, TenantId};
use pipeline::durable::{Asked, Durable, KIND, Kept, Means, Partition, read_log};
use pipeline::runs::{Lane, Run, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use store::{Reader, RunHead};

pub(crate) use self::routes::routes;
use crate::jobs::Jobs;

/// A run as a caller asks for it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunWanted {
    /// The pipeline.
    pub pipeline: String,
    /// What it is given.
    #[serde(default)]
    pub params: Map<String, Json>,
    /// The pipeline's input, where a stage takes it: text, or JSON.
    #[serde(default)]
    pub input: Option<Json>,
    /// What part of the data it is about.
    #[serde(default)]
    pub partition: Option<Partition>,
    /// Who goes first: low, normal or high.
    #[serde(default)]
    pub lane: Lane,
    /// The backfill that it is part of: its runs wait for each other and for nobody else's.
    #[serde(default)]
    pub backfill: Option<String>,
    /// How many stages of that backfill may be under way at once.
    #[serde(default)]
    pub parallel: Option<u32>,
}

/// The runs of a project. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runs {
    durable: Durable,
}

impl Runs {
    /// Those that somebody works on, or nobody.
    pub fn new(durable: Durable) -> Runs {
        Runs { durable }
    }

    /// The runs in a folder that no server works on, or beside one: to be looked at, ended, approved.
    pub fn at_rest(project: &Path, reader: &Reader, clock: Arc<dyn Clock>) -> Runs {
        let durable = Durable::new(Means {
            project: project.to_owned(),
            root: root(project),
            clock: clock.clone(),
            results: reader.results.clone(),
            // Whoever works on them removes what is over its time.
            keep: Duration::MAX,
            keepers: Vec::new(),
            lineage: None,
        });
        durable.on(Jobs::at_rest(reader.runs.clone(), clock).scheduler());
        Runs { durable }
    }

    /// Who makes and does them.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Asks for a run. What was asked for under the same key before is that run.
    ///
    /// # Errors
    /// See [`Durable::submit`].
    pub async fn ask(
        &self,
        id: RequestId,
        tenant: &TenantId,
        wanted: RunWanted,
        cause: Json,
        key: Option<String>,
    ) -> Result<RunId, Error> {
        let RunWanted { pipeline, params, input, partition, lane, backfill, parallel } = wanted;
        // A tenant's backfills have places of their own together, and each its own bound among them.
        let target = backfill.as_ref().map(|_| format!("backfill:{tenant}"));
        let bound = backfill.map(|name| format!("backfill:{tenant}:{name}")).zip(parallel);
        let input = input.map(|i| match i {
            Json::String(text) => contract::Value::text(text),
            json => contract::Value::Json(Arc::new(json)),
        });
        let asked = Asked {
            params,
            input,
            partition,
            lane,
            cause,
            key,
            bound,
            target,
            ..Asked::of(RunId::of(id), tenant.clone(), pipeline.as_str().into())
        };
        self.durable.submit(asked).await
    }

    /// A run that does again what one did not bring to its end: the same pipeline as it is now, given the same.
    ///
    /// # Errors
    /// `not_found`, and those of [`Durable::submit`].
    pub async fn again(
        &self,
        new: RequestId,
        old: RunId,
        tenant: Option<&TenantId>,
        by: Json,
    ) -> Result<RunId, Error> {
        let (head, run) = self.load(old, tenant).await?;
        if !run.status().is_end() {
            let m = format!("run {old} has not ended: cancel it first");
            return Err(Error::new(Code::InvalidRequest, m).upstream_status(409));
        }
        if run.status() == Status::Succeeded {
            let m =
                format!("run {old} has succeeded, so that nothing is left to do again: ask for a new run");
            return Err(Error::new(Code::InvalidRequest, m));
        }
        let about = Durable::about(&head);
        let field = |name: &str| about.get(name).cloned();
        let pipeline = Durable::pipeline_of(&head).ok_or_else(missing)?;
        let asked = Asked {
            params: field("params").and_then(|p| p.as_object().cloned()).unwrap_or_default(),
            partition: field("partition").and_then(|p| serde_json::from_value(p).ok()),
            input: self.durable.input(old).await?,
            cause: by,
            resumes: Some(old),
            ..Asked::of(RunId::of(new), head.tenant.clone(), pipeline)
        };
        self.durable.submit(asked).await
    }

    /// The newest first, of a tenant or of all, from behind `after` on, as JSON.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn list(
        &self,
        tenant: Option<&TenantId>,
        pipeline: Option<&str>,
        after: Option<RunId>,
        limit: u32,
    ) -> Result<String, Error> {
        let store = self.durable.scheduler()?.store();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut found, mut after) = (Vec::new(), after);
        // Those of a pipeline stand among the others: a bounded walk, page by page.
        for _ in 0..64 {
            let heads = store.list(KIND, tenant, after, 200).await.map_err(crate::jobs::storage)?;
            let whole = heads.len() == 200;
            after = heads.last().map(|h| h.id);
            let of = |h: &RunHead| {
                pipeline.is_none_or(|p| Durable::pipeline_of(h).is_some_and(|name| name.as_str() == p))
            };
            found.extend(heads.into_iter().filter(of));
            if found.len() > limit || !whole {
                break;
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let data: Vec<Json> = found.iter().map(view::head).collect();
        let last = data.last().and_then(|d| d.get("id")).cloned();
        Ok(json!({"object": "list", "data": data, "has_more": more, "last_id": last}).to_string())
    }

    /// A run and all that is known of it, as JSON; of that tenant only, if one is given.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub async fn show(&self, id: RunId, tenant: Option<&TenantId>) -> Result<String, Error> {
        let (head, run) = self.load(id, tenant).await?;
        Ok(view::whole(&head, &run).to_string())
    }

    /// Ends a run; what it was when it had ended before.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub async fn cancel(&self, id: RunId, tenant: Option<&TenantId>) -> Result<String, Error> {
        self.load(id, tenant).await?;
        self.durable.scheduler()?.cancel(id).await?;
        self.show(id, tenant).await
    }

    /// Says whether a stage may start that waits for that.
    ///
    /// # Errors
    /// `not_found`, `invalid_request` for a stage that waits for nobody, `storage_unavailable`.
    pub async fn decide(
        &self,
        id: RunId,
        tenant: Option<&TenantId>,
        stage: &str,
        by: String,
        (approved, reason): (bool, Option<String>),
    ) -> Result<String, Error> {
        let (_, run) = self.load(id, tenant).await?;
        let stage = StageName::from(stage);
        let state = run.stage(&stage).map(|(_, s)| s.phase.as_str());
        if state != Some("waiting") {
            let waiting: Vec<&str> = run
                .stages()
                .filter(|(_, s)| s.phase.as_str() == "waiting")
                .map(|(p, _)| p.name.as_str())
                .collect();
            let m = match (state, waiting.as_slice()) {
                (None, _) => format!("run {id} has no stage `{stage}`"),
                (Some(state), []) => format!("stage `{stage}` is {state}, and no stage waits for approval"),
                (Some(state), all) => {
                    format!("stage `{stage}` is {state}; {} waits for approval", all.join(", "))
                }
            };
            return Err(Error::new(Code::InvalidRequest, m).param("stage"));
        }
        self.durable.scheduler()?.decide(id, stage, by, approved, reason).await?;
        self.show(id, tenant).await
    }

    /// What a stage made, as JSON; unless one is named, the last of the pipeline.
    ///
    /// # Errors
    /// `not_found` for a stage that there is none of, or that has made nothing; `storage_unavailable`.
    pub async fn output(
        &self,
        id: RunId,
        tenant: Option<&TenantId>,
        stage: Option<&str>,
    ) -> Result<String, Error> {
        let (_, run) = self.load(id, tenant).await?;
        let missing = |m: String| Error::new(Code::NotFound, m).param("stage");
        let name = stage.map(StageName::from).or_else(|| run.stages().last().map(|(p, _)| p.name.clone()));
        let name = name.unwrap_or_else(|| StageName::from(""));
        let Some((_, state)) = run.stage(&name) else {
            return Err(missing(format!("run {id} has no stage `{name}`")));
        };
        let store = self.durable.scheduler()?.store();
        let kept = store.output(id, &run.key(&name)).await.map_err(crate::jobs::storage)?;
        let kept = kept.ok_or_else(|| {
            missing(format!("stage `{name}` has made nothing that is kept: it is {}", state.phase.as_str()))
        })?;
        let value = Kept::value(&kept)?;
        let (kind, value) = (value.kind().to_string(), value.to_json());
        Ok(json!({"object": "output", "run": id, "stage": name, "kind": kind, "value": value}).to_string())
    }

    /// What a stage's attempts said, from that byte on.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub async fn log(
        &self,
        id: RunId,
        tenant: Option<&TenantId>,
        stage: &str,
        from: u64,
    ) -> Result<String, Error> {
        let (_, run) = self.load(id, tenant).await?;
        let name = StageName::from(stage);
        let Some((_, state)) = run.stage(&name) else {
            return Err(Error::new(Code::NotFound, format!("run {id} has no stage `{stage}`")).param("stage"));
        };
        let (root, attempts, ended) = (self.durable.root().to_owned(), state.attempts, state.phase.is_end());
        let read = pipeline::task::reading("log", move || read_log(&root, id, &name, attempts, from)).await;
        let read = read.map_err(|_| Error::new(Code::Internal, "the log cannot be read"))?;
        let (text, next) =
            read.map_err(|e| Error::new(Code::StorageUnavailable, format!("the log cannot be read: {e}")))?;
        Ok(json!({"object": "log", "stage": stage, "text": text, "next": next, "ended": ended}).to_string())
    }

    async fn load(&self, id: RunId, tenant: Option<&TenantId>) -> Result<(RunHead, Run), Error> {
        let scheduler = self.durable.scheduler()?;
        let stored = scheduler.store().get(id).await.map_err(crate::jobs::storage)?;
        let own = |head: &RunHead| head.kind == KIND && tenant.is_none_or(|t| *t == head.tenant);
        let head = stored.map(|s| s.head).filter(own).ok_or_else(missing)?;
        let run = scheduler.load(id).await.map_err(crate::jobs::storage)?.ok_or_else(missing)?;
        Ok((head, run))
    }
}

/// Where runs leave their logs and files.
pub fn root(project: &Path) -> std::path::PathBuf {
    project.join(".forebay").join("runs")
}

fn missing() -> Error {
    Error::new(Code::NotFound, "there is no run of that id: `forebay runs list` shows those there are")
}
