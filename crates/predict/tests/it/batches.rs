//! Many callers, one model: everybody has the rows of his own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::{Clock, Deadline, SystemClock};
use parking_lot::{Condvar, Mutex};
use pipeline::task;
use predict::batch::queue::Limits;
use predict::batch::{Batcher, Done, Settings, probe};
use predict::{DataType, Error, Model, Tensor};
use proptest::prelude::*;

use crate::made::{LONG, OnRun, Sums};

/// A door that runs wait at.
#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    opened: Condvar,
    waits: AtomicUsize,
}

impl Door {
    fn pass(&self) {
        let mut open = self.open.lock();
        self.waits.fetch_add(1, Ordering::SeqCst);
        while !*open {
            self.opened.wait(&mut open);
        }
    }

    fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }
}

fn rows(tags: &[f32], wide: usize) -> Tensor {
    let values: Vec<f32> = tags.iter().flat_map(|t| std::iter::repeat_n(*t, wide)).collect();
    Tensor::of(DataType::Fp32, vec![tags.len() as i64, wide as i64], values).unwrap()
}

fn tags(done: &Done) -> Vec<f32> {
    done.outputs.last().unwrap().values::<f32>().unwrap().to_vec()
}

fn both() -> Arc<[usize]> {
    Arc::new([0, 1])
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

fn soon(clock: &Arc<dyn Clock>) -> Deadline {
    Deadline::from_now(clock.now(), LONG)
}

fn start(on_run: OnRun, settings: Settings, clock: &Arc<dyn Clock>) -> Arc<Batcher> {
    Arc::new(Batcher::start("sums", vec![Sums::boxed(on_run)], settings, clock.clone()).unwrap())
}

/// A request that fails the run which it is in.
const POISON: f32 = -1.0;

fn refuses_poison() -> OnRun {
    Box::new(|inputs| {
        let poisoned = inputs[0].values::<f32>()?.contains(&POISON);
        if poisoned { Err(Error::Run("poison".to_owned())) } else { Ok(()) }
    })
}

#[derive(Debug, Clone)]
struct Client {
    requests: Vec<(usize, usize, bool)>,
}

fn clients() -> impl Strategy<Value = Vec<Client>> {
    let request = (1usize..5, 1usize..3, prop::bool::weighted(0.1));
    prop::collection::vec(
        prop::collection::vec(request, 1..8).prop_map(|requests| Client { requests }),
        1..24,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_of_many_clients_has_its_own_rows_and_its_own_errors(clients in clients(), inline in any::<bool>(), instances in 1usize..3) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(async {
            let clock = clock();
            let inline = if inline { Duration::from_secs(1) } else { Duration::ZERO };
            let limits = Limits { max_rows: 8, delay: Duration::from_micros(50), ..Limits::default() };
            let models = (0..instances).map(|_| Sums::boxed(refuses_poison())).collect();
            let settings = Settings { limits, together: true, inline };
            let batcher = Arc::new(Batcher::start("sums", models, settings, clock.clone()).unwrap());
            let mut all = Vec::new();
            let mut sent = (0, 0);
            for (nth, client) in clients.into_iter().enumerate() {
                sent.0 += client.requests.len() as u64;
                sent.1 += client.requests.iter().filter(|r| r.2).count() as u64;
                let (batcher, clock) = (batcher.clone(), clock.clone());
                all.push(task::spawn("client", async move {
                    for (at, (count, wide, poison)) in client.requests.into_iter().enumerate() {
                        let own: Vec<f32> = (0..count).map(|r| (nth * 1_000 + at * 10 + r) as f32).collect();
                        let given = if poison { vec![POISON; count] } else { own.clone() };
                        let done = batcher.run(vec![rows(&given, wide)], both(), soon(&clock)).await;
                        match done {
                            Ok(done) => {
                                assert!(!poison && tags(&done) == own);
                                let sums: Vec<f32> = own.iter().map(|t| t * wide as f32).collect();
                                assert_eq!(*done.outputs[0].values::<f32>().unwrap(), sums);
                            }
                            Err(e) => assert!(poison && matches!(e, Error::Run(_)), "{e}"),
                        }
                    }
                }));
            }
            for client in all {
                client.await.unwrap();
            }
            let counts = batcher.counts();
            assert_eq!((counts.answered, counts.failed), (sent.0 - sent.1, sent.1));
            assert_eq!(batcher.waiting(), (0, 0));
            assert!(batcher.shares());
        });
    }
}

/// A batcher whose first run stands at a door, with that run begun.
async fn held(
    clock: &Arc<dyn Clock>,
    limits: Limits,
) -> (Arc<Batcher>, Arc<Door>, task::Task<Result<Done, Error>>) {
    let door = Arc::new(Door::default());
    let own = door.clone();
    let on_run: OnRun = Box::new(move |_| {
        own.pass();
        Ok(())
    });
    let batcher = start(on_run, Settings { limits, together: true, inline: Duration::ZERO }, clock);
    let first = ask(&batcher, clock, &[0.0]);
    while door.waits.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    (batcher, door, first)
}

fn ask(batcher: &Arc<Batcher>, clock: &Arc<dyn Clock>, own: &[f32]) -> task::Task<Result<Done, Error>> {
    let (batcher, x, deadline) = (batcher.clone(), rows(own, 2), soon(clock));
    task::spawn("caller", async move { batcher.run(vec![x], both(), deadline).await })
}

async fn until(batcher: &Batcher, waiting: usize) {
    while batcher.waiting().0 != waiting {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_waits_while_a_run_is_on_is_the_next_run() {
    let clock = clock();
    let (batcher, door, first) = held(&clock, Limits::default()).await;
    let others: Vec<_> = (1..=5).map(|n| ask(&batcher, &clock, &[n as f32, 0.5])).collect();
    until(&batcher, 5).await;
    door.open();
    assert_eq!(first.await.unwrap().unwrap().together, 1);
    for (n, other) in others.into_iter().enumerate() {
        let done = other.await.unwrap().unwrap();
        assert_eq!((done.together, tags(&done)), (5, vec![n as f32 + 1.0, 0.5]));
    }
    let counts = batcher.counts();
    assert_eq!((counts.runs[&1].runs, counts.runs[&10].runs, counts.rows), (1, 1, 11));
}

#[tokio::test]
async fn a_caller_that_leaves_frees_its_place_and_a_full_queue_refuses() {
    let clock = clock();
    let limits = Limits { requests: 2, ..Limits::default() };
    let (batcher, door, first) = held(&clock, limits).await;
    let (one, two) = (ask(&batcher, &clock, &[1.0]), ask(&batcher, &clock, &[2.0]));
    until(&batcher, 2).await;
    let refused = ask(&batcher, &clock, &[3.0]).await.unwrap();
    assert!(matches!(refused, Err(Error::Full { .. })));
    drop(one);
    until(&batcher, 1).await;
    let three = ask(&batcher, &clock, &[3.0]);
    until(&batcher, 2).await;
    door.open();
    first.await.unwrap().unwrap();
    assert_eq!(tags(&two.await.unwrap().unwrap()), [2.0]);
    assert_eq!(tags(&three.await.unwrap().unwrap()), [3.0]);
    let counts = batcher.counts();
    assert_eq!((counts.answered, counts.cancelled, counts.refused), (3, 1, 1));
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_ends_the_wait_and_the_request_is_not_run() {
    let clock = clock();
    let (batcher, door, first) = held(&clock, Limits::default()).await;
    let near = Deadline::from_now(clock.now(), Duration::from_millis(5));
    let late = batcher.run(vec![rows(&[1.0], 2)], both(), near).await;
    assert_eq!(late, Err(Error::Deadline));
    assert_eq!(batcher.waiting(), (0, 0));
    let passed = Deadline::at(clock.now());
    assert_eq!(batcher.run(vec![rows(&[1.0], 2)], both(), passed).await, Err(Error::Deadline));
    door.open();
    first.await.unwrap().unwrap();
    assert_eq!(batcher.counts().all_runs().runs, 1);
}

#[tokio::test]
async fn what_waits_for_a_model_that_is_unloaded_is_told_so() {
    let clock = clock();
    let (batcher, door, first) = held(&clock, Limits::default()).await;
    let x = rows(&[1.0], 2);
    drop(first);
    let mut waits = Box::pin(batcher.run(vec![x], both(), soon(&clock)));
    assert!(futures_util::poll!(waits.as_mut()).is_pending());
    drop(waits);
    let counts = batcher.counts();
    assert_eq!(counts.cancelled, 1);
    door.open();
    drop(batcher);
}

#[tokio::test]
async fn a_model_whose_rows_are_not_its_own_is_run_apart_from_then_on() {
    // One row for all: what is put together cannot be parted.
    struct First(Box<dyn Model>);
    impl Model for First {
        fn signature(&self) -> &predict::Signature {
            self.0.signature()
        }
        fn metadata(&self) -> &predict::Metadata {
            self.0.metadata()
        }
        fn bytes(&self) -> u64 {
            self.0.bytes()
        }
        fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, Error> {
            let all = self.0.run(inputs, outputs)?;
            all.into_iter().map(|t| Ok(t.split(&[1, t.rows() - 1])?.swap_remove(0))).collect()
        }
    }
    let door = Arc::new(Door::default());
    let own = door.clone();
    let model = Box::new(First(Sums::boxed(Box::new(move |_| {
        own.pass();
        Ok(())
    }))));
    let clock = clock();
    let settings = Settings { inline: Duration::ZERO, ..Settings::default() };
    let batcher = Arc::new(Batcher::start("first", vec![model], settings, clock.clone()).unwrap());
    let mut all = vec![ask(&batcher, &clock, &[0.0])];
    while door.waits.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    all.extend((1..4).map(|n| ask(&batcher, &clock, &[n as f32])));
    until(&batcher, 3).await;
    door.open();
    for (n, one) in all.into_iter().enumerate() {
        assert_eq!(tags(&one.await.unwrap().unwrap()), [n as f32]);
    }
    assert!(!batcher.shares());
    assert_eq!(batcher.counts().parted, 1);
}

#[test]
fn a_model_is_shared_only_when_together_is_as_apart() {
    let mut own = Sums::boxed(Box::new(|_| Ok(())));
    assert_eq!(probe::shares(&mut *own), probe::Found::Shares);
    /// Gives the running sum over all rows: its first dimension is time.
    struct Running(Box<dyn Model>);
    impl Model for Running {
        fn signature(&self) -> &predict::Signature {
            self.0.signature()
        }
        fn metadata(&self) -> &predict::Metadata {
            self.0.metadata()
        }
        fn bytes(&self) -> u64 {
            self.0.bytes()
        }
        fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, Error> {
            let all = self.0.run(inputs, outputs)?;
            let running = |t: &Tensor| {
                let mut sum = 0.0;
                let mut all = t.values::<f32>()?.to_vec();
                all.iter_mut().for_each(|x| {
                    sum += *x;
                    *x = sum;
                });
                Tensor::of(DataType::Fp32, t.shape().to_vec(), all)
            };
            all.iter().map(running).collect()
        }
    }
    let mut running = Running(Sums::boxed(Box::new(|_| Ok(()))));
    assert_eq!(probe::shares(&mut running), probe::Found::Differs);
    let mut broken = Sums::boxed(Box::new(|_| Err(Error::Run("no".to_owned()))));
    assert_eq!(probe::shares(&mut *broken), probe::Found::Unknown);
}
