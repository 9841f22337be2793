//! What is remembered of the triggers of one pipeline over the end of the process: how far each has been seen, what waits to
//! start a run, and the start that was decided and may not have happened yet.

use std::collections::{BTreeMap, VecDeque};

use contract::{RunId, TenantId, UnixMillis};
use serde::{Deserialize, Serialize};

use super::plan::{Cause, StartRun};
use super::times::Times;

/// Of how many things that are told from each other by a name the names are kept: the same again among so many others is known.
pub const REMEMBERED: usize = 1_000;
/// Causes of a run, and causes of one sort that wait.
pub const MOST_CAUSES: usize = 1_000;
/// Bytes that the causes of a pipeline that wait may take together.
pub const MOST_BYTES: usize = 1_000_000;
/// Ends of runs may be seen so much later than others that came behind them, in milliseconds.
const BEHIND: i64 = 600_000;
/// Ends of runs within that time that are told from each other.
const MOST_ENDS: usize = 5_000;
/// A steady stream of commits starts a run after so many quiet times.
const PATIENCE: i64 = 15;

/// All of it. Opaque but for what lists show.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Starts decided so far.
    pub(super) number: u64,
    /// The one that may not have happened yet.
    pub(super) starting: Option<Starting>,
    /// Runs that were started and have not ended, as far as is known.
    pub(super) active: Vec<RunId>,
    /// What waits.
    pub(super) groups: Vec<Group>,
    /// How far each trigger has been seen.
    pub(super) cursors: BTreeMap<String, Cursor>,
    /// The newest run that each trigger started.
    pub(super) last: BTreeMap<String, LastStart>,
    /// Why the newest start that was given up was.
    pub(super) problem: Option<String>,
}

/// The newest run that a trigger started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStart {
    /// Which.
    pub run: RunId,
    /// When.
    pub at: UnixMillis,
}

/// A start that was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Starting {
    pub(super) start: StartRun,
    /// The triggers whose causes it has.
    pub(super) triggers: Vec<String>,
}

/// How far a trigger has been seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cursor {
    /// Of a schedule.
    Times(Times),
    /// The newest version of a dataset.
    Version(Option<u64>),
    /// Ends of runs.
    Ends(Ends),
    /// Events, alerts, calls.
    Seen(Names),
    /// Files that are there: size and time of change.
    Files(BTreeMap<String, (u64, UnixMillis)>),
}

/// Ends of runs: those from a time on count, and of those it is known which have been seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ends {
    pub(super) since: UnixMillis,
    seen: BTreeMap<String, UnixMillis>,
}

impl Ends {
    pub(super) fn from(since: UnixMillis) -> Ends {
        Ends { since, seen: BTreeMap::new() }
    }

    pub(super) fn holds(&self, run: &str) -> bool {
        self.seen.contains_key(run)
    }

    /// One that has been seen is known for as long as it counts: a name is not forgotten before its time. Of too many within that
    /// time the oldest stop counting.
    pub(super) fn add(&mut self, run: &str, at: UnixMillis) {
        self.seen.insert(run.to_owned(), at);
        self.since = self.since.max(UnixMillis(at.0.saturating_sub(BEHIND)));
        if self.seen.len() > MOST_ENDS {
            let oldest = self.seen.values().min().copied().unwrap_or(at);
            self.since = self.since.max(UnixMillis(oldest.0.saturating_add(1)));
        }
        // Those that do not count any more would again if the clock went back: the last are remembered for that.
        while self.seen.len() > REMEMBERED {
            let oldest = self.seen.iter().min_by_key(|(_, at)| **at).filter(|(_, at)| **at < self.since);
            let Some(run) = oldest.map(|(run, _)| run.clone()) else { break };
            self.seen.remove(&run);
        }
    }
}

/// The names of what came last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Names(VecDeque<String>);

impl Names {
    /// Whether it is new; it is not from now on.
    pub(super) fn add(&mut self, name: &str) -> bool {
        if self.holds(name) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(name.to_owned());
        true
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    /// It is new again.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.retain(|known| known != name);
    }
}

/// Causes of one trigger that wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) trigger: String,
    pub(super) tenant: Option<TenantId>,
    pub(super) causes: Vec<Cause>,
    /// When the first came.
    first: UnixMillis,
    /// When the last did.
    last: UnixMillis,
    /// How long no other may come, in milliseconds.
    quiet: i64,
    /// Whether each gets a run of its own.
    each: bool,
    bytes: usize,
}

impl Group {
    /// From when on it may start a run.
    fn ripe(&self) -> UnixMillis {
        let patient = self.first.0.saturating_add(self.quiet.saturating_mul(PATIENCE));
        UnixMillis(self.last.0.saturating_add(self.quiet).min(patient))
    }

    /// A clock that went back makes nobody wait for it to come here again.
    fn rebase(&mut self, now: UnixMillis) -> bool {
        let back = now < self.last;
        self.first = self.first.min(now);
        self.last = self.last.min(now);
        back
    }
}

/// What starts a run together.
pub(super) struct Together {
    pub(super) tenant: Option<TenantId>,
    pub(super) causes: Vec<Cause>,
    pub(super) triggers: Vec<String>,
}

/// What a cause that somebody else made takes.
fn bytes(cause: &Cause) -> usize {
    match cause {
        Cause::Event(event) => event.to_json().to_string().len(),
        Cause::Asked { params, .. } => params.iter().map(|(k, v)| k.len() + v.to_string().len()).sum(),
        Cause::File { path, .. } => path.len(),
        _ => 0,
    }
}

