//! Whether a request may enter: rates, streams and budgets of every scope it belongs to, all or nothing.
//!
//! A lease is what an admitted request holds: its stream, its tokens and its money. It ends by `settle`; when its holder
//! falls silent for the lease time it is taken back at what the holder last said, and a later word amends that.
//!
//! Invariants: a refused request changes no counter; after every lease has ended nothing is held and no stream counts.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use contract::{RetryHint, Tick, UnixMillis};
use rustc_hash::FxHashMap;

use crate::budget::{Account, Exhausted, Hold, Period};
use crate::rates::{RateHeaders, RateShort, Rates, Short};
use crate::refusal::{Cause, Refusal};
use crate::reservation::{Amount, Demand, estimate};
use crate::scope::{Caller, Scope};
use crate::settings::{Limits, Settings};

/// When requests in flight or open streams are in the way and no request has ended yet to learn from.
const UNKNOWN_WAIT: Duration = Duration::from_secs(1);
/// End users remembered before idle ones are looked through.
const SWEEP_AT: usize = 4096;
/// Scopes one request can belong to.
const SCOPES: usize = 5;

#[derive(Debug)]
struct Counters {
    rates: Rates,
    account: Account,
    leases: u32,
}

#[derive(Debug, Clone, Copy)]
struct Holding {
    scope: u32,
    tokens_taken: u64,
    hold: Hold,
}

#[derive(Debug)]
struct Lease {
    holdings: [Option<Holding>; SCOPES],
    held: Amount,
    used: Amount,
    stream: bool,
    entered: Tick,
    expires: Tick,
    expired: bool,
}

/// The name of a lease; never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LeaseId(u64);

/// All counters of one process.
#[derive(Debug)]
pub(crate) struct Desk {
    settings: Arc<Settings>,
    /// By names that callers make up, the end users': hashed with a secret.
    ids: AHashMap<Scope, u32>,
    counters: FxHashMap<u32, Counters>,
    next_scope: u32,
    leases: FxHashMap<LeaseId, Lease>,
    next_lease: u64,
    next_expiry: Tick,
    mean_lease: Option<f64>,
    sweep_at: usize,
}

fn limits_of(settings: &Settings, scope: &Scope) -> Limits {
    match scope {
        Scope::Key(id) => settings.keys.get(id).copied().unwrap_or_default(),
        Scope::User(..) => settings.each_user,
        Scope::Tenant(id) => settings.tenant(id).limits,
        Scope::Pipeline(name) => settings.pipelines.get(name).copied().unwrap_or_default(),
        Scope::Model(name) => settings.model(name).limits,
    }
}

