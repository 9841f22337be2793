//! Who makes runs of pipelines and does their stages.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::{
    Clock, Code, Context, Effort, Error, Inputs, Outcome, PipelineName, RunId, Stage, StageName, Value,
};
use parking_lot::{Mutex, RwLock};
use serde_json::Value as Json;
use store::{LineageStore, ResultStore, RunHead, SubmitKey, Submitted};

use super::definition::{About, Asked, Definition, Definitions};
use super::kept::Kept;
use super::log::Log;
use super::named::Keeper;
use super::plan::{Planned, plan};
use crate::code::Code as ProjectCode;
use crate::lineage::Emitter;
use crate::nested::{Calls, Children};
use crate::runs::{Adopt, Phase, Scheduler, Submission};
use crate::task::Behind;
use crate::{StageKind, Tables, live};

/// What such runs are called among runs.
pub const KIND: &str = "pipeline";

/// What it works with.
#[derive(Clone)]
pub struct Means {
    /// The project: files that stages read are below it.
    pub project: PathBuf,
    /// Where runs leave logs and files, below the project's own folder.
    pub root: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What stages made.
    pub results: Arc<dyn ResultStore>,
    /// How long that is kept.
    pub keep: Duration,
    /// Who keeps what the results only name.
    pub keepers: Vec<Arc<dyn Keeper>>,
    /// What was made of what, and how long that is kept; `None` where nobody keeps it.
    pub lineage: Option<(Arc<dyn LineageStore>, Duration)>,
}

/// Told when a run of a pipeline has ended.
pub type Ended = Box<dyn Fn() + Send + Sync>;

/// Durable runs of pipelines. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Durable {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(super) project: PathBuf,
    pub(super) root: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) results: Arc<dyn ResultStore>,
    pub(super) keep: Duration,
    pub(super) keepers: Vec<Arc<dyn Keeper>>,
    pub(super) lineage: Option<(Arc<dyn LineageStore>, Duration)>,
    pub(super) code: ProjectCode,
    /// Who brings others the news of attempts, if anybody.
    pub(super) emitter: OnceLock<Emitter>,
    /// Where heavy work is done, if anywhere else.
    behind: OnceLock<Behind>,
    now: RwLock<Arc<Definitions>>,
    /// Attempts under way.
    pub(super) logs: Mutex<HashMap<(RunId, StageName), Arc<Log>>>,
    scheduler: OnceLock<Scheduler>,
    ended: OnceLock<Ended>,
    calls: Calls,
    /// Runs that others wait for.
    pub(crate) children: Children,
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Durable").field("root", &self.inner.root).finish_non_exhaustive()
    }
}

impl Durable {
    /// One that knows no pipeline yet, and whose runs nobody works on.
    pub fn new(means: Means) -> Durable {
        let Means { project, root, clock, results, keep, keepers, lineage } = means;
        let (now, logs) = (RwLock::default(), Mutex::default());
        let (scheduler, ended) = (OnceLock::new(), OnceLock::new());
        let (calls, children) = (Calls::default(), Children::default());
        let code = ProjectCode::of(project.clone(), clock.clone());
        let inner = Inner {
            project,
            root,
            clock,
            results,
            keep,
            keepers,
            lineage,
            code,
            emitter: OnceLock::new(),
            behind: OnceLock::new(),
            now,
            logs,
            scheduler,
            ended,
            calls,
            children,
        };
        let inner = Arc::new(inner);
        inner.calls.runs_by(Arc::downgrade(&inner));
        Durable { inner }
    }

    /// The same, over what is there.
    pub(crate) fn over(inner: Arc<Inner>) -> Durable {
        Durable { inner }
    }

    /// The way by which its stages call pipelines: for their kind, and for who calls.
    pub fn calls(&self) -> Calls {
        self.inner.calls.clone()
    }

    /// The project's folder.
    pub(crate) fn project(&self) -> &std::path::Path {
        &self.inner.project
    }

