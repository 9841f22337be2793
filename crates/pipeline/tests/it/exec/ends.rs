//! How commands end, and that nothing is left of them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// Begins it, and drops it when its log says `ready`.
async fn dropped(bench: &Bench, config: &Json) {
    let stage = bench.stage(config);
    let (cx, log) = bench.attempt("1");
    tokio::select! {
        outcome = stage.run(&cx, Inputs::new()) => panic!("{outcome:?}: {}", log.text()),
        () = log.says("ready") => {}
    }
}

#[tokio::test]
async fn dropping_the_stage_leaves_no_process() {
    let bench = Bench::new();
    let line = "setsid sleep 300 & (trap '' TERM; setsid sh -c 'sleep 300 & wait' & wait) & sleep 0.05; echo ready; sleep 300";
    dropped(&bench, &json!({"command": line})).await;
    bench.all_gone().await;
}

#[tokio::test]
async fn dropping_the_stage_at_any_moment_leaves_no_process() {
    let bench = Bench::new();
    for n in 0..40_u64 {
        let stage = bench.stage(&json!({"command": "setsid sleep 300 & sleep 300"}));
        let (cx, _) = bench.attempt(&n.to_string());
        tokio::select! {
            outcome = stage.run(&cx, Inputs::new()) => panic!("{outcome:?}"),
            () = pipeline::task::sleep(Duration::from_micros(n * 500)) => {}
        }
    }
    bench.all_gone().await;
}

#[tokio::test]
async fn children_that_leave_the_session_end_with_the_command() {
    let bench = Bench::new();
    let own = bench.folder.path().display();
    // The second has no marker any more, but its output; the third no output, but a marker, and its parent has ended.
    let line = format!(
        "setsid sleep 300 & setsid env -i /bin/sh -c 'sleep 300; : {own}' & (setsid sh -c 'sleep 300; : {own}' >/dev/null 2>&1 &) ; sleep 0.1; echo done"
    );
    let (came, log) = bench.run(json!({"command": line}), &[]).await;
    assert_eq!(came.unwrap()["exit"], 0);
    assert!(log.text().contains("done"));
    // They are gone when the stage is: no waiting here.
    assert!(bench.processes().is_empty(), "{:?}", bench.processes());
}

#[tokio::test]
async fn one_that_forks_without_end_is_ended_with_all_it_made() {
    let bench = Bench::new();
    let line = "trap '' TERM; n=0; while [ $n -lt 400 ]; do setsid sleep 300 & n=$((n+1)); done; wait";
    let config = json!({"command": line, "timeout": "150ms", "grace": "50ms"});
    assert_eq!(code(bench.run(config, &[]).await.0), Code::DeadlineExceeded);
    assert!(bench.processes().is_empty(), "{:?}", bench.processes());
}

#[tokio::test]
async fn a_command_that_hangs_ends_with_its_time() {
    let bench = Bench::new();
    let cx = context();
    let config = json!({"command": "trap 'echo asked; exit 0' TERM; while :; do sleep 0.01; done", "timeout": "100ms"});
    let (came, log) = bench.run(config, &[]).await;
    let e = came.unwrap_err();
    assert!(e.code == Code::DeadlineExceeded && e.message.contains("100ms"), "{e}");
    assert!(log.text().contains("asked"), "it had the time to end well: {}", log.text());
    assert!(cx.clock.now().since(cx.arrived) < Duration::from_secs(9), "its grace is not waited for");
}

#[tokio::test]
async fn a_command_that_ignores_being_asked_is_killed_after_its_grace() {
    let bench = Bench::new();
    let config = json!({"command": "trap '' TERM; while :; do sleep 0.05; done", "timeout": "100ms", "grace": "200ms"});
    assert_eq!(code(bench.run(config, &[]).await.0), Code::DeadlineExceeded);
    assert!(bench.processes().is_empty(), "{:?}", bench.processes());
}

