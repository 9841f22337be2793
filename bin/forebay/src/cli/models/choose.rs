//! `choose`: another model or pipeline comes to answer to a name, or another text of a prompt, through the rollout that the configuration gives the choice, or at once.

use clap::Args as Flags;
use models::choice::{self, Stand};
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
use crate::choosing::Options;
use crate::config::choice::ChoiceOf;

/// `choose`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Args {
    /// The choice or prompt, as the configuration names it.
    name: String,
    /// What is to answer: a model or pipeline of the choice; of a prompt a file, whose text becomes a version, or the number of one.
    what: String,
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
    let Args { name, what, now, by } = args;
    let Some(of) = config.all_choices().find(|of| of.name == name) else {
        let all: Vec<&str> = config.all_choices().map(|of| of.name).collect();
        let help = match all.as_slice() {
            [] => "give `models` an entry such as `writer: {choice: [small, large]}`, or see `choices` and `prompts`".to_owned(),
            all => format!("the choices are {}", all.join(", ")),
        };
        return Err(Error::new(format!("there is no choice `{}`", clean(name)), help));
    };
    let options = Options::of(&global.project, of.among)
        .map_err(|why| Error::new(why, "`forebay check` shows what is wrong"))?;
    let wanted = wanted(&options, name, what)?;
    let by = by.clone().unwrap_or_else(user);
    let registry = Registry::open(global).await?;
    let came = choose(&registry, (of, &options), (wanted, what, &by), *now).await;
    registry.close().await;
    let (version, came) = came?;
    told(global, (name, what), version, &came)
}

/// What is to answer.
enum Wanted {
    /// A version that there is.
    Version(i64),
    /// A model or pipeline.
    Named(String),
    /// A text.
    Text(String),
}

fn wanted(options: &Options, name: &str, what: &str) -> Result<Wanted, Error> {
    let Options::Named(kind, all) = options else {
        if let Ok(number) = what.parse() {
            return Ok(Wanted::Version(number));
        }
        // A file anywhere: it is read now, and never again.
        let text = std::fs::read_to_string(what).map_err(|e| {
            let help = "name a prompt file, or the number of a version (`forebay models show NAME`)";
            Error::new(format!("the prompt file `{}` cannot be read: {e}", clean(what)), help)
        })?;
        options.prompt(&text).map_err(|why| {
            Error::new(
                format!("`{}` is no text of the prompt `{}`: {why}", clean(what), clean(name)),
                "correct it",
            )
        })?;
        return Ok(Wanted::Text(text));
    };
    if all.iter().any(|own| own == what) {
        return Ok(Wanted::Named(what.to_owned()));
    }
    let message = format!("`{}` does not answer to `{}`", clean(what), clean(name));
    let help = format!("its {kind}s are {}; add it to the configuration", all.join(", "));
    Err(Error::new(message, help))
}

async fn choose(
    registry: &Registry,
    (of, options): (ChoiceOf<'_>, &Options),
    (wanted, what, by): (Wanted, &str, &str),
    at_once: bool,
) -> Result<(i64, Came), Error> {
    let (tracked, tenant, now) = (&registry.tracked, &registry.tenant, time::now());
    let ChoiceOf { name, alias, .. } = of;
    let failed = |e: models::Error| failed(&e);
    if let Some(first) = options.first() {
        choice::begin(tracked, tenant, (name, alias), first, now).await.map_err(failed)?;
    }
    let made = async |stand| choice::version_of(tracked, tenant, (name, stand), now).await.map_err(failed);
    let version = match &wanted {
        Wanted::Version(number) => there(registry, (name, *number), options).await?,
        Wanted::Named(option) => made(Stand::Named(option)).await?,
        Wanted::Text(text) => made(Stand::Prompt(text)).await?,
    };
    if rollouts::under_way(registry, name, Some(version)).await? {
        let message = format!("`{}` is coming to answer `{}` already", clean(what), clean(name));
        let help = format!(
            "`forebay models rollout show {name}` says how far it is; to let it answer everybody at once, end that first (`forebay models rollout abort {name}`) and choose with --now",
            name = clean(name)
        );
        return Err(Error::new(message, help));
    }
    if rollouts::under_way(registry, name, None).await? {
        let message = format!("something else is coming to answer `{}`", clean(name));
        return Err(Error::new(
            message,
            format!("end it first: `forebay models rollout abort {}`", clean(name)),
        ));
    }
    if let Some(rollout) = of.rollout.filter(|_| !at_once) {
        let settings = Settings::new(rollout).map_err(|all| {
            let first = all.into_iter().next();
            let (message, remedy) = first.map_or_else(Default::default, |p| (p.message, p.remedy));
            Error::new(format!("the rollout of `{name}` makes no sense: {message}"), remedy)
        })?;
        let key = format!("{by} at {}", now.0);
        let wanted = Begin { name, alias, version, settings, key: &key };
        let begun = begin(tracked, tenant, wanted, now).await.map_err(failed)?;
        let came = match begun {
            Begun::UnderWay | Begun::Ended(_) => Came::Rolls,
            Begun::First => Came::Answers(None),
            Begun::Champion => Came::Answered,
        };
        return Ok((version, came));
    }
    let before = find(tracked, tenant, name, Ok(alias)).await.map_err(failed)?.map(|v| v.version);
    if before == Some(version) {
        return Ok((version, Came::Answered));
    }
    let of_tenant = tracked.tracking.of(tenant);
    let moved = of_tenant.move_alias(name, alias, (before, version), now.0).await;
    if !moved.map_err(|e| failed(e.into()))? {
        return Err(Error::new(
            format!("somebody else moved `{}` at the same time", clean(name)),
            "look, and say it again",
        ));
    }
    Ok((version, Came::Answers(before)))
}

/// A version of a prompt that there is, when it may answer.
async fn there(registry: &Registry, (name, number): (&str, i64), options: &Options) -> Result<i64, Error> {
    let version = registry.version(name, &number.to_string()).await?;
    let text = choice::prompt_of(&version).map_err(|e| failed(&e))?;
    options.prompt(&text).map_err(|why| {
        let message = format!("version {number} cannot answer as `{}`: {why}", clean(name));
        Error::new(message, "choose another version, or correct the prompt")
    })?;
    Ok(number)
}

fn told(global: &Global, (name, what): (&str, &str), version: i64, came: &Came) -> Result<(), Error> {
    if global.json {
        let came = match came {
            Came::Rolls => "rollout",
            Came::Answers(_) => "answers",
            Came::Answered => "unchanged",
        };
        return print_json(&json!({"name": name, "chosen": what, "version": version, "came": came}));
    }
    let (name, what) = (clean(name), clean(what));
    print(&match came {
        Came::Rolls => format!(
            "{what} (version {version}) comes to answer {name}: `forebay models rollout show {name}` says how far it is"
        ),
        Came::Answers(before) => {
            let before = before.map_or_else(String::new, |before| format!(", and was version {before}"));
            format!("{what} answers {name} (version {version}{before})")
        }
        Came::Answered => format!("{what} answers {name} already (version {version})"),
    });
    Ok(())
}
