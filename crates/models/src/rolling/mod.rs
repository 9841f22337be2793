//! Rollouts of registered models, kept and driven: [`crate::rollout`] decides, this saves what it decided with what that does.
//!
//! ```text
//! begin ─▶ state and alias `challenger` ─▶ (answers, labels, time, people) ─▶ change: read, decide, save ─┬─ saved: aliases moved, events kept
//!                                                              ▲                                          └─ somebody was first ─┐
//!                                                              └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The state is one text for each registered model. Whoever changes it reads it, decides, and saves it if nobody did meanwhile, in one
//! transaction with the aliases that move and the events. So there is no leader: every server tells what it saw, and all read who
//! answers whom [test: servers_that_tell_at_once_lose_nothing]. A process that dies leaves either all of a step or nothing.
//!
//! Invariants: an alias that a rollout moves is moved from the champion that it was compared with, or not at all; a rollout that ended
//! has an event that says how; time in which nobody drove counts for nothing.

mod ask;
mod collect;
mod score;

use std::time::Duration;

use contract::{TenantId, UnixMillis};
use pipeline::task;
use serde::{Deserialize, Serialize};
use store::tracking::{AliasMove, Refused, RolloutChange, RolloutEvent, Why};

pub use ask::{Begin, Begun, Happened, Opened, begin, happened, tell};
pub use collect::{Collector, Watched};
pub use score::{Said, agree, said_of};

use crate::Error;
use crate::rollout::{Action, Releases, Todo};
use crate::stages::Tracked;

/// The alias of a version that is being rolled out.
pub const CHALLENGER: &str = "challenger";

/// Who may drive and does not for longer was away, and all others with him.
const AWAY_MS: i64 = 5_000;
/// How often a change is decided anew because somebody was first. Servers save about once a second each: whoever is last of many gets
/// his turn well before this.
const TRIES: u64 = 40;
/// How much longer it is waited after each such try, and how long at most.
const PAUSE: Duration = Duration::from_millis(3);
const LONGEST: Duration = Duration::from_millis(50);
/// Words of an event after which a rollout is over.
pub const ENDS: [&str; 6] = ["promoted", "rolled_back", "invalid", "killed", "rejected", "superseded"];

/// The rollouts of a registered model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The alias of whoever answers.
    pub alias: String,
    /// The machine.
    pub releases: Releases,
    /// When somebody last drove it.
    pub driven: UnixMillis,
}

/// The same, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The revision.
    pub revision: i64,
    /// What they are.
    pub state: State,
}

/// The rollouts of a registered model; nothing when there never were any.
///
/// # Errors
/// A database that does not answer, or what was saved cannot be read.
pub async fn load(tracked: &Tracked, tenant: &TenantId, name: &str) -> Result<Option<Kept>, Error> {
    let Some(saved) = tracked.tracking.of(tenant).rollouts(name).await? else { return Ok(None) };
    read(name, saved.revision, &saved.state).map(Some)
}

/// A state out of its text.
///
/// # Errors
/// It is none.
pub fn read(name: &str, revision: i64, state: &str) -> Result<Kept, Error> {
    let state = serde_json::from_str(state)
        .map_err(|e| Refused::state(format!("the rollouts of `{name}` cannot be read: {e}")))?;
    Ok(Kept { revision, state })
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// How it is now.
    pub kept: Kept,
    /// What was done, in order.
    pub done: Vec<Todo>,
}

/// Changes rollouts: `decide` is asked again when somebody was first. Time in which nobody drove is taken out before.
///
/// # Errors
/// [`store::tracking::Why::Missing`] when there are none; what `decide` says; somebody always was first.
pub async fn change(
    tracked: &Tracked,
    tenant: &TenantId,
    name: &str,
    now: UnixMillis,
    mut decide: impl FnMut(&mut State) -> Result<Vec<Todo>, Error>,
) -> Result<Changed, Error> {
    for tried in 0..TRIES {
        let Some(Kept { revision, mut state }) = load(tracked, tenant, name).await? else {
            return Err(Refused::missing(format!("`{name}` has no rollout")).into());
        };
        let champion = state.releases.champion().to_owned();
        if now.0.saturating_sub(state.driven.0) > AWAY_MS {
            // What this asks for is what traffic is made of anyway: the state itself.
            let _ = state.releases.resume(now);
        }
        let done = decide(&mut state)?;
        state.driven = state.driven.max(now);
        let save = Save { revision, state: &state, champion: &champion, done: &done, opened: None };
        if save.save(tracked, tenant, name, now).await? {
            return Ok(Changed { kept: Kept { revision: revision + 1, state }, done });
        }
        pause(tried).await;
    }
    Err(Refused::state(format!("the rollouts of `{name}` change again and again: try again")).into())
}

/// Lets others end what they began.
async fn pause(tried: u64) {
    let n = u32::try_from(tried).unwrap_or(u32::MAX);
    task::sleep(PAUSE.saturating_mul(n).min(LONGEST)).await;
}

/// What is about to be saved.
struct Save<'a> {
    revision: i64,
    state: &'a State,
    /// Who was the champion before.
    champion: &'a str,
    done: &'a [Todo],
    /// A rollout that begins with it.
    opened: Option<RolloutEvent>,
}

fn number(version: &str) -> Result<i64, Error> {
    let m = || Refused::state(format!("`{version}` is no version of a registered model"));
    version.parse().map_err(|_| m().into())
}

fn written<T: Serialize>(value: &T) -> Result<String, Error> {
    Ok(serde_json::to_string(value).map_err(std::io::Error::from)?)
}

impl Save<'_> {
    async fn save(
        &self,
        tracked: &Tracked,
        tenant: &TenantId,
        name: &str,
        now: UnixMillis,
    ) -> Result<bool, Error> {
        let of = tracked.tracking.of(tenant);
        let (mut events, mut moves): (Vec<RolloutEvent>, Vec<AliasMove>) =
            (self.opened.clone().into_iter().collect(), Vec::new());
        let mut ended = Vec::new();
        for Todo { challenger, action } in self.done {
            let version = number(challenger)?;
            if let Some(event) = action.event() {
                let (at, what) = (event.at.0, event.what.clone());
                events.push(RolloutEvent { version, at, what, event: written(event)? });
            }
            if let Action::Promote(_) = action {
                let from = Some(number(self.champion)?);
                moves.push(AliasMove { alias: self.state.alias.clone(), from, to: Some(version) });
            }
            if matches!(action, Action::Promote(_) | Action::RollBack(_)) {
                ended.push(version);
            }
        }
        let opened = self.opened.as_ref().map(|o| o.version);
        if opened.is_some() || !ended.is_empty() {
            let stands = match of.registered(name).await {
                Ok(model) => model.aliases.iter().find(|(alias, _)| alias == CHALLENGER).map(|(_, v)| *v),
                // The model was removed or renamed: what ends, ends.
                Err(store::Error::Refused(Refused { why: Why::Missing, .. })) if opened.is_none() => None,
                Err(e) => return Err(e.into()),
            };
            let under_way = self.state.releases.rollouts().last().map(|r| number(r.challenger()));
            let to = opened.map(Ok).or(under_way).transpose()?;
            if stands != to && (opened.is_some() || stands.is_some_and(|v| ended.contains(&v))) {
                moves.push(AliasMove { alias: CHALLENGER.to_owned(), from: stands, to });
            }
        }
        let state = written(self.state)?;
        let change = RolloutChange { revision: self.revision, state: &state, events: &events, moves: &moves };
        Ok(of.save_rollouts(name, change, now.0).await?)
    }
}
