//! One attempt of a stage of a durable run.

use std::sync::Arc;

use contract::lineage::Lineage;
use contract::{
    Attempt, BoxFuture, Code, Context, Deadline, Error, Freshness, Inputs, Meter, MidStream, Outcome, RunId,
    StageLog, StageName, Value,
};
use store::StageResult;

use super::content::{Content, GivenInputs, content, difference};
use super::definition::About;
use super::each::{Each, Went};
use super::elements::Common;
use super::folders::{self, Folder};
use super::host::Durable;
use super::kept::Kept;
use super::log::Log;
use super::made::Ended;
use super::named::Named;
use super::news::News;
use super::plan::files;
use super::stage::{From, StageWork};
use crate::runs::{Execute, Finished, Given, Run, Task};
use crate::{Site, StageKind, task};

/// How much older the time of a kept result may be than when it was asked for, in milliseconds.
const DAY: i64 = 86_400_000;

impl Execute for Durable {
    fn execute(&self, task: Task) -> BoxFuture<'static, Finished> {
        let host = self.clone();
        Box::pin(async move {
            match host.attempt(task).await {
                Ok(finished) => finished,
                Err(e) => Finished::failed(e),
            }
        })
    }

    fn progress(&self, run: RunId, stage: &StageName) -> Option<(u64, Option<u64>)> {
        self.inner.logs.lock().get(&(run, stage.clone()))?.come()
    }

    fn announce(&self, _: &Run, _: &store::RunHead, _: Option<&[u8]>) -> Option<store::NewDelivery> {
        None
    }

    fn resumable(&self, _: &str) -> bool {
        true
    }

    fn ended(&self, head: &store::RunHead) {
        self.clear(head.id);
        self.family(head.id);
        self.tell_ended();
    }
}

/// The log of an attempt under way, until it is over.
struct Shown(Durable, (RunId, StageName));

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.inner.logs.lock().remove(&self.1);
    }
}

impl Durable {
    async fn attempt(&self, task: Task) -> Result<Finished, Error> {
        let inner = &*self.inner;
        let broken = |what: &str| {
            Error::new(Code::Internal, format!("the plan of stage `{}` {what}", task.stage.name))
        };
        let about: About = serde_json::from_str(&task.about).map_err(|_| broken("is of no pipeline"))?;
        if let Some(parent) = &about.parent
            && self.is_orphan(parent, task.run).await
        {
            let m = format!("run {}, which called this one, has ended", parent.run);
            return Err(Error::new(Code::Cancelled, m));
        }
        let spec = task.stage.spec.clone().ok_or_else(|| broken("says nothing"))?;
        let work: StageWork =
            serde_json::from_value(spec).map_err(|e| broken(&format!("cannot be read: {e}")))?;
        let kind = self.kind(&work.kind)?;
        let given = gathered(&work, &task)?;
        let (git, began) = (inner.code.now().await, inner.clock.wall());
        let ended =
            |reused| Ended { task: &task, about: &about, work: &work, git: git.as_deref(), began, reused };
        let read = ended(None).given(&given);
        let made_of = content(&task.tenant, &task.stage.name, &work, &given);
        let path = folders::log(&inner.root, task.run, &task.stage.name, task.attempt);
        let log = Arc::new(Log::new(path, inner.clock.clone()));
        inner.logs.lock().insert((task.run, task.stage.name.clone()), log.clone());
        let _shown = Shown(self.clone(), (task.run, task.stage.name.clone()));
        let of_now = Lineage::of(read.clone());
        let news = inner.emitter.get().map(|emitter| {
            News::begin(emitter, &inner.clock, (task.run, &task.key), ended(None).told(of_now))
        });
        let finished = async {
            let mut why = None;
            if work.cached {
                match self.earlier(&task, &about, &made_of).await {
                    Ok(found) => {
                        let of = ended(found.reused);
                        let lineage = of.fact(Lineage::default(), read, &found.output, inner.clock.wall());
                        return Ok(Finished { lineage, ..found });
                    }
                    Err(reason) => why = Some(reason),
                }
            }
            let Went { outcome, whole, note } =
                self.made(&task, &about, &*kind, &work, given, log.clone()).await?;
            let note = [why.unwrap_or_default(), note].into_iter().filter(|n| !n.is_empty());
            let note = Some(note.collect::<Vec<_>>().join("; ")).filter(|n| !n.is_empty());
            let (value, missing) = match outcome {
                Outcome::Complete(value) => (value, None),
                Outcome::Partial(value, e) => (value, Some(e)),
                Outcome::Failed(e) => return Err(e),
            };
            let bytes = Kept::bytes(&value)?;
            let lineage = ended(None).fact(log.said(), read, &bytes, inner.clock.wall());
            if let Some(e) = missing {
                return Ok(Finished { note, lineage, ..Finished::partial(bytes, e) });
            }
            let mut result_of = None;
            if work.cached && whole {
                match self.changed(&work, &*kind).await {
                    None => result_of = Some(Box::new(self.result_of(&task, &about, made_of))),
                    Some(what) => {
                        log.line(&format!("{what} is not as it was planned: the result is not kept"))
                    }
                }
            }
            Ok(Finished { note, result_of, lineage, ..Finished::done(bytes) })
        }
        .await;
        if let Some(news) = news {
            news.end(finished.as_ref(), log.said());
        }
        finished
    }

