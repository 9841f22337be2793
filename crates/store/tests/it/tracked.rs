//! What was logged of runs, when the process is killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use contract::TenantId;
use futures_util::future::join_all;
use store::tracking::{Logged, Metric, NewTrackedRun, Tracking};
use store::{Backend as _, Database};

use crate::fixtures::database;

const FOLDER: &str = "FOREBAY_STORE_TRACKED_FOLDER";
const RUN: &str = "00000000000000000000000000000001";

async fn log(tracking: &Tracking, of: usize) {
    let gold = TenantId::from("gold");
    for n in 0_i64.. {
        let metrics = vec![Metric::new(format!("m{of}"), 1.5, n, n)];
        tracking.of(&gold).log(RUN, Logged { metrics, ..Logged::default() }).await.unwrap();
        println!("logged {of} {n}");
    }
}

/// Not a test by itself: the child of the one below, which kills it.
#[tokio::test]
async fn child_that_logs_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let tracking = database(folder.as_ref()).await.tracking();
    let gold = TenantId::from("gold");
    let new = NewTrackedRun { id: RUN.into(), ..NewTrackedRun::default() };
    tracking.of(&gold).create_run(&new, 1).await.unwrap();
    join_all((0..8).map(|of| log(&tracking, of))).await;
}

#[tokio::test]
async fn what_was_logged_survives_kill_9() {
    for lines in [1, 30, 500] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tracked::child_that_logs_until_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged: Vec<(String, i64)> = Vec::new();
        let take = |line: String| {
            // The harness prints the test's name in front of the first line.
            let (_, tail) = line.split_at(line.find("logged ")?);
            let (of, n) = tail.strip_prefix("logged ")?.split_once(' ')?;
            Some((format!("m{of}"), n.parse::<i64>().ok()?))
        };
        while acknowledged.len() < lines {
            acknowledged.extend(take(out.next().unwrap().unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(out.map_while(Result::ok).filter_map(take));

        let database: Database = database(folder.path()).await;
        let tracking = database.tracking();
        let gold = TenantId::from("gold");
        let run = tracking.of(&gold).run(RUN).await.unwrap();
        for (key, n) in &acknowledged {
            let kept = tracking.of(&gold).history(RUN, key, 0, None).await.unwrap();
            assert!(kept.items.iter().any(|m| m.step == *n), "{key} {n} was acknowledged");
            let newest = run.metrics.iter().find(|m| m.key == *key).unwrap();
            assert!(newest.step >= *n);
        }
    }
}
