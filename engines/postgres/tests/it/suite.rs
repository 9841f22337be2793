//! The conformance suite on PostgreSQL.

use tempfile::TempDir;
use testkit::postgres::Server;
use testkit::stores::Subject;

async fn fresh() -> Option<(Subject, (Server, TempDir))> {
    let server = Server::start()?;
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject { backend: crate::of(&server, "one").await, folder: folder.path().to_owned() };
    Some((subject, (server, folder)))
}

testkit::store_suite!(crate::suite::fresh);
