//! Triggers: single cases, and a world in which the process dies at every point.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::{PipelineName, RequestId, RunId, TenantId, UnixMillis};
use pipeline::runs::Status;
use pipeline::triggers::{
    Action, Cause, Event, EventRule, Input, Memory, Missed, Overlap, Schedule, Seen, StartRun, Took, Trigger,
    TriggerPlan, Triggers, When,
};
use proptest::prelude::*;
use serde_json::{Map, json};

const START: UnixMillis = UnixMillis(1_800_000_000_000);
const QUIET: Duration = Duration::from_secs(2);

fn later(seconds: i64) -> UnixMillis {
    UnixMillis(START.0 + seconds * 1000)
}

fn plan(overlap: Overlap, triggers: Vec<Trigger>) -> TriggerPlan {
    TriggerPlan { pipeline: "nightly".into(), triggers, overlap }
}

fn dataset() -> Trigger {
    Trigger::Dataset { dataset: "flights".into(), quiet: QUIET }
}

fn event(id: &str) -> Event {
    Event {
        id: id.into(),
        source: "/shop".into(),
        kind: "order".into(),
        attributes: BTreeMap::new(),
        data: json!({"id": id}),
    }
}

fn run(n: u128) -> RunId {
    RunId::of(RequestId::from_parts(START, n))
}

fn started(actions: &[Action]) -> Vec<&StartRun> {
    actions.iter().filter_map(|a| if let Action::Start(start) = a { Some(start) } else { None }).collect()
}

/// Steps, and says that each start has a run.
fn go(triggers: &mut Triggers, at: UnixMillis, input: &Input<'_>, n: &mut u128) -> Vec<StartRun> {
    let (actions, _) = triggers.step(at, input);
    let starts: Vec<StartRun> = started(&actions).into_iter().cloned().collect();
    for start in &starts {
        *n += 1;
        triggers.step(at, &Input::Started { key: &start.key, run: run(*n) });
    }
    starts
}

#[test]
fn commits_that_follow_each_other_start_one_run_that_names_them_all() {
    let mut triggers = Triggers::new(plan(Overlap::Queue, vec![dataset()]), Memory::default(), START);
    let mut n = 0;
    let mut at = |triggers: &mut Triggers, seconds: i64, version: Option<u64>| match version {
        Some(v) => {
            let input = Input::Version { dataset: "flights", version: Some(v) };
            go(triggers, later(seconds), &input, &mut n)
        }
        None => go(triggers, later(seconds), &Input::Tick, &mut n),
    };
    assert!(at(&mut triggers, 0, Some(4)).is_empty(), "what was there before is no cause");
    assert!(at(&mut triggers, 5, Some(5)).is_empty());
    assert!(at(&mut triggers, 6, Some(6)).is_empty());
    assert!(at(&mut triggers, 7, Some(8)).is_empty());
    assert_eq!(triggers.wake(), Some(later(9)));
    assert!(at(&mut triggers, 8, None).is_empty());
    let starts = at(&mut triggers, 9, None);
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0].causes, [Cause::Dataset { dataset: "flights".into(), from: 5, to: 8 }]);
    assert_eq!(json!(starts[0].params()), json!({"datasets": {"flights": 8}}));
    assert!(at(&mut triggers, 60, Some(8)).is_empty());
}

#[test]
fn a_steady_stream_of_commits_still_starts() {
    let mut triggers = Triggers::new(plan(Overlap::Allow, vec![dataset()]), Memory::default(), START);
    let mut n = 0;
    let mut first = None;
    for second in 0..100_i64 {
        let input = Input::Version { dataset: "flights", version: Some(second.unsigned_abs()) };
        if !go(&mut triggers, later(second), &input, &mut n).is_empty() {
            first = first.or(Some(second));
        }
    }
    assert_eq!(first, Some(31), "fifteen quiet times behind the first commit");
    assert_eq!(n, 3);
}

