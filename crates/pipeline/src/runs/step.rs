//! What happens to a run next: takes what happened, gives what is to be recorded and done. Pure.

use contract::{Code, Error, StageName, UnixMillis};

use super::entry::{Contract, Entry, StagePlan};
use super::retry::{Tried, Verdict, decide, later};
use super::run::Run;
use super::state::{Action, Held, Here, Input, Made, Phase, Report, StageState, Status};

impl Run {
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
            Input::Adopt { stage, output, from } => self.adopt(&mut out, now, stage, output, from),
            Input::Decide { stage, by, approved, reason } => {
                if self.stage(&stage).is_some_and(|(_, s)| s.phase == Phase::Waiting) {
                    self.record(&mut out, Entry::Decided { at: now, stage, by, approved, reason });
                    self.end_if_over(&mut out, now);
                }
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

    /// The stages under way, with their leases.
    fn under_way(&self) -> impl Iterator<Item = (&StagePlan, &StageState, &Held)> {
        self.line.under_way().into_iter().filter_map(|at| {
            let (plan, state) = self.stage_at(at)?;
            Some((plan, state, state.held()?))
        })
    }

    fn adopt(
        &mut self,
        out: &mut Vec<Action>,
        now: UnixMillis,
        stage: StageName,
        output: String,
        from: contract::RunId,
    ) {
        // Only what may start: what it needs was adopted before it.
        let may = |s: &StageState| matches!(s.phase, Phase::Ready(_) | Phase::Waiting) && s.attempts == 0;
        if !self.stage(&stage).is_some_and(|(_, s)| may(s)) {
            return;
        }
        let key = self.key(&stage);
        self.record(out, Entry::Adopted { at: now, stage: stage.clone(), output, from });
        out.push(Action::Keep { stage, key });
        self.end_if_over(out, now);
    }

    fn tick(&mut self, out: &mut Vec<Action>, now: UnixMillis, here: &Here) {
        let own =
            |stage: &StageName, h: &Held| here.attempts.iter().any(|(s, a)| s == stage && *a == h.attempt);
        let lost = |stage: &StageName, h: &Held| match h.worker == here.worker {
            true => !own(stage, h),
            false => h.until <= now && !here.living.contains(&h.worker),
        };
        self.lose(out, now, lost);
        if self.ended.is_some() {
            return;
        }
        // What is here goes on, and what is with somebody who lives, whatever the clock says that the lease was.
        let goes_on = |p: &StagePlan, h: &Held| own(&p.name, h) || here.living.contains(&h.worker);
        let silent = self.under_way().filter(|(p, _, held)| held.until <= now && goes_on(p, held));
        let silent: Vec<_> = silent.map(|(p, _, held)| (p.name.clone(), held.attempt)).collect();
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
        if self.ended.is_some() || self.is_full() {
            return;
        }
        let full = self.links.full(&here);
        let first = self.line.first(now, &full, |at| self.links.group(at));
        let Some((plan, state)) = first.and_then(|at| self.stage_at(at)) else { return };
        let (stage, attempt) = (plan.name.clone(), state.attempts + 1);
        let (key, until) = (self.key(&stage), later(now, here.lease));
        self.record(
            out,
            Entry::Leased { at: now, stage: stage.clone(), attempt, worker: here.worker, until },
        );
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
        let Some((plan, _)) = self.stage(&stage) else { return };
        let takes_partial = plan.on_failure == Contract::Partial;
        let leased = self.leased(&stage, attempt);
        match report {
            Report::Progress(done, of) if leased => {
                self.record(out, Entry::Progressed { at: now, stage, attempt, done, of });
            }
            Report::Returned if leased => self.record(out, Entry::Returned { at: now, stage, attempt }),
            Report::Failed(error) if leased => self.failed(out, now, stage, attempt, error),
            Report::Made(Made { partial: Some(error), .. }) if !takes_partial => {
                if leased {
                    self.failed(out, now, stage, attempt, error);
                }
            }
            Report::Made(made) => self.done(out, now, stage, attempt, made),
            Report::Progress(..) | Report::Returned | Report::Failed(_) => {}
        }
    }

    fn failed(
        &mut self,
        out: &mut Vec<Action>,
        now: UnixMillis,
        stage: StageName,
        attempt: u32,
        error: Error,
    ) {
        let Some((plan, state)) = self.stage(&stage) else { return };
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
                self.record(
                    out,
                    Entry::Failed { at: now, stage: stage.clone(), attempt, error, again: None },
                );
                out.push(Action::Keep { stage, key });
                self.end_if_over(out, now);
            }
        }
    }

    /// Whoever is first: the effect of all attempts is the same, and one that was taken for lost may have it.
    fn done(&mut self, out: &mut Vec<Action>, now: UnixMillis, stage: StageName, attempt: u32, made: Made) {
        let Some((_, state)) = self.stage(&stage) else { return };
        if attempt < 1 || attempt > state.attempts || state.phase.is_end() {
            return;
        }
        let other = state.held().map(|h| h.attempt).filter(|a| *a != attempt);
        let key = self.key(&stage);
        let Made { output, reused, partial, note } = made;
        self.record(
            out,
            Entry::Done { at: now, stage: stage.clone(), attempt, output, reused, partial, note },
        );
        if let Some(attempt) = other {
            out.push(Action::Stop { stage: stage.clone(), attempt });
        }
        out.push(Action::Keep { stage, key });
        self.end_if_over(out, now);
    }

    fn lose(&mut self, out: &mut Vec<Action>, now: UnixMillis, which: impl Fn(&StageName, &Held) -> bool) {
        let lost = self.under_way().filter(|(p, _, held)| which(&p.name, held));
        let again = |p: &StagePlan, s: &StageState| (s.losses + 1 < p.retry.losses).then_some(now);
        let lost: Vec<_> = lost.map(|(p, s, held)| (p.name.clone(), held.attempt, again(p, s))).collect();
        for (stage, attempt, again) in lost {
            self.record(out, Entry::Lost { at: now, stage: stage.clone(), attempt, again });
            out.push(Action::Stop { stage, attempt });
        }
        self.end_if_over(out, now);
    }

    /// Ends the run when nothing more comes of its stages.
    fn end_if_over(&mut self, out: &mut Vec<Action>, now: UnixMillis) {
        if self.is_over() && self.ended.is_none() {
            let status = if self.failure.is_some() { Status::Failed } else { Status::Succeeded };
            self.end(out, now, status, self.failure.clone());
        }
    }

    fn end(&mut self, out: &mut Vec<Action>, now: UnixMillis, status: Status, error: Option<Error>) {
        let stops: Vec<Action> = self
            .under_way()
            .map(|(p, _, held)| Action::Stop { stage: p.name.clone(), attempt: held.attempt })
            .collect();
        self.record(out, Entry::Ended { at: now, status, error });
        out.extend(stops);
        out.push(Action::End(status));
    }

    fn record(&mut self, out: &mut Vec<Action>, entry: Entry) {
        self.apply(&entry);
        out.push(Action::Record(entry));
    }
}
