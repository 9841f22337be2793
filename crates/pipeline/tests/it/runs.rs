//! Runs under every order of events: workers that crash, fall silent, come back late and report twice; cancels at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{Code, Error, RequestId, RetryHint, RunId, StageName, UnixMillis};
use pipeline::runs::{
    Action, Contract, Entry, Here, Input, Made, Phase, Plan, Report, Run, StagePlan, Status,
};
use proptest::prelude::*;

const LEASE: Duration = Duration::from_secs(30);

fn id() -> RunId {
    RunId::of(RequestId::from_parts(UnixMillis(1), 77))
}

fn stage(name: &str, after: &[&str]) -> StagePlan {
    StagePlan {
        after: after.iter().map(|a| StageName::from(*a)).collect(),
        ..StagePlan::new(name, format!("input of {name}"))
    }
}

fn plan(stages: Vec<StagePlan>) -> Plan {
    Plan::of(stages)
}

/// A stage of a random graph: what it needs of those before it, what its failure means, and how it begins.
fn any_stage(at: usize) -> impl Strategy<Value = StagePlan> {
    let contract = prop_oneof![
        4 => Just(Contract::Fail),
        1 => Just(Contract::Partial),
        1 => Just(Contract::Skip),
        1 => Just(Contract::Default),
        2 => (0usize..8).prop_map(|n| Contract::Fallback(format!("s{n}").into())),
    ];
    let needs = proptest::collection::vec(any::<proptest::sample::Index>(), 0..3);
    let group = proptest::option::weighted(0.3, prop_oneof![Just("g".to_owned()), Just("h".to_owned())]);
    (needs, contract, proptest::bool::weighted(0.15), proptest::bool::weighted(0.15), group).prop_map(
        move |(needs, on_failure, lazy, approval, group)| {
            let after = needs
                .iter()
                .filter(|_| at > 0)
                .map(|n| StageName::from(format!("s{}", n.index(at))))
                .collect();
            let name = format!("s{at}");
            StagePlan { after, on_failure, lazy, approval, group, ..StagePlan::new(name.clone(), name) }
        },
    )
}

/// Graphs of up to eight stages that can run.
fn graphs() -> impl Strategy<Value = Vec<StagePlan>> {
    (1usize..9)
        .prop_flat_map(|n| (0..n).map(any_stage).collect::<Vec<_>>())
        .prop_map(|mut stages| {
            // What would not be sound is left out of it.
            for at in (0..stages.len()).rev() {
                if !Plan::of(stages.clone()).is_sound() {
                    (stages[at].on_failure, stages[at].lazy) = (Contract::Fail, false);
                }
            }
            stages
        })
        .prop_filter("a plan that is not sound is not taken", |stages| {
            Plan::of(stages.clone()).is_sound() && stages.iter().any(|s| !s.lazy)
        })
}

/// One stage, a line, a diamond, anything.
fn plans() -> impl Strategy<Value = Plan> {
    let shapes = prop_oneof![
        Just(vec![stage("only", &[])]),
        Just(vec![stage("a", &[]), stage("b", &["a"]), stage("c", &["b"])]),
        Just(vec![stage("a", &[]), stage("b", &["a"]), stage("c", &["a"]), stage("d", &["b", "c"])]),
        graphs(),
        graphs(),
    ];
    let parallel = proptest::option::of(1u32..4);
    (shapes, proptest::option::of(0i64..200_000), proptest::option::of(50_000i64..2_000_000), parallel)
        .prop_map(|(stages, not_before, deadline, parallel)| Plan {
            not_before: not_before.map(UnixMillis),
            deadline: deadline.map(UnixMillis),
            parallel,
            ..Plan::of(stages)
        })
}