#[test]
fn one_run_goes_on_at_a_time_and_what_comes_meanwhile_is_the_next_ones() {
    let alert = || Trigger::Alert { alert: "drift".into() };
    for (overlap, more) in [(Overlap::Queue, vec![2]), (Overlap::Skip, vec![]), (Overlap::Allow, vec![1, 1])]
    {
        let mut triggers = Triggers::new(plan(overlap, vec![alert()]), Memory::default(), START);
        let mut n = 0;
        let mut fire = |triggers: &mut Triggers, second: i64, id: &str| {
            go(triggers, later(second), &Input::Alert { alert: "drift", id }, &mut n)
        };
        assert_eq!(fire(&mut triggers, 1, "a").len(), 1);
        let mut rest = fire(&mut triggers, 2, "b");
        rest.extend(fire(&mut triggers, 3, "c"));
        assert!(fire(&mut triggers, 3, "c").is_empty());
        let name = PipelineName::new("nightly");
        let end = Input::Ended { pipeline: &name, run: run(1), status: Status::Succeeded, at: later(4) };
        rest.extend(go(&mut triggers, later(4), &end, &mut n));
        assert_eq!(rest.iter().map(|s| s.causes.len()).collect::<Vec<_>>(), more, "{overlap:?}");
    }
}

#[test]
fn a_start_for_which_there_is_no_room_is_asked_for_again_and_one_that_is_refused_is_not() {
    let alert = Trigger::Alert { alert: "drift".into() };
    let mut triggers = Triggers::new(plan(Overlap::Queue, vec![alert]), Memory::default(), START);
    let (actions, took) = triggers.step(START, &Input::Alert { alert: "drift", id: "a" });
    assert_eq!((actions.first(), took), (Some(&Action::Save), Took::Waits));
    let key = started(&actions)[0].key.clone();
    let mut pauses = Vec::new();
    let mut at = START;
    for _ in 0..8 {
        triggers.step(at, &Input::Later { key: &key });
        let wake = triggers.wake().unwrap();
        assert!(triggers.step(UnixMillis(wake.0 - 1), &Input::Tick).0.is_empty());
        let (actions, _) = triggers.step(wake, &Input::Tick);
        assert_eq!(started(&actions)[0].key, key);
        pauses.push((wake.0 - at.0) / 1000);
        at = wake;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    let (actions, _) = triggers.step(at, &Input::Refused { key: &key, why: "no such pipeline" });
    assert_eq!(actions, [Action::Save]);
    assert_eq!(triggers.memory().problem(), Some("no such pipeline"));
    assert_eq!(triggers.wake(), None);
}

#[test]
fn an_event_starts_what_it_fits_once_and_each_tenant_has_a_run_of_its_own() {
    let rule = EventRule { kind: Some("order".into()), ..EventRule::default() };
    let mut triggers =
        Triggers::new(plan(Overlap::Queue, vec![Trigger::Event(rule)]), Memory::default(), START);
    let (a, b) = (TenantId::new("a"), TenantId::new("b"));
    let mut n = 0;
    let send = |triggers: &mut Triggers, tenant, id: &str| {
        triggers.step(START, &Input::Event { tenant, event: &event(id) })
    };
    let (actions, took) = send(&mut triggers, &a, "1");
    let first = started(&actions)[0].clone();
    assert_eq!((first.tenant.as_ref(), took), (Some(&a), Took::Waits));
    assert_eq!(send(&mut triggers, &a, "1").1, Took::Known);
    for (tenant, id) in [(&b, "1"), (&a, "2"), (&b, "2")] {
        assert_eq!(send(&mut triggers, tenant, id), (vec![Action::Save], Took::Waits));
    }
    let other = Event { kind: "invoice".into(), ..event("9") };
    assert_eq!(triggers.step(START, &Input::Event { tenant: &a, event: &other }).1, Took::Nothing);
    triggers.step(START, &Input::Started { key: &first.key, run: run(50) });
    let second = go(&mut triggers, START, &Input::Gone(run(50)), &mut n);
    assert_eq!((second[0].tenant.as_ref(), second[0].causes.len()), (Some(&b), 2));
    let third = go(&mut triggers, START, &Input::Gone(run(1)), &mut n);
    assert_eq!((third[0].tenant.as_ref(), third[0].causes.len()), (Some(&a), 1));
    let full = (0..2_000).map(|i| send(&mut triggers, &a, &format!("x{i}")).1);
    assert_eq!(full.filter(|t| *t == Took::Full).count(), 1_000, "no queue without a bound");
}

#[test]
fn ends_of_runs_start_others_once_however_often_they_are_told() {
    let failed = Trigger::Run { pipeline: "ingest".into(), when: When::Failed };
    let mut triggers = Triggers::new(plan(Overlap::Allow, vec![failed]), Memory::default(), START);
    let ingest = PipelineName::new("ingest");
    let mut n = 100;
    let mut end = |triggers: &mut Triggers, run: RunId, status, at| {
        let input = Input::Ended { pipeline: &ingest, run, status, at };
        go(triggers, later(100), &input, &mut n).len()
    };
    assert_eq!(end(&mut triggers, run(1), Status::Succeeded, later(1)), 0);
    assert_eq!(end(&mut triggers, run(2), Status::Failed, later(2)), 1);
    assert_eq!(end(&mut triggers, run(2), Status::Failed, later(2)), 0);
    assert_eq!(end(&mut triggers, run(3), Status::Failed, later(1)), 1, "told late");
    assert_eq!(end(&mut triggers, run(4), Status::Failed, later(-1)), 0, "before there was the trigger");
}

#[test]
fn a_file_is_one_cause_until_it_changes() {
    let folder = Trigger::Folder { files: "inbox/*.csv".into(), quiet: QUIET };
    let mut triggers = Triggers::new(plan(Overlap::Allow, vec![folder]), Memory::default(), START);
    let mut n = 0;
    let file = |path: &str, size| Seen { path: path.into(), size, modified: START, whole: true };
    let mut look = |triggers: &mut Triggers, seen: &[Seen]| {
        let starts = go(triggers, START, &Input::Files { files: "inbox/*.csv", seen }, &mut n);
        starts.iter().map(|s| json!(s.params())["files"].clone()).collect::<Vec<_>>()
    };
    let (a, b) = (file("inbox/a.csv", 1), file("inbox/b.csv", 2));
    assert_eq!(look(&mut triggers, &[a.clone(), b.clone()]), [json!(["inbox/a.csv", "inbox/b.csv"])]);
    assert!(look(&mut triggers, &[a.clone(), b.clone()]).is_empty());
    let growing = Seen { whole: false, ..file("inbox/b.csv", 3) };
    assert!(look(&mut triggers, &[a.clone(), growing]).is_empty(), "it is being written");
    assert!(look(&mut triggers, &[a.clone(), b.clone()]).is_empty());
    assert_eq!(look(&mut triggers, &[a.clone(), file("inbox/b.csv", 3)]), [json!(["inbox/b.csv"])]);
    assert!(look(&mut triggers, std::slice::from_ref(&a)).is_empty());
    assert_eq!(look(&mut triggers, &[a, file("inbox/b.csv", 3)]), [json!(["inbox/b.csv"])], "it came again");
    let many: Vec<Seen> = (0..2_500).map(|i| file(&format!("inbox/{i:05}.csv"), 1)).collect();
    let mut all = 0;
    for _ in 0..3 {
        all += look(&mut triggers, &many).iter().map(|f| f.as_array().unwrap().len()).sum::<usize>();
    }
    assert_eq!(all, 2_500, "a thousand a run");
}

/// What happens in the world, or to the process.
#[derive(Debug, Clone)]
enum Happens {
    Time(i64),
    Commit,
    Event(u8),
    Asked(u8),
    IngestEnds(bool),
    RunEnds,
    NoRoom(u8),
    /// The process dies at the so-maniest thing that it does from here on.
    Dies(u8),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1_i64..5_000).prop_map(Happens::Time),
        1 => (60_000_i64..600_000).prop_map(Happens::Time),
        1 => (-4_000_000_i64..0).prop_map(Happens::Time),
        3 => Just(Happens::Commit),
        3 => (0_u8..40).prop_map(Happens::Event),
        1 => (0_u8..20).prop_map(Happens::Asked),
        2 => any::<bool>().prop_map(Happens::IngestEnds),
        3 => Just(Happens::RunEnds),
        1 => (1_u8..4).prop_map(Happens::NoRoom),
        4 => (0_u8..4).prop_map(Happens::Dies),
    ]
}

