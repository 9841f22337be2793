//! `choose`: another model comes to answer to a name, through the rollout that the configuration gives the choice, or at once.

use clap::Args as Flags;
use models::choice;
use models::rolling::{Begin, Begun, begin};
use models::rollout::Settings;
use models::stages::find;
use serde_json::json;

use super::super::storage::clean;
use super::super::{Global, print, print_json, project, time};
use super::moves::user;
use super::registered::{Registry, failed};
use super::rollouts;
use crate::Error;
use crate::config::model::ModelConfig;

/// `choose`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Args {
    /// The choice, as the configuration names it.
    name: String,
    /// The model that is to answer: one of the choice's.
    model: String,
    /// Everybody is answered by it at once, without the rollout that the configuration says.
    #[arg(long)]
    now: bool,
    /// Whose word it is; the user of this machine unless given.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
}

/// What came of it.
enum Came {
    Rolls,
    Answers(Option<i64>),
    Answered,
}

pub(super) async fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let config = project::checked_but_for_models(global)?;
    let Args { name, model, now, by } = args;
    let Some(of) = config.models.get(name).filter(|m| m.is_choice()) else {
        let choices = config.models.iter().filter(|(_, m)| m.is_choice());
        let all: Vec<&str> = choices.map(|(name, _)| name.as_str()).collect();
        let help = match all.as_slice() {
            [] => "give `models` an entry such as `writer: {choice: [small, large]}`".to_owned(),
            all => format!("the choices are {}", all.join(", ")),
        };
        return Err(Error::new(format!("there is no choice `{}`", clean(name)), help));
    };
    if !of.choice.contains(model) {
        let message = format!("`{}` does not answer to `{}`", clean(model), clean(name));
        return Err(Error::new(
            message,
            format!("its models are {}; add it to the configuration", of.choice.join(", ")),
        ));
    }
    let by = by.clone().unwrap_or_else(user);
    let registry = Registry::open(global).await?;
    let came = choose(&registry, (name, of), (model, &by), *now).await;
    registry.close().await;
    let (version, came) = came?;
    told(global, (name, model), version, &came)
}

async fn choose(
    registry: &Registry,
    (name, of): (&str, &ModelConfig),
    (model, by): (&str, &str),
    at_once: bool,
) -> Result<(i64, Came), Error> {
    let (tracked, tenant, now) = (&registry.tracked, &registry.tenant, time::now());
    let failed = |e: models::Error| failed(&e);
    if let Some(first) = of.choice.first() {
        choice::begin(tracked, tenant, (name, of.alias()), first, now).await.map_err(failed)?;
    }
    let version = choice::version_of(tracked, tenant, (name, model), now).await.map_err(failed)?;
    if rollouts::under_way(registry, name, Some(version)).await? {
        let message = format!("`{}` is coming to answer `{}` already", clean(model), clean(name));
        let help = format!(
            "`forebay models rollout show {name}` says how far it is; to let it answer everybody at once, end that first (`forebay models rollout abort {name}`) and choose with --now",
            name = clean(name)
        );
        return Err(Error::new(message, help));
    }
    if rollouts::under_way(registry, name, None).await? {
        let message = format!("another model is coming to answer `{}`", clean(name));
        return Err(Error::new(
            message,
            format!("end it first: `forebay models rollout abort {}`", clean(name)),
        ));
    }
    if let Some(rollout) = of.rollout.as_ref().filter(|_| !at_once) {
        let settings = Settings::new(rollout).map_err(|all| {
            let first = all.into_iter().next();
            let (message, remedy) = first.map_or_else(Default::default, |p| (p.message, p.remedy));
            Error::new(format!("the rollout of `{name}` makes no sense: {message}"), remedy)
        })?;
        let key = format!("{by} at {}", now.0);
        let wanted = Begin { name, alias: of.alias(), version, settings, key: &key };
        let begun = begin(tracked, tenant, wanted, now).await.map_err(failed)?;
        let came = match begun {
            Begun::UnderWay | Begun::Ended(_) => Came::Rolls,
            Begun::First => Came::Answers(None),
            Begun::Champion => Came::Answered,
        };
        return Ok((version, came));
    }
    let before = find(tracked, tenant, name, Ok(of.alias())).await.map_err(failed)?.map(|v| v.version);
    if before == Some(version) {
        return Ok((version, Came::Answered));
    }
    let of_tenant = tracked.tracking.of(tenant);
    let moved = of_tenant.move_alias(name, of.alias(), (before, version), now.0).await;
    if !moved.map_err(|e| failed(e.into()))? {
        return Err(Error::new(
            format!("somebody else moved `{}` at the same time", clean(name)),
            "look, and say it again",
        ));
    }
    Ok((version, Came::Answers(before)))
}

fn told(global: &Global, (name, model): (&str, &str), version: i64, came: &Came) -> Result<(), Error> {
    if global.json {
        let came = match came {
            Came::Rolls => "rollout",
            Came::Answers(_) => "answers",
            Came::Answered => "unchanged",
        };
        return print_json(&json!({"name": name, "model": model, "version": version, "came": came}));
    }
    let (name, model) = (clean(name), clean(model));
    print(&match came {
        Came::Rolls => format!(
            "{model} (version {version}) comes to answer {name}: `forebay models rollout show {name}` says how far it is"
        ),
        Came::Answers(before) => {
            let before = before.map_or_else(String::new, |before| format!(", and was version {before}"));
            format!("{model} answers {name} (version {version}{before})")
        }
        Came::Answered => format!("{model} answers {name} already (version {version})"),
    });
    Ok(())
}
