//! Commands as stages, with real processes.

mod ends;
mod files;
mod outputs;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{
    Attempt, Code, Context, Error, Inputs, Outcome, RetryHint, RunId, Stage, StageLog, StageName, Value,
};
use parking_lot::Mutex;
use pipeline::artifacts::Artifacts;
use pipeline::exec::{ExecKind, ExecParts};
use pipeline::{Site, StageKind as _};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::stages::context;

/// A log that keeps its first lines, and tells of each.
#[derive(Default)]
pub(crate) struct Log {
    lines: Mutex<Vec<String>>,
    bytes: std::sync::atomic::AtomicU64,
    said: Notify,
}

impl StageLog for Log {
    fn line(&self, line: &str) {
        self.bytes.fetch_add(line.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let mut lines = self.lines.lock();
        if lines.len() < 1_000 {
            lines.push(line.to_owned());
            self.said.notify_one();
        }
    }
    fn progress(&self, _: u64, _: Option<u64>) {}
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.lines.lock().join("\n")
    }

    /// Waits until the command has said that.
    async fn says(&self, what: &str) {
        while !self.lines.lock().iter().any(|l| l == what) {
            self.said.notified().await;
        }
    }
}

/// A project and its artifacts.
pub(crate) struct Bench {
    folder: TempDir,
    parts: ExecParts,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        fs::create_dir(&project).unwrap();
        let artifacts = Artifacts::new(folder.path().join("artifacts"));
        Bench { parts: ExecParts { project, artifacts, place: None, notes: None }, folder }
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn artifacts(&self) -> Artifacts {
        self.parts.artifacts.clone()
    }

    pub(crate) fn stage(&self, config: &Json) -> Arc<dyn Stage> {
        let name = StageName::new("train");
        let site = Site { name: &name, each: false };
        ExecKind::new(self.parts.clone()).build(config, &site).unwrap()
    }

    /// An attempt with a folder of its own.
    pub(crate) fn attempt(&self, name: &str) -> (Context, Arc<Log>) {
        let log = Arc::new(Log::default());
        let mut cx = context();
        let attempt = Attempt {
            run: RunId::of(cx.request),
            pipeline: "nightly".into(),
            number: 2,
            effect: "effect-7".into(),
            again: 0,
            folder: self.folder.path().join("attempts").join(name),
            log: log.clone(),
        };
        cx.stage = Some("train".into());
        cx.attempt = Some(Arc::new(attempt));
        (cx, log)
    }

    async fn run(&self, config: Json, inputs: &[(&str, Value)]) -> (Result<Json, Error>, Arc<Log>) {
        let (cx, log) = self.attempt("1");
        let inputs: Inputs = inputs.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        let outcome = self.stage(&config).run(&cx, inputs).await;
        fs::remove_dir_all(self.folder.path().join("attempts")).unwrap();
        (value(outcome), log)
    }

    async fn sh(&self, line: &str) -> Result<Json, Error> {
        self.run(json!({"command": line}), &[]).await.0
    }

    /// The processes that run, of all that were begun here: by their environment or what they are called with.
    fn processes(&self) -> Vec<String> {
        processes(&self.folder.path().to_string_lossy())
    }

