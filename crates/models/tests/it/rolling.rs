//! Rollouts as they are kept: begun once, told by many, ended with their aliases.

use std::sync::Arc;

use contract::{TenantId, UnixMillis};
use models::artifacts::Folder;
use models::rolling::{Begin, Begun, CHALLENGER, begin, change, happened, load, tell};
use models::rollout::{ArmBatch, Batch, Hold, Input, Moments, Phase, Settings};
use models::stages::Tracked;
use store::Store;
use store::tracking::NewModelVersion;

use crate::rollout::config;

struct World {
    tracked: Tracked,
    tenant: TenantId,
    _store: Store,
    _folder: tempfile::TempDir,
}

const ROLLOUT: &str = "canary: [50, 100]\nstep: {at_least: 1s, at_most: 1h, samples: 30}\nbake: 1s\n\
                       metrics: [{name: wrong, kind: proportion, better: lower, margin: 0.2}]\n";

fn at(seconds: i64) -> UnixMillis {
    UnixMillis(1_700_000_000_000 + seconds * 1_000)
}

impl World {
    /// Three versions of `m`, none of which answers.
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), store::Settings::default(), 0).await.unwrap();
        let artifacts = Arc::new(Folder::new(folder.path().join("artifacts")));
        let tracked = Tracked { tracking: store.reader.tracking.clone(), artifacts };
        let world = World { tracked, tenant: "default".into(), _store: store, _folder: folder };
        let of = world.tracked.tracking.of(&world.tenant);
        of.register("m", None, &[], at(0).0).await.unwrap();
        for _ in 0..3 {
            let new = NewModelVersion {
                name: "m".into(),
                description: None,
                source: "s".into(),
                location: "mlflow-artifacts:/0/r/artifacts/model".into(),
                run: None,
                run_link: None,
                model: None,
                tags: Vec::new(),
            };
            of.create_version(&new, at(0).0).await.unwrap();
        }
        world
    }

    async fn begin(&self, version: i64, key: &str, now: UnixMillis) -> Begun {
        let settings = Settings::new(&config(ROLLOUT)).unwrap();
        let wanted = Begin { name: "m", alias: "champion", version, settings, key };
        begin(&self.tracked, &self.tenant, wanted, now).await.unwrap()
    }

    async fn aliases(&self) -> Vec<(String, i64)> {
        let mut all = self.tracked.tracking.of(&self.tenant).registered("m").await.unwrap().aliases;
        all.sort();
        all
    }

    async fn tell(&self, version: i64, now: UnixMillis, input: Input) {
        tell(&self.tracked, &self.tenant, ("m", Some(version)), now, &input).await.unwrap();
    }

    async fn words(&self, version: i64) -> Vec<String> {
        let all = happened(&self.tracked, &self.tenant, "m", Some(version)).await.unwrap();
        all.into_iter().map(|one| one.what).collect()
    }
}

fn batch(step: usize, n: u64, wrong: u64) -> Input {
    let arm = |wrong| ArmBatch {
        units: n,
        requests: n,
        metrics: [("wrong".to_owned(), Moments::hits(wrong, n))].into(),
        ..ArmBatch::default()
    };
    Input::Seen(Batch { step, canary: arm(wrong), control: arm(n / 10) })
}

fn alias(name: &str, version: i64) -> (String, i64) {
    (name.to_owned(), version)
}

