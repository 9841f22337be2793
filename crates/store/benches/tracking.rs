//! How many metrics are logged a second, and how long a search over 10,000 runs takes, in the store alone, beside what a commit that
//! is synced for each would give. Run: `cargo bench -p forebay-store --bench tracking`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench says what it measured, by the clock of this machine"
)]

use std::time::{Duration, Instant};

use contract::TenantId;
use futures_util::future::join_all;
use store::tracking::{Logged, Metric, NewTrackedRun, Search, TenantTracking};
use store::{Backend as _, Database};

const FOR: Duration = Duration::from_secs(4);

fn id(n: usize) -> String {
    format!("{n:032x}")
}

async fn begin(t: TenantTracking<'_>, n: usize) {
    let new =
        NewTrackedRun { id: id(n), started_at: n as i64, name: format!("r{n}"), ..NewTrackedRun::default() };
    t.create_run(&new, 1).await.unwrap();
}

/// Metrics a second of so many callers, each with so many at once.
async fn rate(t: TenantTracking<'_>, callers: usize, at_once: usize, keys: usize) -> f64 {
    let began = Instant::now();
    let call = |of: usize| async move {
        let mut done = 0;
        while began.elapsed() < FOR {
            let metric = |n: usize| {
                Metric::new(format!("m{}", n % keys), n as f64, (done + n) as i64, (done + n) as i64)
            };
            let metrics = (0..at_once).map(metric).collect();
            t.log(&id(of), Logged { metrics, ..Logged::default() }).await.unwrap();
            done += at_once;
        }
        done
    };
    let all: usize = join_all((0..callers).map(call)).await.into_iter().sum();
    all as f64 / began.elapsed().as_secs_f64()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("forebay.db")).await.unwrap();
    let (tracking, gold) = (database.tracking(), TenantId::from("gold"));
    let t = tracking.of(&gold);
    for n in 0..8 {
        begin(t, n).await;
    }
    println!("1 at once, 8 callers: {:.0} metrics/s", rate(t, 8, 1, 1).await);
    println!("1 at once, 64 callers on 8 runs: {:.0} metrics/s", {
        let began = Instant::now();
        let call = |of: usize| async move {
            let mut done = 0;
            while began.elapsed() < FOR {
                let metrics = vec![Metric::new(format!("c{of}"), 1.0, done, done)];
                t.log(&id(of % 8), Logged { metrics, ..Logged::default() }).await.unwrap();
                done += 1;
            }
            done
        };
        let all: i64 = join_all((0..64).map(call)).await.into_iter().sum();
        all as f64 / began.elapsed().as_secs_f64()
    });
    println!("1000 at once, 1 key, 4 callers: {:.0} metrics/s", rate(t, 4, 1000, 1).await);
    println!("1000 at once, 10 keys, 4 callers: {:.0} metrics/s", rate(t, 4, 1000, 10).await);
    println!("1000 at once, 1000 keys, 4 callers: {:.0} metrics/s", rate(t, 4, 1000, 1000).await);

    let e = t.create_experiment("many", None, &[], 1).await.unwrap();
    for n in 100..10_100_usize {
        let new = NewTrackedRun {
            id: id(n),
            experiment: e,
            started_at: n as i64,
            name: format!("r{n}"),
            ..NewTrackedRun::default()
        };
        t.create_run(&new, 1).await.unwrap();
        let pair = |k: usize| (format!("p{k}"), format!("{}", (n * (k + 1)) % 97));
        let logged = Logged {
            metrics: (0..5)
                .map(|k| Metric::new(format!("m{k}"), ((n * (k + 7)) % 1000) as f64 / 1000.0, 1, 1))
                .collect(),
            params: (0..5).map(pair).collect(),
            tags: (0..3).map(|k| (format!("t{k}"), "x".to_owned())).collect(),
        };
        t.log(&id(n), logged).await.unwrap();
    }
    for (filter, order, most) in [
        ("", "", 100),
        ("metrics.m0 > 0.5 AND params.p1 = '4'", "metrics.m1 DESC", 1000),
        ("metrics.m0 > 0.5", "metrics.m1 DESC", 100),
        ("metrics.m0 > 0.5", "metrics.m1 DESC", 1000),
        ("", "metrics.m1 DESC", 1000),
    ] {
        let order = if order.is_empty() { Vec::new() } else { vec![order.to_owned()] };
        let search = Search { filter: filter.to_owned(), order, most, ..Search::default() };
        let mut took = Vec::new();
        let mut found = 0;
        for _ in 0..20 {
            let began = Instant::now();
            found = t.search_runs(&[e], &search).await.unwrap().items.len();
            took.push(began.elapsed());
        }
        took.sort_unstable();
        let median = took.get(10).copied().unwrap_or_default();
        println!(
            "10,000 runs, `{filter}` by `{}`, at most {most}: {found} in {median:.1?}",
            search.order.join("")
        );
    }
}
