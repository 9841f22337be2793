//! `forebay fake-upstream`: a scriptable model provider, for rehearsing what a pipeline does when a provider is slow,
//! wrong or gone. Runs until Ctrl-C.

use std::path::PathBuf;

use serde_json::json;
use testkit::{Address, FakeUpstream, Scenario, Script};

use super::{Global, block_on, print, print_json};
use crate::Error;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen: HOST:PORT or unix:/PATH. Port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9009")]
    listen: Address,
    /// What it does, as JSON. Unless given: it answers at once.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// One of the faults S01 to S16, on top of the script.
    #[arg(long, value_parser = scenario)]
    scenario: Option<Scenario>,
}

fn scenario(text: &str) -> Result<Scenario, String> {
    let found = Scenario::ALL.into_iter().find(|s| format!("{s:?}").eq_ignore_ascii_case(text));
    found.ok_or_else(|| "expected one of S01 to S16".into())
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let mut script = match &args.script {
        None => Script::default(),
        Some(path) => {
            let text = std::fs::read(path).map_err(|e| Error::file("read", path, &e))?;
            Script::from_json(&text).map_err(|e| failed(&e))?
        }
    };
    script.scenario = args.scenario.or(script.scenario);
    block_on(async {
        let fake = FakeUpstream::bind(args.listen.clone(), script).await.map_err(|e| failed(&e))?;
        announce(global, fake.address())?;
        // Without a signal handler it runs until it is killed.
        let stopped = async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        fake.run(stopped).await;
        Ok(())
    })
}

/// Says where it listens and how a model is pointed at it.
fn announce(global: &Global, address: &Address) -> Result<(), Error> {
    let url = match address {
        Address::Tcp(at) => Some(format!("http://{at}")),
        Address::Unix(_) => None,
    };
    if global.json {
        return print_json(&json!({"address": address.to_string(), "base_url": url}));
    }
    let Some(url) = url else {
        print(&format!("listening on {address}; stop with Ctrl-C"));
        return Ok(());
    };
    print(&format!(
        "listening on {url}; stop with Ctrl-C\npoint a model of forebay.yaml at it:\n\n  models:\n    fake:\n      \
         openai: fake\n      base_url: {url}/v1\n\n{url}/_fake/log shows what arrived"
    ));
    Ok(())
}

fn failed(error: &testkit::Error) -> Error {
    let help = match error {
        testkit::Error::Script(_) => "correct the script; `{}` is one that answers at once",
        testkit::Error::Bind { .. } => "choose another address with --listen; port 0 picks a free one",
        _ => "give --listen an address such as 127.0.0.1:9009",
    };
    Error::new(format!("cannot {error}"), help)
}
