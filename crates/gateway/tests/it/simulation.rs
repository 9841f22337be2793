//! The whole path of a call — gate, fair queue, pool of endpoints, stream, end — as a deterministic simulation: one thread,
//! tokio's paused clock, and everything else drawn from a seed. Each seed is one schedule: who calls when, what each upstream
//! does to each request, when callers leave. A schedule that fails prints its seed; `FOREBAY_SIM_SEED=n` plays that one alone,
//! `FOREBAY_SIM_SCHEDULES=n` says how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use admission::{Amount, Gate, Limits, Period, Scope, Settings, TenantSettings};
use contract::{
    BoxFuture, Budget, Clock, Code, Context, Deadline, Ending, EndpointName, Error, Message, Meter,
    MidStream, ModelName, Price, RequestId, RetryHint, Role, TenantId, UnixMillis, Usage,
};
use futures_util::{StreamExt, stream};
use gateway::FairSlots;
use llm::{
    Asking, Attempt, ChatModel, ChatRequest, Delta, DeltaStream, Endpoint, FinishReason, Hedge,
    ModelSettings, Models, Prefill,
};
use pipeline::task::RuntimeClock;

/// Schedules of one run.
const SCHEDULES: u64 = 10_000;
/// Calls of one schedule.
const CALLS: u64 = 12;
const TEXT: &str = "a b c d e f g h i j.";
const PRICE: Price = Price { input: 1_000, output: 3_000, cached_input: 1_000, long: None };

/// Numbers from a seed (SplitMix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// An upstream that does to its n-th request what the seed says, and knows how many it has at once.
struct Upstream {
    seed: u64,
    asked: AtomicU32,
    open: Arc<AtomicU32>,
    peak: AtomicU32,
    /// One in so many requests goes wrong; 0 for none.
    bad: u64,
}

struct Open(Arc<AtomicU32>);
impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ChatModel for Upstream {
    fn start<'a>(&'a self, r: &'a ChatRequest, _: &'a Attempt) -> BoxFuture<'a, Result<DeltaStream, Error>> {
        let n = u64::from(self.asked.fetch_add(1, Ordering::Relaxed));
        let mut random = Random(self.seed.wrapping_mul(31).wrapping_add(n));
        self.peak.fetch_max(self.open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let open = Open(self.open.clone());
        let said = match r.messages.last() {
            Some(m) if m.role == Role::Assistant => m.content.to_text().into_owned(),
            _ => String::new(),
        };
        let bad = self.bad > 0 && random.one_in(self.bad);
        let (first, step) = (random.below(2_000), random.below(200));
        let (what, at) = (random.below(8), random.below(11) as usize);
        Box::pin(async move {
            let status =
                |s: u16, code, retry| Err(Error::new(code, "scripted").retry(retry).upstream_status(s));
            let open = open;
            if bad {
                match what {
                    0 => return status(503, Code::UpstreamError, RetryHint::Elsewhere),
                    1 => {
                        let after = Duration::from_millis(500 + first);
                        return status(429, Code::RateLimited, RetryHint::After(after));
                    }
                    2 => return Err(Error::new(Code::UpstreamUnreachable, "refused")),
                    3 => tokio::time::sleep(Duration::from_secs(100)).await,
                    4 => return status(400, Code::InvalidRequest, RetryHint::No),
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(first)).await;
            let rest = TEXT.strip_prefix(said.as_str()).unwrap_or("?").to_owned();
            let pieces: Vec<String> = rest.split_inclusive(' ').map(str::to_owned).collect();
            let mut steps: Vec<(u64, Option<Result<Delta, Error>>)> =
                pieces.into_iter().map(|p| (step, Some(Ok(Delta::Text(p))))).collect();
            let usage = Usage { input_tokens: 7, output_tokens: steps.len() as u64, ..Usage::default() };
            steps.push((0, Some(Ok(Delta::Finish(FinishReason::Stop)))));
            steps.push((0, Some(Ok(Delta::Usage(usage)))));
            if bad {
                let at = at.min(steps.len() - 2);
                match what {
                    5 => steps.truncate(at),
                    6 => {
                        let e = Error::new(Code::UpstreamError, "scripted").retry(RetryHint::Elsewhere);
                        steps.truncate(at);
                        steps.push((0, Some(Err(e))));
                    }
                    _ => steps.insert(at, (40_000, None)),
                }
            }
            let play = stream::unfold((steps.into_iter(), open), |(mut steps, open)| async move {
                loop {
                    let (ms, delta) = steps.next()?;
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    if let Some(delta) = delta {
                        return Some((delta, (steps, open)));
                    }
                }
            });
            Ok(Box::pin(play) as DeltaStream)
        })
    }
}

