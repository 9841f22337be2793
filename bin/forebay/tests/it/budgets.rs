//! Budgets under concurrency, failures and `kill -9`: never more than the limit, and the counter is what the ledger says.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::{Server, answer, eventually, forebay, read_until};

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

/// Sends a chat request of its own connection and reads its status, when there is one.
async fn status(server: std::net::SocketAddr) -> u16 {
    let body = r#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"hello there"}]}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let mut socket = TcpStream::connect(server).await.unwrap();
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    socket.read_exact(&mut line).await.unwrap();
    String::from_utf8_lossy(&line[9..]).parse().unwrap()
}

/// What the budget of the tenant says it has spent: the message of a request that could never fit.
fn counter(server: &Server) -> String {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "word ".repeat(100_000)}]});
    let (status, _, body) = server.ask("POST", "/v1/chat/completions", &[], &body.to_string());
    assert_eq!(status, 403, "{body}");
    let body: Json = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"]["code"], "budget_exhausted");
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// The tenant's sums in the ledger: tokens, and nanodollars.
fn ledger(server: &Server) -> (i64, i64) {
    let costs = forebay(server.folder.path()).args(["--json", "costs", "--by", "tenant"]).output().unwrap();
    assert!(costs.status.success(), "{}", String::from_utf8_lossy(&costs.stderr));
    let total = serde_json::from_slice::<Json>(&costs.stdout).unwrap()["total"].clone();
    let n = |name: &str| total[name].as_i64().unwrap();
    (n("input_tokens") + n("output_tokens"), n("cost_nanodollars"))
}

