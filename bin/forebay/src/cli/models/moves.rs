//! Which version answers, moved by people: `promote`, `rollback`, `kill`.

use clap::Args as Flags;
use models::gate::Approved;
use models::release::{Moved, Wanted, promote, roll_back, take_out};
use models::rollout::Input;
use serde_json::json;

use super::super::storage::clean;
use super::super::{Global, print, print_json, time};
use super::registered::{Registry, failed, key};
use super::rollouts;
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

/// `kill`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Kill {
    #[command(flatten)]
    of: Alias,
    /// A version that is being rolled out: it is stopped, and the alias stays.
    version: Option<i64>,
    /// Whose word it is; the user of this machine unless given.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Why.
    #[arg(long, default_value = "no reason was given")]
    reason: String,
}

/// `rollback`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Alias {
    /// The registered model.
    name: String,
    /// The alias.
    #[arg(long, default_value = "champion")]
    alias: String,
}

pub(super) fn user() -> String {
    let named = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "somebody".to_owned())
}

pub(super) async fn forward(global: &Global, args: &Promote) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    if rollouts::under_way(&registry, &args.name, Some(args.version)).await? {
        registry.close().await;
        let (name, version) = (clean(&args.name), args.version);
        let message = format!("version {version} of {name} is being rolled out");
        let help = "`forebay models rollout promote` moves it on where it is held, `forebay models rollout abort` ends it";
        return Err(Error::new(message, help));
    }
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
    let stands = format!("version {}", args.version);
    told(global, (&args.name, &args.alias), moved.map_err(|e| failed(&e))?, &stands)
}

pub(super) async fn back(global: &Global, args: &Alias) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    // Whoever goes back while a version comes means that one.
    if rollouts::under_way(&registry, &args.name, None).await? {
        let input = Input::RollBack { by: user(), why: "somebody went back".to_owned() };
        let changed = rollouts::tell_it(&registry, (&args.name, None), &input).await;
        registry.close().await;
        return rollouts::told(global, &args.name, changed?);
    }
    let moved = roll_back(&registry.tracked, &registry.tenant, &args.name, &args.alias, time::now()).await;
    let stands = match &moved {
        Ok(moved) => registry.named(&args.name, moved.to).await,
        Err(_) => String::new(),
    };
    registry.close().await;
    told(global, (&args.name, &args.alias), moved.map_err(|e| failed(&e))?, &stands)
}

fn told(global: &Global, (name, alias): (&str, &str), moved: Moved, stands: &str) -> Result<(), Error> {
    let Moved { from, to } = moved;
    if global.json {
        return print_json(&json!({"name": name, "alias": alias, "from": from, "to": to}));
    }
    let before = from.map_or_else(String::new, |from| format!(", and was version {from}"));
    print(&format!("{} of {} is {stands}{before}", clean(alias), clean(name)));
    Ok(())
}

pub(super) async fn kill(global: &Global, args: &Kill) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let Kill { of: args, version, by, reason } = args;
    if version.is_some() || rollouts::under_way(&registry, &args.name, None).await? {
        let input = Input::Kill { by: by.clone().unwrap_or_else(user), why: reason.clone() };
        let changed = rollouts::tell_it(&registry, (&args.name, *version), &input).await;
        if version.is_some() || changed.is_err() {
            registry.close().await;
            return rollouts::told(global, &args.name, changed?);
        }
    }
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