/// All that outlives the process, and the process.
struct World {
    plan: TriggerPlan,
    now: UnixMillis,
    disk: String,
    process: Option<Triggers>,
    /// Things it may do until it dies.
    left: Option<u8>,
    no_room: u8,
    runs: BTreeMap<String, (RunId, StartRun)>,
    open: BTreeSet<RunId>,
    most_open: usize,
    version: Option<u64>,
    ingested: Vec<(RunId, Status, UnixMillis)>,
    acknowledged: BTreeSet<String>,
}

struct Died;

/// A start that was asked for, and its run, if there was room.
type Asked = (String, Option<RunId>);

impl World {
    fn new(overlap: Overlap, missed: Missed) -> World {
        let schedule = Schedule::parse("*/5 * * * *", "Europe/Berlin").unwrap();
        let triggers = vec![
            dataset(),
            Trigger::Cron { schedule, missed },
            Trigger::Event(EventRule::default()),
            Trigger::Run { pipeline: "ingest".into(), when: When::Succeeded },
        ];
        let mut world = World {
            plan: plan(overlap, triggers),
            now: START,
            disk: json!(Memory::default()).to_string(),
            process: None,
            left: None,
            no_room: 0,
            runs: BTreeMap::new(),
            open: BTreeSet::new(),
            most_open: 0,
            version: Some(0),
            ingested: Vec::new(),
            acknowledged: BTreeSet::new(),
        };
        world.look().ok();
        world
    }

