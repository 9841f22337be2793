//! What follows from what is known: ends first, then steps. The only file that moves a rollout on.

use contract::UnixMillis;

use super::assign::Split;
use super::config::Point;
use super::report::{Report, Seen, Standing, said};
use super::seen::{Guards, ShadowSeen};
use super::state::{Action, End, Event, Hold, Phase, Rollout};

impl Rollout {
    /// How it stands.
    pub fn report(&self) -> Report {
        let controlled = self.reached.filter(|step| !self.bakes(*step));
        let (steps, guards, shadow) = (self.steps.as_slice(), &self.guards, self.shadow);
        Report::of(&self.settings, &Seen { steps, controlled, guards, shadow })
    }

    /// Whether a step is the one in which everybody gets the challenger.
    fn bakes(&self, step: usize) -> bool {
        step + 1 >= self.settings.shares.len()
    }

    /// The shortest time of the phase, in milliseconds.
    pub(super) fn least(&self) -> i64 {
        match self.phase {
            Phase::Shadow => self.settings.shadow_ms,
            Phase::Canary(step) if self.bakes(step) => self.settings.bake_ms,
            _ => self.settings.at_least_ms,
        }
    }

    /// Begins a phase.
    pub(super) fn set(&mut self, phase: Phase) {
        (self.phase, self.held, self.since) = (phase, None, self.last);
        // A shadow and a bake have their own shortest time, which may be longer than a step may take.
        let longest = self.settings.at_most_ms.max(self.least().saturating_add(self.settings.at_least_ms));
        self.deadline = UnixMillis(self.last.0.saturating_add(longest));
    }

    /// Looks at everything that is known.
    pub(super) fn judge(&mut self, actions: &mut Vec<Action>) {
        let report = self.report();
        if let Some(guard) = report.broken() {
            return self.end(End::RolledBack, guard.sentence(), actions);
        }
        if let Some(ratio) = report.mismatch(&self.settings, false) {
            return self.end(End::Invalid, ratio.sentence(), actions);
        }
        if let Some(metric) = report.standing(Standing::Inferior) {
            return self.end(End::RolledBack, metric.sentence(), actions);
        }
        if self.held.is_some() || self.last.0.saturating_sub(self.since.0) < self.least() {
            return;
        }
        match self.phase {
            Phase::Shadow => self.judge_shadow(&report, actions),
            Phase::Canary(step) => match self.lacking(step, &report) {
                None => match report.mismatch(&self.settings, true) {
                    Some(ratio) => self.end(End::Invalid, ratio.sentence(), actions),
                    None => self.next(actions),
                },
                Some(hold) if self.last >= self.deadline => self.hold(hold, actions),
                Some(_) => {}
            },
            Phase::Waiting(_) | Phase::Ready | Phase::Ended(_) => {}
        }
    }

    fn judge_shadow(&mut self, report: &Report, actions: &mut Vec<Action>) {
        let over = self.last >= self.deadline;
        let agrees = match (self.settings.shadow_agreement, report.shadow_agreed) {
            (None, _) => true,
            (Some(wanted), found) => found.is_some_and(|found| found >= wanted),
        };
        if self.shadow.compared < self.settings.shadow_samples {
            if over {
                self.hold(Hold::NoData, actions);
            }
        } else if agrees {
            self.leave_shadow(actions);
        } else {
            self.hold(Hold::Disagrees, actions);
        }
    }

    /// What a step lacks to be left. An early step is left when nothing speaks against it, the last one with a control only when every
    /// metric is shown not to be worse; the last of all when enough were answered and that still holds.
    fn lacking(&self, step: usize, report: &Report) -> Option<Hold> {
        let seen = self.steps.get(step)?;
        if self.bakes(step) {
            if seen.canary.requests.max(seen.canary.units) < self.settings.samples {
                return Some(Hold::NoData);
            }
            // What was proven when it came here may not be any more, by what came in late.
            let proven = step == 0 || self.unproven || report.all(Standing::NonInferior);
            return (!proven).then_some(Hold::Inconclusive);
        }
        let units = seen.canary.units.min(seen.control.units);
        if units < self.settings.samples || report.standing(Standing::NoData).is_some() {
            return Some(Hold::NoData);
        }
        let proven = report.all(Standing::NonInferior);
        (self.bakes(step + 1) && !proven).then_some(Hold::Inconclusive)
    }

    /// From the shadow to people, or to the line of those that may answer some.
    pub(super) fn leave_shadow(&mut self, actions: &mut Vec<Action>) {
        if self.asks(Point::Canary) {
            self.set(Phase::Waiting(Point::Canary));
            actions.push(Action::Ask(Point::Canary));
            actions.push(self.record("asked", "somebody is asked whether it may answer some"));
        } else {
            self.set(Phase::Ready);
            actions.push(self.record("ready", "it may answer some, when no other canary does"));
        }
    }

    fn asks(&self, point: Point) -> bool {
        self.settings.approve_before.contains(&point) && !self.approved.contains(&point)
    }

    /// To the next step, to people before the last one, or to the end behind it.
    pub(super) fn next(&mut self, actions: &mut Vec<Action>) {
        let step = self.reached.map_or(0, |step| step + 1);
        if step >= self.settings.shares.len() {
            return self.promote(actions);
        }
        if self.bakes(step) && self.asks(Point::Champion) {
            self.set(Phase::Waiting(Point::Champion));
            actions.push(Action::Ask(Point::Champion));
            actions.push(self.record("asked", "somebody is asked whether it may answer everybody"));
            return;
        }
        self.enter(step, actions);
    }

