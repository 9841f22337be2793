//! Ten times what a model bears, in simulated time: a model of so many slots, callers that come as they like, and those who are
//! refused come again once, when they were told.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own world: what is not there is a failure"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use admission::{Ask, Gate, ModelSettings, Settings, Slot, SlotOutcome, SlotRequest};
use contract::{Clock, Deadline, ManualClock, ModelName, RetryHint, TenantId, Tick};
use proptest::prelude::*;

/// A small generator (SplitMix64): a simulation draws much, and shrinking it by proptest would take for ever.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn gap(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.next()).ln() / per_second)
    }
}

/// One tenant's callers.
#[derive(Clone, Copy)]
struct Load {
    per_second: f64,
    tokens: u64,
    /// All ask the same.
    same: bool,
}

#[derive(Debug, Default, Clone)]
struct Came {
    new: u32,
    refused: u32,
    again: u32,
    served_again: u32,
    /// Answered.
    served: u32,
    /// Those answered while newcomers came.
    while_loaded: u32,
    waits: Vec<f64>,
}

enum Event {
    Arrive { tenant: usize, mark: u64, again: bool },
    End(Slot),
}

struct World {
    gate: Gate,
    clock: Arc<ManualClock>,
    model: ModelName,
    names: Vec<TenantId>,
    events: BTreeMap<(Tick, u64), Event>,
    seq: u64,
    waiting: Vec<(SlotRequest, usize, Tick, bool)>,
    came: Vec<Came>,
    draw: Draw,
    mean: f64,
    loaded: bool,
}

fn poll(request: &mut SlotRequest) -> Option<Result<Slot, Box<admission::Refusal>>> {
    match pin!(request).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(got) => Some(got),
        Poll::Pending => None,
    }
}

impl World {
    fn at(&mut self, at: Tick, event: Event) {
        self.seq += 1;
        self.events.insert((at, self.seq), event);
    }

    /// Half to one and a half times the mean.
    fn serve(&mut self, slot: Slot, tenant: usize, since: Tick, again: bool) {
        let now = self.clock.now();
        let hold = Duration::from_secs_f64(self.mean * (0.5 + self.draw.next()));
        let came = &mut self.came[tenant];
        came.served += 1;
        came.served_again += u32::from(again);
        came.while_loaded += u32::from(self.loaded);
        came.waits.push(now.since(since).as_secs_f64());
        self.at(now.after(hold), Event::End(slot));
    }

    fn collect(&mut self) {
        let mut i = 0;
        while i < self.waiting.len() {
            match poll(&mut self.waiting[i].0) {
                None => i += 1,
                Some(got) => {
                    let (_, tenant, since, again) = self.waiting.swap_remove(i);
                    self.serve(got.expect("nobody is pushed out"), tenant, since, again);
                }
            }
        }
    }

    fn arrive(&mut self, load: &Load, tenant: usize, mark: u64, again: bool) {
        let now = self.clock.now();
        let came = &mut self.came[tenant];
        if again {
            came.again += 1
        } else {
            came.new += 1
        }
        let ask = Ask {
            priority: None,
            tokens: load.tokens,
            deadline: Deadline::from_now(now, Duration::from_secs(600)),
        };
        // Three of four are refused before anything is begun, where they would be refused behind it.
        if self.draw.next() < 0.75
            && let Some(refusal) = self.gate.refuse(&self.model, &self.names[tenant], ask, |_| Some(mark))
        {
            return self.refused(&refusal, tenant, mark, again);
        }
        let mut request = self.gate.slot_or_turn(&self.model, &self.names[tenant], ask, mark);
        match poll(&mut request) {
            None => self.waiting.push((request, tenant, now, again)),
            Some(Ok(slot)) => self.serve(slot, tenant, now, again),
            Some(Err(refusal)) => self.refused(&refusal, tenant, mark, again),
        }
    }

    fn refused(&mut self, refusal: &admission::Refusal, tenant: usize, mark: u64, again: bool) {
        if again {
            return;
        }
        self.came[tenant].refused += 1;
        let RetryHint::After(told) = refusal.retry else { panic!("no time to come again") };
        // Some come by whole seconds, and all of them over a network.
        let whole = Duration::from_secs(told.as_secs() + 1);
        let told = if self.draw.next() < 0.5 { whole } else { told };
        let late = Duration::from_secs_f64(self.draw.next() * 0.2);
        let at = self.clock.now().after(told).after(late);
        self.at(at, Event::Arrive { tenant, mark, again: true });
    }
}