    /// The result of an earlier run that made it of the same; else why it is made.
    async fn earlier(&self, task: &Task, about: &About, made_of: &Content) -> Result<Finished, String> {
        let results = &self.inner.results;
        let asked = async {
            let of = (&task.tenant, about.pipeline.as_str(), task.stage.name.as_str());
            let found = match results.look(&made_of.key, of).await? {
                Some(same) if same.key == made_of.key => {
                    if self.is_whole(&same.value).await {
                        return Ok::<_, store::Error>(Ok(same));
                    }
                    results.forget(&made_of.key).await?;
                    return Ok(Err("made again: a file of it is not kept any more".to_owned()));
                }
                other => other,
            };
            Ok(Err(match found.and_then(|before| serde_json::from_str(&before.of).ok()) {
                Some(before) => format!("made again: {}", difference(&before, &made_of.parts)),
                None => "made for the first time".to_owned(),
            }))
        };
        match asked.await {
            Ok(Ok(found)) => {
                // It counts as asked for from now on; what it names is not collected before this run names it too.
                let now = self.inner.clock.wall();
                if now.0.saturating_sub(found.at.0) > DAY
                    && let Err(e) = results.put(&StageResult { at: now, ..found.clone() }).await
                {
                    tracing::warn!(error = %e, "failed to note that a result is still asked for");
                }
                let note = format!("taken from {}, which made it of the same", found.run);
                let reused = Some(found.run).filter(|run| *run != task.run);
                Ok(Finished { reused, note: Some(note), ..Finished::done(found.value) })
            }
            Ok(Err(why)) => Err(why),
            Err(e) => {
                tracing::warn!(error = %e, "failed to look for an earlier result");
                Err("earlier results cannot be read".to_owned())
            }
        }
    }

    /// What the stage is made of, and is not now as when the run was planned: its result is of neither for sure.
    async fn changed(&self, work: &StageWork, kind: &dyn StageKind) -> Option<String> {
        let now = kind.made_of(&work.config);
        let other = |(name, hash): &&(String, String)| !now.iter().any(|(n, h)| n == name && h == hash);
        if let Some((name, _)) = work.made_of.iter().find(other) {
            return Some(name.clone());
        }
        if work.files.is_empty() {
            return None;
        }
        let (planned, project) = (work.files.clone(), self.inner.project.clone());
        let looked = task::reading("stage-files", move || {
            let paths: Vec<_> = planned.iter().map(|(path, _)| path.into()).collect();
            let now = files(&paths, &project);
            planned.into_iter().zip(now).find(|(planned, now)| planned != now).map(|((path, _), _)| path)
        });
        looked.await.unwrap_or(Some("a file".to_owned()))
    }

    /// Whether the files that a kept value names are there.
    async fn is_whole(&self, value: &[u8]) -> bool {
        let files = super::made::artifacts_of(value);
        if files.is_empty() {
            return true;
        }
        let named = Named { files, ..Named::default() };
        for keeper in &self.inner.keepers {
            if !keeper.holds(&named).await {
                return false;
            }
        }
        true
    }

    /// What other runs take that would make the same.
    fn result_of(&self, task: &Task, about: &About, made_of: Content) -> StageResult {
        StageResult {
            key: made_of.key,
            tenant: task.tenant.clone(),
            pipeline: about.pipeline.to_string(),
            stage: task.stage.name.to_string(),
            run: task.run,
            of: serde_json::to_string(&made_of.parts).unwrap_or_default(),
            value: Vec::new(),
            at: self.inner.clock.wall(),
        }
    }