/// What a stage gives, worked out from the end of every stage by the words of the contracts.
fn gives(run: &Run, name: &StageName, depth: usize) -> bool {
    let (plan, state) = run.stage(name).unwrap();
    match (&state.phase, &plan.on_failure) {
        (Phase::Done, _) | (Phase::Failed, Contract::Skip | Contract::Default) => true,
        (Phase::Failed, Contract::Fallback(other)) => depth < 20 && gives(run, other, depth + 1),
        _ => false,
    }
}

/// What may happen next. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Event {
    Pass(i64),
    Take(u8),
    Beat(usize),
    Done(usize),
    Fail(usize, u8),
    Return(usize),
    Progress(usize),
    Crash(u8),
    Cancel,
    Decide(usize, bool),
    Partial(usize),
    Tick,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = prop_oneof![
        3 => (0i64..60_000).prop_map(Event::Pass),
        // The wall clock may go back, and far ahead.
        1 => (-600_000i64..600_000).prop_map(Event::Pass),
        6 => (0u8..3).prop_map(Event::Take),
        2 => any::<usize>().prop_map(Event::Beat),
        4 => any::<usize>().prop_map(Event::Done),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(n, k)| Event::Fail(n, k)),
        1 => any::<usize>().prop_map(Event::Return),
        1 => any::<usize>().prop_map(Event::Progress),
        2 => (0u8..3).prop_map(Event::Crash),
        1 => Just(Event::Cancel),
        2 => (any::<usize>(), proptest::bool::weighted(0.8)).prop_map(|(n, yes)| Event::Decide(n, yes)),
        1 => any::<usize>().prop_map(Event::Partial),
        2 => Just(Event::Tick),
    ];
    proptest::collection::vec(one, 0..60)
}

fn error(kind: u8) -> Error {
    let after = RetryHint::After(Duration::from_secs(5));
    match kind % 4 {
        0 => Error::new(Code::UpstreamError, "broke"),
        1 => Error::new(Code::Overloaded, "full").retry(after),
        2 if kind > 200 => Error::new(Code::InvalidRequest, "wrong"),
        _ => Error::new(Code::Internal, "a defect"),
    }
}

/// The world around a run: its journal on disk, its outputs, and everybody who ever got an attempt.
struct World {
    run: Run,
    journal: Vec<Entry>,
    now: UnixMillis,
    /// Every attempt that was ever begun, with whom: nobody forgets that he began.
    begun: Vec<(String, StageName, u32)>,
    /// Those that are under way.
    here: Vec<(String, StageName, u32)>,
    /// Effects by key.
    effects: BTreeMap<String, StageName>,
    ends: Vec<Status>,
}

impl World {
    fn new(plan: Plan) -> World {
        let mut world = World {
            run: Run::new(id()),
            journal: Vec::new(),
            now: UnixMillis(0),
            begun: Vec::new(),
            here: Vec::new(),
            effects: BTreeMap::new(),
            ends: Vec::new(),
        };
        world.step("", Input::Submit(plan));
        world
    }

    /// One decision; what must always hold is checked behind it.
    fn step(&mut self, worker: &str, input: Input) {
        let ended = self.run.status().is_end();
        let actions = self.run.step(self.now, input);
        for action in actions {
            match action {
                Action::Record(entry) => {
                    assert!(!ended, "something is recorded behind the end: {entry:?}");
                    // On disk it is JSON.
                    let text = serde_json::to_string(&entry).unwrap();
                    self.journal.push(serde_json::from_str(&text).unwrap());
                }
                Action::Start { stage, attempt, key } => {
                    assert_eq!(key, self.run.key(&stage));
                    assert!(!self.begun.iter().any(|(_, s, a)| (s, a) == (&stage, &attempt)), "begun twice");
                    let same = |(_, s, _): &&(String, StageName, u32)| *s == stage;
                    let other = self.here.iter().find(same).filter(|(w, _, _)| w == worker);
                    assert_eq!(other, None, "a worker begins again what it has in its hands");
                    self.begun.push((worker.to_owned(), stage.clone(), attempt));
                    self.here.push((worker.to_owned(), stage, attempt));
                }
                Action::Keep { stage, key } => {
                    assert_eq!(self.effects.insert(key, stage), None, "a second effect");
                }
                Action::Stop { stage, attempt } => {
                    self.here.retain(|(_, s, a)| (s, *a) != (&stage, attempt));
                }
                Action::End(status) => self.ends.push(status),
            }
        }
        assert_eq!(Run::replay(id(), &self.journal), self.run, "the journal says what is");
        assert_eq!(self.ends.len(), usize::from(self.run.status().is_end()), "ends once");
        assert_eq!(self.run.due().is_none(), self.run.status().is_end(), "what goes on is looked at again");
    }

