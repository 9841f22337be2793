//! What moves a rollout: what happens to it is taken, then everything that is known is judged.

use std::collections::BTreeSet;

use contract::UnixMillis;

use super::assign::Split;
use super::config::{Point, Settings};
use super::seen::{Guards, ShadowSeen, StepSeen};
use super::state::{Action, End, Hold, Input, Phase, Rollout, Subject};

impl Rollout {
    /// A rollout that begins now, and what is to be done for it.
    pub fn begin(
        subject: Subject,
        (challenger, champion): (&str, &str),
        settings: Settings,
        now: UnixMillis,
    ) -> (Rollout, Vec<Action>) {
        let steps = settings.shares.iter().map(|_| StepSeen::default()).collect();
        let mut rollout = Rollout {
            subject,
            challenger: challenger.to_owned(),
            champion: champion.to_owned(),
            guards: Guards::new(&settings),
            settings,
            phase: Phase::Shadow,
            held: None,
            since: now,
            last: now,
            deadline: now,
            reached: None,
            approved: BTreeSet::new(),
            unproven: false,
            split: Split::default(),
            shadow: ShadowSeen::default(),
            steps,
        };
        let mut actions = Vec::new();
        if rollout.settings.shadow_ms > 0 {
            rollout.set(Phase::Shadow);
            actions.push(Action::Shadow(true));
            actions.push(rollout.record("began", "it answers unheard beside the champion"));
        } else {
            rollout.leave_shadow(&mut actions);
        }
        (rollout, actions)
    }

    /// When to tick at the latest, when nothing else happens: the time at which something may be over. None when it waits for others.
    pub fn due(&self) -> Option<UnixMillis> {
        let timed = matches!(self.phase, Phase::Shadow | Phase::Canary(_)) && self.held.is_none();
        let least = UnixMillis(self.since.0.saturating_add(self.least()));
        let due = [least, self.deadline].into_iter().filter(|at| *at > self.last).min();
        due.filter(|_| timed)
    }

    /// Goes on after the process was away: the time in between counts for nothing. What is to be done makes traffic what it was.
    pub fn resume(&mut self, now: UnixMillis) -> Vec<Action> {
        let away = now.0.saturating_sub(self.last.0).max(0);
        self.since = UnixMillis(self.since.0.saturating_add(away));
        self.deadline = UnixMillis(self.deadline.0.saturating_add(away));
        self.last = self.last.max(now);
        if matches!(self.phase, Phase::Ended(_)) {
            return Vec::new();
        }
        let mut actions = vec![Action::Split(self.split), Action::Shadow(self.shadows())];
        if let Phase::Waiting(point) = self.phase {
            actions.push(Action::Ask(point));
        }
        actions
    }

    /// Takes what happened. After an end nothing changes and nothing is to be done.
    pub fn apply(&mut self, now: UnixMillis, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        if matches!(self.phase, Phase::Ended(_)) {
            return actions;
        }
        // Clocks go back, rollouts do not.
        self.last = self.last.max(now);
        self.take(input, &mut actions);
        if !matches!(self.phase, Phase::Ended(_)) {
            self.judge(&mut actions);
        }
        actions
    }

    fn take(&mut self, input: Input, actions: &mut Vec<Action>) {
        match (input, self.phase.clone()) {
            (Input::Shadowed(batch), _) if self.shadows() => {
                self.shadow.compared = self.shadow.compared.saturating_add(batch.compared);
                self.shadow.agreed = self.shadow.agreed.saturating_add(batch.agreed.min(batch.compared));
                self.shadow.dropped = self.shadow.dropped.saturating_add(batch.dropped);
                self.guards.see(batch.errors, batch.slow, batch.requests);
            }
            // A step that was not reached has seen nothing: who says so is wrong.
            (Input::Seen(batch), _) if self.reached.is_some_and(|reached| batch.step <= reached) => {
                self.guards.see(batch.canary.errors, batch.canary.slow, batch.canary.requests);
                self.guards.see_control(&batch.control);
                if let Some(step) = self.steps.get_mut(batch.step) {
                    step.add(&batch, &self.settings.metrics);
                }
            }
            (Input::Enter, Phase::Ready) => self.enter(0, actions),
            (Input::Approve { by }, Phase::Waiting(point)) => {
                self.approved.insert(point);
                actions.push(self.record("approved", format!("`{by}` approved it")));
                match point {
                    Point::Canary => self.leave_shadow(actions),
                    Point::Champion => self.next(actions),
                }
            }
            (Input::Reject { by, why }, Phase::Waiting(_)) => {
                self.end(End::Rejected, format!("`{by}` said no: {why}"), actions);
            }
            (Input::Extend { by, ms }, _) if self.held.is_some() => {
                self.held = None;
                self.deadline = UnixMillis(self.last.0.saturating_add(ms.max(0)));
                let sentence = format!("`{by}` gave it {} s more", ms.max(0) / 1_000);
                actions.push(self.record("extended", sentence));
            }
            (Input::Hold { by, why }, Phase::Shadow | Phase::Canary(_)) if self.held.is_none() => {
                self.held = Some(Hold::Asked);
                actions.push(self.record("held", format!("`{by}` holds it: {why}")));
            }
            (Input::Override { by, why }, _) if self.held.is_some() => self.overridden(&by, &why, actions),
            (Input::RollBack { by, why }, _) => {
                self.end(End::RolledBack, format!("`{by}` took it back: {why}"), actions);
            }
            (Input::Kill { by, why }, _) => {
                self.end(End::Killed, format!("`{by}` stopped it: {why}"), actions);
            }
            (Input::ChampionChanged { to }, _) if to != self.champion => self.champion_changed(to, actions),
            _ => {}
        }
    }
}
