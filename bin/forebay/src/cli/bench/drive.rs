//! Runs a step: sends what was planned when it is due, whatever the answers do.
//!
//! A thread keeps the time, since a runtime's timer has a grain of a millisecond, and hands each request over when it is
//! due. One task drives all answers; nothing is spawned, so that dropping it ends them. Three things are not the server's:
//! a request that finds `--in-flight` others under way, one that this program comes to too late, and one for whose
//! connection this machine has no file or port. They are left out and counted: a latency is the server's or it is none.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use contract::{Clock as _, SystemClock, Tick};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::answer::{Outcome, Took};
use super::client::{Sample, Target};
use super::plan::{Planned, Step};
use super::progress::Progress;
use crate::Error;

/// A request that could not be sent for so long is not sent at all.
const TOO_LATE: Duration = Duration::from_millis(100);
/// From the drawing of a plan to its beginning.
const HEAD_START: Duration = Duration::from_millis(20);
/// Requests that are due and not yet taken.
const DUE: usize = 1024;

/// What came of a step.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) samples: Vec<Sample>,
    /// Not sent since `--in-flight` others were under way.
    pub(super) over_limit: Vec<Planned>,
    /// Not sent since this program was too late.
    pub(super) too_late: Vec<Planned>,
    /// Not sent since this machine had no file or port left for a connection.
    pub(super) no_socket: Vec<Planned>,
    /// The most under way at once.
    pub(super) most_in_flight: usize,
    /// It was stopped before its end.
    pub(super) interrupted: bool,
    /// How far it came, from its beginning: its length unless it was interrupted.
    pub(super) reached: Duration,
}

/// How a step is driven.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) in_flight: usize,
    pub(super) ramp_down: Duration,
}

/// Hands each request over when it is due; ends when nobody takes them any more.
fn keep_time(plan: Vec<Planned>, clock: SystemClock, began: Tick, to: mpsc::Sender<Planned>) {
    for planned in plan {
        let left = began.after(planned.due).since(clock.now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        // When the driver is behind, time goes on without it: it sees by the clock what came too late.
        if to.blocking_send(planned).is_err() {
            return;
        }
    }
}

/// Runs the step to the end of its ramp-down, or until `stopped` is ready.
pub(super) async fn run(
    target: &Target,
    step: &Step,
    plan: Vec<Planned>,
    limits: Limits,
    progress: &Progress,
    mut stopped: Pin<&mut impl Future>,
) -> Result<Ran, Error> {
    let clock = target.clock;
    let began = clock.now().after(HEAD_START);
    let (to, mut due) = mpsc::channel(DUE);
    let timer = std::thread::Builder::new().name("bench-time".into());
    timer.spawn(move || keep_time(plan, clock, began, to)).map_err(|e| {
        Error::new(format!("cannot start a thread: {e}"), "check the limits of this user (`ulimit -u`)")
    })?;
    let mut ran = Ran { reached: step.warm_up + step.measured, ..Ran::default() };
    let mut under_way = FuturesUnordered::new();
    // Who waits at the end, and since when each was due.
    let mut waiting = HashMap::new();
    let mut open = true;
    // Never before the last request was sent or is too late.
    let give_up = tokio::time::sleep(HEAD_START + ran.reached + limits.ramp_down.max(2 * TOO_LATE));
    tokio::pin!(give_up);
    while open || !under_way.is_empty() {
        tokio::select! {
            // Under load there is always a request or an answer: what ends the step comes before them. New requests come
            // before answers, since a late request is no request of its time any more.
            biased;
            () = &mut give_up => break,
            _ = &mut stopped => {
                ran.interrupted = true;
                ran.reached = ran.reached.min(clock.now().since(began));
                break;
            }
            next = due.recv(), if open => match next {
                None => open = false,
                Some(planned) => {
                    let late = clock.now().since(began.after(planned.due));
                    if late > TOO_LATE {
                        ran.too_late.push(planned);
                    } else if under_way.len() >= limits.in_flight {
                        ran.over_limit.push(planned);
                    } else {
                        waiting.insert(planned.number, planned);
                        under_way.push(target.ask(planned, began));
                        ran.most_in_flight = ran.most_in_flight.max(under_way.len());
                    }
                }
            },
            Some(sample) = under_way.next(), if !under_way.is_empty() => {
                let sample: Sample = sample;
                waiting.remove(&sample.planned.number);
                progress.ended(&sample.outcome);
                if sample.outcome == Outcome::NoSocket {
                    ran.no_socket.push(sample.planned);
                } else {
                    ran.samples.push(sample);
                }
            }
        }
        progress.at(clock.now().since(began), under_way.len());
    }
    // Dropping them closes their connections: the server is told that nobody waits any more.
    drop(under_way);
    due.close();
    if !ran.interrupted {
        while let Some(planned) = due.recv().await {
            ran.too_late.push(planned);
        }
        let now = clock.now();
        ran.samples.extend(waiting.into_values().map(|planned| unfinished(planned, began, now)));
    }
    Ok(ran)
}

fn unfinished(planned: Planned, began: Tick, now: Tick) -> Sample {
    let total = now.since(began.after(planned.due));
    Sample {
        planned,
        late_us: 0,
        first_us: None,
        total_us: u64::try_from(total.as_micros()).unwrap_or(u64::MAX),
        outcome: Outcome::Unfinished,
        took: Took::default(),
    }
}
