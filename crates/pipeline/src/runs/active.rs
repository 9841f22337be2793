//! Runs that are at work in this process, kept as their journals have them: a decision about one does not read its journal
//! again. Whoever decides holds the run; what another process wrote is seen when a change is refused.

use std::collections::HashMap;
use std::sync::Arc;

use contract::{RunId, StageName};
use parking_lot::Mutex;
use store::{Change, Output, RunHead};

use super::attempt::Running;
use super::entry::{Entry, StagePlan};
use super::run::{Run, Source};
use super::scheduler::{Scheduler, replay};
use super::state::{Action, Here, Input, Status};

/// How often a decision is made again because another one came first.
const AGAIN: usize = 16;

/// A run as it is known here.
pub(super) struct Known {
    head: RunHead,
    run: Run,
    input: Option<Arc<[u8]>>,
}

/// The place of a run: `None` until it was read, and when it is to be read again.
type Cell = Arc<tokio::sync::Mutex<Option<Known>>>;

/// All of them.
#[derive(Default)]
pub(super) struct Active(Mutex<HashMap<RunId, Cell>>);

impl Active {
    fn cell(&self, id: RunId) -> Cell {
        self.0.lock().entry(id).or_default().clone()
    }

    /// A journal was seen to have that many entries: a run that is known shorter is read again before it is decided on.
    pub(super) async fn saw(&self, id: RunId, entries: u64) {
        let Some(cell) = self.0.lock().get(&id).cloned() else { return };
        let mut place = cell.lock().await;
        if place.as_ref().is_some_and(|known| known.run.entries() < entries) {
            *place = None;
        }
    }

    /// A run is read again before it is decided on: what is asked of it may go by what another server did.
    pub(super) async fn read_anew(&self, id: RunId) {
        self.saw(id, u64::MAX).await;
    }

    fn forget(&self, id: RunId) {
        self.0.lock().remove(&id);
    }
}

/// What a change led to.
pub(super) struct Changed {
    /// What was recorded, and is to be done or was.
    pub(super) actions: Vec<Action>,
    /// The attempt that begins here, and is in our hands.
    pub(super) begun: Option<Begun>,
    /// Whether more stages may start at once.
    pub(super) more: bool,
}

/// An attempt that begins.
pub(super) struct Begun {
    pub(super) head: RunHead,
    pub(super) held: Running,
    pub(super) stage: Arc<StagePlan>,
    pub(super) attempt: u32,
    pub(super) key: String,
    pub(super) input: Option<Arc<[u8]>>,
    /// What it is given of the stages that it needs: the key of an output, or the specification that names a value.
    pub(super) given: Vec<(StageName, Needed)>,
}

impl Begun {
    /// An output that has just been kept is not read again.
    fn given_here(&mut self, kept: &str, output: &Arc<[u8]>) {
        for (_, needed) in &mut self.given {
            if matches!(needed, Needed::Output(key) if key == kept) {
                *needed = Needed::Here(output.clone());
            }
        }
    }
}

/// What an attempt left.
pub(super) struct Left {
    pub(super) output: Arc<[u8]>,
    pub(super) result_of: Option<Box<store::StageResult>>,
    pub(super) lineage: Option<Box<store::NewLineage>>,
}

impl Left {
    /// What other runs take.
    fn result(&self) -> Option<store::StageResult> {
        self.result_of.as_deref().map(|r| store::StageResult { value: self.output.to_vec(), ..r.clone() })
    }
}

/// Where what a stage is given is to be found.
pub(super) enum Needed {
    Output(String),
    /// It has just been kept.
    Here(Arc<[u8]>),
    Default(Arc<StagePlan>),
    Nothing,
}

/// Whether it is what a person asked for and was told that it is done.
fn is_said(action: &Action) -> bool {
    matches!(action, Action::Record(Entry::CancelAsked { .. } | Entry::Decided { .. }))
}

