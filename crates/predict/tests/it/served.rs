//! Versions in memory, and which of them answers.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use contract::{Clock, Deadline, SystemClock};
use pipeline::task;
use predict::served::{Instances, Source, State, Version};
use predict::{Artifact, Backend, DataType, Error, LoadSettings, Model, Models, Tensor};

use crate::made::{LONG, Sums};

/// Loads what is named `sums…`, adding to the tags what the number in the name says.
#[derive(Default)]
struct Fake {
    loads: AtomicUsize,
    broken: AtomicBool,
}

struct Plus(Box<dyn Model>, f32);

impl Model for Plus {
    fn signature(&self) -> &predict::Signature {
        self.0.signature()
    }
    fn metadata(&self) -> &predict::Metadata {
        self.0.metadata()
    }
    fn bytes(&self) -> u64 {
        1_000
    }
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, Error> {
        let plus = |t: Tensor| {
            let values = t.values::<f32>()?.iter().map(|x| x + self.1).collect::<Vec<_>>();
            Tensor::of(DataType::Fp32, t.shape().to_vec(), values)
        };
        self.0.run(inputs, outputs)?.into_iter().map(plus).collect()
    }
}

impl Backend for Fake {
    fn platform(&self) -> &'static str {
        "fake"
    }
    fn load(&self, artifact: &Artifact, _: &LoadSettings) -> Result<Box<dyn Model>, Error> {
        let Artifact::File(path) = artifact else { return Err(Error::Load("no file".to_owned())) };
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::Load("broken".to_owned()));
        }
        self.loads.fetch_add(1, Ordering::SeqCst);
        let plus = path.to_string_lossy().parse().map_err(|_| Error::Load("no number".to_owned()))?;
        Ok(Box::new(Plus(Sums::boxed(Box::new(|_| Ok(()))), plus)))
    }
}

fn source(plus: &str) -> Source {
    Source { instances: Instances::Exactly(NonZeroUsize::MIN), ..Source::file(Path::new(plus)) }
}

fn models(limit: u64) -> (Models, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    (Models::new(fake.clone(), limit, Arc::new(SystemClock::default())), fake)
}

async fn tag(version: &Version) -> Result<f32, Error> {
    let x = Tensor::of(DataType::Fp32, vec![1, 2], vec![0f32, 0.0])?;
    let until = Deadline::from_now(SystemClock::default().now(), LONG);
    let done = version.batcher.run(vec![x], Arc::new([1]), until).await?;
    Ok(done.outputs[0].values::<f32>()?[0])
}

async fn answer(models: &Models, version: Option<&str>) -> Result<f32, Error> {
    tag(&*models.find("m", version).await?).await
}

#[tokio::test]
async fn the_first_version_is_served_and_another_when_it_is_said() {
    let (models, _) = models(1 << 20);
    models.load("m", "1", source("10")).await.unwrap();
    models.load("m", "2", source("20")).await.unwrap();
    assert_eq!(answer(&models, None).await.unwrap(), 10.0);
    assert_eq!(answer(&models, Some("2")).await.unwrap(), 20.0);
    let old = models.find("m", None).await.unwrap();
    assert_eq!(models.serve("m", "2").unwrap().as_deref(), Some("1"));
    assert_eq!(answer(&models, None).await.unwrap(), 20.0);
    // What had found the old one goes on with it, and it is there for the way back.
    assert_eq!(tag(&old).await.unwrap(), 10.0);
    assert_eq!(models.serve("m", "1").unwrap().as_deref(), Some("2"));
    assert_eq!(answer(&models, None).await.unwrap(), 10.0);
    let served: Vec<bool> = models.list().iter().map(|l| l.served).collect();
    assert_eq!(served, [true, false]);
}

