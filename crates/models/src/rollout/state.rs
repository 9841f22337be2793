//! The words of a rollout: its phases, what happens to it, what is to be done, and everything that is kept of it.

use std::collections::BTreeSet;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::assign::Split;
use super::config::{Point, Settings};
use super::report::Report;
use super::seen::{Batch, Guards, ShadowBatch, ShadowSeen, StepSeen};

/// What is rolled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// What kind of thing it is.
    pub kind: SubjectKind,
    /// Under which name it answers.
    pub name: String,
}

/// What kinds of things are rolled out: all in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// A predictive model.
    Model,
    /// A prompt.
    Prompt,
    /// A pipeline.
    Pipeline,
    /// The choice of a chat model.
    Llm,
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It answers unheard.
    Shadow,
    /// Somebody is asked.
    Waiting(Point),
    /// It may answer some, as soon as no other does ([`Input::Enter`]).
    Ready,
    /// It answers a share: the step, from zero.
    Canary(usize),
    /// It is over.
    Ended(End),
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It is the champion.
    Promoted,
    /// The champion answers again.
    RolledBack,
    /// The units were not divided as they were to be: nothing is known of it.
    Invalid,
    /// Somebody stopped it: nobody is to call it.
    Killed,
    /// Somebody who was asked said no.
    Rejected,
    /// The champion was replaced by another while it was compared with it.
    Superseded,
}

/// Why a rollout goes no further by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// What is known leaves it open, and the time is over.
    Inconclusive,
    /// Too little came in, and the time is over.
    NoData,
    /// It disagrees with the champion more than it may.
    Disagrees,
    /// Somebody asked for it.
    Asked,
}

/// What happens to a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Time passed.
    Tick,
    /// The shadow was looked at.
    Shadowed(ShadowBatch),
    /// The canary was looked at.
    Seen(Batch),
    /// No other canary is under way.
    Enter,
    /// Somebody says yes to what is asked.
    Approve {
        /// Who.
        by: String,
    },
    /// Somebody says no.
    Reject {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Somebody gives what is held more time.
    Extend {
        /// Who.
        by: String,
        /// How much, in milliseconds.
        ms: i64,
    },
    /// Somebody lets it go no further by itself, for as long as nobody lets it.
    Hold {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Somebody moves what is held on, though nothing was proven. It still has to have seen the samples.
    Override {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Somebody takes it back.
    RollBack {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Somebody stops it.
    Kill {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Another version is the champion now.
    ChampionChanged {
        /// Which.
        to: String,
    },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Divide traffic so, from now on.
    Split(Split),
    /// Copy requests to the challenger, or no longer.
    Shadow(bool),
    /// Ask people.
    Ask(Point),
    /// Tell people who can do something.
    Page(Event),
    /// Make it the champion; the old one stays warm until this is done.
    Promote(Event),
    /// The champion answers everybody, in one swap. Also when it was killed or invalid: the event says which.
    RollBack(Event),
    /// Keep it.
    Record(Event),
}

impl Action {
    /// The event that it keeps, if it keeps one.
    pub fn event(&self) -> Option<&Event> {
        match self {
            Action::Page(e) | Action::Promote(e) | Action::RollBack(e) | Action::Record(e) => Some(e),
            Action::Split(_) | Action::Shadow(_) | Action::Ask(_) => None,
        }
    }
}

/// Something that happened, with all that was known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: UnixMillis,
    /// What: `step`, `held`, `promoted`, `rolled_back`, …
    pub what: String,
    /// In a sentence.
    pub sentence: String,
    /// How it stood.
    pub report: Report,
}

/// A rollout: everything that is kept of one, and nothing else is needed to go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub(super) subject: Subject,
    pub(super) challenger: String,
    pub(super) champion: String,
    pub(super) settings: Settings,
    pub(super) phase: Phase,
    pub(super) held: Option<Hold>,
    /// When the phase began.
    pub(super) since: UnixMillis,
    /// The latest time there was.
    pub(super) last: UnixMillis,
    /// When the phase is held, if it is not over by then.
    pub(super) deadline: UnixMillis,
    /// The last step that was reached.
    pub(super) reached: Option<usize>,
    /// What was approved.
    pub(super) approved: BTreeSet<Point>,
    /// Whether a person moved it on though nothing was proven.
    #[serde(default)]
    pub(super) unproven: bool,
    pub(super) split: Split,
    pub(super) shadow: ShadowSeen,
    pub(super) guards: Guards,
    pub(super) steps: Vec<StepSeen>,
}

impl Rollout {
    /// What is rolled out.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The version that comes.
    pub fn challenger(&self) -> &str {
        &self.challenger
    }

    /// The version that it is compared with.
    pub fn champion(&self) -> &str {
        &self.champion
    }

    /// How it is rolled out.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Why it goes no further by itself, if it does not.
    pub fn held(&self) -> Option<Hold> {
        self.held
    }

    /// How traffic is divided.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Whether requests are copied to the challenger.
    pub fn shadows(&self) -> bool {
        self.settings.shadow_ms > 0
            && matches!(self.phase, Phase::Shadow | Phase::Waiting(Point::Canary) | Phase::Ready)
    }

    /// What users are divided by.
    pub fn salt(&self) -> String {
        self.settings.salt.clone().unwrap_or_else(|| format!("{}@{}", self.subject.name, self.challenger))
    }
}
