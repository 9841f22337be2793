//! `forebay key create|list|revoke`: API keys, in the project's storage (a running server sees a change within a second)
//! or by a running server.
//!
//! A secret is printed once, by `create`, and is kept nowhere.

use std::io::Write as _;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use comfy_table::{Table, presets};
use contract::UnixMillis;
use serde_json::{Value, json};
use store::{KeyInfo, Role};

use super::source::Source;
use super::storage::{Need, clean};
use super::{Global, block_on, print, print_json, time};
use crate::config::{self, Env, units};
use crate::{Error, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print it, this once.
    Create(Create),
    /// List the keys, revoked ones included, without their secrets.
    List,
    /// Revoke a key for good.
    Revoke {
        /// The key's id, as listed.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// For people: `ci`, `alice`.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Who pays for what it asks.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    tenant: String,
    /// It may also administer a running server: keys, bills, every tenant's requests.
    #[arg(long)]
    admin: bool,
    /// After how long it is refused, such as 90d. Unless given: never.
    #[arg(long, value_name = "TIME")]
    expires: Option<units::Time>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    block_on(async {
        let now = time::now();
        let source = Source::open(global, Need::Keys).await?;
        let done = match &args.command {
            Command::Create(new) => create(global, &source, new, now).await,
            Command::List => list(global, &source, now).await,
            Command::Revoke { id } => revoke(global, &source, id, now).await,
        };
        source.close().await;
        done
    })
}

/// Whether the project's configuration lists tenants, and not this one.
fn unlisted(global: &Global, tenant: &str) -> bool {
    let env = Env::of_process(&global.project);
    let registry = wiring::kinds_for_check(&global.project);
    let config = config::load(&global.project, &env, &registry).ok().and_then(|c| c.config);
    config.is_some_and(|c| !c.tenants.is_empty() && !c.tenants.contains_key(tenant))
}

async fn create(global: &Global, source: &Source, new: &Create, now: UnixMillis) -> Result<(), Error> {
    let after = new.expires.map(time::millis);
    if after == Some(0) {
        return Err(Error::new("a key cannot expire at once", "give --expires a time such as 90d"));
    }
    let role = if new.admin { Role::Admin } else { Role::User };
    let (info, secret) = source.create_key(&new.name, &new.tenant, role, after, now).await?;
    if global.json {
        let mut value = to_json(&info, now);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("key".into(), secret.expose().into());
        }
        return print_json(&value);
    }
    print(secret.expose());
    let until = info.expires_at.map_or(String::new(), |at| format!(", until {}", time::show(at)));
    let what = if info.role == Role::Admin { "administrator's key" } else { "key" };
    let tenant = clean(info.tenant.as_str());
    // Beside the key, so that `KEY=$(forebay key create …)` is the key alone.
    let mut told = format!("{what} {} of tenant {tenant}{until}; it is shown this once\n", info.id);
    if matches!(source, Source::Folder(_)) && unlisted(global, info.tenant.as_str()) {
        told.push_str("note: forebay.yaml lists no such tenant: it has the limits of `default`\n");
    }
    let _ = std::io::stderr().write_all(told.as_bytes());
    Ok(())
}

async fn list(global: &Global, source: &Source, now: UnixMillis) -> Result<(), Error> {
    let keys = source.keys().await?;
    if global.json {
        let keys: Vec<Value> = keys.iter().map(|k| to_json(k, now)).collect();
        return print_json(&json!({"keys": keys}));
    }
    if keys.is_empty() {
        print("there are no keys; `forebay key create --name NAME --tenant TENANT` makes one");
        return Ok(());
    }
    let mut table = Table::new();
    let heads = ["id", "name", "tenant", "role", "created", "expires", "state"];
    table.load_style(presets::NOTHING).set_header(heads);
    for k in &keys {
        table.add_row([
            k.id.to_string(),
            clean(&k.name),
            clean(k.tenant.as_str()),
            k.role.as_str().to_owned(),
            time::show(k.created_at),
            k.expires_at.map_or_else(|| "never".into(), time::show),
            state(k, now).to_owned(),
        ]);
    }
    print(&table.trim_fmt());
    Ok(())
}

async fn revoke(global: &Global, source: &Source, id: &str, now: UnixMillis) -> Result<(), Error> {
    let info = source.revoke_key(id, now).await?;
    if global.json {
        return print_json(&to_json(&info, now));
    }
    let at = info.revoked_at.map_or_else(String::new, |at| format!(" at {}", time::show(at)));
    print(&format!("key {} ({}) was revoked{at}", info.id, clean(&info.name)));
    Ok(())
}

fn state(key: &KeyInfo, now: UnixMillis) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|at| at <= now) {
        "expired"
    } else {
        "active"
    }
}

/// What is known of a key; times in milliseconds since the epoch.
fn to_json(key: &KeyInfo, now: UnixMillis) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "role": key.role,
        "state": state(key, now),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    })
}