#[tokio::test]
async fn a_version_that_cannot_be_loaded_says_why_and_changes_nothing() {
    let (models, fake) = models(1 << 20);
    models.load("m", "1", source("10")).await.unwrap();
    assert!(models.load("m", "2", source("x")).await.is_err());
    assert_eq!(models.list()[1].state, State::Failed("no number".to_owned()));
    assert!(matches!(models.serve("m", "2"), Err(Error::NotReady(_))));
    fake.broken.store(true, Ordering::SeqCst);
    assert!(models.load("m", "1", source("30")).await.is_err());
    assert_eq!(answer(&models, None).await.unwrap(), 10.0);
    fake.broken.store(false, Ordering::SeqCst);
    models.load("m", "1", source("30")).await.unwrap();
    assert_eq!(answer(&models, None).await.unwrap(), 30.0);
    for (model, version) in [("n", None), ("m", Some("9"))] {
        assert!(matches!(models.find(model, version).await, Err(Error::NotFound(_))));
    }
    // One that is to come is not unknown.
    models.expect(["n".to_owned()].into());
    assert!(matches!(models.find("n", None).await, Err(Error::NotReady(_))));
    models.expect(Default::default());
    assert!(matches!(models.find("n", None).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn the_least_used_makes_room_and_comes_back_when_it_is_asked_for() {
    let (models, fake) = models(2_500);
    for v in ["1", "2"] {
        models.load("m", v, source(v)).await.unwrap();
    }
    assert_eq!(models.bytes(), 2_000);
    answer(&models, Some("2")).await.unwrap();
    models.load("m", "3", source("3")).await.unwrap();
    let states: Vec<State> = models.list().into_iter().map(|l| l.state).collect();
    // The first was used longest ago, but it is served: of the others the one that was there goes.
    assert_eq!(states, [State::Ready { bytes: 1_000 }, State::Known, State::Ready { bytes: 1_000 }]);
    assert_eq!(fake.loads.load(Ordering::SeqCst), 3);
    assert_eq!(answer(&models, Some("2")).await.unwrap(), 2.0);
    assert_eq!(fake.loads.load(Ordering::SeqCst), 4);
    assert_eq!(models.bytes(), 2_000);
    let (small, _) = self::models(500);
    assert!(small.load("m", "1", source("1")).await.unwrap_err().to_string().contains("1000 bytes"));
}

#[tokio::test]
async fn what_is_unloaded_on_purpose_stays_so_until_it_is_loaded() {
    let (models, _) = models(1 << 20);
    models.load("m", "1", source("1")).await.unwrap();
    models.unload("m", None).unwrap();
    assert_eq!(models.list()[0].state, State::Unloaded);
    assert!(matches!(answer(&models, None).await, Err(Error::NotReady(_))));
    models.reload("m", None).await.unwrap();
    assert_eq!(answer(&models, None).await.unwrap(), 1.0);
    models.retain(|name| name != "m");
    assert!(matches!(models.find("m", None).await, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_for_one_that_is_not_there_wait_for_one_load() {
    let (models, fake) = models(1_500);
    models.load("m", "1", source("1")).await.unwrap();
    models.load("m", "2", source("2")).await.unwrap();
    let before = fake.loads.load(Ordering::SeqCst);
    let ask = |_| {
        let models = models.clone();
        task::spawn("ask", async move { answer(&models, Some("1")).await })
    };
    for one in (0..16).map(ask).collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap().unwrap(), 1.0);
    }
    assert!(fake.loads.load(Ordering::SeqCst) <= before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_served_version_goes_back_and_forth() {
    let (models, _) = models(1 << 20);
    for v in ["1", "2"] {
        models.load("m", v, source(v)).await.unwrap();
    }
    let left = Arc::new(AtomicUsize::new(8));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (models, left) = (models.clone(), left.clone());
            task::spawn("caller", async move {
                for _ in 0..200 {
                    let version = models.find("m", None).await.unwrap();
                    assert_eq!(tag(&version).await.unwrap().to_string(), *version.version);
                    tokio::task::yield_now().await;
                }
                left.fetch_sub(1, Ordering::SeqCst);
            })
        })
        .collect();
    let clock = SystemClock::default();
    let mut n = 0;
    while left.load(Ordering::SeqCst) > 0 {
        let begun = clock.now();
        models.serve("m", if n % 2 == 0 { "2" } else { "1" }).unwrap();
        assert!(clock.now().since(begun) < Duration::from_secs(1));
        n += 1;
        if callers.iter().all(task::Task::is_finished) {
            break;
        }
        tokio::task::yield_now().await;
    }
    for caller in callers {
        caller.await.unwrap();
    }
}
