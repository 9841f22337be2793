//! The fair queue against the bound of its paper and against a naive model.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use admission::{Bounds, FairQueue, LaneId, Priority, TicketId, Work};
use contract::{Deadline, TenantId, Tick};
use proptest::prelude::*;

const WIDE: Bounds = Bounds { tokens: u64::MAX, entries: usize::MAX };

fn tenant(i: usize) -> TenantId {
    format!("t{i}").into()
}

fn work(tenant: &TenantId, weight: u32, tokens: u64) -> Work<'_> {
    Work { tenant, weight, priority: Priority::Normal, deadline: Deadline::NEVER, tokens }
}

proptest! {
    #[test]
    fn two_tenants_that_never_run_empty_are_served_alike_within_the_bound(
        weights in prop::collection::vec(1u32..8, 2..5),
        slots in 1usize..6,
        rounds in prop::collection::vec((1u64..100, 0u64..60, any::<prop::sample::Index>()), 50..400),
    ) {
        const OUTPUT_WEIGHT: u64 = 2;
        let names: Vec<TenantId> = (0..weights.len()).map(tenant).collect();
        let mut queue = FairQueue::new(WIDE, OUTPUT_WEIGHT as f64);
        let mut served = vec![0f64; weights.len()];
        let mut running: Vec<(LaneId, usize)> = Vec::new();
        let mut history = Vec::new();
        // Tenant 0 asks for ten times as much as the others: its size must not buy it a share.
        let arrive = |queue: &mut FairQueue<(usize, u64)>, t: usize, input: u64| {
            let input = if t == 0 { input * 10 } else { input };
            queue.push(&work(&names[t], weights[t], input), (t, input)).unwrap();
        };
        for t in 0..weights.len() {
            // Two, so that a lane is never empty between a dispatch and the next arrival.
            arrive(&mut queue, t, 50);
            arrive(&mut queue, t, 50);
        }
        for (input, output, which) in rounds {
            while running.len() < slots {
                let (lane, (t, tokens)) = queue.pop(0).unwrap();
                served[t] += tokens as f64 / f64::from(weights[t]);
                running.push((lane, t));
                arrive(&mut queue, t, input);
            }
            let (lane, t) = running.swap_remove(which.index(running.len()));
            queue.charge_output(lane, output);
            queue.finish(lane);
            served[t] += (output * OUTPUT_WEIGHT) as f64 / f64::from(weights[t]);
            history.push(served.clone());
        }
        let lightest = f64::from(*weights.iter().min().unwrap());
        let u = (10.0 * 100.0 + slots as f64 * 60.0 * OUTPUT_WEIGHT as f64) / lightest;
        // The bound holds over every interval, not only from the start.
        for (from, to) in history.iter().zip(history.iter().skip(25)) {
            for f in 0..weights.len() {
                for g in 0..weights.len() {
                    let difference = (to[f] - from[f]) - (to[g] - from[g]);
                    prop_assert!(difference <= 2.0 * u + 1.0, "{difference} > {}", 2.0 * u);
                }
            }
        }
        for (f, g) in history.last().unwrap().iter().zip(history.last().unwrap().iter().skip(1)) {
            prop_assert!((f - g).abs() <= 2.0 * u + 1.0);
        }
    }

    #[test]
    fn no_ticket_is_lost_or_served_twice_and_bounds_hold(
        ops in prop::collection::vec((0u8..6, 0usize..4, 0u64..30, 0u64..10, 0u8..3), 1..400),
        entries in 1usize..20, tokens in 1u64..200,
    ) {
        let names: Vec<TenantId> = (0..4).map(tenant).collect();
        let bounds = Bounds { tokens, entries };
        let mut queue = FairQueue::new(bounds, 1.0);
        // What must be in the queue: ticket → (tenant, class, deadline, arrival, tokens).
        let mut model: HashMap<u64, (TicketId, usize, Priority, u64, u64)> = HashMap::new();
        let mut gone: VecDeque<TicketId> = VecDeque::new();
        for (number, (op, t, size, deadline, class)) in (0u64..).zip(ops) {
            let priority = [Priority::Batch, Priority::Normal, Priority::High][usize::from(class)];
            match op {
                0..=2 => {
                    let deadline_at = Deadline::from_now(Tick(0), Duration::from_secs(deadline));
                    let w = Work { tenant: &names[t], weight: 1 + t as u32, priority, deadline: deadline_at, tokens: size };
                    if let Ok((ticket, pushed_out)) = queue.push(&w, number) {
                        for victim in pushed_out {
                            let (id, _, victim_class, ..) = model.remove(&victim).expect("pushed out twice");
                            prop_assert!(victim_class <= priority);
                            gone.push_back(id);
                        }
                        model.insert(number, (ticket, t, priority, deadline, size));
                    } else {
                        prop_assert!(!model.is_empty());
                    }
                }
                3 => match queue.pop(0) {
                    None => prop_assert!(model.is_empty(), "something waited and nothing was served"),
                    Some((lane, served)) => {
                        let (id, t, class, deadline, _) = model.remove(&served).expect("served twice");
                        prop_assert!(model.values().all(|w| w.2 <= class), "a higher class waits");
                        let first_in_lane = model.iter().filter(|(_, w)| w.1 == t && w.2 == class)
                            .all(|(n, w)| (w.3, *n) > (deadline, served));
                        prop_assert!(first_in_lane);
                        queue.charge_output(lane, size);
                        queue.finish(lane);
                        gone.push_back(id);
                    }
                },
                4 => if let Some((n, w)) = model.iter().min_by_key(|(n, _)| **n % (size + 2)).map(|(n, w)| (*n, *w)) {
                    prop_assert_eq!(queue.cancel(w.0), Some(n));
                    model.remove(&n);
                    gone.push_back(w.0);
                },
                _ => if let Some(id) = gone.pop_front() {
                    prop_assert_eq!(queue.cancel(id), None, "a ticket that left came back");
                },
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.tokens(), model.values().map(|w| w.4).sum::<u64>());
            prop_assert!(queue.len() <= entries);
            prop_assert!(queue.len() <= 1 || queue.tokens() <= tokens);
        }
    }

    #[test]
    fn the_position_of_a_ticket_is_the_number_served_before_it_when_nothing_else_comes(
        sizes in prop::collection::vec((0usize..3, 1u64..40), 1..30), pick in any::<prop::sample::Index>(),
    ) {
        let names: Vec<TenantId> = (0..3).map(tenant).collect();
        let mut queue = FairQueue::new(WIDE, 1.0);
        let tickets: Vec<TicketId> = sizes.iter().enumerate()
            .map(|(n, (t, size))| queue.push(&work(&names[*t], 1, *size), n).unwrap().0).collect();
        let n = pick.index(tickets.len());
        let (tokens, entries) = queue.position(tickets[n]).unwrap();
        let mut before = (0u64, 0usize);
        while let Some((_, served)) = queue.pop(0) {
            if served == n { break }
            before = (before.0 + sizes[served].1, before.1 + 1);
        }
        // A fair queue decides between requests, not tokens: each other lane may be off by one request.
        prop_assert!(tokens.abs_diff(before.0) <= 2 * 40, "{tokens} {}", before.0);
        prop_assert!(entries <= sizes.len());
    }
}

