//! What waits for a model: who is taken next, and when. Pure: time comes in, decisions go out.
//!
//! Invariants: the first that waits is in the next batch; a batch has one request, or no more rows than the limit; nobody waits
//! for company longer than the delay, and nobody at all when the model was idle.

use std::collections::VecDeque;
use std::time::Duration;

use contract::{Deadline, Tick};

use super::pace::Pace;

/// How much may be taken and may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows of one run. A request with more is run alone.
    pub max_rows: usize,
    /// The longest that a request waits for others while a worker is free.
    pub delay: Duration,
    /// Requests that may wait.
    pub requests: usize,
    /// Rows that may wait; a request with more is taken when none waits.
    pub rows: usize,
}

impl Default for Limits {
    /// 64 rows a run, 1 ms, 1,024 requests, 1,000,000 rows.
    fn default() -> Self {
        Limits { max_rows: 64, delay: Duration::from_millis(1), requests: 1_024, rows: 1_000_000 }
    }
}

/// A request that waits.
#[derive(Debug)]
pub struct Entry<T> {
    /// In the order of arrival.
    pub id: u64,
    /// How many rows it has.
    pub rows: usize,
    /// When it came.
    pub since: Tick,
    /// Until when it is worth anything.
    pub deadline: Deadline,
    /// Itself.
    pub item: T,
}

/// What a free worker does.
#[derive(Debug)]
pub enum Next<T> {
    /// Runs these together.
    Run(Vec<Entry<T>>),
    /// Asks again then, or when another came.
    Wait(Tick),
    /// There is nothing to do.
    Idle,
}

/// The requests that wait, in the order of arrival.
#[derive(Debug)]
pub struct Queue<T> {
    limits: Limits,
    entries: VecDeque<Entry<T>>,
    rows: usize,
    next: u64,
    /// Nothing waited when it was last asked: who comes now waits for nobody.
    idle: bool,
}

impl<T> Queue<T> {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Queue { limits, entries: VecDeque::new(), rows: 0, next: 0, idle: true }
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many rows wait.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes a request in; what cannot be taken comes back.
    ///
    /// # Errors
    /// As much waits as may.
    pub fn push(&mut self, now: Tick, rows: usize, deadline: Deadline, item: T) -> Result<u64, T> {
        let full = self.entries.len() >= self.limits.requests
            || (!self.entries.is_empty() && self.rows.saturating_add(rows) > self.limits.rows);
        if full {
            return Err(item);
        }
        let id = self.next;
        self.next += 1;
        self.rows = self.rows.saturating_add(rows);
        self.entries.push_back(Entry { id, rows, since: now, deadline, item });
        Ok(id)
    }

    /// Takes a request out, whose caller has left. Nothing when it was taken before.
    pub fn cancel(&mut self, id: u64) -> Option<T> {
        let at = self.entries.binary_search_by_key(&id, |e| e.id).ok()?;
        self.remove(at).map(|e| e.item)
    }

    /// All of them, for an end.
    pub fn drain(&mut self) -> Vec<Entry<T>> {
        self.rows = 0;
        self.entries.drain(..).collect()
    }

    /// Those whose deadline has passed.
    pub fn expired(&mut self, now: Tick) -> Vec<Entry<T>> {
        let mut late = Vec::new();
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            if entry.deadline.passed(now) {
                late.extend(self.remove(at));
            } else {
                at += 1;
            }
        }
        late
    }

    fn remove(&mut self, at: usize) -> Option<Entry<T>> {
        let entry = self.entries.remove(at)?;
        self.rows = self.rows.saturating_sub(entry.rows);
        Some(entry)
    }

    /// What a free worker does now. `alike` says whether two may be run together; with `alone` none may.
    pub fn take(&mut self, now: Tick, pace: &Pace, alone: bool, alike: impl Fn(&T, &T) -> bool) -> Next<T> {
        let Some(first) = self.entries.front() else {
            self.idle = true;
            return Next::Idle;
        };
        let mut rows = first.rows;
        let mut places = vec![0];
        if !alone {
            for (at, entry) in self.entries.iter().enumerate().skip(1) {
                if rows.saturating_add(entry.rows) <= self.limits.max_rows && alike(&first.item, &entry.item)
                {
                    rows += entry.rows;
                    places.push(at);
                }
                if rows >= self.limits.max_rows {
                    break;
                }
            }
            let until = first.since.after(self.limits.delay);
            let room = rows < self.limits.max_rows && places.len() == self.entries.len();
            if !self.idle
                && room
                && let Some(gap) = pace.worth_waiting(places.len())
                && now.after(gap) <= until
                && self.entries.iter().all(|e| e.deadline.tick().is_none_or(|d| d > until))
            {
                return Next::Wait(now.after(gap));
            }
        }
        self.idle = false;
        // From behind, so that places stay what they are.
        let mut batch: Vec<_> = places.into_iter().rev().filter_map(|at| self.remove(at)).collect();
        batch.reverse();
        Next::Run(batch)
    }
}