struct World {
    gate: Gate,
    models: Models,
    upstreams: Vec<Arc<Upstream>>,
    clock: Arc<dyn Clock>,
    cap: u32,
}

fn world(random: &mut Random) -> World {
    let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::starting_at(UnixMillis(1_000_000)));
    let cap = 1 + random.below(4) as u32;
    let mut settings = Settings::default();
    settings.default_model.max_concurrency = cap;
    settings.default_model.queue_entries = 6;
    for (name, weight) in [("gold", 4), ("free", 1)] {
        let tokens_per_day = random.one_in(3).then(|| 3_000 + random.below(20_000));
        let limits = Limits { tokens_per_day, ..Limits::default() };
        settings
            .tenants
            .insert(TenantId::from(name), TenantSettings { weight, limits, ..Default::default() });
    }
    let gate = Gate::new(settings, clock.clone());
    let models = Models::new(Arc::new(FairSlots::new(gate.clone(), clock.clone())));
    let mut upstreams = Vec::new();
    let mut model = |random: &mut Random, name: &str, fallback: Vec<llm::Fallback>| {
        let endpoints = (0..1 + random.below(3)).map(|n| {
            let up = Arc::new(Upstream {
                seed: random.next(),
                asked: AtomicU32::new(0),
                open: Arc::default(),
                peak: AtomicU32::new(0),
                bad: [0, 1, 2, 4][random.below(4) as usize],
            });
            upstreams.push(up.clone());
            Endpoint::new(EndpointName::from(format!("{name}#{n}")), up)
        });
        let mut s = ModelSettings::over(endpoints.collect());
        (s.fallback, s.price) = (fallback, PRICE);
        s.prefill = random.one_in(2).then_some(Prefill::Plain);
        s.hedge = random.one_in(3).then(|| Arc::new(Hedge::new(Duration::from_millis(800), 0.5, None)));
        (ModelName::from(name), s)
    };
    let fallback = if random.one_in(3) { vec![] } else { vec!["spare".into()] };
    let all = [model(random, "main", fallback), model(random, "spare", vec![])];
    models.replace(all);
    World { gate, models, upstreams, clock, cap }
}

/// How one call ended for its caller.
struct Seen {
    text: String,
    ended: Option<Result<(), Code>>,
    took: Duration,
    allowed: Duration,
    spent: Amount,
    sum: Amount,
    complete: usize,
    attempts: usize,
    left: bool,
}

async fn call(w: &World, n: u64, mut random: Random) -> Option<Seen> {
    tokio::time::sleep(Duration::from_millis(random.below(6_000))).await;
    let began = w.clock.now();
    let tenant = TenantId::from(if random.one_in(2) { "gold" } else { "free" });
    let who = admission::Caller { tenant: tenant.clone(), key: None, user: None, pipeline: None };
    let demand = admission::Demand {
        input_tokens: 7,
        max_output_tokens: Some(50),
        price: PRICE,
        stream: true,
        model: Some("main".into()),
        budget: None,
    };
    let entry = w.gate.enter(&who, &demand).ok()?;
    let allowed = Duration::from_millis(2_000 + random.below(60_000));
    let meter = Arc::new(Meter::default());
    let cx = Context {
        request: RequestId::from_parts(UnixMillis(n as i64), u128::from(random.next())),
        tenant,
        user: None,
        stage: None,
        arrived: began,
        deadline: Deadline::from_now(began, allowed),
        budget: Budget::default(),
        clock: w.clock.clone(),
        meter: meter.clone(),
        retrying: false,
        mid_stream: [MidStream::Error, MidStream::Restart, MidStream::Continue][random.below(3) as usize],
        trace: None,
        attempt: None,
        freshness: contract::Freshness::default(),
        sink: None,
    };
    let unseen = random.one_in(3);
    let patience = if random.one_in(4) { Duration::from_millis(random.below(5_000)) } else { allowed * 2 };
    let request = ChatRequest { messages: vec![Message::text(Role::User, "x")], ..ChatRequest::default() };
    let mut text = String::new();
    let reading = async {
        let (model, asking) = ("main".into(), Asking { unseen, ..Asking::default() });
        let mut answer = match w.models.call_as(&model, request, asking, &cx).await {
            Ok(a) => a,
            Err(e) => return Err(e.code),
        };
        while let Some(delta) = answer.next().await {
            match delta {
                Ok(Delta::Text(t)) => text.push_str(&t),
                Ok(Delta::Reset) => text.clear(),
                Ok(_) => {}
                Err(e) => return Err(e.code),
            }
        }
        Ok(())
    };
    let ended = tokio::time::timeout(patience, reading).await.ok();
    let (spent, attempts, _, _) = meter.take();
    entry.settle(&spent.usage, spent.cost);
    let sum = attempts
        .iter()
        .fold(Amount::ZERO, |sum, a| sum.plus(Amount { tokens: a.usage.total(), money: a.cost }));
    Some(Seen {
        text,
        left: ended.is_none(),
        ended,
        took: w.clock.now().since(began),
        allowed,
        spent: Amount { tokens: spent.usage.total(), money: spent.cost },
        sum,
        complete: attempts.iter().filter(|a| a.ending == Ending::Complete).count(),
        attempts: attempts.len(),
    })
}

