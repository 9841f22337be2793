//! Registered models as commands see them: what there is, what was decided, what stood for what.

use clap::Args as Flags;
use comfy_table::{Table, presets};
use contract::{TenantId, UnixMillis};
use models::choice::{option_of, prompt_of};
use models::gate::seal::PublicKey;
use models::release::{Decided, decided};
use models::stages::{Released, Tracked, find};
use serde_json::{Value, json};
use store::Reader;
use store::tracking::{ModelVersion, PROMPT, RegisteredModel, Search, is_prompt};

use super::super::storage::{self, Need, clean};
use super::super::{Global, print, print_json, time};
use crate::Error;
use crate::signing::Key;

/// The most versions and lines that are listed.
const MOST: u64 = 1_000;

/// The registry of the project in the folder.
pub(in crate::cli) struct Registry {
    pub(in crate::cli) reader: Reader,
    pub(in crate::cli) tracked: Tracked,
    pub(in crate::cli) tenant: TenantId,
}

impl Registry {
    /// Opens it, also beside a server that runs: what is changed here it follows at once.
    pub(in crate::cli) async fn open(global: &Global) -> Result<Registry, Error> {
        if global.server().is_some() {
            return Err(Error::new(
                "this command works on the project's folder, not on a server",
                "run it in the folder of the server (it may run meanwhile); elsewhere MLflow's client does the same over the network",
            ));
        }
        let reader = storage::open(global, Need::Records).await?;
        let tracked = storage::tracked(global, &reader)?;
        Ok(Registry { reader, tracked, tenant: TenantId::of_the_project() })
    }

    /// All registered models.
    pub(super) async fn all(&self) -> Result<Vec<RegisteredModel>, Error> {
        let search = Search { most: MOST, ..Search::default() };
        let page = self.tracked.tracking.of(&self.tenant).search_registered(&search).await;
        Ok(page.map_err(storage::failed)?.items)
    }

    pub(super) async fn model(&self, name: &str) -> Result<RegisteredModel, Error> {
        let found = self.tracked.tracking.of(&self.tenant).registered(name).await;
        found.map_err(|e| failed(&e.into()))
    }

    /// The versions of a model, the newest first.
    pub(super) async fn versions(&self, name: &str) -> Result<Vec<ModelVersion>, Error> {
        let of = self.tracked.tracking.of(&self.tenant);
        // Prompts are shown to whoever asks for them.
        let prompt = of.registered(name).await.is_ok_and(|model| model.is_prompt());
        let more = if prompt { format!(" AND tags.`{PROMPT}` = 'true'") } else { String::new() };
        let search = Search {
            filter: format!("name = '{}'{more}", name.replace('\'', "")),
            order: vec!["version_number DESC".to_owned()],
            most: MOST,
            ..Search::default()
        };
        Ok(of.search_versions(&search).await.map_err(|e| failed(&e.into()))?.items)
    }

    /// A version in words: `version 2`, and of a choice the model that it stands for.
    pub(super) async fn named(&self, name: &str, version: i64) -> String {
        let found = self.tracked.tracking.of(&self.tenant).version(name, version).await;
        let option = found.ok().and_then(|version| Some(clean(option_of(&version).ok()?)));
        option.map_or_else(|| format!("version {version}"), |model| format!("version {version} ({model})"))
    }

    /// The version that is named: by its number, or by an alias.
    pub(in crate::cli) async fn version(&self, name: &str, which: &str) -> Result<ModelVersion, Error> {
        let which = which.trim_start_matches('@');
        let named = which.parse::<i64>().map_or(Ok(which), Err);
        let found = find(&self.tracked, &self.tenant, name, named).await.map_err(|e| failed(&e))?;
        found.ok_or_else(|| {
            let message = format!("nothing stands for `{}` of `{}`", clean(which), clean(name));
            Error::new(message, format!("`forebay models show {name}` lists its versions and aliases"))
        })
    }

    /// What was decided about a version, when its signature holds.
    pub(in crate::cli) async fn decided(
        &self,
        global: &Global,
        of: &ModelVersion,
    ) -> Result<Option<Decided>, Error> {
        let keys = public(global)?;
        decided(&self.tracked, &self.tenant, of, &keys).await.map_err(|e| failed(&e))
    }

    pub(in crate::cli) async fn close(&self) {
        self.reader.close().await;
    }
}

fn public(global: &Global) -> Result<Vec<PublicKey>, Error> {
    Ok(vec![key(global)?.public()])
}

pub(super) fn key(global: &Global) -> Result<Key, Error> {
    Key::of(&global.project).map_err(|e| {
        Error::new(
            format!("the key that decisions are signed with cannot be read: {e}"),
            "check .forebay/decisions.key",
        )
    })
}

/// A failure of the registry, with what to do.
pub(in crate::cli) fn failed(e: &models::Error) -> Error {
    let help = match e {
        _ if e.is_missing() => {
            "`forebay models list` shows the registered models, `forebay models show NAME` their versions"
        }
        models::Error::Io(_) => "check the files below .forebay/tracking",
        _ => "`forebay models show NAME` shows the versions, and what was decided about them",
    };
    Error::new(clean(&e.to_string()), help)
}

