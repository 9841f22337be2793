//! One tenant keeps 200 requests at a busy model; what becomes of another's. Beside it: the same load as one tenant's,
//! which is first in, first out.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use testkit::FakeUpstream;
use tokio::task::JoinSet;

use crate::client::{chat, idle, metric};
use crate::server::{Server, config, key, project};
use crate::stats::{Samples, head};

const FLOOD: usize = 200;
const SLOTS: usize = 16;
const LATENCY_MS: u64 = 100;
/// Requests of the victim: four callers, one after the other each.
const CALLERS: usize = 4;
const EACH: usize = 50;

/// One request to its end.
async fn ask(to: SocketAddr, key: &str) {
    let answer =
        chat(to, &format!("authorization: Bearer {key}\r\n"), r#","max_tokens":16"#).await.rest().await;
    assert!(answer.contains(" 200 OK"), "{answer}");
}

async fn victim(to: SocketAddr, key: &str) -> Samples {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let key = key.to_owned();
        callers.spawn(async move {
            let mut samples = Samples::default();
            for _ in 0..EACH {
                let since = Instant::now();
                ask(to, &key).await;
                samples.add(since.elapsed());
            }
            samples
        });
    }
    let mut all = Samples::default();
    while let Some(samples) = callers.join_next().await {
        all.extend(samples.unwrap());
    }
    all
}

pub(crate) async fn run(binary: &Path) {
    head(&format!("Fairness: {SLOTS} slots of {LATENCY_MS} ms, another tenant keeps {FLOOD} requests there"));
    let script = json!({"first_token": LATENCY_MS, "jitter": 0.2, "tokens": 16});
    let up = FakeUpstream::start(serde_json::from_value(script).unwrap()).await.unwrap();
    let mut p99 = Vec::new();
    for (name, flooding) in [
        ("alone", None),
        ("beside the flood, fair queue", Some("flood")),
        ("beside the flood, FIFO (one tenant)", Some("victim")),
    ] {
        let folder = project(
            &(config(&up.base_url(), &format!(", max_concurrency: {SLOTS}")) + "auth: {required: true}\n"),
        );
        let own = key(binary, folder.path(), "victim");
        let other = flooding.map(|tenant| key(binary, folder.path(), tenant));
        let server = Server::start(binary, folder);
        let to = server.address;
        let mut flood = JoinSet::new();
        if let Some(key) = other {
            for _ in 0..FLOOD {
                let key = key.clone();
                flood.spawn(async move {
                    loop {
                        ask(to, &key).await;
                    }
                });
            }
            while metric(to, "forebay_model_queue_requests").await < (FLOOD - SLOTS) as f64 * 0.9 {}
        }
        let samples = victim(to, &own).await;
        flood.shutdown().await;
        samples.row(name);
        p99.push(samples.quantile(0.99));
        idle(to).await;
    }
    let (fair, fifo) = (p99[1] - p99[0], p99[2] - p99[0]);
    println!(
        "\nThe flood moves the victim's p99 by {fair:.1} ms under the fair queue and by {fifo:.1} ms under FIFO: {:.1} % of it.",
        fair / fifo * 100.0
    );
}
