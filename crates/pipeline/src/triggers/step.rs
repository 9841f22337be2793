//! The decisions about one pipeline: what happened goes in, what is to be done comes out. No clock, no storage, no task.
//!
//! ```text
//! cause      seen ── waits until it is quiet ──▶ ripe ── the pipeline may start ──▶ in the start that is decided ──▶ in a run
//!                                                  └─ skip, and a run goes on ──▶ passed over
//! start      decided ── on disk ──▶ asked for ── a run has it ──▶ over
//!                         ▲            │
//!                         └────────────┴─ no room, or the process died: asked for again, under the same key
//! ```
//!
//! Invariants: that a cause was seen, and what waits because of it, are remembered by one change; a start is asked for only when
//! its decision is on disk; it is asked for until it has a run, with the same causes under the same key. So no cause is lost and
//! none is in two runs, wherever the process dies. One start of a pipeline is decided at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{PipelineName, RunId, TenantId, UnixMillis};
use serde_json::{Map, Value as Json};

use super::happens::{Action, Input, Seen, Took};
use super::memory::{Arrival, Cursor, Ends, LastStart, Memory, Names, Starting, Together};
use super::plan::{Cause, Overlap, StartRun, Trigger, TriggerPlan};
use super::times::Times;
use crate::runs::Status;

/// The pause before a start is asked for again, in milliseconds; it doubles up to the second.
const PAUSES: (i64, i64) = (1_000, 60_000);
/// Of a folder, so many files at most are looked at, the first by name.
pub const MOST_FILES: usize = 10_000;

/// The triggers of one pipeline.
#[derive(Debug, Clone)]
pub struct Triggers {
    plan: TriggerPlan,
    memory: Memory,
    changed: bool,
    /// The start was asked for and nothing came of it yet.
    asked: bool,
    /// When it is asked for again, and the pause behind that.
    again: Option<UnixMillis>,
    pause: i64,
}

impl Triggers {
    /// The triggers of a plan with what is remembered of them. A trigger that nothing is remembered of begins now: what was
    /// before is no concern, but for files that lie in a folder already.
    pub fn new(plan: TriggerPlan, memory: Memory, now: UnixMillis) -> Triggers {
        let mut all = Triggers { plan, memory, changed: false, asked: false, again: None, pause: PAUSES.0 };
        let ids: BTreeMap<String, &Trigger> = all.plan.triggers.iter().map(|t| (t.id(), t)).collect();
        let (cursors, groups) = (all.memory.cursors.len(), all.memory.groups.len());
        all.memory.cursors.retain(|id, _| ids.contains_key(id) || id == ASKED);
        all.memory.last.retain(|id, _| ids.contains_key(id) || id == ASKED);
        all.memory.groups.retain(|g| ids.contains_key(&g.trigger) || g.trigger == ASKED);
        all.changed = cursors != all.memory.cursors.len() || groups != all.memory.groups.len();
        for (id, trigger) in ids {
            let begin = match trigger {
                Trigger::Cron { .. } => Cursor::Times(Times::starting(now)),
                Trigger::Run { .. } => Cursor::Ends(Ends::from(now)),
                Trigger::Event(_) | Trigger::Alert { .. } => Cursor::Seen(Names::default()),
                Trigger::Folder { .. } => Cursor::Files(BTreeMap::new()),
                // Its first version is yet to be seen.
                Trigger::Dataset { .. } => continue,
            };
            all.memory.cursors.entry(id).or_insert_with(|| {
                all.changed = true;
                begin
            });
        }
        all
    }

    /// What is remembered.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What starts it.
    pub fn plan(&self) -> &TriggerPlan {
        &self.plan
    }

    /// By when it is to be told the time, if nothing happens before.
    pub fn wake(&self) -> Option<UnixMillis> {
        let times = self.plan.triggers.iter().filter_map(|trigger| self.next(trigger)).min();
        let ripe =
            if self.may_start() || self.plan.overlap == Overlap::Skip { self.memory.ripe() } else { None };
        [times, ripe, self.again].into_iter().flatten().min()
    }