/// Five hundred at once against a limit: as many get in as fit, and not one more.
pub async fn flood(storage: &str, budget: &str, held: &str, limit: f64) {
    let up = upstream(json!({"first_token": 60_000})).await;
    let tenants = format!("tenants: {{default: {{budget: {{{budget}}}}}}}\n{storage}");
    let server = Server::with_model(&up.base_url(), ", max_concurrency: 1000", &tenants);
    let address = server.address;
    let mut asking: FuturesUnordered<_> = (0..500).map(|_| status(address)).collect();
    let mut refused = 0;
    // Refusals come at once; whoever is in waits for the upstream.
    let mut admitted = 0;
    while refused + admitted < 500 {
        tokio::select! {
            status = asking.next() => {
                assert_eq!(status, Some(402), "in flight is what holds the budget");
                refused += 1;
            }
            arrived = up.wait_for_arrival(admitted + 1) => {
                arrived.unwrap();
                admitted += 1;
            }
        }
    }
    let reserved = server.metric(held, r#"scope="tenant""#).unwrap();
    let each = reserved / admitted as f64;
    assert!(reserved <= limit && reserved + each > limit, "{admitted} hold {reserved} of {limit}");
    assert!(admitted > 10 && refused > 10, "{admitted} and {refused}");
    drop(asking);
    eventually("all is given back", || server.held().is_ok());
    up.set_script(Script::default()).unwrap();
    assert_eq!(server.chat(r#","max_tokens":100"#).0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_at_once_never_hold_more_than_a_token_limit() {
    flood("", "tokens_per_day: 20k", "forebay_reserved_tokens", 20_000.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_at_once_never_hold_more_than_a_money_limit() {
    flood("", "usd_per_day: 0.04", "forebay_reserved_usd", 0.04).await;
}

/// Answers, cancels, cuts and refusals of the upstream, then `kill -9` with requests in flight.
pub async fn trouble(storage: &str, budget: &str, spent: impl Fn((i64, i64)) -> String) {
    let up = upstream(json!({"token_interval": 1, "tokens": 40})).await;
    let tenants = format!("tenants: {{default: {{budget: {{{budget}}}}}}}\n{storage}");
    let server = Server::with_model(&up.base_url(), "", &tenants);
    for n in 0..8 {
        let stream = if n % 2 == 0 { r#","max_tokens":50,"stream":true"# } else { r#","max_tokens":50"# };
        up.set_script(serde_json::from_value(json!({"token_interval": 1, "tokens": 40})).unwrap()).unwrap();
        assert_eq!(server.chat(stream).0, 200);
        let mut leaving = server.open_chat("m", r#","max_tokens":50,"stream":true"#);
        read_until(&mut leaving, "content\":\"");
        drop(leaving);
        for fault in ["S08", "S03", "S16", "S13"] {
            up.set_script(serde_json::from_value(json!({"tokens": 60, "scenario": fault})).unwrap()).unwrap();
            server.chat(stream);
        }
    }
    eventually("all has settled", || server.held().is_ok());
    eventually("the ledger has it all", || server.metric("forebay_ledger_lag_bytes", "") == Some(0.0));
    let before = spent(ledger(&server));
    assert!(counter(&server).contains(&before), "{} is not {before}", counter(&server));

    up.set_script(serde_json::from_value(json!({"first_token": 60_000})).unwrap()).unwrap();
    let seen = up.log().last().unwrap().no;
    let waiting: Vec<_> = (0..5).map(|_| server.open_chat("m", r#","max_tokens":50"#)).collect();
    up.wait_for_arrival(seen + 5).await.unwrap();
    let folder = server.kill();
    drop(waiting);
    let server = Server::in_folder(folder);
    let after = spent(ledger(&server));
    assert!(counter(&server).contains(&after), "{} is not {after}", counter(&server));
    assert_ne!(before, after, "what the killed server had under way is booked");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_cancels_errors_and_a_kill_the_token_counter_is_the_ledgers_sum() {
    trouble("", "tokens_per_day: 100k", |(tokens, _)| format!("has used {tokens} of")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_cancels_errors_and_a_kill_the_money_counter_is_the_ledgers_sum() {
    trouble("", "usd_per_day: 0.1", |(_, nanos)| {
        format!("has spent {} of", contract::Money::from_nanos(nanos))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_models_and_pipelines_have_limits_of_their_own() {
    let up = upstream(json!({"text": "one two"})).await;
    let base = up.base_url();
    tokio::task::spawn_blocking(move || {
        let server = Server::with_model(
            &base,
            ", limits: {requests_per_minute: 3}",
            "    limits: {requests_per_minute: 1}\neach_user: {requests_per_minute: 1}\n",
        );
        let source = |answer: &(u16, String, String)| {
            let body: serde_json::Value = serde_json::from_str(&answer.2).unwrap();
            (answer.0, body["error"]["limit_source"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(server.chat(r#","user":"ann""#).0, 200);
        assert_eq!(source(&server.chat(r#","user":"ann""#)), (429, "user:ann".to_owned()));
        assert_eq!(server.chat(r#","user":"bob""#).0, 200, "another user has an allowance of his own");
        assert_eq!(server.chat("").0, 200);
        assert_eq!(source(&server.chat("")), (429, "model:m".to_owned()));
        let shout = || answer(server.open_chat("shout", ""));
        assert_eq!(shout().0, 200);
        assert_eq!(source(&shout()), (429, "pipeline:shout".to_owned()));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_longer_than_their_reservation_keep_to_the_budget_together() {
    let up = upstream(json!({"tokens": 3000, "token_interval": 1})).await;
    let server = Server::start(&up.base_url(), "tenants: {default: {budget: {tokens_per_day: 10000}}}\n");
    let asks: FuturesUnordered<_> = (0..20)
        .map(|_| {
            let address = server.address;
            async move {
                let body =
                    r#"{"model":"m","max_tokens":3000,"messages":[{"role":"user","content":"hello there"}]}"#;
                let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
                let mut socket = TcpStream::connect(address).await.unwrap();
                let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                socket.write_all(request.as_bytes()).await.unwrap();
                let mut all = String::new();
                socket.read_to_string(&mut all).await.unwrap();
                assert!(all.contains(" 200 ") || all.contains("budget_exhausted"), "{all:.300}");
            }
        })
        .collect();
    asks.collect::<Vec<()>>().await;
    tokio::task::spawn_blocking(move || {
        let costs =
            forebay(server.folder.path()).args(["--json", "costs", "--by", "tenant"]).output().unwrap();
        let costs: Json = serde_json::from_slice(&costs.stdout).unwrap();
        let used = ["input_tokens", "output_tokens"]
            .map(|k| costs["total"][k].as_u64().unwrap())
            .iter()
            .sum::<u64>();
        assert!((5_000..=10_000).contains(&used), "{used} of 10000: {costs}");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_without_a_budget_of_its_own_keeps_to_its_tenants() {
    let up = upstream(json!({"tokens": 3000, "token_interval": 1})).await;
    let base = up.base_url();
    tokio::task::spawn_blocking(move || {
        let config = "tenants: {default: {budget: {tokens_per_day: 10000}}}\n";
        let server = Server::with_model(&base, ", max_output_tokens: 3000", config);
        let calls: Vec<_> = (0..12).map(|_| server.open_chat("shout", "")).collect();
        let statuses: Vec<u16> = calls.into_iter().map(|c| answer(c).0).collect();
        // Whoever finds no room for the call gets the draft in its place, or is refused at the door.
        assert!(statuses.iter().all(|s| matches!(s, 200 | 402)), "{statuses:?}");
        let costs =
            forebay(server.folder.path()).args(["--json", "costs", "--by", "tenant"]).output().unwrap();
        let costs: Json = serde_json::from_slice(&costs.stdout).unwrap();
        let used: u64 =
            ["input_tokens", "output_tokens"].map(|k| costs["total"][k].as_u64().unwrap()).iter().sum();
        assert!((5_000..=10_000).contains(&used), "{used} of 10000: {costs}");
    })
    .await
    .unwrap();
}
