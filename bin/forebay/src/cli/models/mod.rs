//! `forebay models …`: the models of the configuration or of a running server, files for local ones, and the registry: versions, what
//! was decided about them, and which of them answers.

mod choose;
mod download;
mod made;
mod moves;
mod pull;
pub(super) mod registered;
mod rollouts;

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
    /// Show a registered model with its versions, or a version with what was decided about it.
    Show(registered::Show),
    /// List what aliases stood for, and when that was known.
    History(registered::History),
    /// Let another model of a choice answer to its name: some users first when the configuration gives it a rollout.
    Choose(choose::Args),
    /// Let a version answer that its gate accepted, or give the word that it waits for.
    Promote(moves::Promote),
    /// Go back to the version that answered before; while another is being rolled out, take that back.
    Rollback(moves::Alias),
    /// Take a model out of service: nothing answers under the alias. With a version, stop its rollout alone.
    Kill(moves::Kill),
    /// List what is being rolled out.
    Rollouts,
    /// Show a rollout, hold it, let it go on, or take it back.
    Rollout(rollouts::Args),
    /// Name what two versions were made of that differs.
    Diff(made::Diff),
    /// Show the card of a version, or its report as a page.
    Card(made::Card),
    /// Make a version again of what its record says, and compare. Exit code 1 when another model comes out.
    Reproduce(made::Reproduce),
}

#[derive(Deserialize)]
struct Models {
    models: Vec<ModelInfo>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    match &args.command {
        Command::Pull(args) => pull::run(global, args),
        Command::Show(args) => block_on(registered::show(global, args)),
        Command::History(args) => block_on(registered::history(global, args)),
        Command::Choose(args) => block_on(choose::run(global, args)),
        Command::Promote(args) => block_on(moves::forward(global, args)),
        Command::Rollback(args) => block_on(moves::back(global, args)),
        Command::Kill(args) => block_on(moves::kill(global, args)),
        Command::Rollouts => block_on(rollouts::list(global)),
        Command::Rollout(args) => block_on(rollouts::run(global, args)),
        Command::Diff(args) => block_on(made::diff(global, args)),
        Command::Card(args) => block_on(made::card(global, args)),
        Command::Reproduce(args) => block_on(made::reproduce(global, args)),
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
            let registered = block_on(registered(global))?;
            if global.json {
                return print_json(&json!({"models": models, "registered": registered}));
            }
            print(&render(&models));
            for one in &registered {
                print(&one.line());
            }
            Ok(())
        }
    }
}

/// A registered model in the list.
#[derive(serde::Serialize)]
struct Registered {
    name: String,
    newest: Option<i64>,
    aliases: std::collections::BTreeMap<String, i64>,
}

impl Registered {
    fn line(&self) -> String {
        let newest = self.newest.map_or_else(|| "no version".to_owned(), |v| format!("newest version {v}"));
        let aliases: Vec<String> = self.aliases.iter().map(|(a, v)| format!("{} is {v}", clean(a))).collect();
        let aliases = if aliases.is_empty() { "nothing answers".to_owned() } else { aliases.join(", ") };
        format!("registered: {}  {newest}  {aliases}", clean(&self.name))
    }
}

/// The registered models of the folder, if anything was ever recorded there.
async fn registered(global: &Global) -> Result<Vec<Registered>, Error> {
    let configured = global.project.join(".forebay/forebay.db").exists();
    if global.server().is_some() || !configured {
        return Ok(Vec::new());
    }
    let registry = registered::Registry::open(global).await?;
    let all = registry.all().await;
    registry.close().await;
    let one = |m: store::tracking::RegisteredModel| Registered {
        newest: m.latest.iter().map(|v| v.version).max(),
        aliases: m.aliases.into_iter().collect(),
        name: m.name,
    };
    Ok(all?.into_iter().map(one).collect())
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