    /// When a schedule comes up next.
    pub fn next(&self, trigger: &Trigger) -> Option<UnixMillis> {
        match (trigger, self.memory.cursors.get(&trigger.id())) {
            (Trigger::Cron { schedule, .. }, Some(Cursor::Times(times))) => times.next(schedule),
            _ => None,
        }
    }

    /// Since when ends of runs of that pipeline count here.
    pub fn ends_since(&self, pipeline: &PipelineName) -> Option<UnixMillis> {
        let of = |t: &&Trigger| matches!(t, Trigger::Run { pipeline: p, .. } if p == pipeline);
        let since = |t: &Trigger| match self.memory.cursors.get(&t.id()) {
            Some(Cursor::Ends(ends)) => Some(ends.since),
            _ => None,
        };
        self.plan.triggers.iter().filter(of).filter_map(since).min()
    }

    /// Takes what happened, and decides.
    pub fn step(&mut self, now: UnixMillis, input: &Input<'_>) -> (Vec<Action>, Took) {
        self.changed |= self.memory.rebase(now);
        let took = self.take(now, input);
        self.times(now);
        let mut actions = self.decide(now);
        if std::mem::take(&mut self.changed) {
            actions.insert(0, Action::Save);
        }
        (actions, took)
    }

    fn busy(&self) -> bool {
        self.memory.starting.is_some() || !self.memory.active.is_empty()
    }

    fn may_start(&self) -> bool {
        self.memory.starting.is_none()
            && (self.plan.overlap == Overlap::Allow || self.memory.active.is_empty())
    }

    /// Decides a start when there can be one, and asks for the one that was decided.
    fn decide(&mut self, now: UnixMillis) -> Vec<Action> {
        if self.plan.overlap == Overlap::Skip && self.busy() {
            self.changed |= self.memory.pass(now);
        }
        if self.may_start()
            && let Some(Together { tenant, causes, triggers }) = self.memory.take(now)
        {
            self.memory.number += 1;
            let key = self.key(&causes);
            let pipeline = self.plan.pipeline.clone();
            let start = StartRun { pipeline, tenant, causes, key };
            self.memory.starting = Some(Starting { start, triggers });
            self.changed = true;
            (self.asked, self.again, self.pause) = (false, None, PAUSES.0);
        }
        let due = self.again.is_none_or(|at| at <= now);
        match &self.memory.starting {
            Some(starting) if !self.asked && due => {
                self.asked = true;
                self.again = None;
                vec![Action::Start(starting.start.clone())]
            }
            _ => Vec::new(),
        }
    }

    fn key(&self, causes: &[Cause]) -> String {
        let mut hash = blake3::Hasher::new();
        for cause in causes {
            hash.update(cause.identity().as_bytes());
            hash.update(b"\n");
        }
        let hash: String = hash.finalize().to_hex().chars().take(16).collect();
        format!("trigger {} {} {hash}", self.plan.pipeline, self.memory.number)
    }

    /// Slots that are due.
    fn times(&mut self, now: UnixMillis) {
        for trigger in &self.plan.triggers {
            let Trigger::Cron { schedule, missed } = trigger else { continue };
            let id = trigger.id();
            let Some(Cursor::Times(times)) = self.memory.cursors.get_mut(&id) else { continue };
            let (due, changed) = times.due(schedule, *missed, now);
            self.changed |= changed;
            let Some(due) = due else { continue };
            let each = *missed == super::plan::Missed::All;
            for at in due.slots {
                let cause = Cause::Cron { schedule: schedule.to_string(), at, missed: due.missed };
                let quiet = Duration::ZERO;
                self.memory.add(now, Arrival { trigger: &id, tenant: None, cause, quiet, each });
            }
        }
    }

