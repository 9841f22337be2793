//! Which processes belong to an attempt, and their end.
//!
//! Those in its process group or its session, those whose environment bears its marker, those that write to its pipes, and all
//! that descend from one of them. Only a process is not found that has a session of its own, cleared its environment, writes
//! elsewhere, and whose parents have ended. Linux tells all that by `/proc`; elsewhere there is the group alone.
//!
//! A process is signalled through a descriptor of it that was compared with what was read of it, so that nobody else is hit who
//! got its number meanwhile.

use std::os::fd::BorrowedFd;

use rustix::process::{Pid, Signal, kill_process_group};

/// The variable that marks the processes of an attempt: `PROJECT/OWNER/…`, where the owner is the process of ours that started it.
pub(super) const MARKER: &str = "FOREBAY_ATTEMPT_ID";

/// How often the processes are looked through at most: who forks faster than he is killed stops us here.
const PASSES: usize = 1_000;

/// A process as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// When it began, in ticks since the system's start: with its number, its name for ever.
    pub(super) started: u64,
    /// It has ended, and nobody has asked how.
    ended: bool,
}

/// An attempt's processes.
#[derive(Debug, Clone)]
pub(super) struct Family {
    /// The command's process, whose number is that of its group.
    pub(super) leader: Pid,
    /// The value of [`MARKER`].
    pub(super) mark: String,
    /// When the leader began; none of its children began before.
    pub(super) since: u64,
    /// The pipes that it writes to.
    pub(super) pipes: Vec<u64>,
}

impl Family {
    /// The family of a process that has just been started.
    pub(super) fn new<'a>(leader: Pid, mark: String, pipes: impl Iterator<Item = BorrowedFd<'a>>) -> Self {
        let since = linux::read(leader.as_raw_nonzero().get()).map_or(0, |p| p.started);
        let pipes = pipes.filter_map(|p| Some(rustix::fs::fstat(p).ok()?.st_ino)).collect();
        Family { leader, mark, since, pipes }
    }

    /// Those that live.
    pub(super) fn living(&self) -> Vec<Process> {
        let leader = self.leader.as_raw_nonzero().get();
        let all: Vec<Process> = linux::all().into_iter().filter(|p| p.started >= self.since).collect();
        let own = |p: &Process| {
            p.id == leader
                || p.group == leader
                || p.session == leader
                || linux::marker(p.id).is_some_and(|m| m == self.mark)
                || linux::writes_to(p.id).any(|pipe| self.pipes.contains(&pipe))
        };
        closure(&all, own)
    }

    /// Sends a signal to all that live.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.leader, signal);
        for p in self.living() {
            linux::signal(&p, signal);
        }
    }

    /// Kills all, also those that begin meanwhile. The leader must not have been waited for: its number is its group's.
    pub(super) fn kill(&self) {
        let _ = kill_process_group(self.leader, Signal::KILL);
        end_all(|| self.living());
    }
}

/// Kills all that `living` gives, until it gives nobody new.
fn end_all(living: impl Fn() -> Vec<Process>) -> usize {
    let mut killed: Vec<(i32, u64)> = Vec::new();
    for _ in 0..PASSES {
        let new: Vec<Process> =
            living().into_iter().filter(|p| !killed.contains(&(p.id, p.started))).collect();
        // Who was sent it forks no more.
        if new.is_empty() {
            break;
        }
        for p in new {
            linux::signal(&p, Signal::KILL);
            killed.push((p.id, p.started));
        }
    }
    killed.len()
}

/// Those that are `own` and all that descend from them, without those that have ended.
fn closure(all: &[Process], own: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut in_it: Vec<bool> = all.iter().map(own).collect();
    loop {
        let ids: std::collections::HashSet<i32> =
            all.iter().zip(&in_it).filter(|(_, i)| **i).map(|(p, _)| p.id).collect();
        let mut grew = false;
        for (p, is_in) in all.iter().zip(&mut in_it) {
            if !*is_in && ids.contains(&p.parent) {
                (*is_in, grew) = (true, true);
            }
        }
        if !grew {
            break;
        }
    }
    all.iter().zip(in_it).filter(|(p, i)| *i && !p.ended).map(|(p, _)| *p).collect()
}

/// The value of the marker for an attempt of a project, begun by this process.
pub(super) fn mark(project: &str, attempt: &str) -> String {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let since = linux::read(own).map_or(0, |p| p.started);
    format!("{project}/{own}.{since}/{attempt}")
}