    pub(super) fn tables(&self) -> Option<Arc<dyn Tables>> {
        self.inner.now.read().registry.tables().cloned()
    }

    /// The pipelines from now on: for runs that are asked for, and attempts that begin.
    pub fn replace(&self, definitions: Definitions) {
        *self.inner.now.write() = Arc::new(definitions);
    }

    /// Heavy stages are done there from now on. The first place stays.
    pub fn heavy_on(&self, behind: Behind) {
        let _ = self.inner.behind.set(behind);
    }

    /// One call of a stage, in its place.
    pub(super) async fn call(
        &self,
        stage: &Arc<dyn Stage>,
        name: &StageName,
        cx: &Context,
        inputs: Inputs,
    ) -> Outcome<Value> {
        let heavy = stage.signature().effort == Effort::Heavy;
        let Some(behind) = self.inner.behind.get().filter(|_| heavy) else {
            return live::call(stage, name, cx, inputs).await;
        };
        let (stage, own) = (Arc::clone(stage), cx.clone());
        let done = behind.spawn("stage", async move { stage.run(&own, inputs).await }).await;
        done.unwrap_or_else(|_| Outcome::Failed(live::panicked(name)))
    }

    /// Who works on them. The first one stays.
    pub fn on(&self, scheduler: Scheduler) {
        let _ = self.inner.scheduler.set(scheduler);
    }

    /// Whom to tell of ends. The first one stays.
    pub fn telling(&self, ended: Ended) {
        let _ = self.inner.ended.set(ended);
    }

    /// Who brings others the news of attempts from now on. The first one stays.
    pub fn emitting(&self, emitter: Emitter) {
        let _ = self.inner.emitter.set(emitter);
    }

    /// The pipelines there are.
    pub fn definitions(&self) -> Arc<Definitions> {
        self.inner.now.read().clone()
    }

    /// Where runs leave their logs.
    pub fn root(&self) -> &std::path::Path {
        &self.inner.root
    }

    pub(super) fn kind(&self, name: &str) -> Result<Arc<dyn StageKind>, Error> {
        let kind = self.inner.now.read().registry.get(name).cloned();
        kind.ok_or_else(|| Error::new(Code::Internal, format!("there is no kind of stage `{name}` any more")))
    }

    pub(super) fn tell_ended(&self) {
        if let Some(ended) = self.inner.ended.get() {
            ended();
        }
    }

    /// Whose scheduler works on them.
    ///
    /// # Errors
    /// `internal` when there is none.
    pub fn scheduler(&self) -> Result<&Scheduler, Error> {
        self.inner.scheduler.get().ok_or_else(|| Error::new(Code::Internal, "nobody works on runs here"))
    }

