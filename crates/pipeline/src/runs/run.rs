//! The state of a run, and what happens to it next. Pure.

use contract::{Code, Error, RunId, StageName, UnixMillis};

use super::entry::{Entry, Plan, StagePlan};
use super::retry::{Tried, Verdict, decide, later};
use super::state::{Action, Held, Here, Input, Phase, Report, StageState, Status};

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    id: RunId,
    plan: Option<Plan>,
    stages: Vec<StageState>,
    entries: u64,
    submitted_at: UnixMillis,
    ended: Option<(UnixMillis, Status, Option<Error>)>,
}

impl Run {
    /// A run of which nothing is known yet.
    pub fn new(id: RunId) -> Self {
        Run { id, plan: None, stages: Vec::new(), entries: 0, submitted_at: UnixMillis(0), ended: None }
    }

    /// The run that a journal, or the beginning of one, describes.
    pub fn replay<'a>(id: RunId, journal: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut run = Run::new(id);
        journal.into_iter().for_each(|e| run.apply(e));
        run
    }

    /// Its id.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// What it is to do; `None` before it was submitted.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// How many entries its journal has.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// When it was submitted.
    pub fn submitted_at(&self) -> UnixMillis {
        self.submitted_at
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        match &self.ended {
            Some((_, status, _)) => *status,
            None if self.stages.iter().any(|s| s.held().is_some()) => Status::Running,
            None => Status::Queued,
        }
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<UnixMillis> {
        self.ended.as_ref().map(|(at, _, _)| *at)
    }

    /// Why it failed.
    pub fn error(&self) -> Option<&Error> {
        self.ended.as_ref().and_then(|(_, _, e)| e.as_ref())
    }

    /// Its stages, in the order of the plan.
    pub fn stages(&self) -> impl Iterator<Item = (&StagePlan, &StageState)> {
        self.plan.iter().flat_map(|p| &p.stages).zip(&self.stages)
    }

    /// When something is to be done about it without anybody asking: a stage may start, a lease runs out, the time is over.
    /// `None` when it has ended.
    pub fn due(&self) -> Option<UnixMillis> {
        if self.ended.is_some() {
            return None;
        }
        let times = self.stages.iter().filter_map(|s| match &s.phase {
            Phase::Ready(at) => Some(*at),
            Phase::Leased(held) => Some(held.until),
            _ => None,
        });
        times.chain(self.plan.as_ref().and_then(|p| p.deadline)).min()
    }

    /// When the pauses that it is in were decided, if those are not dates.
    pub fn as_of(&self) -> Option<UnixMillis> {
        let ready = self.stages.iter().filter(|s| matches!(s.phase, Phase::Ready(_)));
        ready.filter_map(|s| s.as_of).max()
    }

    /// The key of a stage's effect: equal for all attempts on the same input, and for no other stage, run or input.
    pub fn key(&self, stage: &StageName) -> String {
        let mut hash = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(self.id.as_bytes());
        part(stage.as_str().as_bytes());
        if let Some((plan, _)) = self.stages().find(|(p, _)| &p.name == stage) {
            part(plan.input.as_bytes());
            for (p, s) in self.stages().filter(|(p, _)| plan.after.contains(&p.name)) {
                part(p.name.as_str().as_bytes());
                part(s.output.as_deref().unwrap_or_default().as_bytes());
            }
        }
        hash.finalize().to_hex().to_string()
    }

    /// Takes what happened at `now`. What is to be recorded is part of the run already.
    pub fn step(&mut self, now: UnixMillis, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Submit(plan) => {
                if self.plan.is_none() && plan.is_sound() {
                    self.record(&mut out, Entry::Submitted { at: now, plan });
                }
            }
            _ if self.plan.is_none() => {}
            // Whoever is at an ended run is told.
            Input::Beat { stage, attempt, .. } if self.ended.is_some() => {
                out.push(Action::Stop { stage, attempt })
            }
            _ if self.ended.is_some() => {}
            Input::Cancel => {
                self.record(&mut out, Entry::CancelAsked { at: now });
                self.end(&mut out, now, Status::Cancelled, None);
            }
            Input::Take(here) => {
                self.tick(&mut out, now, &here);
                self.take(&mut out, now, here);
            }
            Input::Beat { stage, attempt, lease } => match self.leased(&stage, attempt) {
                true => {
                    let until = later(now, lease);
                    self.record(&mut out, Entry::Renewed { at: now, stage, attempt, until });
                }
                false => out.push(Action::Stop { stage, attempt }),
            },
            Input::Report { stage, attempt, report } => self.report(&mut out, now, stage, attempt, report),
            Input::Dead { worker } => {
                let of = |_: &StageName, h: &Held| h.worker == worker;
                self.lose(&mut out, now, of);
            }
            Input::Tick(here) => self.tick(&mut out, now, &here),
        }
        out
    }

    fn tick(&mut self, out: &mut Vec<Action>, now: UnixMillis, here: &Here) {
        let own = |stage: &StageName, h: &Held| here.attempts.contains(&(stage.clone(), h.attempt));
        let lost = |stage: &StageName, h: &Held| match h.worker == here.worker {
            true => !own(stage, h),
            false => h.until <= now && !here.living.contains(&h.worker),
        };
        self.lose(out, now, lost);
        if self.ended.is_some() {
            return;
        }
        // What is here goes on, and what is with somebody who lives, whatever the clock says that the lease was.
        let silent = |(p, s): (&StagePlan, &StageState)| {
            let held = s.held().filter(|h| h.until <= now)?;
            let goes_on = own(&p.name, held) || here.living.contains(&held.worker);
            goes_on.then(|| (p.name.clone(), held.attempt))
        };
        let silent: Vec<_> = self.stages().filter_map(silent).collect();
        for (stage, attempt) in silent {
            let until = later(now, here.lease);
            self.record(out, Entry::Renewed { at: now, stage, attempt, until });
        }
        let late = self.plan.as_ref().and_then(|p| p.deadline).is_some_and(|d| d <= now);
        if late && self.ended.is_none() {
            let error = Error::new(Code::DeadlineExceeded, "the run did not end within its time");
            self.end(out, now, Status::Failed, Some(error));
        }
    }

    fn take(&mut self, out: &mut Vec<Action>, now: UnixMillis, here: Here) {
        if self.ended.is_some() {
            return;
        }
        let Here { worker, lease, .. } = here;
        let found =
            self.stages().find(|(_, s)| s.may_start(now)).map(|(p, s)| (p.name.clone(), s.attempts + 1));
        let Some((stage, attempt)) = found else { return };
        let (key, until) = (self.key(&stage), later(now, lease));
        self.record(out, Entry::Leased { at: now, stage: stage.clone(), attempt, worker, until });
        out.push(Action::Start { stage, attempt, key });
    }

    fn report(
        &mut self,
        out: &mut Vec<Action>,
        now: UnixMillis,
        stage: StageName,
        attempt: u32,
        report: Report,
    ) {
        let Some((plan, state)) = self.stages().find(|(p, _)| p.name == stage) else { return };
        let leased = self.leased(&stage, attempt);
        match report {
            Report::Progress(done, of) if leased => {
                self.record(out, Entry::Progressed { at: now, stage, attempt, done, of });
            }
            Report::Returned if leased => self.record(out, Entry::Returned { at: now, stage, attempt }),
            Report::Failed(error) if leased => {
                let tried = Tried {
                    run: self.id,
                    attempts: state.attempts,
                    failures: state.failures,
                    postponed: state.postponed,
                };
                match decide(&plan.retry, tried, &error, now) {
                    Verdict::Later(again) => {
                        self.record(out, Entry::Postponed { at: now, stage, attempt, error, again });
                    }
                    Verdict::Again(at) => {
                        self.record(out, Entry::Failed { at: now, stage, attempt, error, again: Some(at) });
                    }
                    Verdict::Never => {
                        let key = self.key(&stage);
                        let failed = Entry::Failed {
                            at: now,
                            stage: stage.clone(),
                            attempt,
                            error: error.clone(),
                            again: None,
                        };
                        self.record(out, failed);
                        out.push(Action::Keep { stage, key });
                        self.end(out, now, Status::Failed, Some(error));
                    }
                }
            }
            // Whoever is first: the effect of all attempts is the same, and one that was taken for lost may have it.
            Report::Done(output)
                if attempt >= 1 && attempt <= state.attempts && state.phase != Phase::Done =>
            {
                let other = state.held().map(|h| h.attempt).filter(|a| *a != attempt);
                let key = self.key(&stage);
                self.record(out, Entry::Done { at: now, stage: stage.clone(), attempt, output });
                if let Some(attempt) = other {
                    out.push(Action::Stop { stage: stage.clone(), attempt });
                }
                out.push(Action::Keep { stage, key });
                if self.stages.iter().all(|s| s.phase == Phase::Done) {
                    self.end(out, now, Status::Succeeded, None);
                }
            }
            Report::Progress(..) | Report::Returned | Report::Failed(_) | Report::Done(_) => {}
        }
    }

    fn lose(&mut self, out: &mut Vec<Action>, now: UnixMillis, which: impl Fn(&StageName, &Held) -> bool) {
        let lost = |(p, s): (&StagePlan, &StageState)| {
            let held = s.held().filter(|h| which(&p.name, h))?;
            let again = (s.losses + 1 < p.retry.losses).then_some(now);
            Some((p.name.clone(), held.attempt, again))
        };
        let lost: Vec<_> = self.stages().filter_map(lost).collect();
        for (stage, attempt, again) in lost {
            if self.ended.is_some() {
                return;
            }
            self.record(out, Entry::Lost { at: now, stage: stage.clone(), attempt, again });
            out.push(Action::Stop { stage, attempt });
            if again.is_none() {
                let m = "the server died too often while it was at this, which may be the reason";
                self.end(out, now, Status::Failed, Some(Error::new(Code::Internal, m)));
            }
        }
    }

    fn end(&mut self, out: &mut Vec<Action>, now: UnixMillis, status: Status, error: Option<Error>) {
        let stop = |(p, s): (&StagePlan, &StageState)| {
            s.held().map(|h| Action::Stop { stage: p.name.clone(), attempt: h.attempt })
        };
        let stops: Vec<Action> = self.stages().filter_map(stop).collect();
        self.record(out, Entry::Ended { at: now, status, error });
        out.extend(stops);
        out.push(Action::End(status));
    }

    /// Whether that attempt is the one that is waited for.
    pub fn leased(&self, stage: &StageName, attempt: u32) -> bool {
        let held = self.stages().find(|(p, _)| &p.name == stage).and_then(|(_, s)| s.held());
        held.is_some_and(|h| h.attempt == attempt)
    }

    fn record(&mut self, out: &mut Vec<Action>, entry: Entry) {
        self.apply(&entry);
        out.push(Action::Record(entry));
    }

    fn stage(&mut self, name: &StageName) -> Option<&mut StageState> {
        let at = self.plan.as_ref()?.stages.iter().position(|s| &s.name == name)?;
        self.stages.get_mut(at)
    }

    /// What an entry says is so. Takes any entry at any time without a panic; journals that [`Run::step`] wrote make sense.
    pub fn apply(&mut self, entry: &Entry) {
        self.entries += 1;
        match entry {
            Entry::Submitted { at, plan } => {
                let from = plan.not_before.map_or(*at, |t| t.max(*at));
                let phase =
                    |s: &StagePlan| if s.after.is_empty() { Phase::Ready(from) } else { Phase::Blocked };
                let as_of = plan.not_before.is_none_or(|t| t <= *at).then_some(*at);
                let state = |s: &StagePlan| StageState { as_of, ..StageState::new(phase(s)) };
                self.stages = plan.stages.iter().map(state).collect();
                (self.submitted_at, self.plan) = (*at, Some(plan.clone()));
            }
            Entry::CancelAsked { .. } => {}
            Entry::Leased { at, stage, attempt, worker, until } => {
                let Some(s) = self.stage(stage) else { return };
                s.attempts = *attempt;
                s.progress = None;
                s.started_at.get_or_insert(*at);
                s.phase = Phase::Leased(Held { attempt: *attempt, worker: worker.clone(), until: *until });
            }
            Entry::Renewed { stage, until, .. } => {
                if let Some(Phase::Leased(held)) = self.stage(stage).map(|s| &mut s.phase) {
                    held.until = *until;
                }
            }
            Entry::Progressed { stage, done, of, .. } => {
                if let Some(s) = self.stage(stage) {
                    s.progress = Some((*done, *of));
                }
            }
            Entry::Done { at, stage, attempt, output } => {
                if let Some(s) = self.stage(stage) {
                    s.phase = Phase::Done;
                    (s.output, s.ended_at, s.ended_by) = (Some(output.clone()), Some(*at), Some(*attempt));
                }
                self.unblock(*at);
            }
            Entry::Failed { at, stage, attempt, error, again } => {
                let Some(s) = self.stage(stage) else { return };
                s.failures += 1;
                s.error = Some(error.clone());
                (s.phase, s.as_of) = (again.map_or(Phase::Failed, Phase::Ready), Some(*at));
                if again.is_none() {
                    (s.ended_at, s.ended_by) = (Some(*at), Some(*attempt));
                }
            }
            Entry::Postponed { at, stage, error, again, .. } => {
                let Some(s) = self.stage(stage) else { return };
                s.postponed += 1;
                s.error = Some(error.clone());
                s.ready(*again, Some(*at));
            }
            Entry::Returned { at, stage, .. } => {
                if let Some(s) = self.stage(stage) {
                    s.ready(*at, Some(*at));
                }
            }
            Entry::Lost { at, stage, again, .. } => {
                let Some(s) = self.stage(stage) else { return };
                s.losses += 1;
                (s.phase, s.as_of) = (again.map_or(Phase::Failed, Phase::Ready), Some(*at));
                if again.is_none() {
                    s.ended_at = Some(*at);
                }
            }
            Entry::Ended { at, status, error } => {
                for s in &mut self.stages {
                    if matches!(s.phase, Phase::Blocked | Phase::Ready(_) | Phase::Leased(_)) {
                        s.phase = Phase::Cancelled;
                        s.ended_at = Some(*at);
                    }
                }
                self.ended = Some((*at, *status, error.clone()));
            }
        }
    }

    /// Stages whose needs are met may start.
    fn unblock(&mut self, at: UnixMillis) {
        let Some(plan) = &self.plan else { return };
        let done: Vec<StageName> =
            self.stages().filter(|(_, s)| s.phase == Phase::Done).map(|(p, _)| p.name.clone()).collect();
        for (p, s) in plan.stages.iter().zip(&mut self.stages) {
            if s.phase == Phase::Blocked && p.after.iter().all(|name| done.contains(name)) {
                s.ready(at, Some(at));
            }
        }
    }
}
