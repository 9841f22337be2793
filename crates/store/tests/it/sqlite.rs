//! The conformance suite on SQLite.

use store::{SqliteCache, SqliteKeys, SqliteLedger};

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
    the_least_recently_used_part_goes_first: async |d| SqliteCache::open(d, 100).await.unwrap();
}
