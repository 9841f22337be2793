//! `forebay models list|pull`: the models of the configuration or of a running server, and files for local ones.

mod download;
mod pull;

use clap::Subcommand;
use comfy_table::{Table, presets};
use contract::Money;
use gateway::ModelInfo;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::remote::Remote;
use super::storage::clean;
use super::{Global, block_on, print, print_json, project, time};
use crate::{Error, inventory};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the configured models: what they are, cost and hold, and how a server's are doing.
    List,
    /// Get a GGUF file for a local model, from a folder, an address or a hub.
    Pull(pull::Args),
}

#[derive(Deserialize)]
struct Models {
    models: Vec<ModelInfo>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    match &args.command {
        Command::Pull(args) => pull::run(global, args),
        Command::List => {
            let models = match Remote::of(global)? {
                None => {
                    inventory::list(&global.project, &project::checked_but_for_models(global)?, time::now())?
                }
                Some(remote) => {
                    let asked =
                        async { remote.must::<Models>(Method::GET, "/v1/admin/models", None::<&()>).await };
                    block_on(asked)?.models
                }
            };
            if global.json {
                return print_json(&json!({"models": models}));
            }
            print(&render(&models));
            Ok(())
        }
    }
}

fn render(models: &[ModelInfo]) -> String {
    if models.is_empty() {
        return "there are no models; name some under `models` in forebay.yaml".to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "name", "kind", "model", "endpoint", "context", "answer", "$/M in", "$/M out", "price of", "state",
    ]);
    let count = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let dollars = |nanos: i64| Money::from_nanos(nanos).to_string();
    for m in models {
        let mut state = m.state.clone();
        if let Some(bytes) = m.bytes {
            state.push_str(&format!(", {}", size(bytes)));
        }
        if let Some(pid) = m.pid {
            state.push_str(&format!(", pid {pid}"));
        }
        if let (Some(busy), Some(queued)) = (m.in_flight, m.queued)
            && busy as usize + queued > 0
        {
            state.push_str(&format!(", {busy} calls, {queued} waiting"));
        }
        table.add_row([
            clean(m.name.as_str()),
            clean(&m.kind),
            clean(&m.model),
            m.endpoint.as_deref().map_or_else(|| "-".to_owned(), clean),
            count(m.context_window),
            count(m.max_output_tokens),
            dollars(m.price.input),
            dollars(m.price.output),
            clean(&m.price_from),
            clean(&state),
        ]);
    }
    table.trim_fmt()
}

/// Bytes as people read them: `491.4 MB`.
pub(super) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_by_people() {
        assert_eq!(
            [0, 999, 1_000, 491_400_064, 1_990_000_000].map(size),
            ["0 B", "999 B", "1.0 kB", "491.4 MB", "1.9 GB"]
        );
    }
}
