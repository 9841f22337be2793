//! Rollouts as commands see them: `rollouts`, `rollout show|hold|resume|promote|abort`. Whatever is said is saved at once; servers follow
//! within a second.

use clap::{Args as Flags, Subcommand};
use models::rolling::{self, Changed, Happened, Kept, happened, tell};
use models::rollout::{Hold, Input, Phase, Report, Rollout};
use serde_json::{Value as Json, json};

use super::super::storage::clean;
use super::super::{Global, print, print_json, time};
use super::moves::user;
use super::registered::{Registry, failed};
use crate::Error;
use crate::config::units::Time;

/// `rollout`'s arguments.
#[derive(Debug, Flags)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show who answers whom, how the rollout stands, and what happened.
    Show(Which),
    /// Let it go no further by itself; what is seen can still end it.
    Hold(Word),
    /// Let what is held go on.
    Resume(Resume),
    /// Say yes to what is asked, or move on what is held though nothing was proven.
    Promote(Word),
    /// Take it back: the champion answers everybody.
    Abort(Word),
}

#[derive(Debug, Flags)]
struct Which {
    /// The registered model.
    name: String,
    /// The version that comes; the one that does unless given.
    version: Option<i64>,
}

#[derive(Debug, Flags)]
struct Word {
    #[command(flatten)]
    which: Which,
    /// Whose word it is; the user of this machine unless given.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Why.
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Debug, Flags)]
struct Resume {
    #[command(flatten)]
    word: Word,
    /// How much more time it has before it is held again.
    #[arg(long = "for", value_name = "TIME", default_value = "1d")]
    time: Time,
}

pub(super) async fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let done = match &args.command {
        Command::Show(which) => show(global, &registry, which).await,
        Command::Hold(word) => said(global, &registry, word, |by, why| Input::Hold { by, why }).await,
        Command::Resume(Resume { word, time }) => {
            let ms = time::millis(*time);
            said(global, &registry, word, |by, _| Input::Extend { by, ms }).await
        }
        Command::Promote(word) => promote(global, &registry, word).await,
        Command::Abort(word) => said(global, &registry, word, |by, why| Input::RollBack { by, why }).await,
    };
    registry.close().await;
    done
}

async fn load(registry: &Registry, name: &str) -> Result<Option<Kept>, Error> {
    rolling::load(&registry.tracked, &registry.tenant, name).await.map_err(|e| failed(&e))
}

/// The rollouts of a model that are under way: that of a version, or all.
fn chosen(kept: Option<&Kept>, version: Option<i64>) -> impl Iterator<Item = &Rollout> {
    let own = version.map(|v| v.to_string());
    let all = kept.into_iter().flat_map(|k| k.state.releases.rollouts());
    all.filter(move |r| own.as_deref().is_none_or(|v| v == r.challenger()))
}

/// `rollouts`: those that are under way.
pub(super) async fn list(global: &Global) -> Result<(), Error> {
    let registry = Registry::open(global).await?;
    let found = registry.tracked.tracking.of(&registry.tenant).all_rollouts().await;
    registry.close().await;
    let mut all = Vec::new();
    for saved in found.map_err(|e| failed(&e.into()))? {
        let kept = rolling::read(&saved.name, saved.revision, &saved.state).map_err(|e| failed(&e))?;
        all.extend(kept.state.releases.rollouts().iter().map(|r| (saved.name.clone(), r.clone())));
    }
    if global.json {
        let all: Vec<Json> = all.iter().map(|(name, r)| object(name, r)).collect();
        return print_json(&json!({"rollouts": all}));
    }
    if all.is_empty() {
        print("nothing is being rolled out");
    }
    for (name, rollout) in &all {
        print(&line(name, rollout));
    }
    Ok(())
}

fn phase(rollout: &Rollout) -> String {
    let percent = f64::from(rollout.split().canary) / 100.0;
    match rollout.phase() {
        Phase::Shadow => "answers unheard".to_owned(),
        Phase::Waiting(_) => "waits for somebody's word (`forebay models rollout promote`)".to_owned(),
        Phase::Ready => "is ready, and waits until no other canary answers".to_owned(),
        Phase::Canary(step) => format!("answers {percent} % (step {})", step + 1),
        Phase::Ended(_) => "is over".to_owned(),
    }
}

fn held(rollout: &Rollout) -> Option<&'static str> {
    rollout.held().map(|hold| match hold {
        Hold::Inconclusive => "held: nothing is decided, and the time is over",
        Hold::NoData => "held: too little came in, and the time is over",
        Hold::Disagrees => "held: it disagrees with the champion more than it may",
        Hold::Asked => "held: somebody asked for it",
    })
}

fn line(name: &str, rollout: &Rollout) -> String {
    let held = held(rollout).map(|h| format!("; {h}")).unwrap_or_default();
    let (version, champion) = (clean(rollout.challenger()), clean(rollout.champion()));
    format!("{} version {version} beside {champion}: {}{held}", clean(name), phase(rollout))
}

fn object(name: &str, rollout: &Rollout) -> Json {
    json!({
        "name": name,
        "version": rollout.challenger(),
        "champion": rollout.champion(),
        "phase": rollout.phase(),
        "held": rollout.held(),
        "split": rollout.split(),
        "report": rollout.report(),
    })
}

