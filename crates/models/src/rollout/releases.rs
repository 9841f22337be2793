//! All rollouts of one name: several in the shadow, one canary at a time, the others in line.

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::assign::Arm;
use super::state::{Action, End, Input, Phase, Rollout};

/// The rollouts of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Releases {
    champion: String,
    rollouts: Vec<Rollout>,
}

/// What is to be done for one of the rollouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Todo {
    /// For which version.
    pub challenger: String,
    /// What.
    pub action: Action,
}

/// Who answers a request, and who answers it unheard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// The version that answers.
    pub version: &'a str,
    /// The side that it counts for.
    pub arm: Arm,
    /// The step that it counts for, when there is a canary.
    pub step: Option<usize>,
    /// Versions that get a copy.
    pub shadows: Vec<&'a str>,
}

/// Why a rollout cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// There is one of that version.
    #[error("begin the rollout: one of this version is under way")]
    UnderWay,
    /// It is compared with another champion.
    #[error("begin the rollout: it is compared with a version that is not the champion")]
    OtherChampion,
    /// It is the champion.
    #[error("begin the rollout: this version is the champion")]
    IsChampion,
}

impl Releases {
    /// None yet.
    pub fn new(champion: &str) -> Releases {
        Releases { champion: champion.to_owned(), rollouts: Vec::new() }
    }

    /// Who answers.
    pub fn champion(&self) -> &str {
        &self.champion
    }

    /// Those under way, in the order they began.
    pub fn rollouts(&self) -> &[Rollout] {
        &self.rollouts
    }

    /// Takes a rollout that has just begun. What [`Rollout::begin`] wants done is done by the caller.
    ///
    /// # Errors
    /// [`BeginError`]; then nothing changes.
    pub fn add(&mut self, rollout: Rollout, now: UnixMillis) -> Result<Vec<Todo>, BeginError> {
        if rollout.challenger() == self.champion {
            return Err(BeginError::IsChampion);
        }
        if rollout.champion() != self.champion {
            return Err(BeginError::OtherChampion);
        }
        if self.rollouts.iter().any(|r| r.challenger() == rollout.challenger()) {
            return Err(BeginError::UnderWay);
        }
        self.rollouts.push(rollout);
        let mut todo = Vec::new();
        self.line(now, &mut todo);
        Ok(todo)
    }

    /// Takes what happened to one of them. Those that ended are forgotten, those that are in line come up.
    pub fn apply(&mut self, challenger: &str, now: UnixMillis, input: Input) -> Vec<Todo> {
        let mut todo = Vec::new();
        self.tell(challenger, now, input, &mut todo);
        self.line(now, &mut todo);
        todo
    }

    /// Another version became the champion in some other way: an alias was moved back, say.
    pub fn champion_changed(&mut self, to: &str, now: UnixMillis) -> Vec<Todo> {
        let mut todo = Vec::new();
        self.crown(to.to_owned(), now, &mut todo);
        self.line(now, &mut todo);
        todo
    }

    /// Goes on after the process was away.
    pub fn resume(&mut self, now: UnixMillis) -> Vec<Todo> {
        let mut todo = Vec::new();
        for rollout in &mut self.rollouts {
            let actions = rollout.resume(now);
            todo.extend(
                actions.into_iter().map(|action| Todo { challenger: rollout.challenger.clone(), action }),
            );
        }
        todo
    }

    /// Who answers a user.
    pub fn route(&self, entity: &str) -> Route<'_> {
        let shadows = self.rollouts.iter().filter(|r| r.shadows()).map(Rollout::challenger).collect();
        let Some(canary) = self.rollouts.iter().find(|r| r.split().canary > 0) else {
            return Route { version: &self.champion, arm: Arm::Champion, step: None, shadows };
        };
        let arm = canary.split().assign(&canary.salt(), entity);
        let version = if arm == Arm::Canary { canary.challenger() } else { &self.champion };
        Route { version, arm, step: canary.reached, shadows }
    }

    fn tell(&mut self, challenger: &str, now: UnixMillis, input: Input, todo: &mut Vec<Todo>) {
        let Some(at) = self.rollouts.iter().position(|r| r.challenger() == challenger) else { return };
        let Some(rollout) = self.rollouts.get_mut(at) else { return };
        let actions = rollout.apply(now, input);
        todo.extend(actions.into_iter().map(|action| Todo { challenger: challenger.to_owned(), action }));
        if let Phase::Ended(end) = *rollout.phase() {
            self.rollouts.remove(at);
            if end == End::Promoted {
                self.crown(challenger.to_owned(), now, todo);
            }
        }
    }

    fn crown(&mut self, to: String, now: UnixMillis, todo: &mut Vec<Todo>) {
        self.champion.clone_from(&to);
        let all: Vec<String> = self.rollouts.iter().map(|r| r.challenger.clone()).collect();
        for challenger in all.iter().filter(|c| **c != to) {
            self.tell(challenger, now, Input::ChampionChanged { to: to.clone() }, todo);
        }
        self.rollouts.retain(|r| r.challenger != to);
    }

    /// Lets the first in line answer some, when nobody does.
    fn line(&mut self, now: UnixMillis, todo: &mut Vec<Todo>) {
        if self.rollouts.iter().any(|r| r.reached.is_some()) {
            return;
        }
        let ready = self.rollouts.iter().filter(|r| *r.phase() == Phase::Ready);
        let first = ready.min_by_key(|r| r.since).map(|r| r.challenger.clone());
        if let Some(challenger) = first {
            self.tell(&challenger, now, Input::Enter, todo);
        }
    }
}