async fn schedule(seed: u64) -> Result<(usize, usize), String> {
    let mut random = Random(seed);
    let w = world(&mut random);
    let calls = (0..CALLS).map(|n| call(&w, n, Random(random.next())));
    let seen: Vec<Seen> = futures_util::future::join_all(calls).await.into_iter().flatten().collect();
    let mut settled = Amount::ZERO;
    let mut good = 0;
    for s in &seen {
        let check = |ok: bool, what: &str| {
            if ok { Ok(()) } else { Err(format!("{what}: `{}` {:?}", s.text, s.ended)) }
        };
        check(TEXT.starts_with(&s.text), "pieces of two answers")?;
        check(!matches!(s.ended, Some(Ok(()))) || s.text == TEXT, "an answer that is not whole ended well")?;
        check(s.took <= s.allowed + Duration::from_millis(1) || s.left, "it took longer than its deadline")?;
        check(s.spent == s.sum, "the bill is not the sum of the attempts")?;
        check(s.complete <= 1, "more than one attempt answered")?;
        check(s.attempts <= 16, "attempts without end")?;
        settled = settled.plus(s.sum);
        good += usize::from(matches!(s.ended, Some(Ok(()))));
    }
    if !w.gate.snapshot().is_empty() {
        return Err(format!("something is left behind: {:?}", w.gate.snapshot()));
    }
    let counted = ["gold", "free"].iter().fold(Amount::ZERO, |sum, t| {
        sum.plus(w.gate.spent(&Scope::Tenant(TenantId::from(*t)), Period::Day).0)
    });
    // Tenants without a limit are not counted.
    if counted.tokens > settled.tokens || counted.money > settled.money {
        return Err(format!("counted {counted:?}, settled {settled:?}"));
    }
    let open: u32 = w.upstreams.iter().map(|u| u.open.load(Ordering::Relaxed)).sum();
    let peak: u32 = w.upstreams.iter().map(|u| u.peak.load(Ordering::Relaxed)).max().unwrap_or(0);
    if open != 0 || peak > w.cap {
        return Err(format!("{open} upstream requests left open; {peak} at once of {}", w.cap));
    }
    let held: u32 = w.models.endpoints(w.clock.now()).iter().map(|(_, _, s)| s.in_flight).sum();
    if held != 0 {
        return Err(format!("{held} places at endpoints left behind"));
    }
    Ok((good, seen.len()))
}

/// Plays one of `PARTS` parts of the schedules: a part is a test of its own, so that they share the cores.
fn play(part: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let all = number("FOREBAY_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let seeds = match number("FOREBAY_SIM_SEED") {
        Some(seed) if part == 0 => seed..seed + 1,
        Some(_) => return,
        None => all * part / PARTS..all * (part + 1) / PARTS,
    };
    let (mut good, mut made) = (0, 0);
    for seed in seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        match runtime.block_on(schedule(seed)) {
            Ok((g, n)) => (good, made) = (good + g, made + n),
            Err(why) => panic!("schedule {seed} (FOREBAY_SIM_SEED={seed} plays it again): {why}"),
        }
    }
    println!("{good} of {made} calls answered whole");
    assert!(good * 2 > made || made < 100, "most of what can be answered is: {good} of {made}");
}

const PARTS: u64 = 4;

#[test]
fn ten_thousand_schedules_of_calls_and_faults_keep_every_promise() {
    play(0);
}

#[test]
fn the_second_quarter_of_the_schedules_keeps_every_promise() {
    play(1);
}

#[test]
fn the_third_quarter_of_the_schedules_keeps_every_promise() {
    play(2);
}

#[test]
fn the_last_quarter_of_the_schedules_keeps_every_promise() {
    play(3);
}
