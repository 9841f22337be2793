//! When somebody is told: the states of alerts, and what is sent of them.
//!
//! ```text
//! inactive ── m of n windows beyond `fire` ──▶ pending ── for `wait` ──▶ firing
//!    ▲  ▲                                        │                      │ below `clear` for `keep` (longer when it flaps)
//!    │  └──────────── no longer ─────────────────┘                      │
//!    └──────────────────────────── resolved ◀───────────────────────────┘
//! ```
//!
//! [`Alerts`] holds all of them. It is told samples and the time and gives back actions: what has changed, and what to
//! send. Alerts of a group go in one message; one that is silenced, or inhibited by another that fires, goes on through
//! its states and is not sent.
//!
//! Nothing is sent twice: a host writes the state and the messages down in one step, then sends. Whatever of this is
//! done again after a crash gives messages of the same ids (an id is a sum of what is said, not of when). Invariants:
//! an alert that fires and is neither silenced nor inhibited is sent; one that was sent is followed by one message that
//! it is resolved, unless it is silenced then; time never goes back in here, though the clock may.

mod board;
mod group;
mod machine;
mod rule;
mod silence;

pub use board::{Action, Alerts, AlertsSettings, Listed};
pub use group::{Notification, NotificationKind, Said};
pub use machine::{Alert, Because, Sample, State, Transition};
pub use rule::{Direction, Flapping, Inhibition, NoData, Rule, Severity};
pub use silence::{Matcher, Silence};

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One series of a rule: the rule and the labels of what it watches (model, feature, slice, …).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    /// The rule's name.
    pub rule: String,
    /// What the series is of.
    pub labels: BTreeMap<String, String>,
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{", self.rule)?;
        for (at, (name, value)) in self.labels.iter().enumerate() {
            let and = if at == 0 { "" } else { "," };
            write!(f, "{and}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}
