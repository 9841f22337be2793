//! `kill -9` at any moment: everything acknowledged is there, what was under way is charged by its reservation.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use contract::{Ending, RequestId};
use store::{CostBy, Settings, Store};

use crate::fixtures::{admitted, id, open, range, record};

const FOLDER: &str = "FOREBAY_STORE_CRASH_FOLDER";

/// Not a test by itself: the child of the one below, which kills it.
#[tokio::test]
async fn child_that_acknowledges_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let mut settings = Settings::default();
    settings.journal.segment_bytes = 20_000;
    settings.commit_every = std::time::Duration::from_millis(2);
    let store = Store::open(folder.as_ref(), settings, 0).await.unwrap();
    let ledger = store.ledger.clone();
    let serve = async {
        for n in 0.. {
            ledger.admitted(&admitted(n)).unwrap();
            println!("admitted {}", id(n));
            if n % 10 != 3 {
                ledger.settled(&record(n)).unwrap();
                println!("settled {}", id(n));
            }
            if n % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::join!(store.background(), serve).0.unwrap();
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    for lines in [1, 7, 400, 3000] {
        let project = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_acknowledges_until_killed", "--nocapture"])
            .env(FOLDER, project.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        let take = |line: String| {
            // The harness prints the test's name in front of the first line.
            let (_, tail) = line.split_at(line.find("admitted ").or(line.find("settled "))?);
            let (kind, id) = tail.split_once(' ')?;
            Some((kind == "settled", id.parse::<RequestId>().ok()?))
        };
        while acknowledged.len() < lines {
            acknowledged.extend(take(out.next().unwrap().unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(out.map_while(Result::ok).filter_map(take));

        let store = open(project.path()).await;
        assert_eq!(store.recovery.damaged, 0);
        let mut cost = 0;
        for (settled, id) in &acknowledged {
            let found = store.reader.get(*id).await.unwrap().expect("acknowledged, so it is there");
            if *settled {
                assert_eq!(found.ending, Ending::Complete);
            }
        }
        for found in store.reader.recent(u32::MAX, &Default::default()).await.unwrap() {
            let expected = if found.ending == Ending::Lost { 70 } else { 14 };
            assert_eq!((found.cost.nanos(), found.usage.estimated), (expected, expected == 70));
            cost += expected;
        }
        let bill = store.reader.ledger.clone();
        let bill = bill.costs(CostBy::Tenant, range().0, range().1).await.unwrap();
        assert_eq!(bill[0].cost.nanos(), cost, "the counters equal the ledger");
    }
}

#[tokio::test]
async fn a_second_start_finds_nothing_left_to_recover() {
    let project = tempfile::tempdir().unwrap();
    let store = open(project.path()).await;
    store.ledger.admitted(&admitted(1)).unwrap();
    store.ledger.admitted(&admitted(2)).unwrap();
    store.ledger.settled(&record(2)).unwrap();
    drop(store);
    let store = open(project.path()).await;
    assert_eq!((store.recovery.replayed, store.recovery.lost, store.recovery.damaged), (3, 1, 0));
    drop(store);
    let store = open(project.path()).await;
    assert_eq!((store.recovery.replayed, store.recovery.lost, store.recovery.damaged), (0, 0, 0));
    assert_eq!(store.reader.recent(9, &Default::default()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_torn_or_damaged_journal_costs_only_the_records_hit() {
    for (hurt, kept, damaged) in [("tear", 2, 0), ("flip", 2, 1)] {
        let project = tempfile::tempdir().unwrap();
        let store = open(project.path()).await;
        for n in 0..3 {
            store.ledger.settled(&record(n)).unwrap();
        }
        drop(store);
        let journal = project.path().join(".forebay/journal");
        let file = std::fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        match hurt {
            "tear" => bytes.truncate(bytes.len() - 5),
            _ => bytes[40] ^= 4,
        }
        std::fs::write(&file, bytes).unwrap();
        let store = open(project.path()).await;
        assert_eq!((store.recovery.replayed, store.recovery.damaged), (kept, damaged), "{hurt}");
        assert_eq!(file.with_extension("damaged").exists(), damaged > 0, "evidence is kept");
    }
}
