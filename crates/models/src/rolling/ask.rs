//! What stages and people do: begin a rollout, tell it something, read what happened.

use contract::{TenantId, UnixMillis};
use serde::{Deserialize, Serialize};
use store::tracking::{Refused, RolloutEvent};

use super::{Changed, Save, State, TRIES, change, load, pause, written};
use crate::Error;
use crate::rollout::{Event, Input, Releases, Rollout, Settings, Subject, SubjectKind, Todo};
use crate::stages::{Tracked, find};

/// A rollout that is to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Begin<'a> {
    /// The registered model.
    pub name: &'a str,
    /// The alias of whoever answers.
    pub alias: &'a str,
    /// The version that comes.
    pub version: i64,
    /// How.
    pub settings: Settings,
    /// Who begins it, in a text that is his own: of two who say the same the second finds the rollout of the first.
    pub key: &'a str,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// It is under way.
    UnderWay,
    /// There was no champion to compare with: it is the champion now.
    First,
    /// It is the champion already.
    Champion,
    /// Whoever said the same began it, and it has ended so.
    Ended(Box<Event>),
}

/// What is kept of the beginning of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// [`Begin::key`].
    pub key: String,
    /// The version that it is compared with.
    pub champion: String,
    /// How.
    pub settings: Settings,
}

/// The word of its event.
const OPENED: &str = "opened";
/// Events that are read at once.
const EVENTS: u32 = 1_000;

/// Something that happened, as it was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// The version that comes.
    pub version: i64,
    /// When.
    pub at: UnixMillis,
    /// What, in a word.
    pub what: String,
    /// All of it; nothing of the beginning.
    pub event: Option<Event>,
}

/// What happened in the rollouts of a model, or of one of its versions, oldest first.
///
/// # Errors
/// A database that does not answer.
pub async fn happened(
    tracked: &Tracked,
    tenant: &TenantId,
    name: &str,
    version: Option<i64>,
) -> Result<Vec<Happened>, Error> {
    let found = tracked.tracking.of(tenant).rollout_events(name, version, EVENTS).await?;
    let one = |e: RolloutEvent| Happened {
        version: e.version,
        at: UnixMillis(e.at),
        event: serde_json::from_str(&e.event).ok(),
        what: e.what,
    };
    Ok(found.into_iter().map(one).collect())
}

/// How the rollout that began under a key ended, if there is one: `Some(None)` while it is under way.
async fn ended(
    tracked: &Tracked,
    tenant: &TenantId,
    begin: &Begin<'_>,
) -> Result<Option<Option<Event>>, Error> {
    let of = tracked.tracking.of(tenant);
    let all = of.rollout_events(begin.name, Some(begin.version), EVENTS).await?;
    let is_own = |e: &RolloutEvent| {
        e.what == OPENED && serde_json::from_str::<Opened>(&e.event).is_ok_and(|o| o.key == begin.key)
    };
    let Some(at) = all.iter().position(is_own) else { return Ok(None) };
    let behind = all.iter().skip(at + 1).take_while(|e| e.what != OPENED);
    let end = behind.filter(|e| super::ENDS.contains(&e.what.as_str())).last();
    Ok(Some(end.and_then(|e| serde_json::from_str(&e.event).ok())))
}

/// Begins a rollout, once for each key.
///
/// # Errors
/// There is no such version, or another rollout of it is under way.
pub async fn begin(
    tracked: &Tracked,
    tenant: &TenantId,
    begin: Begin<'_>,
    now: UnixMillis,
) -> Result<Begun, Error> {
    for tried in 0..TRIES {
        match ended(tracked, tenant, &begin).await? {
            Some(None) => return Ok(Begun::UnderWay),
            Some(Some(end)) => return Ok(Begun::Ended(Box::new(end))),
            None => {}
        }
        let champion = find(tracked, tenant, begin.name, Ok(begin.alias)).await?.map(|v| v.version);
        match champion {
            Some(number) if number == begin.version => return Ok(Begun::Champion),
            Some(number) => {
                if open(tracked, tenant, &begin, (number, now)).await? {
                    return Ok(Begun::UnderWay);
                }
            }
            None => {
                let of = tracked.tracking.of(tenant);
                if of.move_alias(begin.name, begin.alias, (None, begin.version), now.0).await? {
                    return Ok(Begun::First);
                }
            }
        }
        pause(tried).await;
    }
    Err(Refused::state(format!("the rollouts of `{}` change again and again: try again", begin.name)).into())
}

/// Adds it to the rollouts of its model: whether nobody was first.
async fn open(
    tracked: &Tracked,
    tenant: &TenantId,
    begin: &Begin<'_>,
    (champion, now): (i64, UnixMillis),
) -> Result<bool, Error> {
    let (challenger, champion) = (begin.version.to_string(), champion.to_string());
    let kept = load(tracked, tenant, begin.name).await?;
    let (revision, mut state) = match kept {
        Some(kept) => (kept.revision, kept.state),
        None => {
            let releases = Releases::new(&champion);
            (0, State { alias: begin.alias.to_owned(), releases, driven: now })
        }
    };
    if state.alias != begin.alias && !state.releases.rollouts().is_empty() {
        let m = format!("a rollout towards the alias `{}` is under way", state.alias);
        return Err(Refused::state(m).into());
    }
    begin.alias.clone_into(&mut state.alias);
    let mut done = Vec::new();
    let before = state.releases.champion().to_owned();
    if before != champion {
        done.extend(state.releases.champion_changed(&champion, now));
    }
    let subject = Subject { kind: SubjectKind::Model, name: begin.name.to_owned() };
    let (rollout, actions) = Rollout::begin(subject, (&challenger, &champion), begin.settings.clone(), now);
    done.extend(actions.into_iter().map(|action| Todo { challenger: challenger.clone(), action }));
    let added = state.releases.add(rollout, now);
    done.extend(added.map_err(|e| Error::from(Refused::state(format!("failed to {e}"))))?);
    state.driven = now;
    let opened =
        Opened { key: begin.key.to_owned(), champion: champion.clone(), settings: begin.settings.clone() };
    let opened =
        RolloutEvent { version: begin.version, at: now.0, what: OPENED.to_owned(), event: written(&opened)? };
    let save = Save { revision, state: &state, champion: &champion, done: &done, opened: Some(opened) };
    save.save(tracked, tenant, begin.name, now).await
}

/// Tells a rollout something: that of a version, or all that are under way.
///
/// # Errors
/// No rollout of it is under way.
pub async fn tell(
    tracked: &Tracked,
    tenant: &TenantId,
    (name, version): (&str, Option<i64>),
    now: UnixMillis,
    input: &Input,
) -> Result<Changed, Error> {
    change(tracked, tenant, name, now, |state| {
        let wanted = version.map(|v| v.to_string());
        let all = state.releases.rollouts().iter().map(|r| r.challenger().to_owned());
        let all: Vec<String> = all.filter(|c| wanted.as_ref().is_none_or(|w| w == c)).collect();
        if all.is_empty() {
            let which = wanted.map_or_else(String::new, |v| format!(" of version {v}"));
            return Err(Refused::missing(format!("no rollout{which} of `{name}` is under way")).into());
        }
        let told = all.iter().flat_map(|c| state.releases.apply(c, now, input.clone()));
        Ok(told.collect())
    })
    .await
}