fn event(one: &Happened) -> Json {
    json!({
        "at": time::show(one.at),
        "version": one.version,
        "what": one.what,
        "sentence": one.event.as_ref().map(|e| &e.sentence),
        "report": one.event.as_ref().map(|e| &e.report),
    })
}

fn evidence(report: &Report) {
    for metric in &report.metrics {
        print(&format!("  {}", clean(&metric.sentence())));
    }
    for guard in &report.guardrails {
        print(&format!("  {}", clean(&guard.sentence())));
    }
    if let Some(ratio) = &report.ratio {
        print(&format!("  {} units of the canary, {} of the control", ratio.first, ratio.second));
    }
    if let Some(agreed) = report.shadow_agreed {
        let (compared, dropped) = (report.shadow_compared, report.shadow_dropped);
        print(&format!(
            "  unheard: {compared} answers compared, {:.1} % agreed, {dropped} copies dropped",
            agreed * 100.0
        ));
    }
}

async fn show(global: &Global, registry: &Registry, which: &Which) -> Result<(), Error> {
    let Which { name, version } = which;
    let kept = load(registry, name).await?;
    let all = happened(&registry.tracked, &registry.tenant, name, *version).await.map_err(|e| failed(&e))?;
    let under_way: Vec<&Rollout> = chosen(kept.as_ref(), *version).collect();
    if global.json {
        let rollouts: Vec<Json> = under_way.iter().map(|r| object(name, r)).collect();
        let events: Vec<Json> = all.iter().map(event).collect();
        let champion = kept.as_ref().map(|k| k.state.releases.champion());
        return print_json(
            &json!({"name": name, "champion": champion, "rollouts": rollouts, "events": events}),
        );
    }
    if under_way.is_empty() && all.is_empty() {
        print(&format!("{} was never rolled out", clean(name)));
    }
    for rollout in under_way {
        print(&line(name, rollout));
        evidence(&rollout.report());
    }
    for one in &all {
        let sentence = one.event.as_ref().map_or("the rollout begins", |e| &e.sentence);
        print(&format!(
            "{}  version {}  {}: {}",
            time::show(one.at),
            one.version,
            clean(&one.what),
            clean(sentence)
        ));
    }
    let last = all.last().filter(|one| rolling::ENDS.contains(&one.what.as_str()));
    if let Some(end) = last.and_then(|one| one.event.as_ref()) {
        evidence(&end.report);
    }
    Ok(())
}

/// Yes to what is asked, or on with what is held.
async fn promote(global: &Global, registry: &Registry, word: &Word) -> Result<(), Error> {
    let Which { name, version } = &word.which;
    let kept = load(registry, name).await?;
    let found = chosen(kept.as_ref(), *version).next();
    let waits = found.is_some_and(|r| matches!(r.phase(), Phase::Waiting(_)));
    if let Some(rollout) = found.filter(|r| !waits && r.held().is_none()) {
        let message = format!("{}: nobody is asked, and nothing is held", line(name, rollout));
        return Err(Error::new(
            message,
            "it goes on by itself when enough is known and its time is over: `at_least` of its step, `bake` where it answers everybody",
        ));
    }
    said(
        global,
        registry,
        word,
        |by, why| {
            if waits { Input::Approve { by } } else { Input::Override { by, why } }
        },
    )
    .await
}

async fn said(
    global: &Global,
    registry: &Registry,
    word: &Word,
    input: impl FnOnce(String, String) -> Input,
) -> Result<(), Error> {
    let Which { name, version } = &word.which;
    let by = word.by.clone().unwrap_or_else(user);
    let why = if word.reason.is_empty() { "no reason was given".to_owned() } else { word.reason.clone() };
    let input = input(by, why);
    told(global, name, tell_it(registry, (name, *version), &input).await?)
}

/// Tells rollouts something.
pub(super) async fn tell_it(
    registry: &Registry,
    of: (&str, Option<i64>),
    input: &Input,
) -> Result<Changed, Error> {
    tell(&registry.tracked, &registry.tenant, of, time::now(), input).await.map_err(|e| failed(&e))
}

/// Whether something of that model is being rolled out: that version, or any.
pub(super) async fn under_way(registry: &Registry, name: &str, version: Option<i64>) -> Result<bool, Error> {
    Ok(chosen(load(registry, name).await?.as_ref(), version).next().is_some())
}

/// What was done.
pub(super) fn told(global: &Global, name: &str, changed: Changed) -> Result<(), Error> {
    let done = changed.done.iter().filter_map(|todo| Some((&todo.challenger, todo.action.event()?)));
    let done: Vec<_> = done.collect();
    if global.json {
        let all: Vec<Json> = done
            .iter()
            .map(|(version, e)| json!({"version": version, "what": e.what, "sentence": e.sentence}))
            .collect();
        let champion = changed.kept.state.releases.champion();
        return print_json(&json!({"name": name, "champion": champion, "done": all}));
    }
    if done.is_empty() {
        print("nothing changed: it says nothing about where the rollout is");
    }
    for (version, event) in done {
        print(&format!("{} version {}: {}", clean(name), clean(version), clean(&event.sentence)));
    }
    Ok(())
}