#[tokio::test]
async fn attempts_at_once_do_not_end_each_others_processes() {
    let bench = Bench::new();
    let (slow, quick) = (
        bench.stage(&json!({"command": "echo ready; sleep 0.4; exit 7"})),
        bench.stage(&json!({"command": "true"})),
    );
    let ((one, log), (two, _)) = (bench.attempt("1"), bench.attempt("2"));
    let others = async {
        log.says("ready").await;
        for _ in 0..5 {
            value(quick.run(&two, Inputs::new()).await).unwrap();
        }
    };
    let (slow, ()) = tokio::join!(slow.run(&one, Inputs::new()), others);
    assert_eq!(code(value(slow)), Code::CommandFailed, "by its own exit code, and no signal");
}

#[tokio::test]
async fn more_memory_than_allowed_ends_a_command() {
    let bench = Bench::new();
    // One that allocates more is refused it by the system.
    let config =
        json!({"command": "dd if=/dev/zero of=/dev/null bs=300M count=1 || exit 9", "memory": "100mib"});
    let e = bench.run(config, &[]).await.0.unwrap_err();
    assert!(e.code == Code::CommandFailed && e.message.contains("exit code 9"), "{e}");
    // Many that hold less each are more together.
    let each = "(head -c 60000000 /dev/zero; sleep 100) | tail -c 60000000 >/dev/null &";
    let config = json!({"command": format!("{each} {each} {each} wait"), "memory": "100mib", "grace": "1s"});
    let e = bench.run(config, &[]).await.0.unwrap_err();
    assert!(e.code == Code::TooLarge && e.message.contains("`memory` is 104857600"), "{e}");
    assert!(bench.processes().is_empty(), "{:?}", bench.processes());
}

#[tokio::test]
async fn a_command_yields_to_others() {
    let bench = Bench::new();
    let (_, log) = bench.run(json!({"command": "nice", "nice": 15}), &[]).await;
    assert!(log.text().lines().any(|l| l == "15"), "{}", log.text());
}

const FOLDER: &str = "FOREBAY_EXEC_TEST_FOLDER";

/// Not a test by itself: the Forebay that the one below kills.
#[tokio::test]
async fn child_that_runs_a_command_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let artifacts = Artifacts::new(folder.join("artifacts"));
    let parts = ExecParts { project: folder.join("project"), artifacts, place: None, notes: None };
    let name = StageName::new("train");
    let line = "setsid sleep 300 & trap '' PIPE TERM HUP; echo ready; while :; do sleep 0.2; done";
    let stage =
        ExecKind::new(parts).build(&json!({"command": line}), &Site { name: &name, each: false }).unwrap();
    let bench = Bench::new();
    let (mut cx, log) = bench.attempt("1");
    let own = Attempt { folder: folder.join("attempts/1"), ..Attempt::clone(cx.attempt.as_ref().unwrap()) };
    cx.attempt = Some(Arc::new(own));
    let tell = async {
        log.says("ready").await;
        println!("it runs");
        std::future::pending::<()>().await;
    };
    tokio::join!(stage.run(&cx, Inputs::new()), tell);
}

#[tokio::test]
async fn what_a_killed_forebay_left_is_ended_at_the_next_start() {
    let bench = Bench::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "exec::ends::child_that_runs_a_command_until_killed", "--nocapture"])
        .env(FOLDER, bench.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains("it runs")));
    // The child itself is found by its environment too.
    let is_own = |l: &String| !l.contains("child_that_runs");
    let running = || bench.processes().into_iter().filter(is_own).count();
    assert!(running() >= 2);
    assert_eq!(pipeline::exec::reap(&bench.project()), 0, "its Forebay lives");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(running() >= 2, "a killed process takes nobody along");
    assert_eq!(pipeline::exec::reap(bench.folder.path()), 0, "another project's");
    assert!(pipeline::exec::reap(&bench.project()) >= 2);
    bench.all_gone().await;
    assert_eq!(pipeline::exec::reap(&bench.project()), 0);
}