pub(super) fn tag<'a>(version: &'a ModelVersion, key: &str) -> Option<&'a str> {
    version.tags.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

/// `show`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Show {
    /// The registered model.
    name: String,
    /// A version, or an alias such as `@champion`. Without one the model's versions are listed.
    version: Option<String>,
}

pub(super) async fn show(global: &Global, args: &Show) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let shown = match &args.version {
        None => model(global, &registry, &args.name).await,
        Some(which) => version(global, &registry, &args.name, which).await,
    };
    registry.close().await;
    shown
}

fn grid<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

async fn model(global: &Global, registry: &Registry, name: &str) -> Result<(), Error> {
    let model = registry.model(name).await?;
    let versions = registry.versions(name).await?;
    let aliases = |number: i64| {
        let own = model.aliases.iter().filter(|(_, v)| *v == number).map(|(alias, _)| alias.as_str());
        own.collect::<Vec<_>>()
    };
    if global.json {
        let each: Vec<Value> = versions
            .iter()
            .map(|v| {
                json!({
                    "version": v.version, "created_at": v.created_at, "aliases": aliases(v.version),
                    "id": tag(v, "forebay.model_id"), "data": tag(v, "forebay.data"), "run": v.run,
                    "verdict": tag(v, "forebay.verdict"), "decision": tag(v, "forebay.decision"),
                })
            })
            .collect();
        return print_json(&json!({"name": model.name, "description": model.description, "versions": each}));
    }
    if let Some(text) = model.description.as_deref().filter(|text| !text.is_empty()) {
        print(&clean(text));
    }
    let mut table = grid(["version", "answers as", "gate", "made", "of", "id"]);
    for v in &versions {
        let verdict = tag(v, "forebay.verdict").unwrap_or("-").replace('_', " ");
        let data = tag(v, "forebay.data").map(short).or_else(|| option_of(v).ok().map(clean));
        let id = tag(v, "forebay.model_id").unwrap_or("-");
        table.add_row([
            v.version.to_string(),
            clean(&aliases(v.version).join(", ")),
            clean(&verdict),
            time::show(UnixMillis(v.created_at)),
            data.unwrap_or_else(|| "-".to_owned()),
            clean(id.get(..14).unwrap_or(id)),
        ]);
    }
    print(&table.trim_fmt());
    Ok(())
}

/// A table's name with the first digits of its version.
fn short(table: &str) -> String {
    let (name, version) = table.rsplit_once('@').unwrap_or((table, ""));
    format!("{}@{}", clean(name), clean(version.get(..12).unwrap_or(version)))
}

/// A version of a choice or a prompt.
fn stand(global: &Global, version: &ModelVersion, what: &str, stands: &str) -> Result<(), Error> {
    let ModelVersion { name, version: number, aliases, .. } = version;
    if global.json {
        return print_json(&json!({"name": name, "version": number, "aliases": aliases, what: stands}));
    }
    let aliases = if aliases.is_empty() { "-".to_owned() } else { clean(&aliases.join(", ")) };
    // Lines of a text stay lines.
    let stands: Vec<String> = stands.lines().map(clean).collect();
    let stands = stands.join("\n             ");
    print(&format!("{} version {number}\n  answers as {aliases}\n  {what:<10} {stands}", clean(name)));
    Ok(())
}