#[tokio::test]
async fn a_rollout_begins_once_and_its_end_moves_what_it_says() {
    let world = World::new().await;
    assert_eq!(world.begin(1, "a", at(0)).await, Begun::First);
    assert_eq!(world.begin(1, "a", at(0)).await, Begun::Champion);
    assert_eq!(world.begin(2, "b", at(1)).await, Begun::UnderWay);
    assert_eq!(world.begin(2, "b", at(1)).await, Begun::UnderWay, "the same one");
    assert_eq!(world.aliases().await, [alias(CHALLENGER, 2), alias("champion", 1)]);
    let settings = Settings::new(&config(ROLLOUT)).unwrap();
    let other = Begin { name: "m", alias: "champion", version: 2, settings, key: "c" };
    assert!(begin(&world.tracked, &world.tenant, other, at(1)).await.is_err(), "another of that version");
    // The third waits in line, and is the challenger that is shown.
    assert_eq!(world.begin(3, "d", at(1)).await, Begun::UnderWay);
    world.tell(2, at(3), batch(0, 2_000, 200)).await;
    assert_eq!(world.words(2).await, ["opened", "ready", "step", "step"]);
    world.tell(2, at(5), batch(1, 50, 5)).await;
    assert_eq!(world.words(2).await.last().unwrap(), "promoted");
    assert_eq!(world.aliases().await, [alias(CHALLENGER, 3), alias("champion", 2)]);
    let end = match world.begin(2, "b", at(6)).await {
        Begun::Ended(end) => end,
        other => panic!("{other:?}"),
    };
    assert!(end.sentence.contains("`2` is the champion of `m`"), "{}", end.sentence);
    // The one in line is compared with the new champion, and taken back.
    let kept = load(&world.tracked, &world.tenant, "m").await.unwrap().unwrap();
    assert_eq!(kept.state.releases.rollouts()[0].champion(), "2");
    world.tell(3, at(8), batch(0, 2_000, 1_500)).await;
    assert_eq!(world.words(3).await.last().unwrap(), "rolled_back");
    assert_eq!(world.aliases().await, [alias("champion", 2)]);
    let none = tell(&world.tracked, &world.tenant, ("m", None), at(9), &Input::Tick).await.unwrap_err();
    assert!(none.is_missing(), "{none}");
}

#[tokio::test]
async fn servers_that_tell_at_once_lose_nothing() {
    let world = World::new().await;
    world.begin(1, "a", at(0)).await;
    world.begin(2, "b", at(0)).await;
    // Within the least time of a step: it does not go on to the next, which would count anew.
    let one = async || {
        for _ in 0..10 {
            world.tell(2, at(0), batch(0, 3, 0)).await;
        }
    };
    tokio::join!(one(), one(), one());
    let kept = load(&world.tracked, &world.tenant, "m").await.unwrap().unwrap();
    let report = kept.state.releases.rollouts()[0].report();
    assert_eq!((report.canary_units, report.control_units), (90, 90));
    assert_eq!(kept.revision, 31);
}

#[tokio::test]
async fn time_in_which_nobody_drove_counts_for_nothing() {
    let world = World::new().await;
    world.begin(1, "a", at(0)).await;
    world.begin(2, "b", at(0)).await;
    let tick = |now| {
        change(&world.tracked, &world.tenant, "m", now, move |s| Ok(s.releases.apply("2", now, Input::Tick)))
    };
    // A step takes an hour at most: a night without a server is none of it.
    let kept = tick(at(40_000)).await.unwrap().kept;
    assert_eq!(kept.state.releases.rollouts()[0].held(), None);
    let mut now = 40_000;
    while now < 40_000 + 3_600 {
        now += 4;
        tick(at(now)).await.unwrap();
    }
    let kept = load(&world.tracked, &world.tenant, "m").await.unwrap().unwrap();
    assert_eq!(kept.state.releases.rollouts()[0].held(), Some(Hold::NoData));
}

#[tokio::test]
async fn somebody_holds_it_and_lets_it_go_on() {
    let world = World::new().await;
    world.begin(1, "a", at(0)).await;
    world.begin(2, "b", at(0)).await;
    world.tell(2, at(1), Input::Hold { by: "ada".into(), why: "a look".into() }).await;
    world.tell(2, at(3), batch(0, 2_000, 200)).await;
    let phase = || async {
        let kept = load(&world.tracked, &world.tenant, "m").await.unwrap().unwrap();
        kept.state.releases.rollouts()[0].phase().clone()
    };
    assert_eq!(phase().await, Phase::Canary(0), "what would let it go on does not");
    world.tell(2, at(4), Input::Extend { by: "ada".into(), ms: 60_000 }).await;
    assert_eq!(phase().await, Phase::Canary(1));
    world.tell(2, at(4), Input::Hold { by: "ada".into(), why: "again".into() }).await;
    world.tell(2, at(5), batch(0, 20_000, 20_000)).await;
    assert_eq!(world.words(2).await.last().unwrap(), "rolled_back", "what is seen can still end it");
}
