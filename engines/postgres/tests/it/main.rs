//! Integration tests, on a real server: one for each test.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod several;
mod suite;

use std::sync::Arc;

use contract::Secret;
use postgres::Postgres;
use testkit::postgres::Server;

/// The database as the folder sees it whose journal has that name.
async fn of(server: &Server, journal: &str) -> Arc<Postgres> {
    Arc::new(Postgres::open(&Secret::new(server.url("postgres")), journal).await.unwrap())
}