    fn report(&mut self, n: usize, report: Report) {
        if let Some((worker, stage, attempt)) = self.chosen(n) {
            if !matches!(report, Report::Progress(..)) {
                self.here.retain(|(_, s, a)| (s, *a) != (&stage, attempt));
            }
            self.step(&worker, Input::Report { stage, attempt, report });
        }
    }

    fn of(&self, worker: &str) -> Here {
        let own = self.here.iter().filter(|(w, _, _)| w == worker);
        here(worker, own.map(|(_, s, a)| (s.clone(), *a)).collect())
    }

    fn chosen(&self, n: usize) -> Option<(String, StageName, u32)> {
        self.begun.get(n.checked_rem(self.begun.len())?).cloned()
    }

    fn take(&mut self, worker: &str) {
        self.step(worker, Input::Take(self.of(worker)));
    }

    fn waiting(&self) -> Vec<StageName> {
        let waits = self.run.stages().filter(|(_, s)| s.phase == Phase::Waiting);
        waits.map(|(p, _)| p.name.clone()).collect()
    }

    fn decide(&mut self, n: usize, approved: bool) {
        let waiting = self.waiting();
        if let Some(stage) = n.checked_rem(waiting.len()).and_then(|n| waiting.get(n)).cloned() {
            self.step("", Input::Decide { stage, by: "ann".into(), approved, reason: None });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Pass(ms) => self.now.0 += ms,
            Event::Take(w) => self.take(&format!("w{w}")),
            Event::Beat(n) => {
                if let Some((worker, stage, attempt)) = self.chosen(n) {
                    self.step(&worker, Input::Beat { stage, attempt, lease: LEASE });
                }
            }
            Event::Done(n) => self.report(n, Report::done(format!("output {n}"))),
            Event::Fail(n, kind) => self.report(n, Report::Failed(error(kind))),
            Event::Return(n) => self.report(n, Report::Returned),
            Event::Progress(n) => self.report(n, Report::Progress(1, Some(2))),
            Event::Crash(w) => {
                // All that a process had in memory is gone: what is on disk is what there is.
                self.run = Run::replay(id(), &self.journal);
                self.here.retain(|(who, _, _)| *who != format!("w{w}"));
                self.step("", Input::Dead { worker: format!("w{w}") });
            }
            Event::Cancel => self.step("", Input::Cancel),
            Event::Decide(n, yes) => self.decide(n, yes),
            Event::Partial(n) => self.report(
                n,
                Report::Made(Made {
                    output: format!("output {n}"),
                    partial: Some(error(0)),
                    ..Made::default()
                }),
            ),
            Event::Tick => self.step("", Input::Tick(self.of(""))),
        }
    }