#[test]
fn a_tenant_that_returns_from_idle_has_saved_no_credit() {
    let (busy, idle) = (tenant(0), tenant(1));
    let mut queue = FairQueue::new(WIDE, 1.0);
    for n in 0..100 {
        queue.push(&work(&busy, 1, 10), n).unwrap();
    }
    for _ in 0..50 {
        queue.pop(0).unwrap();
    }
    for n in 100..150 {
        queue.push(&work(&idle, 1, 10), n).unwrap();
    }
    let from_idle = (0..20).filter(|_| queue.pop(0).unwrap().1 >= 100).count();
    assert!((9..=11).contains(&from_idle), "{from_idle}");
}

#[test]
fn a_flood_that_fills_the_queue_pushes_out_itself_and_not_the_others() {
    let (flood, small) = (tenant(0), tenant(1));
    let mut queue = FairQueue::new(Bounds { tokens: 1000, entries: 100 }, 1.0);
    let accepted = (0..500).filter(|n| queue.push(&work(&flood, 1, 10), *n).is_ok()).count();
    assert_eq!(accepted, 100);
    let (_, pushed_out) = queue.push(&work(&small, 1, 30), 1000).expect("there is room for the small tenant");
    assert_eq!(pushed_out, [99, 98, 97]);
    assert!(queue.push(&work(&flood, 1, 10), 1001).is_err());
}

#[test]
fn idle_lanes_are_forgotten_and_a_thousand_tenants_cost_no_memory_for_ever() {
    let mut queue: FairQueue<()> = FairQueue::new(WIDE, 1.0);
    for n in 0..10_000 {
        let name = tenant(n);
        let lane = queue.dispatch(&work(&name, 1, 10));
        queue.finish(lane);
    }
    assert!(format!("{queue:?}").matches("tenant:").count() <= 512);
}

proptest! {
    #[test]
    fn who_runs_less_than_its_share_of_the_slots_is_served_next_whatever_its_requests_cost(
        slots in 2u32..24, flood_tokens in 1u64..50, own_tokens in 100u64..5_000,
        weights in (1u32..4, 1u32..4),
        ops in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 20..300),
    ) {
        let (flood, own) = (tenant(0), tenant(1));
        let mut queue = FairQueue::new(WIDE, 2.0);
        let mut running: Vec<(LaneId, usize)> = Vec::new();
        let mut waiting = 0usize;
        let share = f64::from(slots) * f64::from(weights.1) / f64::from(weights.0 + weights.1);
        for _ in 0..100 {
            queue.push(&work(&flood, weights.0, flood_tokens), 0).unwrap();
        }
        for (op, which) in ops {
            let runs = |running: &Vec<(LaneId, usize)>| running.iter().filter(|(_, t)| *t == 1).count();
            if op == 0 {
                let before = queue.ahead(&work(&own, weights.1, own_tokens), slots);
                // With what waits it stays within its share: nothing of the flood is served before it.
                if ((runs(&running) + waiting) as f64) <= share - 1.0 {
                    prop_assert_eq!(before.1, waiting);
                }
                queue.push(&work(&own, weights.1, own_tokens), 1).unwrap();
                waiting += 1;
            } else if !running.is_empty() {
                let (lane, _) = running.swap_remove(which.index(running.len()));
                queue.charge_output(lane, 10);
                queue.finish(lane);
            }
            while running.len() < slots as usize {
                let less = (runs(&running) as f64) < share && waiting > 0;
                let Some((lane, t)) = queue.pop(slots) else { break };
                let flood_less = ((running.len() - runs(&running)) as f64) < f64::from(slots) - share;
                prop_assert!(!less || t == 1 || flood_less, "the flood went first");
                waiting -= t;
                running.push((lane, t));
                if t == 0 {
                    queue.push(&work(&flood, weights.0, flood_tokens), 0).unwrap();
                }
            }
        }
    }
}