    fn take(&mut self, now: UnixMillis, input: &Input<'_>) -> Took {
        match input {
            Input::Tick => Took::Nothing,
            Input::Version { dataset, version } => self.version(now, dataset, *version),
            Input::Ended { pipeline, run, status, at } => {
                if **pipeline == self.plan.pipeline {
                    self.ended(*run);
                }
                self.end(now, pipeline, (*run, *status, *at))
            }
            Input::Gone(run) => {
                self.ended(*run);
                Took::Nothing
            }
            Input::Event { tenant, event } => {
                let fits = |t: &Trigger| matches!(t, Trigger::Event(rule) if rule.takes(event));
                let cause = || Cause::Event(Box::new((*event).clone()));
                self.named(now, fits, &event.identity(), Some(tenant), cause)
            }
            Input::Alert { alert, id } => {
                let fits = |t: &Trigger| matches!(t, Trigger::Alert { alert: a } if a == alert);
                let cause = || Cause::Alert { alert: (*alert).to_owned(), id: (*id).to_owned() };
                self.named(now, fits, id, None, cause)
            }
            Input::Files { files, seen } => self.files(now, files, seen),
            Input::Asked { tenant, id, params } => self.called(now, tenant, id, params),
            Input::Started { key, run } => {
                let Some(starting) = self.memory.starting.take_if(|s| s.start.key == *key) else {
                    return Took::Nothing;
                };
                if self.plan.overlap != Overlap::Allow {
                    self.memory.active.push(*run);
                }
                let last = LastStart { run: *run, at: now };
                self.memory.last.extend(starting.triggers.into_iter().map(|trigger| (trigger, last)));
                self.memory.problem = None;
                self.changed = true;
                Took::Nothing
            }
            Input::Later { key } => {
                if self.memory.starting.as_ref().is_some_and(|s| s.start.key == *key) {
                    self.asked = false;
                    self.again = Some(UnixMillis(now.0.saturating_add(self.pause)));
                    self.pause = (self.pause * 2).min(PAUSES.1);
                }
                Took::Nothing
            }
            Input::Refused { key, why } => {
                if let Some(starting) = self.memory.starting.take_if(|s| s.start.key == *key) {
                    self.forget(&starting);
                    self.memory.problem = Some((*why).to_owned());
                    self.changed = true;
                }
                Took::Nothing
            }
        }
    }

    /// Events and calls that caused what cannot be started were not taken: whoever mends what is wrong sends them again.
    fn forget(&mut self, starting: &Starting) {
        let Some(tenant) = &starting.start.tenant else { return };
        for cause in &starting.start.causes {
            let name = match cause {
                Cause::Event(event) => format!("{tenant} {}", event.identity()),
                Cause::Asked { id, .. } => format!("{tenant} {id}"),
                _ => continue,
            };
            for trigger in &starting.triggers {
                if let Some(Cursor::Seen(names)) = self.memory.cursors.get_mut(trigger) {
                    names.forget(&name);
                }
            }
        }
    }

    fn ended(&mut self, run: RunId) {
        let before = self.memory.active.len();
        self.memory.active.retain(|active| *active != run);
        self.changed |= before != self.memory.active.len();
    }

    fn version(&mut self, now: UnixMillis, dataset: &str, version: Option<u64>) -> Took {
        let of = |t: &&Trigger| matches!(t, Trigger::Dataset { dataset: d, .. } if d == dataset);
        let Some(trigger) = self.plan.triggers.iter().find(of) else { return Took::Nothing };
        let id = trigger.id();
        let before = match self.memory.cursors.get(&id) {
            Some(Cursor::Version(before)) => *before,
            _ => {
                self.memory.cursors.insert(id, Cursor::Version(version));
                self.changed = true;
                return Took::Nothing;
            }
        };
        if before == version {
            return Took::Known;
        }
        self.memory.cursors.insert(id.clone(), Cursor::Version(version));
        self.changed = true;
        let Some(to) = version else { return Took::Nothing };
        // A lower version is one of a dataset that was made anew.
        let from = before.filter(|b| *b < to).map_or(0, |b| b + 1);
        let cause = Cause::Dataset { dataset: dataset.to_owned(), from, to };
        let quiet = trigger.quiet();
        self.memory.add(now, Arrival { trigger: &id, tenant: None, cause, quiet, each: false });
        Took::Waits
    }