/// Kills what attempts of this project left whose owner has died. How many processes it were.
pub(super) fn reap(project: &str) -> usize {
    let is_left = |mark: &str| {
        let mut parts = mark.split('/');
        let ours = parts.next() == Some(project);
        let owner = parts.next().and_then(|o| o.split_once('.'));
        let lives = owner.is_some_and(|(id, since)| {
            let of = id.parse().ok().and_then(linux::read).filter(|p| !p.ended);
            of.is_some_and(|p| p.started.to_string() == since)
        });
        ours && !lives
    };
    end_all(|| closure(&linux::all(), |p| linux::marker(p.id).is_some_and(|m| is_left(&m))))
}

/// What `/proc` says.
#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    use super::{MARKER, Process};

    pub(super) fn all() -> Vec<Process> {
        let Ok(found) = fs::read_dir("/proc") else { return Vec::new() };
        let numbers = found.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
        numbers.filter_map(read).collect()
    }

    pub(super) fn read(id: i32) -> Option<Process> {
        let stat = fs::read(format!("/proc/{id}/stat")).ok()?;
        parse(id, &String::from_utf8_lossy(&stat))
    }

    /// `id (name) state parent group session …`: a name may hold anything, also brackets.
    pub(super) fn parse(id: i32, stat: &str) -> Option<Process> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n)?.parse().ok();
        Some(Process {
            id,
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            started: fields.get(19)?.parse().ok()?,
            ended: matches!(*fields.first()?, "Z" | "X"),
        })
    }

    pub(super) fn marker(id: i32) -> Option<String> {
        let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
        let found = environment.split(|b| *b == 0).find_map(|e| {
            let (name, value) = e.split_at_checked(MARKER.len())?;
            (name == MARKER.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
        });
        found.map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The pipes that are its standard output and error.
    pub(super) fn writes_to(id: i32) -> impl Iterator<Item = u64> {
        [1, 2].into_iter().filter_map(move |n| {
            let to = fs::read_link(format!("/proc/{id}/fd/{n}")).ok()?;
            to.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()
        })
    }

    pub(super) fn signal(p: &Process, signal: Signal) {
        let Some(id) = Pid::from_raw(p.id) else { return };
        let Ok(of) = pidfd_open(id, PidfdFlags::empty()) else { return };
        if read(p.id).is_some_and(|now| now.started == p.started) {
            let _ = pidfd_send_signal(of, signal);
        }
    }

    /// What it holds in memory, in bytes.
    pub(in super::super) fn resident(id: i32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kilobytes.unwrap_or(0).saturating_mul(1024)
    }
}

/// Other systems tell nothing: the group is all there is.
#[cfg(not(target_os = "linux"))]
mod linux {
    use super::Process;
    use rustix::process::Signal;

    pub(super) fn all() -> Vec<Process> {
        Vec::new()
    }
    pub(super) fn read(_: i32) -> Option<Process> {
        None
    }
    pub(super) fn marker(_: i32) -> Option<String> {
        None
    }
    pub(super) fn writes_to(_: i32) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }
    pub(super) fn signal(_: &Process, _: Signal) {}
    pub(in super::super) fn resident(_: i32) -> u64 {
        0
    }
}

impl Family {
    /// What all of them hold in memory together, in bytes; what two share counts twice.
    pub(super) fn resident(&self) -> u64 {
        self.living().iter().map(|p| linux::resident(p.id)).sum()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_process_with_brackets_and_blanks_in_its_name_is_read() {
        let stat = "7 (a) S 1 (b) Z 5 6 4 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        let wanted = Process { id: 7, parent: 5, group: 6, session: 4, started: 4711, ended: true };
        assert_eq!(linux::parse(7, stat), Some(wanted));
        assert_eq!(linux::parse(7, "7 (a) S 1"), None);
        assert_eq!(linux::parse(7, ""), None);
    }

    proptest! {
        #[test]
        fn all_that_descend_are_found_in_whatever_order_they_are_listed(parents in proptest::collection::vec(0..20_i32, 20), root in 1..20_i32) {
            let of = |id: usize| Process {
                id: i32::try_from(id).unwrap(), parent: parents[id], group: 0, session: 0, started: 0, ended: false,
            };
            let all: Vec<Process> = (1..20).map(of).collect();
            let descends = |mut id: i32| (0..20).any(|_| {
                let is = id == root;
                id = if id > 0 { parents[usize::try_from(id).unwrap()] } else { 0 };
                is
            });
            let found: Vec<i32> = closure(&all, |p| p.id == root).iter().map(|p| p.id).collect();
            let wanted: Vec<i32> = (1..20).filter(|id| descends(*id)).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
