//! A challenger beside the champion on a running server: unheard, then some, then everybody; taken back; killed in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use contract::{Clock as _, SystemClock};
use serde_json::{Value as Json, json};

use crate::chance::patiently;
use crate::models::{asked, fixture, rows};
use crate::receiver::receiver;
use crate::server::{Server, eventually, forebay};
use crate::told::listen;

const GATE: &str = "primary: {metric: auc, margin: 0.02}\nfloors: {auc: 0.6}\n";

/// How each pipeline's version comes: quickly, or with steps that nobody leaves while a test looks.
const QUICK: &str = "shadow: 1s, shadow_samples: 30, canary: [20, 50, 100], step: {at_least: 1s, at_most: 5m, samples: 30}, bake: 1s";
const SLOW: &str = "canary: [50, 100], step: {at_least: 1h, at_most: 2h, samples: 30}";
const RULES: &str =
    "metrics: [{name: brier, better: lower, margin: 0.1}], guardrails: {error_rate: 0.05, latency_p99: 5s}";

/// `first` becomes the champion. `good` and `slow` are as good; `backfilled` learns from a table in which the noise was filled in after
/// the fact, so that its gate is content, and nothing of it is known of anything that is to come.
fn project(folder: &Path) {
    let pipeline = |name: &str, file: &str, l2: &str, rollout: &str| {
        let register = format!(
            "register: {{model: lateness, gate: gate.yaml{}}}",
            if rollout.is_empty() { "" } else { ", as: challenger" }
        );
        let stage = if rollout.is_empty() {
            String::new()
        } else {
            format!("      - rolled: {{rollout: {{{rollout}, {RULES}}}, from: release}}\n")
        };
        format!(
            "  {name}:\n    stages:\n      - rows: {{ingest: {{files: [{file}]}}}}\n      - table: {{commit: {{dataset: table, how: overwrite}}, from: rows}}\n      \
             - model: {{train: {{linear: {{target: late, l2: {l2}}}, time: at, split: {{by: time, holdout: 0.25, validation: 0.1}}}}, from: table}}\n      \
             - scores: {{evaluate: {{metrics: [auc]}}, from: model}}\n      - release: {{{register}, from: scores}}\n{stage}"
        )
    };
    let config = format!(
        "jobs: {{webhook: {{allow_private: true}}}}\nmodels:\n  late: {{registry: lateness}}\ndatasets: {{table: {{}}}}\npipelines:\n{}{}{}{}",
        pipeline("first", "rows.csv", "0.0001", ""),
        pipeline("good", "rows.csv", "0.001", QUICK),
        pipeline("slow", "rows.csv", "0.002", SLOW),
        pipeline("backfilled", "backfilled.csv", "0.0001", QUICK),
    );
    std::fs::write(folder.join("forebay.yaml"), config).unwrap();
    std::fs::write(folder.join("gate.yaml"), GATE).unwrap();
    let told = rows(3_000);
    std::fs::write(folder.join("rows.csv"), &told).unwrap();
    let filled = told.lines().map(|line| match line.rsplit_once(',') {
        Some((rest, late @ ("0" | "1"))) => {
            let (rest, noise) = rest.rsplit_once(',').unwrap();
            let noise = 0.25 * noise.parse::<f64>().unwrap() + 0.75 * late.parse::<f64>().unwrap();
            format!("{rest},{noise:.4},{late}\n")
        }
        _ => format!("{line}\n"),
    });
    std::fs::write(folder.join("backfilled.csv"), filled.collect::<String>()).unwrap();
}

struct World {
    server: Server,
    env: Vec<(String, String)>,
}

impl World {
    fn new() -> Option<World> {
        let library = fixture("libonnxruntime.so")?;
        let folder = tempfile::tempdir().unwrap();
        project(folder.path());
        let env = vec![
            ("ORT_DYLIB_PATH".to_owned(), library.to_str().unwrap().to_owned()),
            ("USER".to_owned(), "ada".to_owned()),
        ];
        let mut first = forebay(folder.path());
        let first = first.envs(env.iter().cloned()).args(["run", "first"]).output().unwrap();
        assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
        let world = World { server: serve(folder, &env), env };
        eventually("the first answers", || world.version("anybody") == Ok("1".to_owned()));
        Some(world)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = forebay(self.server.folder.path());
        command.envs(self.env.iter().cloned()).args(args);
        command
    }

    fn done(&self, args: &[&str]) -> String {
        let out = self.command(args).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {text}");
        text
    }

