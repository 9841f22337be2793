//! `forebay key create|list|revoke`: API keys in the project's storage. A running server sees a change within a second.
//!
//! A secret is printed once, by `create`, and is kept nowhere.

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use comfy_table::{Table, presets};
use contract::{KeyId, TenantId, UnixMillis};
use serde_json::{Value, json};
use store::{KeyInfo, KeyStore as _, NewKey};

use super::storage::{self, Need, clean, failed};
use super::{Global, block_on, print, print_json, time};
use crate::Error;
use crate::config::units;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print it, this once.
    Create {
        /// For people: `ci`, `alice`.
        #[arg(long, value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// Who pays for what it asks.
        #[arg(long, value_parser = NonEmptyStringValueParser::new())]
        tenant: String,
        /// After how long it is refused, such as 90d. Unless given: never.
        #[arg(long, value_name = "TIME")]
        expires: Option<units::Time>,
    },
    /// List the keys, revoked ones included, without their secrets.
    List,
    /// Revoke a key for good.
    Revoke {
        /// The key's id, as listed.
        id: String,
    },
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    block_on(async {
        let now = time::now();
        match &args.command {
            Command::Create { name, tenant, expires } => create(global, name, tenant, *expires, now).await,
            Command::List => list(global, now).await,
            Command::Revoke { id } => revoke(global, id, now).await,
        }
    })
}

async fn create(
    global: &Global,
    name: &str,
    tenant: &str,
    expires: Option<units::Time>,
    now: UnixMillis,
) -> Result<(), Error> {
    let after = expires.map(time::millis);
    if after == Some(0) {
        return Err(Error::new("a key cannot expire at once", "give --expires a time such as 90d"));
    }
    let new = NewKey {
        name: name.to_owned(),
        tenant: TenantId::from(tenant),
        expires_at: after.map(|ms| UnixMillis(now.0.saturating_add(ms))),
    };
    let reader = storage::open(global, Need::Keys).await?;
    let made = store::create_key(&*reader.keys, new, now, store::os_random).await;
    reader.close().await;
    let (info, secret) = made.map_err(failed)?;
    if global.json {
        let mut value = to_json(&info, now);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("key".into(), secret.expose().into());
        }
        return print_json(&value);
    }
    print(secret.expose());
    let until = info.expires_at.map_or(String::new(), |at| format!(", until {}", time::show(at)));
    print(&format!("key {} of tenant {}{until}; it is shown this once", info.id, clean(tenant)));
    Ok(())
}

async fn list(global: &Global, now: UnixMillis) -> Result<(), Error> {
    let reader = storage::open(global, Need::Keys).await?;
    let listed = reader.keys.list().await;
    reader.close().await;
    let keys = listed.map_err(failed)?;
    if global.json {
        let keys: Vec<Value> = keys.iter().map(|k| to_json(k, now)).collect();
        return print_json(&json!({"keys": keys}));
    }
    if keys.is_empty() {
        print("there are no keys; `forebay key create --name NAME --tenant TENANT` makes one");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["id", "name", "tenant", "created", "expires", "state"]);
    for k in &keys {
        table.add_row([
            k.id.to_string(),
            clean(&k.name),
            clean(k.tenant.as_str()),
            time::show(k.created_at),
            k.expires_at.map_or_else(|| "never".into(), time::show),
            state(k, now).to_owned(),
        ]);
    }
    print(&table.trim_fmt());
    Ok(())
}

async fn revoke(global: &Global, id: &str, now: UnixMillis) -> Result<(), Error> {
    let reader = storage::open(global, Need::Keys).await?;
    let revoked = reader.keys.revoke(&KeyId::from(id), now).await;
    reader.close().await;
    let info = revoked.map_err(failed)?;
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
        "state": state(key, now),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    })
}