    /// One thing that the process does; it may be its last.
    fn does(&mut self) -> Result<(), Died> {
        match self.left {
            Some(0) => {
                (self.process, self.left) = (None, None);
                Err(Died)
            }
            left => {
                self.left = left.map(|n| n - 1);
                Ok(())
            }
        }
    }

    /// As the driver does it: what is to be remembered is on disk before anything is started.
    fn tell(&mut self, input: &Input<'_>) -> Result<Took, Died> {
        if self.process.is_none() {
            let memory: Memory = serde_json::from_str(&self.disk).unwrap();
            self.process = Some(Triggers::new(self.plan.clone(), memory, self.now));
        }
        let (took, mut inputs) = self.act(input)?;
        while let Some((key, run)) = inputs.pop() {
            let input = match run {
                Some(run) => Input::Started { key: &key, run },
                None => Input::Later { key: &key },
            };
            inputs.extend(self.act(&input)?.1);
        }
        Ok(took)
    }

    fn act(&mut self, input: &Input<'_>) -> Result<(Took, Vec<Asked>), Died> {
        let now = self.now;
        let (actions, took) = self.process.as_mut().unwrap().step(now, input);
        let mut told = Vec::new();
        for action in actions {
            self.does()?;
            match action {
                Action::Save => self.disk = json!(self.process.as_ref().unwrap().memory()).to_string(),
                Action::Start(start) if self.no_room > 0 => {
                    self.no_room -= 1;
                    told.push((start.key, None));
                }
                Action::Start(start) => {
                    let new = run(self.runs.len() as u128 + 1000);
                    let open = &mut self.open;
                    let (id, known) = self.runs.entry(start.key.clone()).or_insert_with(|| {
                        open.insert(new);
                        (new, start.clone())
                    });
                    assert_eq!(known, &start, "one key, one start");
                    let id = *id;
                    self.most_open = self.most_open.max(self.open.len());
                    // It may die between the start and knowing of it.
                    self.does()?;
                    told.push((start.key, Some(id)));
                }
            }
        }
        Ok((took, told))
    }

    /// What the driver looks at now and then: versions, ends, runs that are over, the time.
    fn look(&mut self) -> Result<(), Died> {
        let version = self.version;
        self.tell(&Input::Version { dataset: "flights", version })?;
        let ingest = PipelineName::new("ingest");
        for (run, status, at) in self.ingested.clone() {
            self.tell(&Input::Ended { pipeline: &ingest, run, status, at })?;
        }
        let mut active = self.process.as_ref().unwrap().memory().active().to_vec();
        active.retain(|run| !self.open.contains(run));
        for run in active {
            self.tell(&Input::Gone(run))?;
        }
        self.tell(&Input::Tick)?;
        Ok(())
    }

