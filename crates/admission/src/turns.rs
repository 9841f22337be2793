//! When a refused request is to come again, and its turn when it does.
//!
//! Under ten times the load that a model bears, nine of ten are refused. If all of them are told the same wait, they come back
//! as one wave, and nine of ten are refused again. So each refusal books a turn, in a schedule for each tenant that is worked
//! off at the pace at which that tenant is served: everybody is told another time, and those who come as told come one after
//! the other. What is known of a caller that comes back is its tenant and its mark (a number made of what it asks), which is
//! the same the second time.
//!
//! ```text
//! booked ──(it comes)────────────▶ claimed: it may wait where a newcomer may not
//!    └─────(it does not come)────▶ lost: a tenant whose turns are lost has them booked closer together
//! ```
//!
//! Invariants: a turn is claimed at most once; no two turns of a tenant are at the same time; never
//! more than [`MOST`] turns are kept, and when there are too many, the tenant that holds most has none added.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ahash::AHashMap;
use contract::{TenantId, Tick};

/// Turns kept for one model.
pub(crate) const MOST: usize = 65_536;
/// The share of the pace that is booked: the rest is for newcomers, and for turns that come a little late.
const BOOKED: f64 = 0.9;
/// Who comes this much too early has its turn all the same.
const EARLY: Duration = Duration::from_millis(20);
/// Who comes later than this has lost it.
const LATE: Duration = Duration::from_secs(10);
/// The way back takes as long: every turn is so much later.
const WAY_BACK: Duration = Duration::from_millis(20);
/// While nothing was measured, turns are spread over this time from now, and as much again.
const UNKNOWN: Duration = Duration::from_secs(1);
/// How long a block of turns is: as long as all before it, within these.
const SHORTEST_BLOCK: Duration = Duration::from_secs(1);
const LONGEST_BLOCK: Duration = Duration::from_secs(10);
/// The longest that one turn may take: a day.
const LONGEST: Duration = Duration::from_secs(86_400);
/// The golden section: its multiples are as even over 0 to 1 as any are, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// How much one turn that was claimed or lost says about the next.
const LEARN: f64 = 1.0 / 32.0;
/// However many are lost, so many are taken to come.
const LEAST_KEPT: f64 = 0.1;
/// Half of what a lane was served this long ago still counts, in seconds.
const HALF_LIFE: f64 = 5.0;
/// A lane that was refused something in the last second takes all it is given: what it is given is its pace.
const PRESSED: Duration = Duration::from_secs(1);
/// Requests that make a pace.
const ENOUGH: f64 = 16.0;
/// A mark that so many share at once says nothing of who comes: it gives nobody a turn.
const SHARED: usize = 5;
/// Lanes kept before idle ones are looked through.
const SWEEP_AT: usize = 64;

/// When a turn is due, in the order in which turns come.
type Due = (Tick, u64);

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
struct Turn {
    mark: u64,
    /// It was told to come once more. Many do not, which says nothing about those who come the first time.
    again: bool,
}

/// What one tenant was told.
#[derive(Debug)]
struct Lane {
    /// Turns to come.
    ahead: BTreeMap<Due, Turn>,
    /// Turns that have come and may still be claimed.
    open: BTreeMap<Due, Turn>,
    /// The same turns by mark.
    marks: BTreeSet<(u64, Tick, u64)>,
    /// The share of turns that are claimed, of those that were booked for who came first.
    kept: f64,
    schedule: Schedule,
    /// The sum over the turns ahead of the share that was expected to be claimed when they were booked.
    expected: f64,
    pace: Pace,
}

/// How fast a lane is served while it wants more.
#[derive(Debug, Default)]
struct Pace {
    served: f64,
    seconds: f64,
    at: Tick,
    refused: Option<Tick>,
}

impl Pace {
    fn pass(&mut self, now: Tick, served: f64) {
        let dt = now.since(self.at);
        if self.refused.is_some_and(|r| self.at.since(r) <= PRESSED) && dt <= PRESSED {
            let keep = (-dt.as_secs_f64() / HALF_LIFE).exp2();
            self.served = self.served * keep + served;
            self.seconds = self.seconds * keep + dt.as_secs_f64();
        }
        self.at = self.at.max(now);
    }

