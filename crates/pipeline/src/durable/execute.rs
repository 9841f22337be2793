//! One attempt of a stage of a durable run.

use std::sync::Arc;

use contract::{
    Attempt, BoxFuture, Code, Context, Deadline, Error, Freshness, Inputs, Meter, MidStream, Outcome, RunId,
    Stage, StageName, Value,
};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use store::StageResult;

use super::content::{Content, content, difference};
use super::definition::About;
use super::folders::{self, Folder};
use super::host::Durable;
use super::kept::Kept;
use super::log::Log;
use super::stage::{From, StageWork};
use crate::live::{call, elements};
use crate::runs::{Execute, Finished, Given, Run, Task};
use crate::{Site, StageKind};

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

    fn ended(&self, head: &store::RunHead) {
        self.tell_ended(head);
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
        let spec = task.stage.spec.clone().ok_or_else(|| broken("says nothing"))?;
        let work: StageWork =
            serde_json::from_value(spec).map_err(|e| broken(&format!("cannot be read: {e}")))?;
        let kind = self.kind(&work.kind)?;
        let given = gathered(&work, &task)?;
        let made_of = content(&task.tenant, &work, &given);
        let path = folders::log(&inner.root, task.run, &task.stage.name, task.attempt);
        let log = Arc::new(Log::create(&path, inner.clock.clone()));
        inner.logs.lock().insert((task.run, task.stage.name.clone()), log.clone());
        let _shown = Shown(self.clone(), (task.run, task.stage.name.clone()));
        let mut why = None;
        if work.cached {
            match self.earlier(&task, &about, &made_of).await {
                Ok(found) => return Ok(found),
                Err(reason) => why = Some(reason),
            }
        }
        let value = {
            let outcome = self.made(&task, &about, &*kind, &work, given, log).await?;
            match outcome {
                Outcome::Complete(value) => value,
                Outcome::Failed(e) => return Err(e),
                Outcome::Partial(value, e) => return Ok(Finished::partial(Kept::bytes(&value)?, e)),
            }
        };
        let bytes = Kept::bytes(&value)?;
        if work.cached {
            self.keep(&task, &about, made_of, &bytes).await;
        }
        Ok(Finished { note: why, ..Finished::done(bytes) })
    }

    /// The result of an earlier run that made it of the same; else why it is made.
    async fn earlier(&self, task: &Task, about: &About, made_of: &Content) -> Result<Finished, String> {
        let results = &self.inner.results;
        let asked = async {
            if let Some(found) = results.get(&made_of.key).await? {
                return Ok::<_, store::Error>(Ok(found));
            }
            let stage = task.stage.name.as_str();
            let before = results.newest(&task.tenant, about.pipeline.as_str(), stage).await?;
            let before = before.and_then(|b| serde_json::from_str(&b.of).ok());
            Ok(Err(match before {
                Some(before) => format!("made again: {}", difference(&before, &made_of.parts)),
                None => "made for the first time".to_owned(),
            }))
        };
        match asked.await {
            Ok(Ok(found)) => {
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

    async fn keep(&self, task: &Task, about: &About, made_of: Content, bytes: &[u8]) {
        let result = StageResult {
            key: made_of.key,
            tenant: task.tenant.clone(),
            pipeline: about.pipeline.to_string(),
            stage: task.stage.name.to_string(),
            run: task.run,
            of: serde_json::to_string(&made_of.parts).unwrap_or_default(),
            value: bytes.to_owned(),
            at: self.inner.clock.wall(),
        };
        if let Err(e) = self.inner.results.put(&result).await {
            tracing::warn!(error = %e, "failed to keep the result of a stage");
        }
    }

    async fn made(
        &self,
        task: &Task,
        about: &About,
        kind: &dyn StageKind,
        work: &StageWork,
        given: Vec<(String, Option<Vec<u8>>)>,
        log: Arc<Log>,
    ) -> Result<Outcome<Value>, Error> {
        let inner = &*self.inner;
        let site = Site { name: &task.stage.name, each: work.each.is_some() };
        let stage = kind.build(&work.config, &site).map_err(|problems| {
            let first = problems.first().map(|p| p.message.clone()).unwrap_or_default();
            Error::new(Code::InvalidRequest, format!("stage `{}` cannot be built: {first}", site.name))
        })?;
        let folder = Folder::new(&inner.root, task.run, &task.stage.name, task.attempt).map_err(|e| {
            Error::new(Code::StorageUnavailable, format!("the folder of the stage cannot be made: {e}"))
        })?;
        let attempt = Attempt {
            run: task.run,
            pipeline: about.pipeline.clone(),
            number: task.attempt,
            effect: task.key.clone(),
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
        for (name, value) in given {
            if let Some(bytes) = value {
                inputs.insert(name, Kept::value(&bytes)?);
            }
        }
        match &work.each {
            None => Ok(call(&stage, &task.stage.name, &cx, inputs).await),
            Some((element, _)) => {
                let over = inputs.shift_remove(element);
                each(&stage, &cx, inputs, (element, over), (work.parallel, task), &log).await
            }
        }
    }
}

/// The inputs of a stage, as they are kept: its own and the one it is run for each element of.
fn gathered(work: &StageWork, task: &Task) -> Result<Vec<(String, Option<Vec<u8>>)>, Error> {
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

/// Runs a stage for every element, some at a time.
async fn each(
    stage: &Arc<dyn Stage>,
    cx: &Context,
    inputs: Inputs,
    (element, over): (&str, Option<Value>),
    (parallel, of): (usize, &Task),
    log: &Arc<Log>,
) -> Result<Outcome<Value>, Error> {
    use contract::StageLog as _;
    let Some(over) = over else { return Ok(Outcome::Complete(Value::List(Arc::new([])))) };
    let items = elements(&over)?;
    let count = items.len();
    let partial = of.stage.on_failure == crate::runs::Contract::Partial;
    let mut results: Vec<Option<Result<Value, Error>>> = vec![None; count];
    let mut waiting = items.into_iter().enumerate();
    let mut running = FuturesUnordered::new();
    let mut done = 0_u64;
    log.progress(0, Some(count as u64));
    loop {
        while running.len() < parallel.max(1) {
            let Some((index, item)) = waiting.next() else { break };
            let mut given = inputs.clone();
            if stage.signature().inputs.contains_key("index") {
                given.insert("index".to_owned(), Value::Json(Arc::new((index + 1).into())));
            }
            let mut own = cx.clone();
            own.attempt = cx.attempt.as_ref().map(|a| {
                // An effect of its own for each element.
                let effect = blake3::hash(format!("{} {index}", a.effect).as_bytes()).to_hex().to_string();
                Arc::new(Attempt { effect, ..(**a).clone() })
            });
            running.push(async move {
                let outcome = match item {
                    Some(item) => {
                        given.insert(element.to_owned(), item);
                        call(stage, &of.stage.name, &own, given).await
                    }
                    None => Outcome::Failed(Error::new(Code::PartFailed, "the element before it is missing")),
                };
                (index, outcome)
            });
        }
        let Some((index, outcome)) = running.next().await else { break };
        done += 1;
        log.progress(done, Some(count as u64));
        let result = match outcome {
            Outcome::Complete(v) => Ok(v),
            Outcome::Partial(_, e) | Outcome::Failed(e) => Err(e),
        };
        if let (Err(e), false) = (&result, partial) {
            return Ok(Outcome::Failed(Error {
                message: format!("element {}: {e}", index + 1),
                ..e.clone()
            }));
        }
        if let Err(e) = &result {
            log.line(&format!("element {} failed: {e}", index + 1));
        }
        if let Some(slot) = results.get_mut(index) {
            *slot = Some(result);
        }
    }
    let failed = results.iter().filter(|r| !matches!(r, Some(Ok(_)))).count();
    let first = results.iter().flatten().find_map(|r| r.as_ref().err().cloned());
    let values: Arc<[Option<Value>]> = results.into_iter().map(|r| r.and_then(Result::ok)).collect();
    Ok(match first {
        None => Outcome::Complete(Value::List(values)),
        Some(e) if failed == count => Outcome::Failed(e),
        Some(e) => {
            let message = format!("{failed} of {count} parts failed: {e}");
            Outcome::Partial(Value::List(values), Error { message, code: Code::PartFailed, ..e })
        }
    })
}