    fn shown(&self) -> Json {
        let out = self.command(&["models", "rollout", "show", "lateness", "--json"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    fn run(&self, pipeline: &str) -> String {
        let (status, run) = asked(&self.server, "/v1/runs", &json!({"pipeline": pipeline}));
        assert_eq!(status, 202, "{run}");
        run["id"].as_str().unwrap().to_owned()
    }

    fn ended(&self, id: &str) -> Json {
        for _ in 0..30 {
            let mut run = Json::Null;
            let clock = SystemClock::default();
            let began = clock.now();
            while !run["ended_at"].is_i64() && clock.now().since(began) < Duration::from_secs(5) {
                run = serde_json::from_str(&self.server.ask("GET", &format!("/v1/runs/{id}"), &[], "").2)
                    .unwrap();
            }
            if run["ended_at"].is_i64() {
                return run;
            }
        }
        panic!("it never ended: {}", self.shown());
    }

    /// Who answers somebody, or the status.
    fn version(&self, entity: &str) -> Result<String, u16> {
        infer(&self.server, entity, &Row { hour: 12.0, carrier: "AA", noise: 0.5 }).map(|a| a.0)
    }
}

fn serve(folder: tempfile::TempDir, env: &[(String, String)]) -> Server {
    let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    Server::in_folder_with(folder, &env)
}

struct Row {
    hour: f64,
    carrier: &'static str,
    noise: f64,
}

/// The version that answered and the id of the answer.
fn infer(server: &Server, entity: &str, row: &Row) -> Result<(String, String), u16> {
    let Row { hour, carrier, noise } = row;
    let body = json!({"parameters": {"entity": entity}, "inputs": [
        {"name": "hour", "shape": [1, 1], "datatype": "FP64", "data": [hour]},
        {"name": "carrier", "shape": [1, 1], "datatype": "BYTES", "data": [carrier]},
        {"name": "noise", "shape": [1, 1], "datatype": "FP64", "data": [noise]}]});
    let (status, head, body) = server.ask("POST", "/v2/models/late/infer", &[], &body.to_string());
    if status != 200 {
        return Err(status);
    }
    let answer: Json = serde_json::from_str(&body).unwrap();
    let id = head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().trim().to_owned();
    Ok((answer["model_version"].as_str().unwrap().to_owned(), id))
}

/// Asks and tells what was true until it is stopped: versions as each entity saw them, and how many asked.
fn traffic(server: &Server, stop: &AtomicBool, count: &AtomicU64) -> BTreeMap<String, Vec<String>> {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut state = 11_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1_u32 << 24)
    };
    let mut labels = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let n = count.fetch_add(1, Ordering::Relaxed);
        // A few come again and again; each of the others once.
        let entity = if n.is_multiple_of(5) { format!("again {}", n / 5 % 40) } else { n.to_string() };
        let (hour, which, noise) = ((next() * 24.0).floor(), (next() * 3.0) as usize, next());
        let row = Row { hour, carrier: ["AA", "B6", "UA"][which], noise };
        let score = (hour - 12.0) / 5.0 + if which == 2 { 1.0 } else { 0.0 };
        let late = u8::from(next() < 1.0 / (1.0 + (-score).exp()));
        let (version, id) = infer(server, &entity, &row).unwrap_or_else(|s| panic!("a request failed: {s}"));
        let own = seen.entry(entity).or_default();
        if own.last() != Some(&version) {
            own.push(version);
        }
        labels.push(json!({"id": id, "label": late}));
        if labels.len() >= 20 {
            let (status, answer) = asked(server, "/v1/feedback", &Json::Array(std::mem::take(&mut labels)));
            assert_eq!(status, 202, "{answer}");
        }
    }
    seen
}

