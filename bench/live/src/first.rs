//! The first useful output (the draft) of twenty documents of 50,000 tokens that come at once, before a model that takes
//! three seconds to its first token.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use testkit::FakeUpstream;
use tokio::task::JoinSet;

use crate::client::{idle, send};
use crate::server::{Server, project};
use crate::stats::{Samples, head};

const DOCUMENTS: usize = 20;
const ROUNDS: usize = 5;

/// Documents of about 50,000 tokens, each different, and how they are sent.
fn documents() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let folder = PathBuf::from(std::env::var_os("FOREBAY_FIXTURES").expect("FOREBAY_FIXTURES"));
    let mut found = Vec::new();
    if let Ok(text) = std::fs::read(folder.join("shakespeare.txt")) {
        // Four bytes of English a token.
        let all = (0..DOCUMENTS).map(|n| text[n * 150_000..n * 150_000 + 210_000].to_vec()).collect();
        found.push(("plain text", "text/plain", all));
    }
    if let Ok(html) = std::fs::read(folder.join("debian-handbook.html")) {
        let all =
            (0..DOCUMENTS).map(|n| [html.as_slice(), format!("<p>{n}</p>").as_bytes()].concat()).collect();
        found.push(("HTML", "text/html", all));
    }
    found
}

pub(crate) async fn run(binary: &Path) {
    head("First useful output: 20 documents of 50,000 tokens at once, the model 3 s from its first token");
    for (name, kind, documents) in documents() {
        let up =
            FakeUpstream::start(serde_json::from_value(json!({"first_token": 3_000, "tokens": 60})).unwrap())
                .await
                .unwrap();
        // The pipeline of examples/summarize over another model.
        let config = format!(
            "telemetry: {{log: error}}\nmodels: {{writer: {{openai: gpt, base_url: {}/v1}}}}\npipelines:\n  summarize:\n    input: document\n    output: text\n    \
             stages:\n      - draft: {{extractive: {{sentences: 4}}}}\n      - picked: {{select: {{tokens: 5000, chunk: 8000, per: chunk}}}}\n      \
             - notes: {{generate: {{model: writer, prompt_text: 'Note: {{{{ picked }}}}', max_output_tokens: 120}}, each: picked, parallel: 4, on_failure: partial}}\n      \
             - summary: {{generate: {{model: writer, prompt_text: 'Merge: {{{{ notes }}}}', max_output_tokens: 320}}, on_failure: {{fallback: draft}}}}\n      \
             - checked: {{ground: {{policy: drop, chunk: 1200}}, from: {{text: summary, source: input}}}}\n",
            up.base_url()
        );
        let server = Server::start(binary, project(&config));
        let (mut drafts, mut alone) = (Samples::default(), Samples::default());
        let headers = format!("content-type: {kind}\r\naccept: text/event-stream\r\n");
        for document in &documents {
            alone.add(draft(server.address, &headers, document).await);
        }
        for _ in 0..ROUNDS {
            let mut all = JoinSet::new();
            for document in documents.clone() {
                let (address, headers) = (server.address, headers.clone());
                all.spawn(async move { draft(address, &headers, &document).await });
            }
            while let Some(took) = all.join_next().await {
                drafts.add(took.unwrap());
            }
        }
        alone.row(&format!("{name}, {} kB, one at a time", documents[0].len() / 1_000));
        drafts.row(&format!("{name}, {} kB, {DOCUMENTS} at once", documents[0].len() / 1_000));
        idle(server.address).await;
    }
}

/// From the first byte sent to the draft; then the caller leaves.
async fn draft(to: std::net::SocketAddr, headers: &str, document: &[u8]) -> std::time::Duration {
    let since = Instant::now();
    let mut answer = send(to, "/v1/pipelines/summarize", headers, document).await;
    assert!(answer.until("event: draft").await, "no draft: {}", answer.rest().await);
    since.elapsed()
}
