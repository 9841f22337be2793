//! Endpoints that bear different numbers of requests at once, behind the gate's one queue: on tokio's paused clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use admission::{Gate, Room, Settings};
use contract::{
    BoxFuture, Budget, Clock, Code, Context, Deadline, Error, Freshness, Message, Meter, MidStream,
    RequestId, RetryHint, Role, UnixMillis,
};
use futures_util::stream;
use gateway::FairSlots;
use llm::{
    Attempt, ChatModel, ChatRequest, Delta, DeltaStream, Endpoint, FinishReason, ModelSettings, Models,
};
use pipeline::task::RuntimeClock;

/// How long an answer takes.
const TAKES: Duration = Duration::from_millis(200);

/// Bears so many requests at once, and refuses what comes beyond them.
struct Upstream {
    bears: u32,
    open: Arc<AtomicU32>,
    refused: AtomicU32,
    served: Arc<AtomicU32>,
    peak: AtomicU32,
}

struct Open(Arc<AtomicU32>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ChatModel for Upstream {
    fn start<'a>(&'a self, _: &'a ChatRequest, _: &'a Attempt) -> BoxFuture<'a, Result<DeltaStream, Error>> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
        let guard = Open(self.open.clone());
        Box::pin(async move {
            if open > self.bears {
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.refused.fetch_add(1, Ordering::Relaxed);
                let e = Error::new(Code::RateLimited, "too many at once").upstream_status(429);
                return Err(e.retry(RetryHint::Elsewhere));
            }
            tokio::time::sleep(TAKES / 2).await;
            let served = self.served.clone();
            let said = [Delta::Text("a".into()), Delta::Text("b".into()), Delta::Finish(FinishReason::Stop)];
            let play =
                stream::unfold((said.into_iter(), guard, served), |(mut said, guard, served)| async move {
                    let next = said.next()?;
                    tokio::time::sleep(TAKES / 6).await;
                    if matches!(next, Delta::Finish(_)) {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    Some((Ok(next), (said, guard, served)))
                });
            Ok(Box::pin(play) as DeltaStream)
        })
    }
}

fn upstream(bears: u32) -> Arc<Upstream> {
    let [open, refused, served, peak] = std::array::from_fn(|_| AtomicU32::new(0));
    Arc::new(Upstream { bears, open: Arc::new(open), refused, served: Arc::new(served), peak })
}

struct World {
    gate: Gate,
    models: Models,
    clock: Arc<dyn Clock>,
    upstreams: Vec<Arc<Upstream>>,
    endpoints: Vec<Endpoint>,
}

fn world(bears: &[u32], cap: u32) -> World {
    let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::starting_at(UnixMillis(1_000_000)));
    let mut settings = Settings::default();
    settings.default_model.max_concurrency = cap;
    // It is about the endpoints: whoever asks waits.
    settings.default_model.max_wait_ms = Some(60_000);
    let gate = Gate::new(settings, clock.clone());
    let models = Models::new(Arc::new(FairSlots::new(gate.clone(), clock.clone())));
    let upstreams: Vec<Arc<Upstream>> = bears.iter().map(|n| upstream(*n)).collect();
    let named = |(n, u): (usize, &Arc<Upstream>)| Endpoint::new(format!("e{n}").into(), u.clone());
    let endpoints: Vec<Endpoint> = upstreams.iter().enumerate().map(named).collect();
    let room = Room::default();
    endpoints.iter().for_each(|e| e.health.bind(cap, &room, clock.now()));
    gate.pool(&"m".into(), Some(room));
    models.replace([("m".into(), ModelSettings::over(endpoints.clone()))]);
    World { gate, models, clock, upstreams, endpoints }
}

fn context(clock: &Arc<dyn Clock>, n: u64) -> Context {
    let now = clock.now();
    Context {
        request: RequestId::from_parts(UnixMillis(1_000_000), u128::from(n)),
        tenant: "t".into(),
        user: None,
        stage: None,
        arrived: now,
        deadline: Deadline::from_now(now, Duration::from_secs(60)),
        budget: Budget::default(),
        clock: clock.clone(),
        meter: Arc::new(Meter::default()),
        trace: None,
        retrying: false,
        mid_stream: MidStream::Error,
        attempt: None,
        freshness: Freshness::default(),
        sink: None,
    }
}