    fn definition(&self, name: &PipelineName) -> Result<(Arc<Definitions>, Arc<Definition>), Error> {
        let all = self.definitions();
        match all.pipelines.get(name).cloned() {
            Some(definition) => Ok((all, definition)),
            None => {
                let known: Vec<&str> = all.pipelines.keys().map(|n| n.as_str()).collect();
                let there = match known.as_slice() {
                    [] => "the configuration has none".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                let m = format!("no pipeline `{name}` is run by durable runs: {there}");
                Err(Error::new(Code::NotFound, m))
            }
        }
    }

    /// Asks for a run: it is on disk when this resolves. What was asked for under the same key before is that run.
    ///
    /// # Errors
    /// `not_found` for a pipeline that there is none of, `invalid_request` for what it is given,
    /// `idempotency_key_reused`, `overloaded` when too many runs wait, `storage_unavailable`.
    pub async fn submit(&self, asked: Asked) -> Result<RunId, Error> {
        let id = asked.id;
        let submission = self.submission(asked).await?;
        match self.scheduler()?.submit(vec![submission]).await?.first() {
            Some(Submitted::New) => Ok(id),
            Some(Submitted::Known(known)) => Ok(*known),
            Some(Submitted::Other) | None => {
                let m = "another run was asked for under this key";
                Err(Error::new(Code::IdempotencyKeyReused, m))
            }
        }
    }

    async fn submission(&self, asked: Asked) -> Result<Submission, Error> {
        let (all, definition) = self.definition(&asked.pipeline)?;
        let Planned { plan, result, many } = plan(&definition, &all.registry, &self.inner.project, &asked)?;
        let adopt = match asked.resumes {
            Some(from) => Some(self.finished(from, &asked, &plan).await?),
            None => None,
        };
        let input = asked.input.as_ref().map(Kept::bytes).transpose()?.unwrap_or_default();
        let about = About {
            pipeline: asked.pipeline.clone(),
            version: definition.version.clone(),
            params: asked.params,
            partition: asked.partition,
            cause: asked.cause,
            resumes: asked.resumes,
            parent: asked.parent,
            result,
            many,
        };
        let text =
            |e: serde_json::Error| Error::new(Code::Internal, format!("the run cannot be written: {e}"));
        // What started it may be told otherwise the second time: the key says that it is the same.
        let same = serde_json::to_vec(&(&about.pipeline, &about.params, &about.partition)).map_err(text)?;
        let mut hash = blake3::Hasher::new();
        hash.update(&(same.len() as u64).to_le_bytes()).update(&same).update(&input);
        let hash = *hash.finalize().as_bytes();
        Ok(Submission {
            id: asked.id,
            tenant: asked.tenant,
            kind: KIND.to_owned(),
            plan,
            about: serde_json::to_string(&about).map_err(text)?,
            target: asked.target.unwrap_or_else(|| format!("run:{}", about.pipeline)),
            input,
            key: asked.key.map(|key| SubmitKey { key: format!("run {} {key}", about.pipeline), hash }),
            part: None,
            adopt,
        })
    }

    /// What a run was given as the input of its pipeline; `None` when it was given nothing, or has succeeded.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn input(&self, run: RunId) -> Result<Option<contract::Value>, Error> {
        let bytes = self.scheduler()?.store().input(run).await.map_err(crate::runs::unavailable)?;
        bytes.filter(|b| !b.is_empty()).map(|b| Kept::value(&b)).transpose()
    }

    /// What another run of the same pipeline has done, that is the same in this plan.
    async fn finished(&self, from: RunId, asked: &Asked, plan: &crate::runs::Plan) -> Result<Adopt, Error> {
        let missing = || Error::new(Code::NotFound, format!("there is no run {from} of this pipeline"));
        let store = self.scheduler()?.store();
        let stored = store.get(from).await.map_err(crate::runs::unavailable)?.ok_or_else(missing)?;
        let about: About = serde_json::from_str(&stored.head.about).map_err(|_| missing())?;
        if stored.head.tenant != asked.tenant || about.pipeline != asked.pipeline {
            return Err(missing());
        }
        let run =
            self.scheduler()?.load(from).await.map_err(crate::runs::unavailable)?.ok_or_else(missing)?;
        let mut outputs = Vec::new();
        for stage in &plan.stages {
            let Some((before, state)) = run.stage(&stage.name) else { continue };
            if state.phase != Phase::Done || before.input != stage.input || before.after != stage.after {
                continue;
            }
            let key = run.key(&stage.name);
            if let Some(value) = store.output(from, &key).await.map_err(crate::runs::unavailable)? {
                outputs.push((stage.name.clone(), value));
            }
        }
        Ok(Adopt { from, outputs })
    }

    /// What a run is about, as its head has it: pipeline, version, parameters, partition, cause.
    pub fn about(head: &RunHead) -> Json {
        serde_json::from_str(&head.about).unwrap_or_default()
    }

    /// The pipeline that a run is of.
    pub fn pipeline_of(head: &RunHead) -> Option<PipelineName> {
        serde_json::from_str::<About>(&head.about).ok().map(|a| a.pipeline)
    }
}
