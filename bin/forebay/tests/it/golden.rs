//! Broken configurations and the messages they are answered with. `BLESS=1` writes the messages anew.

use std::fs;
use std::path::Path;

use forebay::config::{self, Env, problem};

fn env() -> Env {
    [("OPENAI_API_KEY", "sk-never-shown"), ("STREAMS", "many"), ("PORT", "8")].into_iter().collect()
}

#[test]
fn every_broken_config_gets_its_golden_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    assert!(paths.len() >= 30, "only {} broken configs", paths.len());
    let mut wrong = String::new();
    for path in paths {
        let checked = config::check(&fs::read(&path).unwrap(), &folder, &env(), &super::kinds::registry());
        assert!(!checked.problems.is_empty() && checked.config.is_none(), "{} is not broken", path.display());
        let got = problem::render("forebay.yaml", &checked.shown, &checked.problems);
        assert!(!got.contains("never-shown"), "{got}");
        let golden = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&golden, &got).unwrap();
        }
        let want = fs::read_to_string(&golden).unwrap_or_default();
        if got != want {
            wrong += &format!("{}\n--- expected\n{want}+++ got\n{got}\n", path.display());
        }
    }
    assert!(wrong.is_empty(), "run with BLESS=1 when these are right:\n{wrong}");
}

#[test]
fn the_config_of_the_manual_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("prompt.md"), "{{ notes }}").unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    std::fs::write(folder.path().join("models/qwen2.5-0.5b-instruct.gguf"), "").unwrap();
    let text = br#"
models:
  writer:   {local: qwen2.5-0.5b-instruct, fallback: [gpt]}
  gpt:      {openai: gpt-4.1-mini, api_key: ${OPENAI_API_KEY}, max_concurrency: "${PORT}", price: {input: 0.4, output: $1.6}}
tenants:
  default:  {weight: 1}
  gold:     {weight: 4, budget: {usd_per_day: 20, tokens_per_minute: 200k}}
pipelines:
  summarize:
    on: {http: /summarize}
    input: document
    output: text
    budget: {first_output: 300ms, total: 90s, tokens: 80k, usd: 0.02}
    stages:
      - draft:    {extractive: {sentences: 3}}
      - parts:    {chunk: {tokens: 1200, overlap: 100}}
      - notes:    {generate: {model: writer, prompt: prompt.md}, each: parts, parallel: 4, on_failure: partial}
      - summary:  {generate: {model: writer, prompt: prompt.md}, from: notes, stream: true, on_failure: {fallback: draft}}
"#;
    let checked = config::check(text, folder.path(), &env(), &super::kinds::registry());
    assert_eq!(problem::render("f", &checked.shown, &checked.problems), "");
    let config = checked.config.unwrap();
    let gpt = &config.models["gpt"];
    assert_eq!(gpt.api_key.as_ref().unwrap().expose(), "sk-never-shown");
    assert_eq!(gpt.max_concurrency.unwrap().0, 8);
    assert_eq!(gpt.price.unwrap().price().output, 1_600_000_000);
    assert!(!format!("{config:?}").contains("never-shown"));
    assert_eq!(config.pipelines["summarize"].spec().stages.len(), 4);
}