    /// A world that behaves from now on: one worker that does what it takes.
    fn settle(&mut self) {
        for _ in 0..200 {
            while !self.waiting().is_empty() {
                self.decide(0, true);
            }
            let Some(due) = self.run.due() else { return };
            self.now = self.now.max(due);
            // Others are dead.
            self.here.retain(|(w, _, _)| w == "good");
            self.take("good");
            let held =
                |s: &pipeline::runs::StageState| s.held().filter(|h| h.worker == "good").map(|h| h.attempt);
            let mine: Vec<_> =
                self.run.stages().filter_map(|(p, s)| Some((p.name.clone(), held(s)?))).collect();
            for (stage, attempt) in mine {
                self.step("good", Input::Report { stage, attempt, report: Report::done("o") });
            }
        }
        panic!("it never ended: {:?}", self.run);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_run_ends_once_each_effect_is_had_once_and_the_journal_says_all(
        plan in plans(), events in events()
    ) {
        let mut world = World::new(plan);
        for event in events {
            world.happen(event);
        }
        world.settle();
        prop_assert_eq!(world.ends.len(), 1);
        let done = world.run.stages().filter(|(_, s)| s.phase == Phase::Done).count();
        let failed = world.run.stages().filter(|(_, s)| s.phase == Phase::Failed).count();
        prop_assert!((done..=done + failed).contains(&world.effects.len()));
        let cut = world.run.stages().any(|(p, s)| s.phase == Phase::Cancelled && !p.lazy);
        if !cut {
            contracts_hold(&world.run);
        }
        // Whoever comes late changes nothing.
        let before = world.journal.len();
        for n in 0..world.begun.len() {
            world.report(n, Report::done("late"));
            world.report(n, Report::Failed(error(0)));
        }
        world.happen(Event::Cancel);
        prop_assert_eq!(world.journal.len(), before);
    }

    #[test]
    fn the_beginning_of_a_journal_is_the_run_as_it_was_then(plan in plans(), events in events()) {
        let mut world = World::new(plan);
        let mut then = vec![(world.journal.len(), world.run.clone())];
        for event in events {
            world.happen(event);
            then.push((world.journal.len(), world.run.clone()));
        }
        for (length, run) in then {
            prop_assert_eq!(Run::replay(id(), &world.journal[..length]), run);
        }
    }
}

/// What a run that was brought to its end by its stages alone says of each, against the words of the contracts.
fn contracts_hold(run: &Run) {
    let mut broken = false;
    for (plan, state) in run.stages() {
        let fed = plan.after.iter().all(|name| gives(run, name, 0));
        match &state.phase {
            Phase::Done => assert!(fed, "`{}` ran without what it needs", plan.name),
            Phase::Failed => broken |= !gives(run, &plan.name, 0),
            Phase::Skipped => assert!(!fed, "`{}` had all it needs", plan.name),
            Phase::Cancelled => {
                let caller = |(p, s): (&StagePlan, &pipeline::runs::StageState)| {
                    s.phase == Phase::Failed && p.on_failure == Contract::Fallback(plan.name.clone())
                };
                let taker = |(p, s): (&StagePlan, &pipeline::runs::StageState)| {
                    s.attempts > 0 && p.after.contains(&plan.name)
                };
                let needed = run.stages().any(caller) || run.stages().any(taker);
                assert!(plan.lazy && !needed, "`{}` was needed", plan.name);
            }
            other => panic!("`{}` is {other:?} behind the end", plan.name),
        }
    }
    assert_eq!(run.status(), if broken { Status::Failed } else { Status::Succeeded });
    assert_eq!(run.error().is_some(), broken);
}

fn only(actions: &[Action]) -> (StageName, u32) {
    let start = actions.iter().find_map(|a| match a {
        Action::Start { stage, attempt, .. } => Some((stage.clone(), *attempt)),
        _ => None,
    });
    start.expect("something starts")
}

fn take(run: &mut Run, now: i64) -> Vec<Action> {
    run.step(UnixMillis(now), Input::Take(here("w", Vec::new())))
}

fn here(worker: &str, attempts: Vec<(StageName, u32)>) -> Here {
    Here {
        worker: worker.to_owned(),
        lease: LEASE,
        attempts,
        living: Vec::new(),
        grouped: true,
        groups: BTreeMap::new(),
        busy: BTreeMap::new(),
    }
}

fn report(run: &mut Run, now: i64, attempt: u32, report: Report) -> Vec<Action> {
    run.step(UnixMillis(now), Input::Report { stage: "only".into(), attempt, report })
}

fn job() -> Run {
    let mut run = Run::new(id());
    run.step(UnixMillis(0), Input::Submit(plan(vec![stage("only", &[])])));
    run
}

#[test]
fn what_a_living_worker_holds_is_its_own_whatever_the_clock_says() {
    let mut run = job();
    only(&take(&mut run, 0));
    let looks = |living: &[&str]| {
        let living = living.iter().map(|w| (*w).to_owned()).collect();
        Input::Take(Here { living, ..here("other", Vec::new()) })
    };
    // The clock of whoever looks is two minutes ahead.
    let actions = run.step(UnixMillis(120_000), looks(&["w"]));
    assert!(matches!(actions[..], [Action::Record(Entry::Renewed { .. })]), "{actions:?}");
    assert_eq!(run.due(), Some(UnixMillis(150_000)), "and is not looked at all the time");
    assert_eq!(
        run.step(UnixMillis(149_999), looks(&[])),
        vec![],
        "nor is it lost when it falls silent just now"
    );
    assert_eq!(only(&run.step(UnixMillis(150_000), looks(&[]))), ("only".into(), 2));
}

#[test]
fn a_late_result_of_a_lost_attempt_counts_and_stops_its_successor() {
    let mut run = job();
    only(&take(&mut run, 0));
    let other = |now| Input::Take(here(if now == 0 { "w" } else { "other" }, Vec::new()));
    assert_eq!(run.step(UnixMillis(29_999), other(29_999)), vec![]);
    let actions = run.step(UnixMillis(30_000), other(30_000));
    assert_eq!(only(&actions), ("only".into(), 2), "silent for the whole lease");
    let actions = report(&mut run, 31_000, 1, Report::done("x"));
    assert!(actions.contains(&Action::Stop { stage: "only".into(), attempt: 2 }), "{actions:?}");
    assert_eq!(run.status(), Status::Succeeded);
    assert_eq!(report(&mut run, 32_000, 2, Report::done("y")), vec![]);
}

#[test]
fn want_of_room_and_a_stopping_server_cost_no_attempt() {
    let mut run = job();
    let mut now = 0;
    for n in 1..=50 {
        let (_, attempt) = only(&take(&mut run, now));
        assert_eq!(attempt, n);
        let full = Error::new(Code::Overloaded, "full").retry(RetryHint::After(Duration::from_secs(2)));
        let what = if n % 2 == 0 { Report::Failed(full) } else { Report::Returned };
        report(&mut run, now, attempt, what);
        now = run.due().unwrap().0;
    }
    assert_eq!(run.status(), Status::Queued);
}

#[test]
fn a_fault_that_stays_ends_the_run_with_its_last_error() {
    let mut run = job();
    for n in 1..=3 {
        let now = run.due().unwrap().0;
        let (_, attempt) = only(&take(&mut run, now));
        let actions = report(&mut run, now, attempt, Report::Failed(error(0)));
        assert_eq!(actions.contains(&Action::End(Status::Failed)), n == 3);
    }
    assert_eq!(run.error().map(|e| e.code), Some(Code::UpstreamError));
}

#[test]
fn work_that_kills_its_worker_each_time_is_given_up() {
    let mut run = job();
    for _ in 0..20 {
        take(&mut run, 0);
        run.step(UnixMillis(0), Input::Dead { worker: "w".into() });
    }
    assert_eq!((run.status(), run.error().map(|e| e.code)), (Status::Failed, Some(Code::Internal)));
}

#[test]
fn a_beat_for_an_attempt_nobody_waits_for_stops_it() {
    let mut run = job();
    take(&mut run, 0);
    run.step(UnixMillis(1), Input::Cancel);
    let beat = Input::Beat { stage: "only".into(), attempt: 1, lease: LEASE };
    assert_eq!(run.step(UnixMillis(2), beat), vec![Action::Stop { stage: "only".into(), attempt: 1 }]);
}

#[test]
fn a_stage_starts_when_all_it_needs_is_there_and_its_key_follows_their_outputs() {
    let keys = |output: &str| {
        let mut run = Run::new(id());
        run.step(UnixMillis(0), Input::Submit(plan(vec![stage("only", &[]), stage("b", &["only"])])));
        take(&mut run, 0);
        assert!(run.stages().any(|(p, s)| p.name.as_str() == "b" && s.phase == Phase::Blocked));
        report(&mut run, 1, 1, Report::done(output));
        assert_eq!(only(&take(&mut run, 1)).0.as_str(), "b");
        (run.key(&"only".into()), run.key(&"b".into()))
    };
    let (one, two) = (keys("x"), keys("y"));
    assert_eq!(one.0, two.0);
    assert_ne!(one.1, two.1);
    assert_ne!(one.0, one.1);
}

#[test]
fn a_plan_that_cannot_come_to_its_end_is_not_taken() {
    for stages in
        [vec![], vec![stage("a", &["a"])], vec![stage("a", &["b"])], vec![stage("a", &[]), stage("a", &[])]]
    {
        let mut run = Run::new(id());
        assert_eq!(run.step(UnixMillis(0), Input::Submit(plan(stages))), vec![]);
    }
}

#[test]
fn a_run_waits_until_its_time_and_fails_behind_it() {
    let mut run = Run::new(id());
    let (not_before, deadline) = (Some(UnixMillis(1_000)), Some(UnixMillis(9_000)));
    run.step(UnixMillis(0), Input::Submit(Plan { not_before, deadline, ..plan(vec![stage("only", &[])]) }));
    assert_eq!(take(&mut run, 999), vec![]);
    assert_eq!(run.due(), not_before);
    only(&take(&mut run, 1_000));
    run.step(UnixMillis(9_000), Input::Tick(here("w", vec![("only".into(), 1)])));
    assert_eq!((run.status(), run.error().map(|e| e.code)), (Status::Failed, Some(Code::DeadlineExceeded)));
}

#[test]
fn what_is_in_ones_hands_is_not_lost_whatever_the_clock_says_and_what_is_not_is_lost_at_once() {
    let mut run = job();
    only(&take(&mut run, 0));
    let mine = || here("w", vec![("only".into(), 1)]);
    for now in [1_000_000_000, -1_000_000_000, 2_000_000_000] {
        let actions = run.step(UnixMillis(now), Input::Take(mine()));
        assert!(
            !actions.iter().any(|a| matches!(a, Action::Start { .. } | Action::Stop { .. })),
            "{actions:?}"
        );
        assert!(run.leased(&"only".into(), 1));
    }
    assert!(
        run.due() > Some(UnixMillis(2_000_000_000)),
        "the lease was renewed, and is not looked at again and again"
    );
    let lost = run.step(UnixMillis(2_000_000_000), Input::Tick(here("w", Vec::new())));
    assert!(
        lost.contains(&Action::Stop { stage: "only".into(), attempt: 1 }),
        "it is under no lease but its own"
    );
}

#[test]
fn a_pause_is_over_when_the_clock_went_back_behind_its_beginning_and_a_date_is_not() {
    let mut run = job();
    only(&take(&mut run, 1_000_000));
    report(&mut run, 1_000_000, 1, Report::Failed(error(0)));
    assert_eq!(take(&mut run, 1_000_000), vec![], "it pauses");
    assert_eq!(run.as_of(), Some(UnixMillis(1_000_000)));
    assert_eq!(only(&take(&mut run, 500_000)).1, 2);
    let mut dated = Run::new(id());
    let not_before = Some(UnixMillis(1_000_000));
    let stages = vec![stage("only", &[])];
    dated.step(UnixMillis(900_000), Input::Submit(Plan { not_before, ..plan(stages) }));
    assert_eq!((take(&mut dated, 500_000), dated.as_of()), (vec![], None));
}
