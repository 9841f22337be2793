//! A rule: what is too much, how sure it has to be, and what happens when nothing comes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::alarm::Quorum;

/// Which side of the threshold is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Large values: drift, errors, cost.
    #[default]
    Above,
    /// Small ones: AUC, volume.
    Below,
}

/// What it means when no usable sample has come for [`Rule::stale_after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoData {
    /// All is well: what fires clears.
    Ok,
    /// Nobody knows: what fires goes on, what is pending stays so.
    #[default]
    Keep,
    /// That is bad in itself.
    Alert,
}

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    #[default]
    Warning,
    /// To be acted on now.
    Critical,
}

/// Another rule whose firing makes this one not worth saying: stale data explains its drift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inhibition {
    /// The other rule.
    pub rule: String,
    /// Labels that have to be equal; one that both lack is.
    #[serde(default)]
    pub equal: Vec<String>,
}

/// When an alert that comes and goes is held on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flapping {
    /// Firing so often …
    pub times: u32,
    /// … within this long …
    pub within: Duration,
    /// … it has to be clear for this long before it is resolved.
    pub hold: Duration,
}

impl Default for Flapping {
    /// Three times in six hours: clear for an hour.
    fn default() -> Self {
        Flapping { times: 3, within: Duration::from_secs(6 * 3_600), hold: Duration::from_secs(3_600) }
    }
}

/// What is watched for. Its windows are the samples that it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Which side is bad.
    pub direction: Direction,
    /// From here on, inclusive, it is too much.
    pub fire: f64,
    /// Until here, inclusive, it is still too much for an alert that fires; `fire` when it is left out. On the good
    /// side of `fire`, so that a value that wavers around one threshold is one alert.
    pub clear: Option<f64>,
    /// How many windows have to be too much.
    pub quorum: Quorum,
    /// Samples (rows, requests) that a window needs to be looked at.
    pub min_samples: u64,
    /// How long it has to be too much before it fires.
    pub wait: Duration,
    /// How long it has to be well before it is resolved.
    pub keep: Duration,
    /// What it means when nothing comes.
    pub no_data: NoData,
    /// After how long nothing has come.
    pub stale_after: Duration,
    /// How loud.
    pub severity: Severity,
    /// Labels whose values make a group; alerts of one group go in one message, whatever their rule.
    pub group_by: Vec<String>,
    /// Rules that make this one not worth saying.
    pub inhibited_by: Vec<Inhibition>,
    /// When it is held on to.
    pub flapping: Flapping,
    /// What to do, for who reads the message.
    pub runbook: String,
}

impl Default for Rule {
    /// At most 0, one window, at once, kept while there are no data, which is after a day.
    fn default() -> Self {
        Rule {
            direction: Direction::Above,
            fire: 0.0,
            clear: None,
            quorum: Quorum::default(),
            min_samples: 0,
            wait: Duration::ZERO,
            keep: Duration::ZERO,
            no_data: NoData::Keep,
            stale_after: Duration::from_secs(86_400),
            severity: Severity::Warning,
            group_by: Vec::new(),
            inhibited_by: Vec::new(),
            flapping: Flapping::default(),
            runbook: String::new(),
        }
    }
}

impl Rule {
    /// Refuses a rule that contradicts itself.
    ///
    /// # Errors
    /// When a threshold is no number, `clear` is on the bad side of `fire`, the quorum can never be met, or data are
    /// stale at once.
    pub fn check(&self) -> Result<(), Error> {
        self.quorum.check()?;
        let setting = |name, why: String| Err(Error::Setting { name, why });
        let clear = self.clear.unwrap_or(self.fire);
        if !self.fire.is_finite() || !clear.is_finite() {
            return setting("fire", "a threshold is a finite number".into());
        }
        let bad_side = match self.direction {
            Direction::Above => clear > self.fire,
            Direction::Below => clear < self.fire,
        };
        if bad_side {
            let why = format!("{clear} is worse than {}: what fires would be clear", self.fire);
            return setting("clear", why);
        }
        if self.stale_after.is_zero() {
            return setting("stale_after", "data would be stale at once".into());
        }
        Ok(())
    }

    fn beyond(&self, value: f64, threshold: f64) -> bool {
        match self.direction {
            Direction::Above => value >= threshold,
            Direction::Below => value <= threshold,
        }
    }

    /// Whether a value is too much, and whether it is for an alert that fires.
    pub(super) fn judge(&self, value: f64) -> (bool, bool) {
        (self.beyond(value, self.fire), self.beyond(value, self.clear.unwrap_or(self.fire)))
    }
}
