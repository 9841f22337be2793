//! The conformance suite on SQLite, and what is SQLite's alone: a file that grows and shrinks, a folder beside it.

use std::sync::Arc;

use contract::{RequestId, RunId, TenantId, UnixMillis};
use store::{
    Change, Database, FileInfo, FileStore as _, NewRun, Output, Room, RunStore as _, SqliteFiles, SqliteRuns,
};
use tempfile::TempDir;
use testkit::stores::Subject;

use crate::fixtures::database;

async fn fresh() -> Option<(Subject, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let backend = Arc::new(database(folder.path()).await);
    Some((Subject { backend, folder: folder.path().to_owned() }, folder))
}

testkit::store_suite!(crate::sqlite::fresh);

async fn files(database: Database) -> SqliteFiles {
    let folder = database.path().with_file_name("files");
    SqliteFiles::open(database, folder).await.unwrap()
}

#[tokio::test]
async fn contents_that_no_file_names_are_removed_and_the_others_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let opened = async || files(database(folder.path()).await).await;
    let contents = || {
        let all = std::fs::read_dir(folder.path().join("files")).unwrap();
        all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let store = opened().await;
    let (gold, now) = (TenantId::from("gold"), UnixMillis(5));
    let info = |n: i64| FileInfo {
        id: format!("file-{n}"),
        name: "a".to_owned(),
        purpose: "batch".to_owned(),
        bytes: 1,
        created_at: UnixMillis(n),
        expires_at: (n == 2).then_some(UnixMillis(4)),
    };
    store.put(&gold, &info(1), "x".into(), 1 << 20).await.unwrap();
    store.put(&gold, &info(2), "y".into(), 1 << 20).await.unwrap();
    assert_eq!(contents().len(), 2);
    // The next one to be put clears away what has expired.
    store.put(&gold, &info(5), "x".into(), 1 << 20).await.unwrap();
    assert_eq!(contents().len(), 1, "equal contents are one, and the expired one is gone");
    drop(store);
    // What a process that died in the middle leaves.
    std::fs::write(folder.path().join("files/0123.part"), "half").unwrap();
    std::fs::write(folder.path().join("files/4567"), "unnamed").unwrap();
    let store = opened().await;
    assert_eq!(contents().len(), 1);
    assert_eq!(store.read(&gold, "file-1", now).await.unwrap().unwrap().1, "x");
    store.delete(&gold, "file-1", now).await.unwrap();
    assert_eq!(store.read(&gold, "file-5", now).await.unwrap().unwrap().1, "x");
    store.delete(&gold, "file-5", now).await.unwrap();
    assert!(contents().is_empty());
}

fn results(n: i64, expires_at: Option<UnixMillis>) -> FileInfo {
    FileInfo {
        id: format!("file-{n}"),
        name: "a".to_owned(),
        purpose: "batch_output".to_owned(),
        bytes: 0,
        created_at: UnixMillis(n),
        expires_at,
    }
}

#[tokio::test]
async fn what_has_expired_goes_without_anybody_leaving_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = files(database(folder.path()).await).await;
    let gold = TenantId::from("gold");
    for n in 1..=3 {
        let mut writer = store.create(&gold).await.unwrap();
        writer.write(format!("content {n}").into()).await.unwrap();
        writer.finish(results(n, (n < 3).then_some(UnixMillis(9)))).await.unwrap();
    }
    let contents = || std::fs::read_dir(folder.path().join("files")).unwrap().count();
    assert_eq!((store.expire(UnixMillis(8), 9).await.unwrap(), contents()), (0, 3));
    assert_eq!((store.expire(UnixMillis(9), 1).await.unwrap(), contents()), (1, 2));
    assert_eq!((store.expire(UnixMillis(9), 9).await.unwrap(), contents()), (1, 1));
}

/// The threads that do I/O are busy, so that what is dropped meanwhile is done behind its drop.
#[test]
fn a_file_whose_writer_is_dropped_while_it_is_put_in_place_is_not_there() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store = files(database(folder.path()).await).await;
        let gold = TenantId::from("gold");
        let mut writer = store.create(&gold).await.unwrap();
        writer.write("half".into()).await.unwrap();
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let busy = tokio::task::spawn_blocking(move || wait.recv());
        let mut finish = writer.finish(results(1, None));
        std::future::poll_fn(|cx| {
            assert!(finish.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(finish);
        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        let left = std::fs::read_dir(folder.path().join("files")).unwrap().count();
        assert_eq!(left, 0, "an empty content would be under the name of a whole one");
    });
}

#[tokio::test]
async fn what_was_removed_is_given_back_in_small_steps() {
    let folder = tempfile::tempdir().unwrap();
    let runs = SqliteRuns::new(database(folder.path()).await);
    let room = Room { runs: 1_000, of_tenant: 1_000, bytes_of_tenant: 1 << 30 };
    for n in 1..=20 {
        let id = RunId::of(RequestId::from_parts(UnixMillis(1_000), n));
        let new = NewRun {
            id,
            tenant: TenantId::from("gold"),
            kind: "job".into(),
            about: String::new(),
            target: "m".into(),
            status: "queued".into(),
            lane: 1,
            at: UnixMillis(1),
            due_at: UnixMillis(1),
            as_of: None,
            deadline: None,
            entries: vec!["submitted".into()],
            input: vec![7; 9],
            key: None,
            part: None,
            outputs: Vec::new(),
        };
        runs.submit(&[new], &room).await.unwrap();
        let ended = Change {
            id,
            after: 1,
            entries: vec!["ended".into()],
            status: "succeeded".into(),
            due_at: None,
            as_of: None,
            ended_at: Some(UnixMillis(50)),
            output: Some(Output {
                key: format!("key {n}"),
                stage: "request".into(),
                value: vec![0; 200_000],
            }),
            keeps_input: false,
            synced: true,
            result: None,
            lineage: None,
            outbox: None,
        };
        runs.append(&ended).await.unwrap();
    }
    while runs.expire(UnixMillis(99), 9, 1 << 20).await.unwrap() > 0 {}
    let first = runs.shrink(100).await.unwrap();
    assert!(first > 500, "{first} pages are left, so a step was small");
    assert_eq!(runs.shrink(100).await.unwrap(), first - 100);
    while runs.shrink(100).await.unwrap() > 0 {}
}