impl Scheduler {
    /// Decides on the journal as it is, brings that to disk, then does what is to be done here. `None` when there is no such
    /// run.
    ///
    /// `left` is what is kept where the decision is that something is.
    pub(super) async fn change(
        &self,
        id: RunId,
        inputs: impl Fn(Here) -> Vec<Input>,
        left: Option<&Left>,
    ) -> Result<Option<Changed>, store::Error> {
        let inner = &*self.inner;
        let cell = inner.active.cell(id);
        let mut place = cell.lock().await;
        for _ in 0..AGAIN {
            // Taken out: dropped in the middle, or refused, it is read again.
            let known = match place.take() {
                Some(known) => known,
                None => match inner.store.get(id).await? {
                    Some(stored) => {
                        Known { run: replay(id, &stored.entries)?, head: stored.head, input: None }
                    }
                    None => {
                        inner.active.forget(id);
                        return Ok(None);
                    }
                },
            };
            let Known { mut head, mut run, input } = known;
            let after = run.entries();
            let now = inner.clock.wall();
            let actions: Vec<Action> =
                inputs(self.here(id)).into_iter().flat_map(|input| run.step(now, input)).collect();
            let change = self.written(&run, &head, after, &actions, left)?;
            if !change.entries.is_empty() && !inner.store.append(&change).await? {
                continue;
            }
            for action in &actions {
                if let Action::Record(entry) = action {
                    inner.counts.recorded(entry);
                }
            }
            if change.outbox.is_some() {
                inner.told.notify_one();
            }
            if actions.iter().any(|a| matches!(a, Action::End(_))) {
                inner.execute.ended(&head);
            }
            (head.status, head.entries) = (change.status, run.entries());
            (head.due_at, head.ended_at) = (change.due_at, change.ended_at);
            self.stop_attempts(id, &actions);
            let mut begun = actions.iter().find_map(|a| self.begin(&run, &head, input.as_ref(), a));
            if let (Some(begun), Some(output), Some(left)) = (&mut begun, &change.output, left) {
                begun.given_here(&output.key, &left.output);
            }
            let more = run.due().is_some_and(|t| t <= now);
            let at_work = begun.is_some() || self.is_here(id);
            if run.ended_at().is_none() && at_work {
                *place = Some(Known { head, run, input });
            } else {
                inner.active.forget(id);
            }
            return Ok(Some(Changed { actions, begun, more }));
        }
        Err(store::Error::Contended)
    }

    /// Keeps what a run is given as long as the run is kept.
    pub(super) async fn input(&self, id: RunId) -> Result<Arc<[u8]>, store::Error> {
        let input: Arc<[u8]> = self.inner.store.input(id).await?.unwrap_or_default().into();
        if let Some(known) = self.inner.active.cell(id).lock().await.as_mut() {
            known.input = Some(input.clone());
        }
        Ok(input)
    }

    /// What is written of actions.
    fn written(
        &self,
        run: &Run,
        head: &RunHead,
        after: u64,
        actions: &[Action],
        left: Option<&Left>,
    ) -> Result<Change, store::Error> {
        let mut change = Change {
            id: run.id(),
            after,
            entries: Vec::new(),
            status: run.status().as_str().to_owned(),
            due_at: run.due(),
            as_of: run.as_of(),
            ended_at: run.ended_at(),
            keeps_input: run.status() != Status::Succeeded && self.inner.execute.resumable(&head.kind),
            output: None,
            result: None,
            lineage: None,
            outbox: None,
            // What a run of several stages has done is done again under the same keys when the machine loses it; what somebody said is
            // not said again.
            synced: run.ended_at().is_some()
                || run.plan().is_none_or(|p| p.stages.len() <= 1)
                || actions.iter().any(is_said),
        };
        for action in actions {
            match action {
                Action::Record(entry) => {
                    if matches!(entry, Entry::Done { .. }) {
                        change.lineage = left.and_then(|l| l.lineage.as_deref().cloned());
                        change.result = left.and_then(Left::result);
                    }
                    change.entries.push(serde_json::to_string(entry)?);
                }
                Action::Keep { stage, key } => {
                    let value = left.map(|l| l.output.to_vec()).unwrap_or_default();
                    change.output =
                        Some(Output { key: key.clone(), stage: stage.as_str().to_owned(), value });
                }
                Action::End(_) => {
                    let kept = change.output.as_ref().map(|o| o.value.as_slice());
                    change.outbox = self.inner.execute.announce(run, head, kept);
                }
                Action::Start { .. } | Action::Stop { .. } => {}
            }
        }
        Ok(change)
    }

    /// An attempt that is on disk comes into our hands, before anybody looks at its run again.
    fn begin(&self, run: &Run, head: &RunHead, input: Option<&Arc<[u8]>>, action: &Action) -> Option<Begun> {
        let Action::Start { stage, attempt, key } = action else { return None };
        let (plan, _) = run.stage(stage)?;
        let plan_at = |at: usize| run.stage_at(at).map(|(p, _)| p);
        let given = plan.after.iter().filter_map(|name| {
            let needed = match run.given(name)? {
                Source::Output(at) => Needed::Output(run.key(&plan_at(at)?.name)),
                Source::Default(at) => Needed::Default(Arc::new(plan_at(at)?.clone())),
                Source::Nothing => Needed::Nothing,
            };
            Some((name.clone(), needed))
        });
        Some(Begun {
            head: head.clone(),
            held: Running::new(self, head, plan, *attempt),
            stage: Arc::new(plan.clone()),
            attempt: *attempt,
            key: key.clone(),
            input: input.cloned(),
            given: given.collect(),
        })
    }
}
