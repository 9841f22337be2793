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
