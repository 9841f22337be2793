//! Which version answers, moved by people: `promote`, `rollback`, `kill`.

use clap::Args as Flags;
use models::gate::Approved;
use models::release::{Moved, Wanted, promote, roll_back, take_out};
use serde_json::json;

use super::super::storage::clean;
use super::super::{Global, print, print_json, time};
use super::registered::{Registry, failed, key};
use crate::Error;

/// `promote`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Promote {
    /// The registered model.
    name: String,
    /// The version that is to answer: one that its gate accepted, or that only waits for somebody's word.
    version: i64,
    /// The alias.
    #[arg(long, default_value = "champion")]
    alias: String,
    /// Whose word it is; the user of this machine unless given.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// In which role it is given; several may be named.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Why.
    #[arg(long, default_value = "")]
    reason: String,
}

/// `rollback`'s and `kill`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Alias {
    /// The registered model.
    name: String,
    /// The alias.
    #[arg(long, default_value = "champion")]
    alias: String,
}

fn user() -> String {
    let named = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "somebody".to_owned())
}

pub(super) async fn forward(global: &Global, args: &Promote) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let word = Approved {
        by: args.by.clone().unwrap_or_else(user),
        roles: args.roles.clone(),
        at: time::now(),
        said: args.reason.clone(),
    };
    let key = key(global)?;
    let public = key.public();
    let wanted = Wanted { name: &args.name, version: args.version, alias: &args.alias };
    let moved = promote(&registry.tracked, &registry.tenant, wanted, word, (&key, &public)).await;
    registry.close().await;
    told(global, (&args.name, &args.alias), moved.map_err(|e| failed(&e))?)
}

pub(super) async fn back(global: &Global, args: &Alias) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let moved = roll_back(&registry.tracked, &registry.tenant, &args.name, &args.alias, time::now()).await;
    registry.close().await;
    told(global, (&args.name, &args.alias), moved.map_err(|e| failed(&e))?)
}

fn told(global: &Global, (name, alias): (&str, &str), moved: Moved) -> Result<(), Error> {
    let Moved { from, to } = moved;
    if global.json {
        return print_json(&json!({"name": name, "alias": alias, "from": from, "to": to}));
    }
    let before = from.map_or_else(String::new, |from| format!(", and was version {from}"));
    print(&format!("{} of {} is version {to}{before}", clean(alias), clean(name)));
    Ok(())
}

pub(super) async fn kill(global: &Global, args: &Alias) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let stood = take_out(&registry.tracked, &registry.tenant, &args.name, &args.alias, time::now()).await;
    registry.close().await;
    let stood = stood.map_err(|e| failed(&e))?;
    if global.json {
        return print_json(&json!({"name": args.name, "alias": args.alias, "from": stood, "to": null}));
    }
    let (name, alias) = (clean(&args.name), clean(&args.alias));
    print(&match stood {
        Some(version) => format!(
            "{alias} of {name} stands for nothing, and was version {version}; `forebay models rollback {name}` brings it back"
        ),
        None => format!("{alias} of {name} stood for nothing already"),
    });
    Ok(())
}