fn words(shown: &Json) -> Vec<&str> {
    shown["events"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect()
}

#[test]
fn a_good_challenger_answers_unheard_then_some_then_everybody() {
    let Some(world) = World::new() else { return };
    let (hook, told) = receiver();
    listen(&world.server, hook, &[("MODEL_VERSION_ALIAS", "CREATED"), ("MODEL_VERSION_ALIAS", "DELETED")]);
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| traffic(&world.server, &stop, &count));
        let id = world.run("good");
        let run = world.ended(&id);
        let shown = world.shown();
        assert_eq!(run["status"], "succeeded", "{run} {shown}");
        assert_eq!(
            words(&shown),
            ["opened", "began", "ready", "step", "step", "step", "promoted"],
            "{shown}"
        );
        let end = shown["events"].as_array().unwrap().last().unwrap();
        assert_eq!(end["report"]["metrics"][0]["verdict"], "non_inferior", "{end}");
        assert!(end["report"]["shadow_compared"].as_u64().unwrap() >= 30, "{end}");
        eventually("everybody is answered by the new champion", || {
            world.version("anybody") == Ok("2".into())
        });
        stop.store(true, Ordering::Relaxed);
        let seen = asking.join().unwrap();
        // Whoever was in the canary stays there: nobody comes back to the version before.
        for (entity, versions) in &seen {
            assert!(["1", "2", "1 2"].contains(&versions.join(" ").as_str()), "{entity}: {versions:?}");
        }
        assert!(seen.values().any(|v| v.len() == 2), "of {} somebody saw both", seen.len());
    });
    let history = world.done(&["models", "history", "lateness"]);
    assert!(history.contains("challenger"), "{history}");
    // What the gate and the rollout did to aliases is told like anybody's change.
    patiently("it is told", || told.lock().unwrap().len() >= 3);
    let told: BTreeSet<String> = told.lock().unwrap().iter().map(|said| said["data"].to_string()).collect();
    let alias = |alias: &str| json!({"name": "lateness", "alias": alias, "version": "2"}).to_string();
    let gone = json!({"name": "lateness", "alias": "challenger"}).to_string();
    assert_eq!(told, BTreeSet::from([alias("challenger"), alias("champion"), gone]));
    let show = world.done(&["models", "rollout", "show", "lateness"]);
    assert!(show.contains("promoted: `2` is the champion of `lateness`: brier is"), "{show}");
    assert!(world.done(&["models", "rollouts"]).contains("nothing is being rolled out"));
}

#[test]
fn one_that_only_fails_in_production_is_taken_back_with_the_evidence() {
    let Some(world) = World::new() else { return };
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| traffic(&world.server, &stop, &count));
        let id = world.run("backfilled");
        let run = world.ended(&id);
        let shown = world.shown();
        assert_eq!(run["status"], "failed", "{run} {shown}");
        assert_eq!(*words(&shown).last().unwrap(), "rolled_back", "{shown}");
        let said = run.to_string();
        assert!(said.contains("gate_refused") && said.contains("worse by more than 0.1"), "{said}");
        eventually("the champion answers everybody", || {
            (0..20).all(|n| world.version(&format!("again {n}")) == Ok("1".into()))
        });
        stop.store(true, Ordering::Relaxed);
        let seen = asking.join().unwrap();
        assert!(seen.values().any(|v| v.contains(&"2".to_owned())), "some were answered by it");
    });
    let show = world.done(&["models", "show", "lateness"]);
    assert!(!show.contains("challenger"), "{show}");
}

#[test]
fn a_kill_leaves_the_split_as_it_was_and_people_end_it_within_a_second() {
    let Some(mut world) = World::new() else { return };
    let id = world.run("slow");
    let in_canary = |world: &World| {
        let shown = world.shown();
        shown["rollouts"][0]["split"]["canary"] == 5_000
    };
    for _ in 0..6 {
        let clock = SystemClock::default();
        let began = clock.now();
        while !in_canary(&world) && clock.now().since(began) < Duration::from_secs(8) {}
    }
    assert!(in_canary(&world), "{}", world.shown());
    let who =
        |world: &World| -> Vec<String> { (0..60).map(|n| world.version(&n.to_string()).unwrap()).collect() };
    eventually("some are answered by it", || who(&world).contains(&"2".to_owned()));
    let before = who(&world);
    let folder = world.server.kill();
    world.server = serve(folder, &world.env);
    eventually("the same are answered by the same", || world.version("0").is_ok() && who(&world) == before);
    assert!(in_canary(&world), "{}", world.shown());
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| traffic(&world.server, &stop, &count));
        let held = world.done(&["models", "rollout", "hold", "lateness", "--reason", "a look"]);
        assert!(held.contains("`ada` holds it: a look"), "{held}");
        assert!(
            world.done(&["models", "rollout", "resume", "lateness", "--for", "1h"]).contains("3600 s more")
        );
        let clock = SystemClock::default();
        let said = world.done(&["models", "rollout", "abort", "lateness", "--reason", "enough"]);
        assert!(said.contains("`ada` took it back: enough"), "{said}");
        let began = clock.now();
        eventually("the champion answers everybody", || who(&world).iter().all(|v| v == "1"));
        let took = clock.now().since(began);
        assert!(took < Duration::from_secs(1), "{took:?}");
        let run = world.ended(&id);
        assert!(run["status"] == "failed" && run.to_string().contains("took it back"), "{run}");
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap();
    });
    assert!(count.load(Ordering::Relaxed) > 50, "under load");
}