/// What comes to the causes that wait.
pub(super) struct Arrival<'a> {
    pub(super) trigger: &'a str,
    pub(super) tenant: Option<&'a TenantId>,
    pub(super) cause: Cause,
    pub(super) quiet: std::time::Duration,
    pub(super) each: bool,
}

impl Memory {
    /// Lets a cause wait, unless too much does.
    pub(super) fn add(&mut self, now: UnixMillis, arrival: Arrival<'_>) -> bool {
        let Arrival { trigger, tenant, cause, quiet, each } = arrival;
        let held: usize = self.groups.iter().map(|g| g.bytes).sum();
        let bytes = bytes(&cause);
        let same = |g: &&mut Group| g.trigger == trigger && g.tenant.as_ref() == tenant;
        if let Some(group) = self.groups.iter_mut().find(same) {
            let full = group.causes.len() >= MOST_CAUSES || held + bytes > MOST_BYTES;
            match (group.causes.last_mut(), &cause) {
                (Some(Cause::Dataset { to, .. }), Cause::Dataset { from, to: newest, .. })
                    if *from == *to + 1 =>
                {
                    *to = *newest;
                }
                _ if full => return false,
                _ => group.causes.push(cause),
            }
            group.last = now;
            group.bytes += bytes;
            return true;
        }
        if held + bytes > MOST_BYTES || self.groups.len() >= MOST_CAUSES {
            return false;
        }
        self.groups.push(Group {
            trigger: trigger.to_owned(),
            tenant: tenant.cloned(),
            causes: vec![cause],
            first: now,
            last: now,
            quiet: i64::try_from(quiet.as_millis()).unwrap_or(i64::MAX),
            each,
            bytes,
        });
        true
    }

    /// When the next of what waits may start a run.
    pub(super) fn ripe(&self) -> Option<UnixMillis> {
        self.groups.iter().map(Group::ripe).min()
    }

    /// Whether the clock went back behind what was seen.
    pub(super) fn rebase(&mut self, now: UnixMillis) -> bool {
        let ends = self.cursors.values_mut().fold(false, |any, cursor| match cursor {
            Cursor::Ends(ends) if now < ends.since => {
                ends.since = now;
                true
            }
            _ => any,
        });
        self.groups.iter_mut().fold(ends, |any, group| group.rebase(now) || any)
    }

    /// Takes what may start a run together: the causes of one tenant that came longest ago, all but those that get a run each.
    pub(super) fn take(&mut self, now: UnixMillis) -> Option<Together> {
        let ripe = |g: &Group| g.ripe() <= now && !g.causes.is_empty();
        let first = self.groups.iter().filter(|g| ripe(g)).min_by_key(|g| g.first)?;
        let (tenant, each, trigger) = (first.tenant.clone(), first.each, first.trigger.clone());
        let (mut causes, mut triggers) = (Vec::new(), Vec::new());
        for group in self.groups.iter_mut().filter(|g| ripe(g) && g.tenant == tenant) {
            let room = match each {
                true if group.trigger == trigger => 1,
                false if !group.each => MOST_CAUSES - causes.len(),
                _ => 0,
            };
            let room = room.min(group.causes.len());
            if room > 0 {
                triggers.push(group.trigger.clone());
            }
            causes.extend(group.causes.drain(..room));
            group.bytes = group.causes.iter().map(bytes).sum();
        }
        self.groups.retain(|g| !g.causes.is_empty());
        Some(Together { tenant, causes, triggers })
    }

    /// Passes over what may start a run; whether there was any.
    pub(super) fn pass(&mut self, now: UnixMillis) -> bool {
        let before = self.groups.len();
        self.groups.retain(|g| g.ripe() > now);
        self.groups.len() < before
    }

    /// The newest run that a trigger started.
    pub fn last(&self, trigger: &str) -> Option<LastStart> {
        self.last.get(trigger).copied()
    }

    /// Why the newest start that was given up was.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// How many causes of a trigger wait.
    pub fn waiting(&self, trigger: &str) -> usize {
        self.groups.iter().filter(|g| g.trigger == trigger).map(|g| g.causes.len()).sum()
    }

    /// Runs that were started and have not ended, as far as is known.
    pub fn active(&self) -> &[RunId] {
        &self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_ends_than_are_remembered_are_known_as_long_as_they_count() {
        let mut ends = Ends::from(UnixMillis(0));
        let name = |n: i64| format!("run-{n}");
        // A backfill of quick runs: three times as many as names are remembered, within the time that counts.
        let many = 3 * REMEMBERED as i64;
        for n in 0..many {
            assert!(!ends.holds(&name(n)));
            ends.add(&name(n), UnixMillis(1_000_000 + n));
        }
        assert!((0..many).all(|n| ends.holds(&name(n))), "none is seen a second time");
        // Later their names go, and they count no more.
        for n in 0..2 * REMEMBERED as i64 {
            ends.add(&format!("late-{n}"), UnixMillis(1_000_000 + many + BEHIND + 1 + n));
        }
        assert!(ends.since > UnixMillis(1_000_000 + many) && ends.seen.len() <= 2 * REMEMBERED);
        for n in 0..MOST_ENDS as i64 + 500 {
            ends.add(&format!("flood-{n}"), UnixMillis(9_000_000 + n / 100));
        }
        assert!(ends.seen.len() <= MOST_ENDS + 1, "{}", ends.seen.len());
    }
}