/// Newcomers for `lasting`; then only those come that were told to. The mean time that an answer takes is `mean` seconds.
fn simulate(slots: u32, mean: f64, loads: &[Load], lasting: Duration, seed: u64) -> Vec<Came> {
    let clock = Arc::new(ManualClock::default());
    let settings = ModelSettings { max_concurrency: slots, adaptive: false, ..ModelSettings::default() };
    let gate = Gate::new(Settings { default_model: settings, ..Settings::default() }, clock.clone());
    let mut w = World {
        gate,
        clock,
        model: "m".into(),
        names: (0..loads.len()).map(|i| format!("t{i}").into()).collect(),
        events: BTreeMap::new(),
        seq: 0,
        waiting: Vec::new(),
        came: vec![Came::default(); loads.len()],
        draw: Draw(seed),
        mean,
        loaded: true,
    };
    // One answer before the load: nothing is refused on a guess.
    let first = w.gate.slot(
        &w.model,
        &w.names[0],
        Ask { priority: None, tokens: loads[0].tokens, deadline: Deadline::NEVER },
    );
    let mut first = first;
    let slot = poll(&mut first).unwrap().unwrap();
    w.clock.advance(Duration::from_secs_f64(mean));
    slot.finish(SlotOutcome::Ok { latency: Duration::from_secs_f64(mean) });
    let began = w.clock.now();
    for (tenant, load) in loads.iter().enumerate() {
        let at = began.after(w.draw.gap(load.per_second));
        w.at(at, Event::Arrive { tenant, mark: tenant as u64, again: false });
    }
    let mut marks = 100;
    while let Some(((at, _), event)) = w.events.pop_first() {
        w.clock.advance(at.since(w.clock.now()));
        w.loaded = at.since(began) < lasting;
        match event {
            Event::End(slot) => slot.finish(SlotOutcome::Ok { latency: Duration::from_secs_f64(mean) }),
            Event::Arrive { tenant, mark, again } => {
                let load = loads[tenant];
                w.arrive(&load, tenant, mark, again);
                let next = at.after(w.draw.gap(load.per_second));
                if !again && next.since(began) < lasting {
                    marks += 1;
                    let mark = if load.same { tenant as u64 } else { marks };
                    w.at(next, Event::Arrive { tenant, mark, again: false });
                }
            }
        }
        w.collect();
    }
    assert!(w.waiting.is_empty() && w.gate.snapshot().is_empty());
    w.came
}

fn share(of: u32, all: u32) -> f64 {
    f64::from(of) / f64::from(all.max(1))
}

fn p99(waits: &[f64]) -> f64 {
    let mut sorted = waits.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn at_many_times_the_capacity_every_slot_works_nobody_waits_long_and_who_comes_as_told_is_served(
        slots in 2u32..40, ms in 50u64..2_000, times in 3.0f64..12.0, same: bool, seed: u64,
    ) {
        let mean = ms as f64 / 1000.0;
        let capacity = f64::from(slots) / mean;
        // About a thousand answers while newcomers come, whatever the capacity.
        let lasting = Duration::from_secs_f64(1_000.0 / capacity);
        let load = Load { per_second: capacity * times, tokens: 100, same };
        let came = &simulate(slots, mean, &[load], lasting, seed)[0];
        let goodput = f64::from(came.while_loaded) / lasting.as_secs_f64() / capacity;
        prop_assert!(goodput > 0.95, "goodput {goodput}");
        let again = share(came.served_again, came.again);
        // Where all ask the same nobody is known again.
        prop_assert!(same || again > 0.93, "{again} of {} who came again", came.again);
        // Sixteen before it, or half of what runs; four times as many for a turn.
        let most = mean * 16f64.max(f64::from(slots) / 2.0) / f64::from(slots);
        prop_assert!(p99(&came.waits) < 6.0 * most + mean / f64::from(slots) * 3.0, "{} of {most}", p99(&came.waits));
    }

    #[test]
    fn a_flood_is_refused_and_who_wants_less_than_its_share_is_not(
        slots in 4u32..40, ms in 50u64..2_000, part in 0.05f64..0.3, flood_tokens in 1u64..3_000, seed: u64,
    ) {
        let mean = ms as f64 / 1000.0;
        let capacity = f64::from(slots) / mean;
        let lasting = Duration::from_secs_f64(1_000.0 / capacity);
        let flood = Load { per_second: capacity * 10.0, tokens: flood_tokens, same: false };
        let light = Load { per_second: capacity * part, tokens: 1_000, same: false };
        let came = simulate(slots, mean, &[flood, light], lasting, seed);
        let refused = share(came[1].refused, came[1].new);
        prop_assert!(refused < 0.01, "{refused} of {}", came[1].new);
        // One slot becomes free every mean ÷ slots; a few of its own may come together. Behind the flood it would be ten times as much.
        prop_assert!(p99(&came[1].waits) < mean / f64::from(slots) * 32.0, "{}", p99(&came[1].waits));
        // From eight slots on one is kept for it, while it has something running: then its next waits for nothing.
        let at_once = came[1].waits.iter().filter(|w| **w == 0.0).count() as f64 / came[1].waits.len() as f64;
        prop_assert!(slots < 16 || f64::from(slots) * part < 2.0 || at_once > 0.6, "{at_once} at once");
        let again = share(came[0].served_again, came[0].again);
        prop_assert!(again > 0.9, "{again} of {} of the flood who came again", came[0].again);
    }
}
