//! How often a model may be trained.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Why a model is to be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is time.
    Schedule,
    /// There is enough new data.
    Volume,
    /// What it sees has moved. Alone this may train, and never promotes.
    Drift,
    /// It has become worse.
    Performance,
    /// It treats groups less alike.
    Fairness,
    /// It is trained by other code now.
    Code,
    /// A person asks.
    Manual,
}

/// How often a model may be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrainSettings {
    /// How long the first reason waits for others.
    pub quiet: Duration,
    /// The least time from the end of a run to the start of the next.
    pub cooldown: Duration,
    /// Runs a day (UTC) that no person asked for.
    pub per_day: u32,
    /// Challengers rejected in a row after which no more are trained.
    pub rejected: u32,
    /// Failed runs in a row after which no more are tried.
    pub failed: u32,
}

impl Default for RetrainSettings {
    /// 15 minutes of quiet, 6 hours of rest, 2 a day, stop after 3 of either.
    fn default() -> Self {
        RetrainSettings {
            quiet: Duration::from_secs(900),
            cooldown: Duration::from_secs(6 * 3_600),
            per_day: 2,
            rejected: 3,
            failed: 3,
        }
    }
}

impl RetrainSettings {
    /// Refuses settings under which nothing would ever be trained.
    ///
    /// # Errors
    /// When a number is zero that has to be one at least.
    pub fn check(&self) -> Result<(), Error> {
        let zero = [("per_day", self.per_day), ("rejected", self.rejected), ("failed", self.failed)];
        match zero.into_iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(Error::Setting { name, why: "it is at least 1".into() }),
            None => Ok(()),
        }
    }
}
