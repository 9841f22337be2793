//! The conformance suite on SQLite.

use contract::{TenantId, UnixMillis};
use store::{Database, FileInfo, FileStore as _, SqliteCache, SqliteFiles, SqliteKeys, SqliteLedger};

use crate::fixtures::database;
use crate::suite;

macro_rules! conforms {
    ($($test:ident: $make:expr;)*) => {$(
        #[tokio::test]
        async fn $test() {
            let folder = tempfile::tempdir().unwrap();
            let database = database(folder.path()).await;
            let make = $make;
            suite::$test(&make(database).await).await;
        }
    )*};
}

conforms! {
    entries_and_position_are_applied_together_and_once: async |d| SqliteLedger::new(d);
    the_newest_come_first_and_filters_hold: async |d| SqliteLedger::new(d);
    every_bill_adds_up_to_the_same_sum: async |d| SqliteLedger::new(d);
    hostile_figures_do_not_break_the_sums: async |d| SqliteLedger::new(d);
    a_key_opens_until_it_is_revoked_or_expires: async |d| SqliteKeys::new(d);
    a_file_is_its_tenants_until_it_is_deleted_or_expires: async |d| files(d).await;
    files_are_listed_by_pages_in_their_order: async |d| files(d).await;
    a_tenant_never_holds_more_than_its_limit: async |d| files(d).await;
    a_file_that_is_written_piece_by_piece_is_there_when_it_is_whole: async |d| files(d).await;
    the_least_recently_used_part_goes_first: async |d| SqliteCache::open(d, 100).await.unwrap();
}

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
