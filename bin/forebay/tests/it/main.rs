//! Integration tests: the configuration's messages, the commands, and the running server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod admin;
mod adopting;
mod asking;
mod batches_crash;
mod bench;
mod budgets;
mod caching;
mod cancel;
mod capture;
mod chance;
mod choices;
mod collector;
mod commands;
mod cut;
mod data;
mod drain;
mod drift;
mod failures;
mod from_postgres;
mod golden;
mod hostile;
mod jobs;
mod jobs_crash;
mod kinds;
mod ladder;
mod lineage;
mod models;
mod nested;
mod noting;
mod on_postgres;
mod places;
mod prices;
mod prometheus;
mod pull;
mod receiver;
mod reload;
mod replay;
mod rescue;
mod resume;
mod rollouts;
mod run;
mod runs;
mod runs_crash;
mod serve;
mod server;
mod slow;
mod socket;
mod telemetry;
mod told;
mod watching;
mod worker;