/// Callers that each ask again as soon as they are answered, until the time is over. Answers, and errors by their code.
async fn drive(w: &World, callers: u64, time: Duration) -> (u64, BTreeMap<String, u64>) {
    let end = w.clock.now().after(time);
    let one = |caller: u64| async move {
        let (mut answers, mut errors) = (0, BTreeMap::<String, u64>::new());
        for n in 0.. {
            if w.clock.now() >= end {
                break;
            }
            let cx = context(&w.clock, caller * 1_000_000 + n);
            let request =
                ChatRequest { messages: vec![Message::text(Role::User, "hello")], ..ChatRequest::default() };
            let asked = async { w.models.call(&"m".into(), request, &cx).await?.collect().await };
            match asked.await {
                Ok(_) => answers += 1,
                Err(e) => *errors.entry(e.code.to_string()).or_default() += 1,
            }
        }
        (answers, errors)
    };
    let all = futures_util::future::join_all((0..callers).map(one)).await;
    all.into_iter().fold((0, BTreeMap::new()), |(n, mut sum), (answers, errors)| {
        errors.into_iter().for_each(|(code, k)| *sum.entry(code).or_default() += k);
        (n + answers, sum)
    })
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_bear_four_and_sixteen_are_used_to_near_their_sum_and_no_call_fails() {
    let w = world(&[4, 16], 256);
    // Until each has found what it bears.
    let (_, errors) = drive(&w, 60, Duration::from_secs(5)).await;
    assert!(errors.is_empty(), "{errors:?}");
    let before: u32 = w.upstreams.iter().map(|u| u.served.load(Ordering::Relaxed)).sum();
    let refused = |w: &World| w.upstreams.iter().map(|u| u.refused.load(Ordering::Relaxed)).sum::<u32>();
    let refused_before = refused(&w);
    let (answers, errors) = drive(&w, 60, Duration::from_secs(60)).await;
    let served = w.upstreams.iter().map(|u| u.served.load(Ordering::Relaxed)).sum::<u32>() - before;
    let (rate, most) = (f64::from(served) / 60.0, 20.0 / TAKES.as_secs_f64());
    let limits: Vec<_> = w.endpoints.iter().map(|e| e.health.state(w.clock.now()).limit.unwrap()).collect();
    let refused = refused(&w) - refused_before;
    println!("{rate:.1} answers a second of {most}, {refused} refusals, limits {limits:?}");
    assert!(rate >= 0.9 * most, "{rate} of {most}, {limits:?}");
    assert!(errors.is_empty(), "{errors:?}");
    assert!(f64::from(refused) <= 0.02 * answers as f64, "{refused} of {answers}");
    assert!((3..=5).contains(&limits[0]) && (15..=17).contains(&limits[1]), "{limits:?}");
    assert!(w.gate.snapshot().is_empty(), "{:?}", w.gate.snapshot());
}

#[tokio::test(start_paused = true)]
async fn together_endpoints_are_given_no_more_than_the_cap_of_their_model() {
    let w = world(&[100, 100], 8);
    let (answers, errors) = drive(&w, 30, Duration::from_secs(10)).await;
    assert!(errors.is_empty() && answers >= 350, "{answers} {errors:?}");
    let together: u32 = w.upstreams.iter().map(|u| u.peak.load(Ordering::Relaxed)).sum();
    assert!(together <= 16 && w.upstreams.iter().all(|u| u.peak.load(Ordering::Relaxed) <= 8));
}

#[tokio::test(start_paused = true)]
async fn when_one_endpoint_refuses_all_the_other_bears_what_it_did() {
    let w = world(&[0, 16], 256);
    drive(&w, 40, Duration::from_secs(5)).await;
    let before = w.upstreams[1].served.load(Ordering::Relaxed);
    let (_, errors) = drive(&w, 40, Duration::from_secs(30)).await;
    let rate = f64::from(w.upstreams[1].served.load(Ordering::Relaxed) - before) / 30.0;
    assert!(rate >= 0.9 * 16.0 / TAKES.as_secs_f64(), "{rate}");
    assert!(errors.is_empty(), "{errors:?}");
}
