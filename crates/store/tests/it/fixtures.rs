//! Open stores for the tests, beside the records of the suite.

use std::path::Path;

use store::{Database, Settings, Store};
pub(crate) use testkit::stores::fixtures::{DAY, admitted, id, range, record};

pub(crate) async fn database(folder: &Path) -> Database {
    Database::open(&folder.join("forebay.db")).await.unwrap()
}

pub(crate) async fn open(project: &Path) -> Store {
    Store::open(project, Settings::default(), 1 << 20).await.unwrap()
}
