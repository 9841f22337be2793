//! The queue against a plain list.

use std::time::Duration;

use contract::{Deadline, Tick};
use predict::batch::pace::Pace;
use predict::batch::queue::{Limits, Next, Queue};
use proptest::prelude::*;

const LIMITS: Limits = Limits { max_rows: 8, delay: Duration::from_nanos(100), requests: 12, rows: 40 };

#[derive(Debug, Clone)]
enum Step {
    Push { rows: usize, kind: u8, lasts: Option<u64> },
    Cancel(usize),
    Take { alone: bool },
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..12, 0u8..2, prop::option::of(1u64..300)).prop_map(|(rows, kind, lasts)| Step::Push { rows, kind, lasts }),
        1 => (0usize..20).prop_map(Step::Cancel),
        3 => prop::bool::weighted(0.1).prop_map(|alone| Step::Take { alone }),
        2 => (1u64..80).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..80)
}

/// What waits, as the test knows it: id, rows, kind, since, deadline.
type Waiting = Vec<(u64, usize, u8, Tick, Deadline)>;

proptest! {
    #[test]
    fn whatever_comes_it_is_taken_in_order_within_the_limits_or_never(steps in steps(), warm in any::<bool>()) {
        let mut queue: Queue<u8> = Queue::new(LIMITS);
        let mut pace = Pace::default();
        if warm {
            (0..50).for_each(|n| { pace.arrived(Tick(n * 10)); pace.ran(1 + n as usize % 3, Duration::from_nanos(1_000)); });
        }
        let mut waiting: Waiting = Vec::new();
        let (mut now, mut idle) = (Tick(1_000), true);
        for step in steps {
            match step {
                Step::Pass(n) => now = Tick(now.0 + n),
                Step::Push { rows, kind, lasts } => {
                    let deadline = lasts.map_or(Deadline::NEVER, |n| Deadline::at(Tick(now.0 + n)));
                    let held: usize = waiting.iter().map(|w| w.1).sum();
                    let room = waiting.len() < LIMITS.requests && (waiting.is_empty() || held + rows <= LIMITS.rows);
                    match queue.push(now, rows, deadline, kind) {
                        Ok(id) => { prop_assert!(room); waiting.push((id, rows, kind, now, deadline)); }
                        Err(back) => { prop_assert!(!room); prop_assert_eq!(back, kind); }
                    }
                }
                Step::Cancel(nth) => {
                    let id = waiting.get(nth).map_or(u64::MAX, |w| w.0);
                    let was = waiting.iter().position(|w| w.0 == id).map(|at| waiting.remove(at));
                    prop_assert_eq!(queue.cancel(id), was.map(|w| w.2));
                }
                Step::Take { alone } => {
                    let late: Vec<u64> = queue.expired(now).iter().map(|e| e.id).collect();
                    let known: Vec<u64> = waiting.iter().filter(|w| w.4.passed(now)).map(|w| w.0).collect();
                    prop_assert_eq!(&late, &known);
                    waiting.retain(|w| !late.contains(&w.0));
                    match queue.take(now, &pace, alone, |a, b| a == b) {
                        Next::Idle => { prop_assert!(waiting.is_empty()); idle = true; }
                        Next::Wait(until) => {
                            // Never when it was idle, never longer than the first may wait, never into a deadline.
                            prop_assert!(!idle && warm && !alone && until > now);
                            prop_assert!(until <= waiting[0].3.after(LIMITS.delay));
                            prop_assert!(waiting.iter().all(|w| w.4.tick().is_none_or(|d| d > until)));
                        }
                        Next::Run(batch) => {
                            idle = false;
                            let rows: usize = batch.iter().map(|e| e.rows).sum();
                            prop_assert!(batch.len() == 1 || rows <= LIMITS.max_rows);
                            prop_assert!(!alone || batch.len() == 1);
                            prop_assert_eq!(batch[0].id, waiting[0].0);
                            prop_assert!(batch.is_sorted_by_key(|e| e.id) && batch.iter().all(|e| e.item == batch[0].item));
                            // Nobody of its kind who would have had room was passed over.
                            let mut room = LIMITS.max_rows.saturating_sub(waiting[0].1);
                            let kind = waiting[0].2;
                            let mut wanted = vec![waiting[0].0];
                            if !alone {
                                for w in waiting.iter().skip(1).filter(|w| w.2 == kind) {
                                    if w.1 <= room { room -= w.1; wanted.push(w.0); }
                                }
                            }
                            let taken: Vec<u64> = batch.iter().map(|e| e.id).collect();
                            prop_assert_eq!(&taken, &wanted);
                            waiting.retain(|w| !taken.contains(&w.0));
                        }
                    }
                }
            }
            prop_assert_eq!(queue.len(), waiting.len());
            prop_assert_eq!(queue.rows(), waiting.iter().map(|w| w.1).sum::<usize>());
        }
        prop_assert_eq!(queue.drain().len(), waiting.len());
    }
}