impl Desk {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Desk {
            settings,
            ids: AHashMap::new(),
            counters: FxHashMap::default(),
            next_scope: 0,
            leases: FxHashMap::default(),
            next_lease: 0,
            next_expiry: Tick(u64::MAX),
            mean_lease: None,
            sweep_at: SWEEP_AT,
        }
    }

    pub(crate) fn reconfigure(&mut self, now: Tick, settings: Arc<Settings>) {
        self.settings = settings;
        for (scope, id) in &self.ids {
            if let Some(c) = self.counters.get_mut(id) {
                let limits = limits_of(&self.settings, scope);
                c.rates.configure(now, &limits);
                c.account.configure(&limits);
            }
        }
    }

    fn scope(&mut self, now: Tick, wall: UnixMillis, scope: Scope) -> u32 {
        if let Some(id) = self.ids.get(&scope) {
            return *id;
        }
        if self.ids.len() >= self.sweep_at {
            self.sweep(wall);
        }
        self.next_scope += 1;
        let limits = limits_of(&self.settings, &scope);
        let mut counters = Counters { rates: Rates::default(), account: Account::default(), leases: 0 };
        counters.rates.configure(now, &limits);
        counters.account.configure(&limits);
        self.ids.insert(scope, self.next_scope);
        self.counters.insert(self.next_scope, counters);
        self.next_scope
    }

    /// Forgets end users of whom no limited period remembers anything.
    fn sweep(&mut self, wall: UnixMillis) {
        let rated = self.settings.each_user.requests_per_minute.is_some()
            || self.settings.each_user.tokens_per_minute.is_some();
        let counters = &mut self.counters;
        self.ids.retain(|scope, id| {
            let forget = matches!(scope, Scope::User(..))
                && !rated
                && counters.get_mut(id).is_some_and(|c| c.leases == 0 && c.account.is_forgettable(wall));
            if forget {
                counters.remove(id);
            }
            !forget
        });
        self.sweep_at = (self.ids.len() * 2).max(SWEEP_AT);
    }

    fn scopes(&self, caller: &Caller, demand: &Demand) -> [Option<Scope>; SCOPES] {
        let each_user = !self.settings.each_user.is_unlimited();
        [
            caller.key.clone().map(Scope::Key),
            caller.user.clone().filter(|_| each_user).map(|u| Scope::User(caller.tenant.clone(), u)),
            Some(Scope::Tenant(caller.tenant.clone())),
            caller.pipeline.clone().map(Scope::Pipeline),
            demand.model.clone().map(Scope::Model),
        ]
    }

    pub(crate) fn enter(
        &mut self,
        now: Tick,
        wall: UnixMillis,
        caller: &Caller,
        demand: &Demand,
    ) -> Result<(LeaseId, RateHeaders, Amount), Box<Refusal>> {
        self.expire(now);
        let amount = estimate(demand, self.settings.reserved_output_tokens);
        let mut holdings = [None; SCOPES];
        let mut headers = RateHeaders::default();
        let mut refused = None;
        for (place, scope) in holdings.iter_mut().zip(self.scopes(caller, demand)) {
            let Some(scope) = scope else { continue };
            let id = self.scope(now, wall, scope.clone());
            let Some(c) = self.counters.get_mut(&id) else { continue };
            let take = c.rates.tokens_to_take(demand.input_tokens, amount.tokens);
            *place = Some(Holding { scope: id, tokens_taken: take, hold: Hold::default() });
            if refused.is_some() {
                continue;
            }
            if let Err(short) = c.rates.check(now, take, demand.stream) {
                refused = Some(self.rate_refusal(scope, short, take));
            } else if let Err(e) = c.account.check(wall, amount) {
                refused = Some(self.budget_refusal(wall, scope, e));
            }
        }
        for h in holdings.iter_mut().flatten() {
            let Some(c) = self.counters.get_mut(&h.scope) else { continue };
            if refused.is_none() {
                c.rates.enter(now, h.tokens_taken, demand.stream);
                h.hold = c.account.hold(wall, amount);
                c.leases += 1;
            }
            headers.tighten(c.rates.headers(now));
        }
        if let Some(refusal) = refused {
            return Err(Box::new(Refusal { headers, ..refusal }));
        }
        self.next_lease += 1;
        let id = LeaseId(self.next_lease);
        let expires = now.after(Duration::from_secs(self.settings.lease_seconds.max(1)));
        self.next_expiry = self.next_expiry.min(expires);
        let lease = Lease {
            holdings,
            held: amount,
            used: Amount::ZERO,
            stream: demand.stream,
            entered: now,
            expires,
            expired: false,
        };
        self.leases.insert(id, lease);
        Ok((id, headers, amount))
    }

    fn someone_leaves_in(&self) -> Duration {
        let per_lease = self.mean_lease.map(|mean| mean / self.leases.len().max(1) as f64);
        per_lease.and_then(|s| Duration::try_from_secs_f64(s.max(0.001)).ok()).unwrap_or(UNKNOWN_WAIT)
    }

    fn rate_refusal(&self, scope: Scope, short: RateShort, needed: u64) -> Refusal {
        let hint = |s| match s {
            Short::For(d) => RetryHint::After(d),
            Short::Forever => RetryHint::No,
        };
        let (cause, retry) = match short {
            RateShort::Requests(limit, s) => (Cause::Requests { limit }, hint(s)),
            RateShort::Tokens(limit, s) => (Cause::Tokens { limit, needed }, hint(s)),
            RateShort::Streams(limit) => {
                (Cause::Streams { limit }, RetryHint::After(self.someone_leaves_in()))
            }
        };
        Refusal { cause, scope, retry, headers: RateHeaders::default() }
    }

    fn budget_refusal(&self, wall: UnixMillis, scope: Scope, e: Exhausted) -> Refusal {
        let retry = match e.resets_at {
            _ if e.in_flight => RetryHint::After(self.someone_leaves_in()),
            Some(at) => RetryHint::After(Duration::from_millis(u64::try_from(at.0 - wall.0).unwrap_or(0))),
            None => RetryHint::No,
        };
        let Exhausted { period, settled, resets_at, in_flight, .. } = e;
        let cause = match e.limit {
            Ok(limit) => Cause::TokenBudget { period, limit, spent: settled.tokens, resets_at, in_flight },
            Err(limit) => Cause::MoneyBudget { period, limit, spent: settled.money, resets_at, in_flight },
        };
        Refusal { cause, scope, retry, headers: RateHeaders::default() }
    }

    /// Grows a hold to `to`, in every scope or in none; the holder lives. What has expired or ended grows no more.
    pub(crate) fn grow(
        &mut self,
        now: Tick,
        wall: UnixMillis,
        id: LeaseId,
        to: Amount,
    ) -> Result<(), Box<Refusal>> {
        let Some(lease) = self.leases.get(&id).filter(|l| !l.expired) else { return Ok(()) };
        let (holdings, held, to) = (lease.holdings, lease.held, lease.held.max(to));
        let more = to.minus(held);
        for h in holdings.iter().flatten() {
            let short = self.counters.get_mut(&h.scope).and_then(|c| c.account.check(wall, more).err());
            if let Some(e) = short
                && let Some((scope, _)) = self.ids.iter().find(|(_, n)| **n == h.scope)
            {
                return Err(Box::new(self.budget_refusal(wall, scope.clone(), e)));
            }
        }
        for h in holdings.iter().flatten() {
            if let Some(c) = self.counters.get_mut(&h.scope) {
                c.account.rehold(&h.hold, held, to);
            }
        }
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.held = to;
            lease.expires = now.after(Duration::from_secs(self.settings.lease_seconds.max(1)));
        }
        Ok(())
    }

    /// The holder lives and has used this much so far: the hold grows with it.
    pub(crate) fn used(&mut self, now: Tick, id: LeaseId, used: Amount) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let (was, held) = (lease.used, lease.held);
        lease.used = used;
        if !lease.expired {
            lease.held = held.max(used);
            lease.expires = now.after(Duration::from_secs(self.settings.lease_seconds.max(1)));
        }
        for h in lease.holdings.iter().flatten() {
            if let Some(c) = self.counters.get_mut(&h.scope) {
                if lease.expired {
                    c.account.amend(&h.hold, was, used);
                    c.rates.correct(now, was.tokens, used.tokens);
                } else if lease.held != held {
                    c.account.rehold(&h.hold, held, lease.held);
                }
            }
        }
    }

    /// Ends a lease at what was used; `None`: at what was last said.
    pub(crate) fn settle(&mut self, now: Tick, id: LeaseId, used: Option<Amount>) {
        if let Some(used) = used {
            self.used(now, id, used);
        }
        let Some(lease) = self.leases.remove(&id) else { return };
        if !lease.expired {
            let held_for = now.since(lease.entered).as_secs_f64();
            self.mean_lease = Some(self.mean_lease.map_or(held_for, |m| m + (held_for - m) * 0.05));
            self.close(now, &lease);
        }
        for h in lease.holdings.iter().flatten() {
            if let Some(c) = self.counters.get_mut(&h.scope) {
                c.leases = c.leases.saturating_sub(1);
            }
        }
    }

    fn close(&mut self, now: Tick, lease: &Lease) {
        for h in lease.holdings.iter().flatten() {
            if let Some(c) = self.counters.get_mut(&h.scope) {
                c.account.settle(&h.hold, lease.held, lease.used);
                c.rates.correct(now, h.tokens_taken, lease.used.tokens);
                if lease.stream {
                    c.rates.end_stream();
                }
            }
        }
    }

    /// Takes back the leases whose holders fell silent.
    pub(crate) fn expire(&mut self, now: Tick) -> usize {
        if now < self.next_expiry {
            return 0;
        }
        let due = |l: &Lease| !l.expired && l.expires <= now;
        let ids: Vec<LeaseId> = self.leases.iter().filter(|(_, l)| due(l)).map(|(id, _)| *id).collect();
        for id in &ids {
            if let Some(mut lease) = self.leases.remove(id) {
                self.close(now, &lease);
                lease.expired = true;
                self.leases.insert(*id, lease);
            }
        }
        let living = self.leases.values().filter(|l| !l.expired).map(|l| l.expires).min();
        self.next_expiry = living.unwrap_or(Tick(u64::MAX));
        ids.len()
    }

    pub(crate) fn restore(
        &mut self,
        now: Tick,
        wall: UnixMillis,
        scope: Scope,
        period: Period,
        settled: Amount,
    ) {
        let id = self.scope(now, wall, scope);
        if let Some(c) = self.counters.get_mut(&id) {
            c.account.restore(period, wall, settled);
        }
    }

    /// (settled, held) of a scope in the running period.
    pub(crate) fn counters(&mut self, wall: UnixMillis, scope: &Scope, period: Period) -> (Amount, Amount) {
        let found = self.ids.get(scope).and_then(|id| self.counters.get_mut(id));
        found.map_or((Amount::ZERO, Amount::ZERO), |c| c.account.counters(wall, period))
    }

    /// Living leases, their holds together, open streams (each counted once), and leases that expired unsettled.
    pub(crate) fn living(&self) -> (usize, Amount, usize, usize) {
        let mut sum = (0, Amount::ZERO, 0, 0);
        for l in self.leases.values() {
            if l.expired {
                sum.3 += 1;
            } else {
                sum = (sum.0 + 1, sum.1.plus(l.held), sum.2 + usize::from(l.stream), sum.3);
            }
        }
        sum
    }

    /// What the living hold as each scope counts it, where there is anything.
    pub(crate) fn held_by_scope(&self) -> Vec<(Scope, Amount)> {
        let of = |id: &u32| self.counters.get(id).map_or(Amount::ZERO, |c| c.account.held());
        self.ids.iter().map(|(s, id)| (s.clone(), of(id))).filter(|(_, a)| *a != Amount::ZERO).collect()
    }

    /// Open streams as each scope counts them, where there are any.
    pub(crate) fn streams_by_scope(&self) -> Vec<(Scope, u32)> {
        let of = |id: &u32| self.counters.get(id).map_or(0, |c| c.rates.streams());
        self.ids.iter().map(|(s, id)| (s.clone(), of(id))).filter(|(_, n)| *n > 0).collect()
    }
}