    fn end(&mut self, now: UnixMillis, of: &PipelineName, end: (RunId, Status, UnixMillis)) -> Took {
        let (run, status, at) = end;
        let mut took = Took::Nothing;
        for trigger in &self.plan.triggers {
            let Trigger::Run { pipeline, when } = trigger else { continue };
            let id = trigger.id();
            let Some(Cursor::Ends(ends)) = self.memory.cursors.get(&id) else { continue };
            if pipeline != of || !when.takes(status) || at < ends.since {
                continue;
            }
            let known = ends.holds(&run.serial());
            let cause = Cause::Run { pipeline: pipeline.clone(), run, status };
            let (each, quiet) = (self.plan.overlap == Overlap::Allow, Duration::ZERO);
            let arrival = Arrival { trigger: &id, tenant: None, cause, quiet, each };
            took = match known {
                true => Took::Known,
                false if !self.memory.add(now, arrival) => Took::Full,
                false => Took::Waits,
            };
            if took == Took::Waits
                && let Some(Cursor::Ends(ends)) = self.memory.cursors.get_mut(&id)
            {
                ends.add(&run.serial(), at);
                self.changed = true;
            }
        }
        took
    }

    /// What is told from others by a name: of several triggers that it fits, the first takes it.
    fn named(
        &mut self,
        now: UnixMillis,
        fits: impl Fn(&Trigger) -> bool,
        name: &str,
        tenant: Option<&TenantId>,
        cause: impl FnOnce() -> Cause,
    ) -> Took {
        let fitting = |t: &&Trigger| fits(t);
        let Some(trigger) = self.plan.triggers.iter().find(fitting) else { return Took::Nothing };
        let (id, each) = (trigger.id(), self.plan.overlap == Overlap::Allow);
        let name = tenant.map_or_else(|| name.to_owned(), |tenant| format!("{tenant} {name}"));
        self.once(
            now,
            &id,
            &name,
            Arrival { trigger: &id, tenant, cause: cause(), quiet: Duration::ZERO, each },
        )
    }

    fn called(&mut self, now: UnixMillis, tenant: &TenantId, id: &str, params: &Map<String, Json>) -> Took {
        let cause = Cause::Asked { id: id.to_owned(), params: params.clone() };
        let arrival =
            Arrival { trigger: ASKED, tenant: Some(tenant), cause, quiet: Duration::ZERO, each: true };
        self.once(now, ASKED, &format!("{tenant} {id}"), arrival)
    }

    fn once(&mut self, now: UnixMillis, cursor: &str, name: &str, arrival: Arrival<'_>) -> Took {
        let empty = || Cursor::Seen(Names::default());
        let known = |c: &Cursor| matches!(c, Cursor::Seen(names) if names.holds(name));
        if self.memory.cursors.get(cursor).is_some_and(known) {
            return Took::Known;
        }
        if !self.memory.add(now, arrival) {
            return Took::Full;
        }
        if let Cursor::Seen(names) = self.memory.cursors.entry(cursor.to_owned()).or_insert_with(empty) {
            names.add(name);
        }
        self.changed = true;
        Took::Waits
    }

    fn files(&mut self, now: UnixMillis, files: &str, seen: &[Seen]) -> Took {
        let of = |t: &&Trigger| matches!(t, Trigger::Folder { files: f, .. } if f == files);
        let Some(trigger) = self.plan.triggers.iter().find(of) else { return Took::Nothing };
        let id = trigger.id();
        let Some(Cursor::Files(known)) = self.memory.cursors.get(&id) else { return Took::Nothing };
        let mut next = BTreeMap::new();
        let (mut took, before) = (Took::Known, known.clone());
        for file in seen.iter().take(MOST_FILES) {
            let is = (file.size, file.modified);
            if !file.whole {
                next.extend(before.get(&file.path).map(|was| (file.path.clone(), *was)));
                continue;
            }
            if before.get(&file.path) != Some(&is) {
                let cause = Cause::File { path: file.path.clone(), size: file.size, modified: file.modified };
                let quiet = Duration::ZERO;
                let arrival = Arrival { trigger: &id, tenant: None, cause, quiet, each: false };
                if !self.memory.add(now, arrival) {
                    // The others are taken when these have their run.
                    took = Took::Full;
                    next.extend(before.get(&file.path).map(|was| (file.path.clone(), *was)));
                    continue;
                }
                took = Took::Waits;
            }
            next.insert(file.path.clone(), is);
        }
        if next != before {
            self.memory.cursors.insert(id, Cursor::Files(next));
            self.changed = true;
        }
        took
    }
}

/// Under this name the calls that ask for a run are remembered: no trigger has it.
const ASKED: &str = "asked";
