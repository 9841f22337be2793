//! The promises of jobs, batches, ledger and budgets again, with the storage in PostgreSQL: by one server, and by two that share a
//! database. Nothing but `storage.url` is another.
//!
//! Every other end-to-end test runs on PostgreSQL too when `FOREBAY_TEST_STORAGE=postgres` ([`place`]; `make postgres`).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use contract::{Money, Secret};
use postgres::Postgres;
use serde_json::Value as Json;
use store::Reader;
use testkit::{FakeUpstream, Script};

use crate::server::{Server, eventually, forebay};
use crate::{batches_crash, budgets, jobs_crash, runs_crash, serve};

pub use testkit::postgres::Server as Database;

/// The part of a configuration that says where the storage is.
pub fn storage(database: Option<&Database>) -> String {
    database.map_or_else(String::new, |d| format!("storage: {{url: '{}'}}\n", d.url("postgres")))
}

/// Adds to a configuration that does not speak of storage a database of its own, where the environment asks for that.
pub fn place(folder: &Path) {
    static SERVER: OnceLock<Option<Database>> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let file = folder.join("forebay.yaml");
    let wanted = std::env::var("FOREBAY_TEST_STORAGE").is_ok_and(|v| v == "postgres");
    let Ok(text) = std::fs::read_to_string(&file) else { return };
    if !wanted || text.contains("storage:") {
        return;
    }
    let Some(server) = SERVER.get_or_init(Database::start) else { return };
    let url = server.database(&format!("f{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(file, format!("{text}\nstorage: {{url: '{url}'}}\n")).unwrap();
}

/// The storage of a folder whose server is gone.
pub async fn reader(folder: &Path, database: Option<&Database>) -> Reader {
    let Some(database) = database else { return Reader::open(folder).await.unwrap() };
    let journal = store::journal_name(folder).unwrap();
    let database = Postgres::open(&Secret::new(database.url("postgres")), &journal).await.unwrap();
    Reader::open_on(folder, Arc::new(database)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_every_acknowledged_job_ends_once_though_one_server_dies_again_and_again() {
    let Some(database) = Database::start() else { return };
    jobs_crash::kills(Some(&database), 1, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_every_acknowledged_job_ends_once_though_one_of_two_servers_dies_again_and_again() {
    let Some(database) = Database::start() else { return };
    jobs_crash::kills(Some(&database), 2, 20).await;
    assert_eq!(database.sql("postgres", "SELECT COUNT(*) FROM run_shares"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_every_line_of_a_batch_ends_once_though_one_of_two_servers_dies_again_and_again() {
    let Some(database) = Database::start() else { return };
    batches_crash::kills(Some(&database), 2, 10).await;
    let unfinished = "SELECT COUNT(*) FROM contents c WHERE NOT EXISTS (SELECT 1 FROM files f WHERE f.content = c.id) AND hash IS NOT NULL";
    assert_eq!(database.sql("postgres", unfinished), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_counter_of_a_budget_is_the_ledgers_sum_after_cancels_errors_and_a_kill() {
    let Some(database) = Database::start() else { return };
    let spent = |(_, nanos)| format!("has spent {} of", Money::from_nanos(nanos));
    budgets::trouble(&storage(Some(&database)), "usd_per_day: 0.1", spent).await;
    assert_eq!(database.sql("postgres", "SELECT COUNT(*) FROM admitted"), "0");
    let apart = "SELECT (SELECT SUM(cost) FROM requests) = (SELECT SUM((record::json ->> 'cost')::bigint) FROM requests)";
    assert_eq!(database.sql("postgres", apart), "t", "the columns say what the records say");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_five_hundred_at_once_never_hold_more_than_a_money_limit() {
    let Some(database) = Database::start() else { return };
    budgets::flood(&storage(Some(&database)), "usd_per_day: 0.04", "forebay_reserved_usd", 0.04).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_kill_loses_no_answer_that_was_seen_and_books_the_rest() {
    let Some(database) = Database::start() else { return };
    serve::killed(&storage(Some(&database))).await;
}

#[test]
fn on_postgres_every_run_of_twenty_stages_succeeds_though_one_of_two_servers_dies_again_and_again() {
    let Some(database) = Database::start() else { return };
    runs_crash::kills(Some(&database), 2, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_a_folder_and_a_second_server_see_what_is_in_the_database() {
    let Some(database) = Database::start() else { return };
    let up = FakeUpstream::start(Script::default()).await.unwrap();
    let password = "s3cret-word";
    let url = database.url("postgres").replace("forebay@", "forebay:${FOREBAY_DB_PASSWORD}@");
    let config = format!("storage: {{url: '{url}'}}\n");
    let run = |folder: &Path, args: &[&str]| {
        forebay(folder).env("FOREBAY_DB_PASSWORD", password).args(args).output().unwrap()
    };
    let ask = |folder: &Path, args: &[&str]| {
        let out = run(folder, args);
        let told = [out.stdout, out.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (out.status.success(), told)
    };
    let json = |folder: &Path, args: &[&str]| serde_json::from_slice::<Json>(&run(folder, args).stdout);
    let first = Server::start_with_env(&up.base_url(), &config, &[("FOREBAY_DB_PASSWORD", password)]);
    let second = Server::start_with_env(&up.base_url(), &config, &[("FOREBAY_DB_PASSWORD", password)]);
    assert_eq!((first.chat("").0, second.chat("").0), (200, 200));
    let folder = first.folder.path();
    eventually("both are in one bill", || {
        json(folder, &["--json", "costs", "--by", "tenant"]).is_ok_and(|told| told["total"]["requests"] == 2)
    });
    assert!(!folder.join(".forebay/forebay.db").exists(), "nothing is in a file beside it");
    // A key made for one is known to the other.
    let key = json(folder, &["--json", "key", "create", "--name", "ci", "--tenant", "gold"]).unwrap();
    let bearer = format!("Bearer {}", key["key"].as_str().unwrap());
    eventually("the second server knows the key", || {
        second.ask("GET", "/v1/models", &[("authorization", &bearer)], "").0 == 200
    });
    let (sound, told) = ask(folder, &["check"]);
    assert!(sound && !told.contains(password), "{told}");
    // Nobody is told the password, whatever is wrong.
    let broken = config.replace("postgres?host", "nowhere?host").replace("storage:", "nonsense: 1\nstorage:");
    std::fs::write(folder.join("forebay.yaml"), &broken).unwrap();
    for args in
        [&["check"][..], &["costs", "--by", "tenant"], &["key", "list"], &["up", "--listen", "127.0.0.1:0"]]
    {
        let (done, told) = ask(folder, args);
        assert!(!done && !told.contains(password), "{args:?}: {told}");
    }
    std::fs::write(
        folder.join("forebay.yaml"),
        config.replace("${FOREBAY_DB_PASSWORD}", "${NOBODY_SET_THIS}"),
    )
    .unwrap();
    let (done, told) = ask(folder, &["costs", "--by", "tenant"]);
    assert!(!done && told.contains("storage.url"), "{told}");
}