async fn version(global: &Global, registry: &Registry, name: &str, which: &str) -> Result<(), Error> {
    let version = registry.version(name, which).await?;
    let prompt = match prompt_of(&version) {
        // Whatever it is, it is what somebody registered as a prompt.
        Err(why) if is_prompt(&version.tags) => Ok(format!(
            "{}\nIt cannot answer: {why}.",
            tag(&version, "mlflow.prompt.text").unwrap_or_default()
        )),
        known => known,
    };
    let stands = option_of(&version).map(|option| ("answers", option));
    if let Ok((what, stands)) = stands.or(prompt.as_ref().map(|text| ("prompt", text.as_str()))) {
        return stand(global, &version, what, stands);
    }
    let decided = registry.decided(global, &version).await;
    let record = Released::record_of(&registry.tracked, &registry.tenant, &version).await;
    let record = record.map_err(|e| failed(&e))?;
    let of = registry.tracked.tracking.of(&registry.tenant);
    let run = match version.run.as_deref().filter(|run| !run.is_empty()) {
        Some(run) => of.run(run).await.ok(),
        None => None,
    };
    let metrics: Vec<(String, f64)> =
        run.iter().flat_map(|r| &r.metrics).map(|m| (m.key.clone(), m.value)).collect();
    if global.json {
        let decision = match &decided {
            Ok(Some(d)) => {
                json!({"name": d.name, "signed_by": d.key, "verified": true, "record": d.decision})
            }
            Ok(None) => Value::Null,
            Err(e) => json!({"verified": false, "why": e.to_string()}),
        };
        return print_json(&json!({
            "name": version.name, "version": version.version, "aliases": version.aliases,
            "created_at": version.created_at, "source": version.source, "run": version.run, "tags": version.tags,
            "metrics": metrics.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "record": record, "decision": decision,
        }));
    }
    let mut lines = vec![format!("{} version {}", clean(&version.name), version.version)];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<10} {text}"));
    if !version.aliases.is_empty() {
        line("answers as", clean(&version.aliases.join(", ")));
    }
    if let Some(id) = tag(&version, "forebay.model_id") {
        line("id", clean(id));
    }
    if let Some(record) = &record {
        line("model", record.kind());
        line("made", format!("{} in {:.1} s", time::show(record.trained_at), record.training_seconds));
        line("of", short(&record.table));
        let important: Vec<String> =
            record.importance().into_iter().take(5).map(|(name, _)| clean(&name)).collect();
        line("looks at", important.join(", "));
    }
    if let Some(run) = &run {
        let by = |key: &str| run.tags.iter().find(|(k, _)| k == key).map(|(_, v)| clean(v));
        line("tracked as", format!("{} ({})", clean(&run.info.name), clean(&run.info.id)));
        if let Some(of) = by("forebay.run") {
            line("by", format!("{of} of {}", by("forebay.pipeline").unwrap_or_default()));
        }
        if let Some(commit) = by("mlflow.source.git.commit") {
            line("commit", commit);
        }
    }
    let figures: Vec<String> = metrics
        .iter()
        .filter(|(name, _)| !name.starts_with("rows_") && !name.starts_with("validation_"))
        .map(|(name, value)| format!("{} {value:.4}", clean(name)))
        .collect();
    if !figures.is_empty() {
        line("figures", figures.join(", "));
    }
    match &decided {
        Ok(None) => line("gate", "nobody has decided about it".to_owned()),
        Err(e) => line("gate", format!("the decision cannot be trusted: {e}")),
        Ok(Some(d)) => {
            line("gate", clean(&d.decision.sentence()));
            line("signed by", format!("{}, which verifies; {}", clean(&d.key), clean(&d.name)));
        }
    }
    print(&lines.join("\n"));
    if let Ok(Some(d)) = &decided {
        let mut table = grid(["check", "", "found"]);
        for check in &d.decision.checks {
            let mark = if check.passed { "holds" } else { "DOES NOT HOLD" };
            table.add_row([clean(&check.name), mark.to_owned(), clean(&check.sentence)]);
        }
        print(&table.trim_fmt());
    }
    Ok(())
}

/// `history`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct History {
    /// The registered model.
    name: String,
    /// What an alias stood for then: a day, or a length of time ago (`7d`).
    #[arg(long, value_name = "WHEN")]
    at: Option<String>,
    /// As it was known then; now unless given.
    #[arg(long, value_name = "WHEN", requires = "at")]
    known: Option<String>,
    /// The alias, with `--at`.
    #[arg(long, default_value = "champion")]
    alias: String,
}

pub(super) async fn history(global: &Global, args: &History) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let shown = told(global, &registry, args).await;
    registry.close().await;
    shown
}

async fn told(global: &Global, registry: &Registry, args: &History) -> Result<(), Error> {
    let of = registry.tracked.tracking.of(&registry.tenant);
    let when = |text: &str| {
        time::since(text, time::now()).ok_or_else(|| {
            Error::new(
                format!("`{}` is no time", clean(text)),
                "write a day (2026-01-31) or a length of time ago (7d)",
            )
        })
    };
    if let Some(at) = &args.at {
        let (valid, known) =
            (when(at)?, args.known.as_deref().map(when).transpose()?.unwrap_or_else(time::now));
        let stood = of.alias_at(&args.name, &args.alias, valid.0, known.0).await.map_err(storage::failed)?;
        if global.json {
            return print_json(
                &json!({"name": args.name, "alias": args.alias, "at": valid.0, "known": known.0, "version": stood}),
            );
        }
        let stood = match stood {
            Some(version) => registry.named(&args.name, version).await,
            None => "nothing".to_owned(),
        };
        print(&format!(
            "{} of {} stood for {stood} at {}",
            clean(&args.alias),
            clean(&args.name),
            time::show(valid)
        ));
        return Ok(());
    }
    let lines = of.alias_history(&args.name, 1_000).await.map_err(storage::failed)?;
    if global.json {
        let each: Vec<Value> = lines
            .iter()
            .map(|l| json!({"alias": l.alias, "version": l.version, "valid_at": l.valid_at, "known_at": l.known_at}))
            .collect();
        return print_json(&json!({"name": args.name, "changes": each}));
    }
    if lines.is_empty() {
        // Whether it is a name at all.
        registry.model(&args.name).await?;
        print("no alias was ever set");
        return Ok(());
    }
    let mut table = grid(["from", "alias", "stands for", "written"]);
    for l in &lines {
        let stands = match l.version {
            Some(version) => registry.named(&args.name, version).await,
            None => "nothing".to_owned(),
        };
        table.add_row([
            time::show(UnixMillis(l.valid_at)),
            clean(&l.alias),
            stands,
            time::show(UnixMillis(l.known_at)),
        ]);
    }
    print(&table.trim_fmt());
    Ok(())
}
