//! The price table: LiteLLM's real one when it is there, and what models take from it.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use testkit::FakeUpstream;

use crate::run::{command, output, script};

const TABLE: &str = "litellm-prices.json";

/// LiteLLM's table; `None` is said loudly.
fn real() -> Option<PathBuf> {
    let path = std::env::var_os("FOREBAY_FIXTURES").map(|folder| PathBuf::from(folder).join(TABLE));
    match path {
        Some(path) if path.is_file() => Some(path),
        Some(_) => {
            eprintln!("SKIPPED: {TABLE} is not in FOREBAY_FIXTURES");
            None
        }
        None => {
            eprintln!("SKIPPED: FOREBAY_FIXTURES is not set");
            None
        }
    }
}

fn json_of(folder: &Path, args: &[&str]) -> Json {
    let out = command(folder, &["--json"]).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn table(nanos_in: u32) -> String {
    format!(
        r#"{{"gpt-x": {{"input_cost_per_token": {nanos_in}e-9, "output_cost_per_token": 2e-6, "litellm_provider": "openai",
            "max_input_tokens": 5000, "max_output_tokens": 700, "mode": "chat"}}}}"#
    )
}

#[test]
fn the_real_table_is_imported_whole_and_joined() {
    let Some(real) = real() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = real.to_str().unwrap();
    let first = json_of(folder.path(), &["prices", "import", file, "--from", "2026-01-01"]);
    assert!(first["models"].as_u64().unwrap() > 3_500, "{first}");
    assert_eq!((&first["refused"], &first["changes"]["new"]), (&json!({}), &first["models"]));
    let second = json_of(folder.path(), &["prices", "import", file]);
    assert_eq!(
        (&second["changes"]["unchanged"], &second["changes"]["changed"]),
        (&first["models"], &json!(0))
    );
    let config = "models:\n  g: {openai: gpt-4.1-mini, api_key: sk-x}\n  c: {anthropic: claude-sonnet-4-5, api_key: sk-x}\n  \
        p: {openai: gemini-2.5-pro, base_url: 'https://generativelanguage.googleapis.com/v1beta/openai', api_key: sk-x}\n  \
        home: {openai: gpt-4.1-mini, base_url: 'http://127.0.0.1:8000/v1'}\n";
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let models = json_of(folder.path(), &["models", "list"]);
    let of = |n: usize| models["models"][n].clone();
    assert_eq!(
        of(0)["price"],
        json!({"input": 400_000_000, "output": 1_600_000_000, "cached_input": 100_000_000})
    );
    assert_eq!((&of(0)["context_window"], &of(0)["max_output_tokens"]), (&json!(1_047_576), &json!(32_768)));
    assert_eq!(
        (&of(1)["price"]["input"], &of(1)["price_from"]),
        (&json!(3_000_000_000_u64), &json!("claude-sonnet-4-5"))
    );
    assert_eq!(
        (&of(2)["price"]["long"]["above"], &of(2)["price_from"]),
        (&json!(200_000), &json!("gemini/gemini-2.5-pro"))
    );
    assert_eq!((&of(3)["price"]["input"], &of(3)["price_from"]), (&json!(0), &json!("none")));
    let shown = json_of(folder.path(), &["prices", "show", "g"]);
    assert_eq!(shown["name"], "gpt-4.1-mini");
    assert_eq!(shown["prices"][0]["effective_from"], 1_767_225_600_000_i64);
    assert_eq!(shown["prices"][0]["prices"]["input_cost_per_token_batches"], 200_000_000);
}

#[test]
fn another_import_keeps_what_was_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.json");
    for (nanos, day) in [(1_000, "2026-01-01"), (3_000, "2026-03-01"), (2_000, "2026-02-01")] {
        std::fs::write(&file, table(nanos)).unwrap();
        json_of(folder.path(), &["prices", "import", file.to_str().unwrap(), "--from", day]);
    }
    let shown = json_of(folder.path(), &["prices", "show", "gpt-x"]);
    let inputs: Vec<&Json> =
        shown["prices"].as_array().unwrap().iter().map(|d| &d["prices"]["input_cost_per_token"]).collect();
    assert_eq!(inputs, [&json!(1_000_000_000), &json!(2_000_000_000), &json!(3_000_000_000_u64)]);
    assert_eq!(
        json_of(folder.path(), &["prices", "list", "GPT"])["models"][0]["price"]["input"],
        3_000_000_000_u64
    );
    for args in [
        &["prices", "show", "unheard-of"][..],
        &["prices", "import", "forebay.yaml"],
        &["prices", "import", file.to_str().unwrap(), "--from", "soon"],
    ] {
        let out = command(folder.path(), args).output().unwrap();
        assert!(
            out.status.code() == Some(1) && String::from_utf8_lossy(&out.stderr).contains("help: "),
            "{args:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_price_is_billed_by_the_table() {
    let up = FakeUpstream::start(script(json!({"text": "LOUD"}))).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.json");
    std::fs::write(&file, table(1_000)).unwrap();
    json_of(folder.path(), &["prices", "import", file.to_str().unwrap()]);
    let config = format!(
        "models:\n  m: {{openai: openai/gpt-x, base_url: {}/v1, api_key: sk-test}}\npipelines:\n  p:\n    input: text\n    \
         output: text\n    stages:\n      - a: {{generate: {{model: m, prompt_text: '{{{{ input }}}}'}}}}\n",
        up.base_url()
    );
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let run = output(command(folder.path(), &["--json", "run", "p", file.to_str().unwrap()])).await;
    let run: Json = serde_json::from_slice(&run.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&run.stderr)));
    let count = |name: &str| run["usage"][name].as_i64().unwrap();
    let cost = count("input_tokens") * 1_000 + count("output_tokens") * 2_000;
    assert!(cost > 0);
    assert_eq!(run["cost_nanousd"].as_i64(), Some(cost), "{run}");
}
