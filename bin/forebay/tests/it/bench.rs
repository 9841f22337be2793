//! `forebay bench` against a running server: what it counts is what the upstream saw, and it says what broke.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};
use testkit::{EndedHow, FakeUpstream, Handle};

use crate::run::{output, script};
use crate::server::{Server, eventually, forebay, signal};

/// A bench of one second a step, whose profile keeps requests small.
fn bench(url: &str, folder: &Path, args: &[&str]) -> Command {
    let profile = folder.join("small.yaml");
    std::fs::write(
        &profile,
        "input: {median: 20, p95: 60, max: 100}\noutput: {median: 8, p95: 16, max: 32}\n",
    )
    .unwrap();
    let mut command = forebay(folder);
    command.env_remove("FOREBAY_URL").env_remove("FOREBAY_API_KEY");
    command.args(["bench", "--json", "--url", url, "--warm-up", "0ms", "--profile"]).arg(profile).args(args);
    if !args.contains(&"--for") {
        command.args(["--for", "1s"]);
    }
    command
}

fn report(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

async fn start(upstream: &str, model: &'static str, more: &'static str) -> (Server, String) {
    let upstream = upstream.to_owned();
    let server =
        tokio::task::spawn_blocking(move || Server::with_model(&upstream, model, more)).await.unwrap();
    let url = format!("http://{}", server.address);
    (server, url)
}

/// Requests that the upstream answered whole.
fn answered(up: &Handle) -> u64 {
    up.log().iter().filter(|r| r.end.is_some_and(|e| e.how == EndedHow::Completed)).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_a_bench_counts_was_seen_by_the_upstream() {
    let up = FakeUpstream::start(script(json!({"first_token": 5}))).await.unwrap();
    let (server, url) = start(&up.base_url(), "", "").await;
    let mut seen = 0;
    for surface in ["openai", "anthropic", "native"] {
        let model = if surface == "native" { "shout" } else { "m" };
        let args = [
            "--surface",
            surface,
            "--model",
            model,
            "--rate",
            "20",
            "--steps",
            "1x,2x",
            "--stream",
            "mix",
            "--price",
            "1,2",
            "--arrivals",
            "constant",
        ];
        let told = report(&output(bench(&url, server.folder.path(), &args)).await);
        let steps = told["steps"].as_array().unwrap();
        for (step, planned) in steps.iter().zip([20, 40]) {
            assert_eq!(
                (&step["planned"], &step["all"]["sent"]),
                (&json!(planned), &json!(planned)),
                "{told:#}"
            );
            assert_eq!(step["all"]["counts"]["complete"], json!(planned), "{told:#}");
            assert!(step["all"]["output_tokens"].as_u64().unwrap() >= planned, "{told:#}");
            assert!(step["all"]["cost"]["nanousd"].as_i64().unwrap() > 0, "{told:#}");
            let first = step["all"]["first_us"]["p50"].as_u64().unwrap();
            // A pipeline's draft is there before the model says a word.
            let model_us = if surface == "native" { 0 } else { 5_000 };
            assert!((model_us..5_000_000).contains(&first), "{told:#}");
        }
        // One request in advance, to see that all is well.
        seen += 1 + 20 + 40;
        eventually(surface, || answered(&up) == seen);
        assert_eq!(told["schema"], "forebay.bench/1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sheds_is_reported_with_the_step_where_it_broke() {
    let up = FakeUpstream::start(script(json!({}))).await.unwrap();
    let limits = "tenants: {default: {budget: {requests_per_minute: 30}}}\n";
    let (server, url) = start(&up.base_url(), "", limits).await;
    let page = server.folder.path().join("report.html");
    let args = [
        "--model",
        "m",
        "--rate",
        "10",
        "--steps",
        "1x,10x",
        "--arrivals",
        "constant",
        "--fail-on",
        "10x:shed_rate>50%",
        "--html",
        page.to_str().unwrap(),
    ];
    let out = output(bench(&url, server.folder.path(), &args)).await;
    assert_eq!(out.status.code(), Some(1), "the threshold came true");
    let told = report(&out);
    assert_eq!(
        (&told["broke"]["step"], &told["broke"]["symptom"]),
        (&json!("10x"), &json!("sheds")),
        "{told:#}"
    );
    let counts = &told["steps"][1]["all"]["counts"];
    let shed = counts["sheds"].as_u64().unwrap();
    assert!(shed > 50 && counts["sheds_with_retry_after"] == counts["sheds"], "{told:#}");
    assert_eq!(told["steps"][1]["all"]["by_code"]["429 rate_limited"], counts["sheds"], "{told:#}");
    assert!(told["verdict"].as_str().unwrap().contains("are shed, each with Retry-After"), "{told:#}");
    assert_eq!(told["thresholds"][0]["came_true"], json!(true));
    let complete =
        told["steps"].as_array().unwrap().iter().map(|s| s["all"]["counts"]["complete"].as_u64().unwrap());
    let complete: u64 = complete.sum();
    eventually("what was not shed was answered", || answered(&up) == 1 + complete);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("are shed, each with Retry-After"));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_cut_torn_or_without_their_end_are_no_success() {
    let faults = json!({"faults": [
        {"from": 2, "times": 10, "fault": {"cut": {"after_tokens": 1}}},
        {"from": 12, "times": 5, "fault": {"malformed_chunk": {}}},
        {"from": 17, "times": 5, "fault": {"no_done": {}}},
    ]});
    let up = FakeUpstream::start(script(faults)).await.unwrap();
    // Straight at the upstream: a bench needs no Forebay.
    let folder = tempfile::tempdir().unwrap();
    let args = ["--model", "m", "--rate", "40", "--steps", "1x", "--arrivals", "constant"];
    let told = report(&output(bench(&up.base_url(), folder.path(), &args)).await);
    let all = &told["steps"][0]["all"];
    assert_eq!((&all["counts"]["complete"], &all["counts"]["broken"]), (&json!(20), &json!(20)), "{told:#}");
    let codes = json!({
        "broken: an event that cannot be read": 5,
        "broken: connection lost": 10,
        "broken: stream without its end mark": 5,
    });
    assert_eq!((&all["by_code"], &told["broke"]["symptom"]), (&codes, &json!("errors")), "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tool_may_not_send_is_never_held_against_the_server() {
    let up = FakeUpstream::start(script(json!({"first_token": 400}))).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "--model",
        "m",
        "--rate",
        "40",
        "--steps",
        "1x",
        "--arrivals",
        "constant",
        "--in-flight",
        "2",
        "--no-stream",
        "--slo",
        "total=1ms",
    ];
    let told = report(&output(bench(&up.base_url(), folder.path(), &args)).await);
    let (step, all) = (&told["steps"][0], &told["steps"][0]["all"]);
    let (sent, not) = (all["sent"].as_u64().unwrap(), step["client"]["over_limit"].as_u64().unwrap());
    assert_eq!((sent + not, &step["planned"]), (40, &json!(40)), "{told:#}");
    assert!((2..20).contains(&sent) && all["counts"]["complete"] == json!(sent), "{told:#}");
    assert_eq!((&step["client"]["most_in_flight"], &all["first_us"]), (&json!(2), &Json::Null));
    // Not one answer kept the SLO, and still it is the tool that gave out.
    assert_eq!(
        (&told["broke"]["symptom"], &all["counts"]["good"]),
        (&json!("client"), &json!(0)),
        "{told:#}"
    );
    eventually("each was seen, and one in advance", || answered(&up) == sent + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_a_wrong_address_are_said_before_any_load() {
    let up = FakeUpstream::start(script(json!({"require_key": ["sk-good"]}))).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (url, said) in [(up.base_url().as_str(), "FOREBAY_API_KEY"), ("http://127.0.0.1:1", "cannot reach")] {
        let out = output(bench(url, folder.path(), &["--model", "m"])).await;
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), told.contains(said)), (Some(1), true), "{told}");
    }
    assert_eq!(up.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_gives_the_report_so_far() {
    let up = FakeUpstream::start(script(json!({}))).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let args = ["--model", "m", "--rate", "50", "--steps", "1x,2x", "--for", "600s"];
    let mut command = bench(&up.base_url(), folder.path(), &args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    up.wait_for_end(20).await.unwrap();
    signal("INT", child.id());
    let out = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    let told = report(&out);
    assert_eq!((out.status.code(), &told["interrupted"]), (Some(130), &json!(true)));
    let complete = told["steps"][0]["all"]["counts"]["complete"].as_u64().unwrap();
    assert!((1..10_000).contains(&complete) && told["steps"].as_array().unwrap().len() == 1, "{told:#}");
}
