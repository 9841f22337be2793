//! The worker's process: it ends with whoever holds it, and says what it lacks.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use models::train::gbdt::{Go, Grow, Plot};
use models::train::worker::protocol::{Ask, Fit, HEAD, Open, Part, Place, Say, head};
use models::train::worker::{Worker, WorkerSettings};
use models::train::{Column, Error, Frame, Roles, Table, Values};

use crate::{PROGRAM, frame};

fn table() -> Table {
    let roles = Roles { target: "late".to_owned(), time: Some("at".to_owned()), ..Roles::default() };
    Table::of(&frame(2000), &roles).unwrap()
}

fn endless() -> Plot {
    let params = [("objective", "binary"), ("metric", "auc")];
    Plot {
        params: params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        rounds: 1_000_000,
        patience: None,
        rising: true,
        train: (0..1500).collect(),
        valid: (1500..2000).collect(),
    }
}

/// A worker that holds the writing end of a named pipe as long as it lives, and the reading end of it.
fn watched(folder: &tempfile::TempDir) -> (Worker, PathBuf) {
    let (pipe, program) = (folder.path().join("alive"), folder.path().join("worker"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::write(&program, format!("#!/bin/sh\nexec 9> '{}'\nexec '{PROGRAM}' \"$@\"\n", pipe.display()))
        .unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&program).status().unwrap().success());
    (Worker::new(WorkerSettings { program, memory: 2 << 30, threads: 2 }), pipe)
}

#[tokio::test]
async fn dropping_a_training_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (worker, pipe) = watched(&folder);
    // Opening waits for the other end, reading for its death.
    let death = tokio::task::spawn_blocking(move || {
        std::fs::File::open(pipe).unwrap().read_to_end(&mut Vec::new()).unwrap();
    });
    let table = table();
    let mut growing = worker.open(&table).await.unwrap();
    let (tell, begun) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let (plot, mut watch) = (endless(), |_| {
        tell.take().map(|tell| tell.send(()));
        Go::On
    });
    tokio::select! {
        grown = growing.grow(&plot, &mut watch) => panic!("{grown:?}"),
        _ = begun => {}
    }
    drop(growing);
    tokio::time::timeout(Duration::from_secs(20), death).await.expect("it lives on").unwrap();
}

#[tokio::test]
async fn a_training_that_is_told_to_stop_gives_what_it_has_and_the_next_one_is_whole() {
    let worker = crate::worker();
    let table = table();
    let mut growing = worker.open(&table).await.unwrap();
    let mut watch =
        |round: models::train::worker::protocol::Round| if round.round >= 5 { Go::Stop } else { Go::On };
    let grown = growing.grow(&endless(), &mut watch).await.unwrap();
    assert!(grown.stopped && grown.rounds >= 5 && grown.rounds < 100_000);
    let plot = Plot { rounds: 30, ..endless() };
    let next = growing.grow(&plot, &mut |_| Go::On).await.unwrap();
    assert!(!next.stopped && next.rounds == 30);
}

#[tokio::test]
async fn a_worker_that_is_killed_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (pid, program) = (folder.path().join("pid"), folder.path().join("worker"));
    std::fs::write(&program, format!("#!/bin/sh\necho $$ > '{}'\nexec '{PROGRAM}' \"$@\"\n", pid.display()))
        .unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&program).status().unwrap().success());
    let worker = Worker::new(WorkerSettings { program, memory: 2 << 30, threads: 2 });
    let table = table();
    let mut growing = worker.open(&table).await.unwrap();
    let mut watch = |_| {
        // Asked by a signal that means nothing to it but its end.
        let pid = std::fs::read_to_string(&pid).unwrap();
        let _ = Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap();
        Go::On
    };
    let e = growing.grow(&endless(), &mut watch).await.unwrap_err();
    assert!(matches!(&e, Error::WorkerDied { how } if how.contains("signal: 15")), "{e}");
}

#[tokio::test]
async fn what_lightgbm_refuses_is_said_in_its_words() {
    let worker = crate::worker();
    let table = table();
    let mut growing = worker.open(&table).await.unwrap();
    let mut plot = endless();
    plot.params.insert("objective".to_owned(), "nonsense".to_owned());
    let said = growing.grow(&plot, &mut |_| Go::On).await.unwrap_err();
    assert!(matches!(&said, Error::Trainer { what } if what.contains("nonsense")), "{said}");
    let after = growing.grow(&endless(), &mut |_| Go::On).await.unwrap_err();
    assert!(matches!(after, Error::WorkerDied { .. }), "{after}");
}

#[tokio::test]
async fn too_little_memory_is_an_error_that_names_the_setting() {
    let worker = Worker::new(WorkerSettings { program: PROGRAM.into(), memory: 120 << 20, threads: 2 });
    let rows = 400_000;
    let column = |name: String, values: Vec<f64>| Column { name, values: Values::Number(values) };
    let mut columns: Vec<Column> = (0..12).map(|i| column(format!("c{i}"), vec![0.5; rows])).collect();
    columns.push(column("late".to_owned(), (0..rows).map(|row| f64::from(row % 3 == 0)).collect()));
    let table =
        Table::of(&Frame::new(columns).unwrap(), &Roles { target: "late".to_owned(), ..Roles::default() })
            .unwrap();
    let plot = Plot { train: (0..400_000).collect(), valid: Vec::new(), ..endless() };
    let e = match worker.open(&table).await {
        Ok(mut growing) => growing.grow(&plot, &mut |_| Go::On).await.unwrap_err(),
        Err(e) => e,
    };
    assert!(matches!(e, Error::Memory { .. }), "{e}");
    assert!(e.to_string().contains("raise `memory`"), "{e}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_that_says_how_to_build_it() {
    let worker = Worker::new(WorkerSettings {
        program: "/nowhere/forebay-lightgbm".into(),
        memory: 1 << 30,
        threads: 1,
    });
    let e = worker.open(&table()).await.map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("make build"), "{e}");
}

#[test]
fn the_end_of_stdin_ends_a_training_in_the_middle() {
    let mut child = Command::new(PROGRAM)
        .args(["--memory", "2000000000", "--threads", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let rows = 500_u32;
    let values: Vec<f64> = (0..rows).map(f64::from).collect();
    let plan = endless();
    let all = [
        Ask::Open(Open { rows, categories: vec![false], weights: false }),
        Ask::Column(Place::Feature(0), values.clone()),
        Ask::Column(Place::Label, values.iter().map(|x| f64::from(x % 7.0 > 3.0)).collect()),
        Ask::Fit(Fit { params: plan.params, rounds: plan.rounds, patience: None, rising: true }),
        Ask::Rows(Part::Train, (0..rows).collect()),
        Ask::Go,
    ];
    for ask in all {
        stdin.write_all(&ask.encode()).unwrap();
    }
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; HEAD];
    stdout.read_exact(&mut first).unwrap();
    let (kind, length) = head(first).unwrap();
    let mut bytes = vec![0; length];
    stdout.read_exact(&mut bytes).unwrap();
    assert!(matches!(Say::decode(kind, &bytes), Ok(Say::Round(_))));
    drop(stdin);
    // What it says meanwhile is read, so that only the end of stdin can be what ends it.
    stdout.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
}
