//! The state of a run: what its journal says, and nothing else. What happens to it next decides `step`. Pure.

use contract::{Error, RunId, StageName, UnixMillis};

use super::entry::{Contract, Entry, Plan, StagePlan};
use super::line::Line;
use super::links::Links;
use super::state::{Held, Phase, StageState, Status};

/// When a run is looked at that waits for somebody.
const FAR: UnixMillis = UnixMillis(i64::MAX >> 1);

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub(super) id: RunId,
    pub(super) plan: Option<Plan>,
    pub(super) stages: Vec<StageState>,
    pub(super) links: Links,
    pub(super) line: Line,
    /// How many of what each stage needs are not there yet.
    waits: Vec<usize>,
    /// Lazy stages that a failure has made necessary.
    called: Vec<bool>,
    /// Stages that the end waits for.
    going: usize,
    entries: u64,
    submitted_at: UnixMillis,
    /// The first failure that no contract took in.
    pub(super) failure: Option<Error>,
    pub(super) ended: Option<(UnixMillis, Status, Option<Error>)>,
}

/// What whoever needs a stage is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The output of the stage at this place of the plan.
    Output(usize),
    /// The value that the specification of the stage at this place names.
    Default(usize),
    /// Nothing: it is skipped.
    Nothing,
}

impl Run {
    /// A run of which nothing is known yet.
    pub fn new(id: RunId) -> Self {
        Run {
            id,
            plan: None,
            stages: Vec::new(),
            links: Links::default(),
            line: Line::default(),
            waits: Vec::new(),
            called: Vec::new(),
            going: 0,
            entries: 0,
            submitted_at: UnixMillis(0),
            failure: None,
            ended: None,
        }
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
            None if self.line.running() > 0 => Status::Running,
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

    /// The stage at a place of the plan.
    pub fn stage_at(&self, at: usize) -> Option<(&StagePlan, &StageState)> {
        Some((self.plan.as_ref()?.stages.get(at)?, self.stages.get(at)?))
    }

    /// The stage of that name.
    pub fn stage(&self, name: &StageName) -> Option<(&StagePlan, &StageState)> {
        self.stage_at(self.links.place(name)?)
    }

    /// What whoever needs that stage is given; `None` while that is not known, and when it has failed.
    pub(super) fn given(&self, name: &StageName) -> Option<Source> {
        self.given_at(self.links.place(name)?)
    }

    fn given_at(&self, mut at: usize) -> Option<Source> {
        for _ in 0..=self.stages.len() {
            let (plan, state) = self.stage_at(at)?;
            match (&state.phase, &plan.on_failure) {
                (Phase::Done, _) => return Some(Source::Output(at)),
                (Phase::Failed, Contract::Skip) => return Some(Source::Nothing),
                (Phase::Failed, Contract::Default) => return Some(Source::Default(at)),
                (Phase::Failed, Contract::Fallback(other)) => at = self.links.place(other)?,
                _ => return None,
            }
        }
        None
    }

    /// When something is to be done about it without anybody asking: a stage may start, a lease runs out, the time is over.
    /// `None` when it has ended.
    pub fn due(&self) -> Option<UnixMillis> {
        if self.ended.is_some() || self.plan.is_none() {
            return None;
        }
        // At its most stages at once, it is the end of one that matters.
        let next = if self.is_full() { None } else { self.line.next() };
        let deadline = self.plan.as_ref().and_then(|p| p.deadline);
        Some(next.into_iter().chain(self.line.lease()).chain(deadline).min().unwrap_or(FAR))
    }

    /// When the pauses that it is in were decided, if those are not dates.
    pub fn as_of(&self) -> Option<UnixMillis> {
        self.line.as_of()
    }

    /// Whether as many stages are under way as may be at once.
    pub(super) fn is_full(&self) -> bool {
        let most = self.plan.as_ref().and_then(|p| p.parallel);
        most.is_some_and(|most| self.line.running() >= usize::try_from(most.max(1)).unwrap_or(usize::MAX))
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
        if let Some((plan, _)) = self.stage(stage) {
            part(plan.input.as_bytes());
            for (name, hash) in self.needed(plan) {
                part(name.as_bytes());
                part(hash.as_bytes());
            }
        }
        hash.finalize().to_hex().to_string()
    }

    /// The stages that a stage needs, in the order of the plan, with the hash of what it is given of each: a word for what is
    /// no output.
    pub fn needed<'a>(&'a self, plan: &StagePlan) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.links.needs(plan).into_iter().filter_map(|at| {
            let name = self.stage_at(at)?.0.name.as_str();
            let hash = match self.given_at(at) {
                Some(Source::Output(from)) => self.stage_at(from)?.1.output.as_deref().unwrap_or_default(),
                Some(Source::Default(_)) => "default",
                Some(Source::Nothing) => "nothing",
                None => "",
            };
            Some((name, hash))
        })
    }

    /// Whether that attempt is the one that is waited for.
    pub fn leased(&self, stage: &StageName, attempt: u32) -> bool {
        self.stage(stage).and_then(|(_, s)| s.held()).is_some_and(|h| h.attempt == attempt)
    }

    /// Whether nothing more comes of its stages.
    pub(super) fn is_over(&self) -> bool {
        self.going == 0
    }

    /// What an entry says is so. Takes any entry at any time without a panic; journals that `step` wrote make sense.
    pub fn apply(&mut self, entry: &Entry) {
        self.entries += 1;
        match entry {
            Entry::Submitted { at, plan } => self.begin(*at, plan),
            Entry::CancelAsked { .. } => {}
            Entry::Leased { at, stage, attempt, worker, until } => {
                let Some(place) = self.links.place(stage) else { return };
                self.with(place, |s| {
                    s.attempts = *attempt;
                    s.progress = None;
                    s.started_at.get_or_insert(*at);
                });
                let held = Held { attempt: *attempt, worker: worker.clone(), until: *until };
                self.put(place, Phase::Leased(held), None);
            }
            Entry::Renewed { stage, until, .. } => {
                let Some(place) = self.links.place(stage) else { return };
                let held = self.stages.get(place).and_then(|s| s.held()).cloned();
                if let Some(held) = held {
                    self.put(place, Phase::Leased(Held { until: *until, ..held }), None);
                }
            }
            Entry::Progressed { stage, done, of, .. } => {
                let Some(place) = self.links.place(stage) else { return };
                self.with(place, |s| s.progress = Some((*done, *of)));
            }
            Entry::Done { at, stage, attempt, output, reused, partial, note } => {
                let Some(place) = self.links.place(stage) else { return };
                self.with(place, |s| {
                    (s.output, s.ended_by, s.reused) = (Some(output.clone()), Some(*attempt), *reused);
                    // What went wrong before it is over.
                    s.error.clone_from(partial);
                    s.note.clone_from(note);
                });
                self.settle(place, Phase::Done, *at);
            }
            Entry::Adopted { at, stage, output, from } => {
                let Some(place) = self.links.place(stage) else { return };
                self.with(place, |s| (s.output, s.reused) = (Some(output.clone()), Some(*from)));
                self.settle(place, Phase::Done, *at);
            }
            Entry::Decided { at, stage, by, approved, reason } => {
                let Some(place) = self.links.place(stage) else { return };
                self.with(place, |s| s.decided_by = Some(by.clone()));
                if *approved {
                    self.put(place, Phase::Ready(*at), Some(*at));
                } else {
                    let why = reason.as_deref().unwrap_or("no reason was given");
                    let error =
                        Error::new(contract::Code::NotApproved, format!("{by} did not approve it: {why}"));
                    self.with(place, |s| s.error = Some(error));
                    self.settle(place, Phase::Failed, *at);
                }
            }
            Entry::Failed { at, stage, attempt, error, again } => {
                let Some(place) = self.links.place(stage) else { return };
                self.with(place, |s| {
                    s.failures += 1;
                    s.error = Some(error.clone());
                });
                self.again_or_failed(place, *at, *again, Some(*attempt));
            }
            Entry::Postponed { at, stage, error, again, .. } => {
                let Some(place) = self.links.place(stage) else { return };
                self.with(place, |s| {
                    s.postponed += 1;
                    s.error = Some(error.clone());
                });
                self.put(place, Phase::Ready(*again), Some(*at));
            }
            Entry::Returned { at, stage, .. } => {
                let Some(place) = self.links.place(stage) else { return };
                self.put(place, Phase::Ready(*at), Some(*at));
            }
            Entry::Lost { at, stage, again, .. } => {
                let Some(place) = self.links.place(stage) else { return };
                self.with(place, |s| {
                    s.losses += 1;
                    if again.is_none() {
                        let m = "the server died too often while it was at this, which may be the reason";
                        s.error = Some(Error::new(contract::Code::Internal, m));
                    }
                });
                self.again_or_failed(place, *at, *again, None);
            }
            Entry::Ended { at, status, error } => {
                for place in 0..self.stages.len() {
                    if self.stages.get(place).is_some_and(|s| !s.phase.is_end()) {
                        self.put(place, Phase::Cancelled, None);
                        self.with(place, |s| s.ended_at = Some(*at));
                    }
                }
                self.ended = Some((*at, *status, error.clone()));
            }
        }
    }

    fn begin(&mut self, at: UnixMillis, plan: &Plan) {
        let from = plan.not_before.map_or(at, |t| t.max(at));
        let as_of = plan.not_before.is_none_or(|t| t <= at).then_some(at);
        (self.submitted_at, self.plan, self.links) = (at, Some(plan.clone()), Links::of(plan));
        self.line = Line::new(self.links.groups());
        self.stages = plan.stages.iter().map(|_| StageState::new(Phase::Blocked)).collect();
        self.waits = plan.stages.iter().map(|s| self.links.needs(s).len()).collect();
        self.called = vec![false; plan.stages.len()];
        self.going = plan.stages.iter().filter(|s| !s.lazy).count();
        for place in 0..plan.stages.len() {
            if self.waits.get(place) == Some(&0) {
                self.open(place, from, as_of);
            }
        }
    }

    fn with(&mut self, place: usize, change: impl FnOnce(&mut StageState)) {
        if let Some(state) = self.stages.get_mut(place) {
            change(state);
        }
    }

    /// The only way in which a stage comes to another phase.
    fn put(&mut self, place: usize, phase: Phase, as_of: Option<UnixMillis>) {
        let group = self.links.group(place);
        let Some(state) = self.stages.get_mut(place) else { return };
        match &state.phase {
            Phase::Ready(from) => self.line.not_ready(place, group, *from, state.as_of),
            Phase::Leased(held) => self.line.not_leased(place, held.until),
            _ => {}
        }
        let (was_end, counts) = (state.phase.is_end(), self.called.get(place) == Some(&true));
        match &phase {
            Phase::Ready(from) => self.line.ready(place, group, *from, as_of),
            Phase::Leased(held) => self.line.leased(place, held.until),
            _ => {}
        }
        let ends = phase.is_end() && !was_end;
        (state.phase, state.as_of) = (phase, as_of);
        let lazy = self.plan.as_ref().and_then(|p| p.stages.get(place)).is_some_and(|s| s.lazy);
        if ends && (counts || !lazy) {
            self.going = self.going.saturating_sub(1);
        }
    }

    /// All that a stage needs is there.
    fn open(&mut self, place: usize, from: UnixMillis, as_of: Option<UnixMillis>) {
        let Some((plan, state)) = self.stage_at(place) else { return };
        let uncalled = plan.lazy && self.called.get(place) != Some(&true);
        if state.phase != Phase::Blocked || uncalled {
            return;
        }
        let phase = if plan.approval { Phase::Waiting } else { Phase::Ready(from) };
        let as_of = as_of.filter(|_| phase != Phase::Waiting);
        self.put(place, phase, as_of);
    }

    fn again_or_failed(&mut self, place: usize, at: UnixMillis, again: Option<UnixMillis>, by: Option<u32>) {
        match again {
            Some(again) => self.put(place, Phase::Ready(again), Some(at)),
            None => {
                self.with(place, |s| s.ended_by = by);
                self.settle(place, Phase::Failed, at);
            }
        }
    }

    /// A stage ended: who waited for it goes on, or is skipped.
    fn settle(&mut self, place: usize, phase: Phase, at: UnixMillis) {
        self.put(place, phase, None);
        self.with(place, |s| s.ended_at = Some(at));
        let mut settled = vec![place];
        while let Some(place) = settled.pop() {
            if self.given_at(place).is_some() {
                for next in self.links.dependents(place).to_vec() {
                    let Some(waits) = self.waits.get_mut(next) else { continue };
                    *waits = waits.saturating_sub(1);
                    if *waits == 0 {
                        self.open(next, at, Some(at));
                    }
                }
                settled.extend(self.failed_callers(place));
                continue;
            }
            let Some((plan, state)) = self.stage_at(place) else { continue };
            // On a stage that has not settled itself, a failed one waits: it is called.
            if let (Phase::Failed, Contract::Fallback(other)) = (&state.phase, &plan.on_failure)
                && let Some(other) = self.links.place(other)
                && !self.has_failed(other)
            {
                self.call(other, at);
                continue;
            }
            if state.phase == Phase::Failed && self.failure.is_none() {
                self.failure = state.error.clone();
            }
            for next in self.links.dependents(place).to_vec() {
                if self.stages.get(next).is_some_and(|s| s.phase == Phase::Blocked) {
                    self.put(next, Phase::Skipped, None);
                    self.with(next, |s| s.ended_at = Some(at));
                    settled.push(next);
                }
            }
            settled.extend(self.failed_callers(place));
        }
    }

    /// Whether nothing will ever be given of a stage.
    fn has_failed(&self, mut place: usize) -> bool {
        for _ in 0..=self.stages.len() {
            let Some((plan, state)) = self.stage_at(place) else { return true };
            match (&state.phase, &plan.on_failure) {
                (Phase::Skipped | Phase::Cancelled, _)
                | (Phase::Failed, Contract::Fail | Contract::Partial) => return true,
                (Phase::Failed, Contract::Fallback(other)) => match self.links.place(other) {
                    Some(other) => place = other,
                    None => return true,
                },
                _ => return false,
            }
        }
        true
    }

    fn failed_callers(&self, place: usize) -> Vec<usize> {
        let failed = |at: &&usize| self.stages.get(**at).is_some_and(|s| s.phase == Phase::Failed);
        self.links.callers(place).iter().filter(failed).copied().collect()
    }

    /// A stage that others fall back on is needed, and with it what it needs itself.
    fn call(&mut self, place: usize, at: UnixMillis) {
        let mut needed = vec![place];
        while let Some(place) = needed.pop() {
            let Some((plan, state)) = self.stage_at(place) else { continue };
            let (lazy, ended, needs) = (plan.lazy, state.phase.is_end(), self.links.needs(plan));
            let Some(called) = self.called.get_mut(place).filter(|c| lazy && !ended && !**c) else {
                continue;
            };
            *called = true;
            self.going += 1;
            if self.waits.get(place) == Some(&0) {
                self.open(place, at, Some(at));
            }
            needed.extend(needs);
        }
    }
}