    async fn made(
        &self,
        task: &Task,
        about: &About,
        kind: &dyn StageKind,
        work: &StageWork,
        given: GivenInputs,
        log: Arc<Log>,
    ) -> Result<Went, Error> {
        let inner = &*self.inner;
        let site = Site { name: &task.stage.name, each: work.each.is_some() };
        let stage = kind.build(&work.config, &site).map_err(|problems| {
            let first = problems.first().map(|p| p.message.clone()).unwrap_or_default();
            Error::new(Code::InvalidRequest, format!("stage `{}` cannot be built: {first}", site.name))
        })?;
        let folder = Folder::new(&inner.root, task.run, &task.stage.name, task.attempt).map_err(|e| {
            Error::new(Code::StorageUnavailable, format!("the folder of the stage cannot be emptied: {e}"))
        })?;
        let attempt = Attempt {
            run: task.run,
            pipeline: about.pipeline.clone(),
            number: task.attempt,
            effect: task.key.clone(),
            again: 0,
            folder: folder.path().to_owned(),
            log: log.clone(),
        };
        let cx = Context {
            request: task.run.request().attempt(task.attempt),
            tenant: task.tenant.clone(),
            user: None,
            stage: Some(task.stage.name.clone()),
            arrived: inner.clock.now(),
            // The scheduler ends what takes longer than its time.
            deadline: Deadline::NEVER,
            budget: contract::Budget::default(),
            clock: inner.clock.clone(),
            meter: Arc::new(Meter::default()),
            retrying: task.attempt > 1,
            mid_stream: MidStream::Restart,
            trace: None,
            freshness: Freshness::default(),
            sink: None,
            attempt: Some(Arc::new(attempt)),
        };
        let mut inputs = Inputs::new();
        for (name, value) in &given {
            if let Some(bytes) = value {
                inputs.insert(name.clone(), Kept::value(bytes)?);
            }
        }
        let Some((element, _)) = &work.each else {
            let outcome = self.call(&stage, &task.stage.name, &cx, inputs).await;
            let note = cx.meter.facts().get("note").and_then(|n| n.as_str().map(str::to_owned));
            return Ok(Went { outcome, whole: true, note: note.unwrap_or_default() });
        };
        let over = inputs.shift_remove(element);
        let placed = stage.signature().inputs.contains_key("index");
        let others: GivenInputs = given.into_iter().filter(|(name, _)| name != element).collect();
        let common = match work.cached {
            true => Common::content(&task.tenant, &task.stage.name, work, &others, placed),
            false => Common::effect(&task.key),
        };
        let (log, spent) = (&*log, parking_lot::Mutex::default());
        let (host, stage, cx) = (self, &stage, &cx);
        let each = Each { host, kind, stage, work, task, about, log, cx, inputs, element, common, spent };
        each.run(over).await
    }
}

/// The inputs of a stage, as they are kept: its own and the one it is run for each element of.
fn gathered(work: &StageWork, task: &Task) -> Result<GivenInputs, Error> {
    let one = |name: &StageName| -> Result<Option<Vec<u8>>, Error> {
        let given = task.given.iter().find(|(n, _)| n == name).map(|(_, given)| given);
        match given {
            Some(Given::Output(bytes)) => Ok(Some(bytes.to_vec())),
            Some(Given::Nothing) | None => Ok(None),
            Some(Given::Default(stage)) => {
                let spec = stage.spec.clone().and_then(|s| serde_json::from_value::<StageWork>(s).ok());
                let value = spec.and_then(|s| s.default).map(Value::from);
                value.as_ref().map(Kept::bytes).transpose()
            }
        }
    };
    let mut all = Vec::new();
    for (input, from) in work.inputs.iter().chain(&work.each) {
        let bytes = match from {
            From::Input => Some(task.input.to_vec()).filter(|b| !b.is_empty()),
            From::Stage(name) => one(name)?,
            From::Stages(names) => {
                let mut values = Vec::with_capacity(names.len());
                for name in names {
                    values.push(one(name)?.map(|b| Kept::value(&b)).transpose()?);
                }
                Some(Kept::bytes(&Value::List(values.into()))?)
            }
        };
        all.push((input.clone(), bytes));
    }
    Ok(all)
}