    fn happens(&mut self, what: &Happens) -> Result<(), Died> {
        let tenant = TenantId::new("acme");
        match what {
            Happens::Time(by) => self.now = UnixMillis(self.now.0 + by),
            Happens::Commit => self.version = self.version.map(|v| v + 1),
            Happens::Event(n) => {
                let took = self.tell(&Input::Event { tenant: &tenant, event: &event(&n.to_string()) })?;
                assert!(took == Took::Waits || took == Took::Known);
                self.acknowledged.insert(format!("event {n}"));
            }
            Happens::Asked(n) => {
                let id = n.to_string();
                self.tell(&Input::Asked { tenant: &tenant, id: &id, params: &Map::new() })?;
                self.acknowledged.insert(format!("asked {n}"));
            }
            Happens::IngestEnds(well) => {
                let status = if *well { Status::Succeeded } else { Status::Failed };
                let id = run(self.ingested.len() as u128 + 900_000);
                self.ingested.push((id, status, self.now));
            }
            Happens::RunEnds => drop(self.open.pop_first()),
            Happens::NoRoom(n) => self.no_room += n,
            Happens::Dies(n) => self.left = Some(*n),
        }
        self.look()
    }

    /// Everything becomes quiet, and nothing dies any more.
    fn settle(&mut self) {
        (self.left, self.no_room) = (None, 0);
        for _ in 0..200 {
            self.now = UnixMillis(self.now.0 + 61_000);
            self.open.clear();
            self.look().ok();
        }
        let triggers = self.process.as_ref().unwrap();
        for trigger in &self.plan.triggers {
            assert_eq!(triggers.memory().waiting(&trigger.id()), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn wherever_the_process_dies_no_cause_is_lost_and_none_starts_twice(
        story in prop::collection::vec(happens(), 1..60),
        overlap in prop::sample::select(vec![Overlap::Queue, Overlap::Allow]),
        missed in prop::sample::select(vec![Missed::Once, Missed::Skip, Missed::All]),
    ) {
        let mut world = World::new(overlap, missed);
        for what in &story {
            world.happens(what).ok();
        }
        let before = world.now;
        world.settle();
        let mut seen = BTreeSet::new();
        let (mut versions, mut slots) = (BTreeSet::new(), BTreeSet::new());
        for (_, start) in world.runs.values() {
            prop_assert!(!start.causes.is_empty());
            for cause in &start.causes {
                prop_assert!(seen.insert(cause.identity()), "{} is in two runs", cause.identity());
                match cause {
                    Cause::Dataset { from, to, .. } => for v in *from..=*to {
                        prop_assert!(versions.insert(v), "version {v} is in two runs");
                    },
                    Cause::Cron { at, .. } => prop_assert!(slots.insert(*at)),
                    _ => {}
                }
            }
        }
        let all: BTreeSet<u64> = (1..=world.version.unwrap()).collect();
        prop_assert_eq!(versions, all);
        for (id, status, _) in &world.ingested {
            prop_assert_eq!(seen.contains(&format!("run {id}")), *status == Status::Succeeded);
        }
        for name in &world.acknowledged {
            let identity = match name.strip_prefix("event ") {
                Some(id) => format!("event {}", event(id).identity()),
                None => name.clone(),
            };
            prop_assert!(seen.contains(&identity), "{name} was lost");
        }
        // While nothing died and the clock went on, each slot had its run.
        let on_time = slots.iter().filter(|s| s.0 > before.0 + 120_000 && s.0 < world.now.0 - 120_000).count();
        prop_assert!(on_time as i64 >= (world.now.0 - before.0 - 240_000) / 300_000 - 1);
        if overlap == Overlap::Queue {
            prop_assert!(world.most_open <= 1, "{} at once", world.most_open);
        }
    }
}