    /// Waits for what was killed to be gone: the system takes a moment.
    async fn all_gone(&self) {
        for _ in 0..1_000 {
            if self.processes().is_empty() {
                return;
            }
            pipeline::task::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("still there: {:?}", self.processes());
    }
}

/// Those whose environment or arguments hold that.
fn processes(what: &str) -> Vec<String> {
    let holds = |path: &Path, file: &str| {
        let bytes = fs::read(path.join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        text.contains(what).then_some(text)
    };
    let own = std::process::id().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
    all.filter(|p| p.file_name().is_some_and(|n| n != own.as_str()))
        .filter_map(|p| {
            let stat = fs::read_to_string(p.join("stat")).unwrap_or_default();
            let ended = stat.rsplit_once(')').is_some_and(|(_, s)| s.trim_start().starts_with('Z'));
            let held = holds(&p, "cmdline")
                .or_else(|| holds(&p, "environ").and_then(|_| fs::read_to_string(p.join("cmdline")).ok()));
            held.filter(|_| !ended)
        })
        .collect()
}

fn value(outcome: Outcome<Value>) -> Result<Json, Error> {
    match outcome {
        Outcome::Complete(v) => Ok(v.to_json()),
        Outcome::Partial(_, e) | Outcome::Failed(e) => Err(e),
    }
}

fn code(result: Result<Json, Error>) -> Code {
    result.unwrap_err().code
}

#[tokio::test]
async fn a_command_that_fails_says_its_code_and_its_last_lines() {
    let bench = Bench::new();
    let e = bench.sh("echo fine; for i in 1 2 3 4; do echo bad $i >&2; done; exit 3").await.unwrap_err();
    assert_eq!((e.code, e.class()), (Code::CommandFailed, contract::Class::Upstream));
    assert_eq!(e.message, "the command ended with exit code 3: bad 2 | bad 3 | bad 4");
    assert_eq!(e.detail.as_deref(), Some("bad 1\nbad 2\nbad 3\nbad 4"));
}

#[tokio::test]
async fn exit_code_75_asks_for_another_try() {
    let e = Bench::new().sh("echo busy >&2; exit 75").await.unwrap_err();
    assert_eq!((e.code, e.retry), (Code::CommandFailed, RetryHint::After(std::time::Duration::ZERO)));
    assert!(e.message.contains("busy"), "{e}");
    let e = Bench::new().sh("kill -SEGV $$").await.unwrap_err();
    assert!(e.code == Code::CommandFailed && e.message.contains("signal 11"), "{e}");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named() {
    let bench = Bench::new();
    for words in [json!(["no-such-program-7"]), json!(["./no-such"]), json!(["/etc/passwd"])] {
        let e = bench.run(json!({"command": words}), &[]).await.0.unwrap_err();
        let name = words[0].as_str().unwrap();
        assert!(e.code == Code::CommandFailed && e.message.contains(name), "{e}");
    }
    fs::write(bench.project().join("here.sh"), "#!/bin/sh\nexit 0\n").unwrap();
    let rights = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bench.project().join("here.sh"), rights).unwrap();
    let came = bench.run(json!({"command": ["./here.sh"]}), &[]).await.0.unwrap();
    assert_eq!(came["exit"], 0);
}

#[tokio::test]
async fn a_command_has_a_clean_environment_with_what_it_is_given_alone() {
    let bench = Bench::new();
    let config = json!({"command": "env | sort", "env": {"MINE": "1"}, "pass_env": ["CARGO_MANIFEST_DIR", "NOT_THERE"]});
    let (came, log) = bench.run(config, &[]).await;
    let text = log.text();
    let names: Vec<&str> = text.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    for name in &names {
        let known =
            ["PATH", "LANG", "HOME", "TMPDIR", "PWD", "MINE", "CARGO_MANIFEST_DIR", "OLDPWD", "_", "SHLVL"];
        assert!(known.contains(name) || name.starts_with("FOREBAY_"), "{name}");
    }
    for wanted in [
        "MINE=1",
        "FOREBAY_STAGE=train",
        "FOREBAY_ATTEMPT=2",
        "FOREBAY_EFFECT=effect-7",
        "FOREBAY_PIPELINE=nightly",
        "FOREBAY_RUN=run_",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
    let environment = &came.unwrap()["environment"];
    assert_eq!(environment["variables"], json!(["CARGO_MANIFEST_DIR", "MINE", "NOT_THERE"]));
}

#[tokio::test]
async fn a_secret_of_its_environment_is_in_no_log_and_no_value() {
    let bench = Bench::new();
    let config =
        json!({"command": "echo $API_KEY; echo $API_KEY >&2; exit 1", "env": {"API_KEY": "sk-very-secret"}});
    let (came, log) = bench.run(config, &[]).await;
    assert!(!log.text().contains("very") && log.text().contains("***"), "{}", log.text());
    assert!(!format!("{came:?}").contains("very-secret"));
    let config = json!({"command": ["true", "sk-very-secret"], "env": {"API_KEY": "sk-very-secret"}});
    let (_, log) = bench.run(config, &[]).await;
    assert!(!log.text().contains("very"), "{}", log.text());
}

#[tokio::test]
async fn a_command_that_prints_a_gigabyte_neither_waits_nor_fills_memory() {
    let most = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap()
    };
    let bench = Bench::new();
    let line = "x".repeat(999);
    let before = most();
    let (came, log) = bench.run(json!({"command": format!("yes {line} | head -c 450000000; yes {line} | head -c 450000000 >&2"), "nice": 0}), &[]).await;
    assert_eq!(came.unwrap()["exit"], 0);
    assert!(log.bytes.load(std::sync::atomic::Ordering::Relaxed) > 898_000_000);
    // The same without an end of a line.
    let (came, log) = bench.run(json!({"command": "head -c 100000000 /dev/zero", "nice": 0}), &[]).await;
    assert_eq!(came.unwrap()["exit"], 0);
    assert!(log.text().contains(&format!("[{} bytes more]", 100_000_000 - (8 << 10))));
    let more = most() - before;
    assert!(more < 30_000, "{more} kB");
}

#[tokio::test]
async fn what_is_no_utf8_and_lines_that_are_too_long_are_logged_as_far_as_they_go() {
    let (_, log) = Bench::new()
        .run(json!({"command": r"printf '\377\376abc\nsecond'; head -c 9000 /dev/zero | tr '\0' y"}), &[])
        .await;
    assert!(log.text().contains("\u{fffd}\u{fffd}abc\nsecondyyy"), "{}", log.text());
    assert!(log.text().contains("[814 bytes more]"), "{}", log.text());
}

#[tokio::test]
async fn outside_of_a_durable_run_it_says_so() {
    let bench = Bench::new();
    let stage = bench.stage(&json!({"command": "true"}));
    assert_eq!(code(value(stage.run(&context(), Inputs::new()).await)), Code::InvalidRequest);
}

#[test]
fn every_mistake_of_a_configuration_is_reported_with_its_place() {
    let bench = Bench::new();
    let kind = ExecKind::new(bench.parts.clone());
    assert_eq!(kind.schema()["additionalProperties"], json!(false));
    let name = StageName::new("s");
    let site = Site { name: &name, each: false };
    let config = json!({
        "command": [""], "inputs": {"a-b": "auto", "a_b": "csv", "../x": "auto"}, "outputs": {"m": "../m", "..": "*"},
        "env": {"FOREBAY_RUN": "x", "A=B": "y"}, "pass_env": ["FOREBAY_EFFECT"], "timeout": "0s", "memory": "1kb", "reads": ["../x"]
    });
    let Err(found) = kind.build(&config, &site) else { panic!() };
    let mut at: Vec<&str> = found.iter().map(|p| p.pointer.as_str()).collect();
    at.sort_unstable();
    let wanted = [
        "/command",
        "/env/A=B",
        "/env/FOREBAY_RUN",
        "/inputs/..~1x",
        "/inputs/a_b",
        "/memory",
        "/outputs/..",
        "/outputs/m",
        "/pass_env/0",
        "/reads/0",
        "/timeout",
    ];
    assert_eq!(at, wanted);
    assert!(kind.build(&json!({"command": []}), &site).is_err());
    assert!(kind.build(&json!({"command": "  "}), &site).is_err());
    assert!(kind.build(&json!({"command": "true", "nonsense": 1}), &site).is_err());
    for file in ["train.py", "src/deep/a.py", "src/.hidden/b.py", "src/c.txt"] {
        let path = bench.project().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let config = json!({"command": ["python3", "train.py", "--in", "/etc/passwd", "../x"]});
    assert_eq!(kind.files(&config), [PathBuf::from("train.py")]);
    let config = json!({"command": "python3 train.py 2>&1 | tee log", "reads": ["**/*.py"]});
    assert_eq!(kind.files(&config), [PathBuf::from("src/deep/a.py"), PathBuf::from("train.py")]);
    // As a run fills it in.
    let config = json!({"command": ["python3", 7, 0.5, true], "env": {"N": 7}});
    assert!(kind.build(&config, &site).is_ok());
}