    fn per_second(&self) -> Option<f64> {
        (self.served >= ENOUGH && self.seconds > 0.0).then(|| self.served / self.seconds)
    }
}

/// Turns one behind the other, in blocks of some seconds. A pace that was measured a little too high books a few too many, but
/// never two for each place, as turns that were counted from now each time would at the end of a long schedule.
///
/// In a block they are not given in the order of time but evenly over all of it (multiples of the golden section): whoever comes
/// by `Retry-After` comes at a whole second after its refusal, so that those who were refused in one moment and given
/// neighbouring turns would come in one moment.
#[derive(Debug)]
struct Schedule {
    /// Where the running block begins.
    from: Tick,
    /// How long it is.
    long: Duration,
    /// How much of it is given.
    given: Duration,
    turns: u32,
}

impl Schedule {
    /// The next turn, of which one takes `each`.
    fn next(&mut self, now: Tick, each: Duration) -> Tick {
        // What is given is as long as it is, also when the last turn reaches beyond the block.
        let end = self.from.after(self.long.max(self.given));
        if self.given >= self.long || end <= now {
            let ahead = end.since(now);
            self.from = end.max(now);
            self.long = ahead.clamp(SHORTEST_BLOCK, LONGEST_BLOCK).max(each);
            (self.given, self.turns) = (Duration::ZERO, 0);
        }
        self.given = self.given.saturating_add(each);
        self.turns += 1;
        let place = (f64::from(self.turns) * GOLDEN).fract();
        // What has passed of the block is nobody's.
        let from = self.from.max(now);
        from.after(self.from.after(self.long).since(from).mul_f64(place))
    }

    /// Makes it shorter.
    fn shrink(&mut self, now: Tick, to: f64) {
        self.from = now.after(self.from.after(self.long).since(now).mul_f64(to));
        (self.long, self.given) = (Duration::ZERO, Duration::ZERO);
    }
}

impl Lane {
    fn new(now: Tick) -> Self {
        let pace = Pace { at: now, ..Pace::default() };
        Lane {
            ahead: BTreeMap::new(),
            open: BTreeMap::new(),
            marks: BTreeSet::new(),
            kept: 1.0,
            schedule: Schedule { from: now, long: Duration::ZERO, given: Duration::ZERO, turns: 0 },
            expected: 0.0,
            pace,
        }
    }

    /// A turn that is ahead is ahead no more.
    fn passed(&mut self) {
        self.expected -= self.expected / (self.ahead.len() + 1) as f64;
    }

    fn len(&self) -> usize {
        self.marks.len()
    }

    /// Turns whose time has come are open; those that nobody came for are lost. Returns how many.
    fn advance(&mut self, now: Tick) -> usize {
        while let Some(first) = self.ahead.first_entry().filter(|e| e.key().0 <= now) {
            let (due, turn) = first.remove_entry();
            self.open.insert(due, turn);
            self.passed();
        }
        let mut lost = 0;
        while let Some(first) = self.open.first_entry().filter(|e| e.key().0.after(LATE) < now) {
            let ((due, seq), turn) = first.remove_entry();
            self.marks.remove(&(turn.mark, due, seq));
            if !turn.again {
                self.kept -= self.kept * LEARN;
            }
            lost += 1;
        }
        lost
    }

    /// The turn that a request with this mark may claim now: its first.
    fn turn_of(&self, now: Tick, mark: u64, room: bool) -> Option<Due> {
        let mut all = self.marks.range((mark, Tick(0), 0)..=(mark, Tick(u64::MAX), u64::MAX));
        let (_, due, seq) = *all.next()?;
        let shared = all.nth(SHARED - 2).is_some();
        (room || (due.since(now) <= EARLY && !shared)).then_some((due, seq))
    }

