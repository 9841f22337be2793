//! Opening a folder: by two processes, or one that cannot be opened.

use std::time::Duration;

use contract::UnixMillis;
use store::{CostBy, Database, Error, Reader, Settings, Store};

use crate::fixtures::{DAY, admitted, database, id, open, record};

#[tokio::test]
async fn a_second_writer_is_refused_and_a_reader_sees_the_journal() {
    let project = tempfile::tempdir().unwrap();
    let first = open(project.path()).await;
    let refused = Store::open(project.path(), Settings::default(), 0).await.unwrap_err();
    let message = refused.to_string();
    assert!(matches!(refused, Error::Locked { pid: Some(p), .. } if p == std::process::id()), "{message}");
    assert!(message.contains("--server"), "{message}");
    first.ledger.settled(&record(1)).unwrap();
    let reader = Reader::open(project.path()).await.unwrap();
    assert_eq!(reader.ledger.get(id(1)).await.unwrap(), None, "no writer ran yet");
    assert_eq!(reader.get(id(1)).await.unwrap(), Some(record(1)));
    assert_eq!(reader.recent(5, &Default::default()).await.unwrap(), vec![record(1)]);
    drop(first);
    assert!(
        Store::open(project.path(), Settings::default(), 0).await.is_ok(),
        "the lock goes with its holder"
    );
}

#[tokio::test]
async fn flush_makes_what_was_acknowledged_readable_and_close_ends_the_writer() {
    let project = tempfile::tempdir().unwrap();
    let mut settings = Settings { commit_every: Duration::from_secs(3600), ..Settings::default() };
    settings.journal.segment_bytes = 4000;
    let store = Store::open(project.path(), settings, 0).await.unwrap();
    let use_it = async {
        for n in 0..2000 {
            store.ledger.admitted(&admitted(n)).unwrap();
            store.ledger.settled(&record(n)).unwrap();
            if n == 1000 {
                store.ledger.flush().await.unwrap();
                assert_eq!(store.reader.ledger.get(id(1000)).await.unwrap(), Some(record(1000)));
                assert_eq!(store.ledger.health().lag_bytes, 0);
            }
        }
        store.ledger.close();
    };
    let (ended, ()) = tokio::join!(store.background(), use_it);
    ended.unwrap();
    assert_eq!(store.reader.ledger.get(id(1999)).await.unwrap(), Some(record(1999)));
    assert!(store.reader.ledger.open_requests().await.unwrap().is_empty());
    let left = std::fs::read_dir(project.path().join(".forebay/journal")).unwrap().count();
    assert!(left <= 2, "consumed segments are deleted: {left} left");
}

#[tokio::test]
async fn flush_without_a_writer_ends_with_an_error() {
    let project = tempfile::tempdir().unwrap();
    let settings = Settings { flush_within: Duration::from_millis(5), ..Settings::default() };
    let store = Store::open(project.path(), settings, 0).await.unwrap();
    store.ledger.settled(&record(1)).unwrap();
    assert!(matches!(store.ledger.flush().await, Err(Error::Lagging(_))));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("forebay.db"), vec![b'x'; 8192]).unwrap();
    let e = Database::open(&folder.path().join("forebay.db")).await.unwrap_err();
    assert!(matches!(e, Error::NotADatabase(_)), "{e:?}");
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    database(folder.path()).await.close().await;
    let pool = sqlx::SqlitePool::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::query("PRAGMA user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    let e = Database::open(&path).await.unwrap_err();
    assert!(matches!(e, Error::NewerSchema { found: 99, .. }) && e.to_string().contains("upgrade"), "{e}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".forebay"), "a file").unwrap();
    let e = Reader::open(folder.path()).await.unwrap_err();
    assert!(matches!(e, Error::Unwritable { .. }) && e.to_string().contains(".forebay"), "{e}");
}

#[tokio::test]
async fn a_bill_is_the_same_whether_its_records_are_in_the_journal_or_in_the_database() {
    const BY: [CostBy; 6] =
        [CostBy::Tenant, CostBy::Model, CostBy::Pipeline, CostBy::Key, CostBy::User, CostBy::Day];
    let all = || (UnixMillis(0), UnixMillis(i64::MAX));
    let project = tempfile::tempdir().unwrap();
    let settings = Settings { commit_every: Duration::from_secs(3600), ..Settings::default() };
    let store = Store::open(project.path(), settings, 0).await.unwrap();
    let mut other = record(7);
    (other.tenant, other.user, other.pipeline, other.at) = ("other".into(), None, None, UnixMillis(5 * DAY));
    other.attempts[1].model = other.attempts[0].model.clone();
    for r in [&record(1), &record(2), &other, &admitted(8).lost()] {
        store.ledger.settled(r).unwrap();
    }
    let bill = async || {
        let mut bills = Vec::new();
        for by in BY {
            bills.push(store.reader.costs(by, all().0, all().1).await.unwrap());
        }
        bills
    };
    let waiting = bill().await;
    assert!(store.reader.ledger.costs(CostBy::Tenant, all().0, all().1).await.unwrap().is_empty());
    let closing = async { store.ledger.close() };
    let (ended, ()) = tokio::join!(store.background(), closing);
    ended.unwrap();
    assert_eq!(waiting, bill().await);
    assert_eq!(waiting[0].iter().map(|r| r.requests).sum::<u64>(), 4);
}

#[tokio::test]
async fn a_folder_that_is_removed_under_the_writer_is_a_problem_for_who_asks_whether_all_is_well() {
    let project = tempfile::tempdir().unwrap();
    let store = open(project.path()).await;
    store.ledger.settled(&record(1)).unwrap();
    assert_eq!(store.ledger.health().problem, None);
    std::fs::remove_dir_all(project.path().join(".forebay")).unwrap();
    let problem = store.ledger.health().problem.unwrap();
    assert!(problem.contains("removed under the server"), "{problem}");
}