    /// Begins a step.
    pub(super) fn enter(&mut self, step: usize, actions: &mut Vec<Action>) {
        let shadowed = self.shadows();
        self.split = Split::of(self.settings.shares.get(step).copied().unwrap_or_default());
        self.reached = Some(step);
        self.set(Phase::Canary(step));
        actions.push(Action::Split(self.split));
        if shadowed {
            actions.push(Action::Shadow(false));
        }
        let percent = |share: u32| said(f64::from(share) / 100.0);
        let sentence = match self.split.control {
            0 => "it answers everybody, with the champion still warm".to_owned(),
            control => format!(
                "it answers {} %, beside a control of {} %",
                percent(self.split.canary),
                percent(control)
            ),
        };
        actions.push(self.record("step", sentence));
    }

    fn hold(&mut self, why: Hold, actions: &mut Vec<Action>) {
        self.held = Some(why);
        let report = self.report();
        let open = || {
            let undecided = report.metrics.iter().filter(|m| m.verdict != Standing::NonInferior);
            undecided.map(super::MetricReport::sentence).collect::<Vec<_>>().join("; ")
        };
        let sentence = match why {
            Hold::Inconclusive => format!("the time is over and nothing is decided: {}", open()),
            Hold::NoData => {
                let (wanted, shadow) = (self.settings.samples, self.shadow.compared);
                match self.phase {
                    Phase::Shadow => format!(
                        "the time is over and {shadow} answers were compared, where {} are asked for",
                        self.settings.shadow_samples
                    ),
                    _ => format!(
                        "the time is over and too little came in, where {wanted} on either side are asked for: {} units of the \
                         canary and {} of the control; {}",
                        report.canary_units,
                        report.control_units,
                        open()
                    ),
                }
            }
            Hold::Asked => "somebody holds it".to_owned(),
            Hold::Disagrees => format!(
                "{} % of its answers agree with the champion's, where {} % are asked for",
                said(report.shadow_agreed.unwrap_or_default() * 100.0),
                said(self.settings.shadow_agreement.unwrap_or_default() * 100.0)
            ),
        };
        actions.push(Action::Page(Event { at: self.last, what: "held".to_owned(), sentence, report }));
    }

    /// Somebody moves it on. What nobody has seen cannot be moved on.
    pub(super) fn overridden(&mut self, by: &str, why: &str, actions: &mut Vec<Action>) {
        match (self.held, self.phase.clone()) {
            (Some(Hold::Disagrees), Phase::Shadow) => {
                actions.push(self.record("overridden", format!("`{by}` moved it on: {why}")));
                self.leave_shadow(actions);
            }
            (Some(Hold::Inconclusive), Phase::Canary(_)) => {
                actions.push(
                    self.record("overridden", format!("`{by}` moved it on though nothing was proven: {why}")),
                );
                self.unproven = true;
                self.next(actions);
            }
            _ => {
                actions.push(self.record("refused", format!("`{by}` cannot move it on: too little was seen")))
            }
        }
    }

    fn promote(&mut self, actions: &mut Vec<Action>) {
        let report = self.report();
        let metrics = report.metrics.iter().map(super::MetricReport::sentence).collect::<Vec<_>>().join("; ");
        let (at, what) = (self.last, "promoted".to_owned());
        let sentence = format!("`{}` is the champion of `{}`: {metrics}", self.challenger, self.subject.name);
        self.set(Phase::Ended(End::Promoted));
        self.split = Split::default();
        actions.push(Action::Promote(Event { at, what, sentence, report }));
    }

    /// Ends it with the champion answering everybody: one action, with all that was known.
    pub(super) fn end(&mut self, end: End, sentence: String, actions: &mut Vec<Action>) {
        let what = match end {
            End::Promoted => "promoted",
            End::RolledBack => "rolled_back",
            End::Invalid => "invalid",
            End::Killed => "killed",
            End::Rejected => "rejected",
            End::Superseded => "superseded",
        };
        let report = self.report();
        self.set(Phase::Ended(end));
        self.split = Split::default();
        actions.push(Action::RollBack(Event { at: self.last, what: what.to_owned(), sentence, report }));
    }

    /// Unheard, it begins anew beside the new champion; heard, what was compared says nothing any more.
    pub(super) fn champion_changed(&mut self, to: String, actions: &mut Vec<Action>) {
        if self.reached.is_some() {
            let sentence =
                format!("`{to}` is the champion now, and it was compared with `{}`", self.champion);
            return self.end(End::Superseded, sentence, actions);
        }
        let sentence = format!("`{to}` is the champion now: it is compared with that one from here on");
        (self.champion, self.shadow, self.guards) = (to, ShadowSeen::default(), Guards::new(&self.settings));
        self.approved.clear();
        actions.push(self.record("began", sentence));
        if self.settings.shadow_ms > 0 {
            self.set(Phase::Shadow);
        } else {
            self.leave_shadow(actions);
        }
    }

    /// Something to keep.
    pub(super) fn record(&self, what: &str, sentence: impl Into<String>) -> Action {
        let event =
            Event { at: self.last, what: what.to_owned(), sentence: sentence.into(), report: self.report() };
        Action::Record(event)
    }
}