    /// How long until a turn behind all that are ahead, at this pace. The turn is booked.
    fn behind(&mut self, now: Tick, pace: f64) -> Duration {
        let kept = self.kept.max(LEAST_KEPT);
        let coming = self.ahead.len() as f64 * kept;
        if coming < self.expected / 2.0 {
            // Far fewer come than it was made for.
            self.schedule.shrink(now, coming / self.expected);
            self.expected = coming;
        }
        self.expected += kept;
        let each = Duration::try_from_secs_f64(kept / (pace * BOOKED)).unwrap_or(LONGEST);
        self.schedule.next(now, each.min(LONGEST)).since(now)
    }
}

/// What a turn is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused<'a> {
    pub(crate) tenant: &'a TenantId,
    /// By what it is known when it comes again.
    pub(crate) mark: u64,
    /// What the tenant gets at least, in requests a second; `None` before anything was measured.
    pub(crate) pace: Option<f64>,
    /// So much later than the schedule has it.
    pub(crate) after: Duration,
    /// It came when it was told, and could not be served all the same: its turn is the next.
    pub(crate) again: bool,
}

/// The turns of one model.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    lanes: AHashMap<TenantId, Lane>,
    booked: usize,
    seq: u64,
    sweep_at: usize,
}

impl Turns {
    /// Turns that are booked.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.booked
    }

    /// Books a turn for a request that is refused now: how long until it is to come.
    pub(crate) fn book(&mut self, now: Tick, refused: &Refused<'_>) -> Duration {
        if self.lanes.len() >= self.sweep_at.max(SWEEP_AT) && !self.lanes.contains_key(refused.tenant) {
            self.sweep(now);
        }
        let lane = self.lanes.entry(refused.tenant.clone()).or_insert_with(|| Lane::new(now));
        self.booked -= lane.advance(now);
        lane.pace.pass(now, 0.0);
        lane.pace.refused = Some(now);
        let spread = f64::from(refused.mark as u32) / f64::from(u32::MAX);
        let wait = match lane.pace.per_second().or(refused.pace) {
            None => UNKNOWN + UNKNOWN.mul_f64(spread),
            Some(pace) if refused.again => Duration::try_from_secs_f64(1.0 / pace).unwrap_or(UNKNOWN),
            Some(pace) => lane.behind(now, pace),
        };
        let mut wait = wait.saturating_add(refused.after).saturating_add(WAY_BACK);
        if !self.room_for(refused.tenant) {
            // Behind the schedule, as far as that is long: apart from each other, but nobody's own.
            return wait + wait.mul_f64(spread);
        }
        let Some(lane) = self.lanes.get_mut(refused.tenant) else { return wait };
        // Apart by a microsecond at least, whatever the pace.
        while lane.ahead.range((now.after(wait), 0)..=(now.after(wait), u64::MAX)).next().is_some() {
            wait += Duration::from_micros(1);
        }
        self.seq += 1;
        let due = now.after(wait);
        lane.ahead.insert((due, self.seq), Turn { mark: refused.mark, again: refused.again });
        lane.marks.insert((refused.mark, due, self.seq));
        self.booked += 1;
        wait
    }

    /// Whether one more turn may be kept for this tenant: when there are too many, the tenant that holds most gives one.
    fn room_for(&mut self, tenant: &TenantId) -> bool {
        if self.booked < MOST {
            return true;
        }
        let own = self.lanes.get(tenant).map_or(0, Lane::len);
        let with_turns = self.lanes.values().filter(|l| l.len() > 0).count();
        if own * with_turns.max(1) >= MOST {
            return false;
        }
        let Some(most) = self.lanes.values_mut().max_by_key(|l| l.len()) else { return false };
        let Some(((due, seq), turn)) = most.ahead.pop_last().or_else(|| most.open.pop_last()) else {
            return false;
        };
        most.marks.remove(&(turn.mark, due, seq));
        self.booked -= 1;
        true
    }

    /// Whether a request that comes now has a turn; it has had it then. With `room` it is served in any case, and whatever
    /// turn it has is done with.
    pub(crate) fn claim(&mut self, now: Tick, tenant: &TenantId, mark: u64, room: bool) -> bool {
        let Some(lane) = self.lanes.get_mut(tenant) else { return false };
        self.booked -= lane.advance(now);
        let Some((due, seq)) = lane.turn_of(now, mark, room) else { return false };
        lane.marks.remove(&(mark, due, seq));
        let ahead = lane.ahead.remove(&(due, seq));
        if ahead.is_some() {
            lane.passed();
        }
        let turn = ahead.or_else(|| lane.open.remove(&(due, seq)));
        if turn.is_some_and(|t| !t.again) {
            lane.kept += (1.0 - lane.kept) * LEARN;
        }
        self.booked -= 1;
        true
    }

    /// Whether a request that comes now has a turn, and there is no room without one. It goes on having it.
    pub(crate) fn has(&mut self, now: Tick, tenant: &TenantId, mark: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(tenant) else { return false };
        self.booked -= lane.advance(now);
        lane.turn_of(now, mark, false).is_some()
    }

    /// A request of this tenant got a slot.
    pub(crate) fn served(&mut self, now: Tick, tenant: &TenantId) {
        if let Some(lane) = self.lanes.get_mut(tenant) {
            lane.pace.pass(now, 1.0);
        }
    }

    /// Whether nobody was told anything: then there is nothing to claim and no pace to keep.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Forgets lanes without a turn.
    fn sweep(&mut self, now: Tick) {
        let booked = &mut self.booked;
        self.lanes.retain(|_, lane| {
            *booked -= lane.advance(now);
            lane.len() > 0
        });
        self.sweep_at = self.lanes.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(tenant: &TenantId, mark: u64, pace: Option<f64>) -> Refused<'_> {
        Refused { tenant, mark, pace, after: Duration::ZERO, again: false }
    }

    proptest! {
        #[test]
        fn those_who_are_refused_together_are_told_different_times_and_no_more_of_a_time_than_it_serves(
            n in 1usize..3_000, pace in 0.01f64..2_000.0,
        ) {
            let (tenant, mut turns) = ("a".into(), Turns::default());
            let mut told: Vec<f64> = (0..n as u64)
                .map(|m| turns.book(Tick(0), &refused(&tenant, m, Some(pace))).as_secs_f64())
                .collect();
            told.sort_by(f64::total_cmp);
            prop_assert!(told.windows(2).all(|w| w[0] < w[1]), "{told:?}");
            // Any part of the schedule has its turns, and a few more where blocks meet.
            for part in [n / 3, n / 2, n - 1] {
                for (from, to) in told.iter().zip(told.iter().skip(part)) {
                    prop_assert!(part as f64 <= (to - from) * pace + 12.0, "{part} in {from}..{to} at {pace}");
                }
            }
            let (each, all) = (1.0 / (pace * BOOKED), n as f64 / (pace * BOOKED));
            prop_assert!(told[n - 1] <= 2.0 * all + 2.0 * each + 2.0, "{} for {all}", told[n - 1]);
        }

        #[test]
        fn a_turn_is_claimed_once_and_in_its_time_and_what_is_kept_is_counted(
            ops in prop::collection::vec((0u8..4, 0usize..3, 0u64..6, 0u64..4_000), 1..300),
        ) {
            let tenants: Vec<TenantId> = (0..3).map(|i| format!("t{i}").into()).collect();
            let (mut turns, mut now) = (Turns::default(), Tick(0));
            // What was told and not yet claimed.
            let mut told: Vec<(usize, u64, Tick)> = Vec::new();
            for (op, t, mark, ms) in ops {
                match op {
                    0 | 1 => {
                        let wait = turns.book(now, &refused(&tenants[t], mark, (op == 0).then_some(3.0)));
                        told.push((t, mark, now.after(wait)));
                    }
                    2 => {
                        let room = ms % 5 == 0;
                        let claimed = turns.claim(now, &tenants[t], mark, room);
                        let of = |b: &(usize, u64, Tick)| (b.0, b.1) == (t, mark);
                        let shared = told.iter().filter(|b| of(b)).count() >= SHARED;
                        let there = told.iter().enumerate().filter(|(_, b)| of(b))
                            .min_by_key(|(_, b)| b.2).map(|(i, b)| (i, b.2));
                        let its = |due: Tick| due.since(now) <= EARLY && !shared;
                        prop_assert_eq!(claimed, there.is_some_and(|(_, due)| room || its(due)));
                        if claimed {
                            told.remove(there.unwrap().0);
                        }
                    }
                    _ => {
                        now = now.after(Duration::from_millis(ms));
                        turns.served(now, &tenants[t]);
                    }
                }
                told.retain(|b| b.2.after(LATE) >= now);
                for tenant in &tenants {
                    // Whatever is lost is counted when its lane is looked at.
                    turns.claim(now, tenant, u64::MAX, false);
                }
                prop_assert_eq!(turns.len(), told.len());
            }
        }
    }

    #[test]
    fn a_flood_of_refusals_is_bounded_and_another_tenant_is_told_its_own_times() {
        let (flood, light): (TenantId, TenantId) = ("flood".into(), "light".into());
        let mut turns = Turns::default();
        let told: Vec<Duration> = (0..MOST as u64 + 5_000)
            .map(|m| turns.book(Tick(0), &refused(&flood, m << 20, Some(100.0))))
            .collect();
        assert_eq!(turns.len(), MOST);
        let beyond: BTreeSet<&Duration> = told.iter().skip(MOST).collect();
        assert!(
            beyond.len() > 1_000 && beyond.iter().all(|t| t.as_secs() > 700),
            "spread behind the schedule"
        );
        let own = turns.book(Tick(0), &refused(&light, 1, Some(100.0)));
        assert!(own < Duration::from_secs(2), "{own:?}");
        assert_eq!(turns.len(), MOST);
        assert!(turns.claim(Tick(0).after(own), &light, 1, false));
    }

    #[test]
    fn turns_nobody_comes_for_let_the_next_be_booked_closer_together() {
        let (tenant, mut turns) = ("a".into(), Turns::default());
        let book = |turns: &mut Turns, at: u64, n: u64| {
            (0..n)
                .map(|m| turns.book(Tick(at * 1_000_000_000), &refused(&tenant, m, Some(10.0))))
                .max()
                .unwrap()
        };
        let first = book(&mut turns, 0, 100);
        let later = book(&mut turns, 60, 100);
        assert!(later * 5 < first, "{first:?}, then {later:?}");
    }

    #[test]
    fn those_who_do_not_come_a_third_time_bring_the_others_no_closer_together() {
        let (tenant, mut turns) = (TenantId::from("a"), Turns::default());
        let at = |s: u64| Tick(s * 1_000_000_000);
        let first = |mark| refused(&tenant, mark, Some(10.0));
        let told: Vec<Duration> = (0..1_000).map(|m| turns.book(at(0), &first(m))).collect();
        for mark in 10_000..10_200 {
            turns.book(at(1), &Refused { again: true, ..first(mark) });
        }
        for (mark, wait) in (0..).zip(&told).filter(|(_, wait)| wait.as_secs() < 14) {
            assert!(turns.claim(at(0).after(*wait), &tenant, mark, false));
        }
        let next = turns.book(at(14), &first(5_000));
        let last = told.into_iter().max().unwrap();
        // In the last blocks, of ten seconds each.
        assert!(at(44).after(next) >= at(0).after(last), "{next:?} behind {last:?}");
    }

    #[test]
    fn the_pace_is_what_a_tenant_is_given_while_it_wants_more() {
        let (tenant, mut turns) = (TenantId::from("a"), Turns::default());
        for ms in (0..20_000u64).step_by(10) {
            let now = Tick(ms * 1_000_000);
            turns.book(now, &refused(&tenant, ms, Some(100.0)));
            if ms % 100 == 0 {
                turns.served(now, &tenant);
            }
        }
        let pace = turns.lanes[&tenant].pace.per_second().unwrap();
        assert!((9.5..10.5).contains(&pace), "{pace}");
    }
}
