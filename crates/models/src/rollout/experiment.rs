//! Experiments: several variants side by side, the same user always on the same one, and a verdict on each at any time.
//!
//! ```text
//! running ─▶ decided: every variant is better, worse or no different
//!    ├────▶ invalid: units are not divided by the weights
//!    └────▶ inconclusive: the time is over
//! ```
//!
//! A variant that is worse by more than matters is stopped at once: its users get the baseline, and count for nothing from then on. An
//! experiment never makes anything the champion: what won is rolled out, through its gate, like everything else.
//!
//! Invariants: weights never change, so that nobody is moved; verdicts hold over all looks, all variants and all metrics together with
//! the chance of error `alpha` [test: an_experiment_finds_no_winner_among_equals]; after an end nothing changes.

use std::collections::BTreeMap;

use contract::UnixMillis;
use pipeline::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::assign::place;
use super::config::{Better, MetricRule, Problem};
use super::moments::Moments;
use super::report::said;
use super::sequential::{Sequence, difference, division};

/// The chance of taking a sound division for an unsound one.
const DIVISION_LEVEL: f64 = 0.001;

/// An experiment, as it is written in a configuration.
///
/// ```yaml
/// variants: [{name: short}, {name: long}, {name: cheap, weight: 0.5}]
/// metrics: [{name: thumbs_up, kind: proportion, better: higher, margin: 0.02}]
/// at_most: 14d
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    /// What is compared. The first is the baseline, which all others are compared with.
    pub variants: Vec<Variant>,
    /// What decides: the first says who wins, the others must not be worse. A margin is the change that would matter.
    pub metrics: Vec<MetricRule>,
    /// The fewest values of a metric on either side before anything is said.
    #[serde(default = "hundred")]
    pub samples: u64,
    /// The longest time.
    pub at_most: Time,
    /// The chance of any wrong verdict, over the whole experiment, however often it is looked at.
    #[serde(default = "five_percent")]
    pub alpha: f64,
    /// What users are divided by, besides who they are. Give each experiment its own, or they are divided alike.
    pub salt: String,
}

fn hundred() -> u64 {
    100
}
fn five_percent() -> f64 {
    0.05
}
fn one() -> f64 {
    1.0
}

/// A variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name: a version, a prompt, a pipeline, a model.
    pub name: String,
    /// How many users it gets, against the others.
    #[serde(default = "one")]
    pub weight: f64,
}

/// What came in about variants since the last batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VariantBatch {
    /// Users that were seen for the first time.
    pub units: u64,
    /// Values of metrics, by name; one value a user.
    pub metrics: BTreeMap<String, Moments>,
}

/// Where an experiment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExperimentPhase {
    /// It goes on.
    Running,
    /// Every variant has a verdict.
    Decided,
    /// The time is over, and some have none.
    Inconclusive,
    /// Units are not divided by the weights: nothing is known.
    Invalid,
    /// Somebody ended it.
    Stopped,
}

/// What is known of a variant against the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Too little to say.
    Open,
    /// Better by the first metric, and not worse by any other.
    Better,
    /// Worse than the baseline.
    Worse,
    /// Not different by as much as matters.
    Equivalent,
}

/// How a variant stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantReport {
    /// Its name.
    pub name: String,
    /// Its users.
    pub units: u64,
    /// How much better it is than the baseline by each metric, whichever way is better, with the interval at all times.
    pub gains: BTreeMap<String, Sequence>,
    /// What follows.
    pub finding: Finding,
    /// Whether its users get the baseline by now.
    pub stopped: bool,
}

/// An experiment: everything that is kept of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    config: ExperimentConfig,
    arms: Vec<Seen>,
    phase: ExperimentPhase,
    ends: UnixMillis,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    units: u64,
    metrics: BTreeMap<String, Moments>,
    stopped: bool,
}

impl Experiment {
    /// An experiment that begins now.
    ///
    /// # Errors
    /// Everything that makes no sense.
    pub fn begin(config: ExperimentConfig, now: UnixMillis) -> Result<Experiment, Vec<Problem>> {
        let problems = problems(&config);
        if !problems.is_empty() {
            return Err(problems);
        }
        let arms = config.variants.iter().map(|_| Seen::default()).collect();
        let long = i64::try_from(config.at_most.0.as_millis()).unwrap_or(i64::MAX);
        let ends = UnixMillis(now.0.saturating_add(long));
        Ok(Experiment { config, arms, phase: ExperimentPhase::Running, ends })
    }

    /// Where it is.
    pub fn phase(&self) -> ExperimentPhase {
        self.phase
    }

    /// Which variant a user is on, and whether it counts. A user of a variant that was stopped gets the baseline and does not.
    pub fn assign(&self, entity: &str) -> (&str, bool) {
        let baseline = self.config.variants.first().map_or("", |v| v.name.as_str());
        // 53 bits: as many as a number between 0 and 1 has.
        let at = (place(&self.config.salt, entity) >> 11) as f64 / (1_u64 << 53) as f64;
        let mut upto = 0.0;
        for ((variant, share), seen) in self.config.variants.iter().zip(self.shares()).zip(&self.arms) {
            upto += share;
            if at < upto {
                return if seen.stopped { (baseline, false) } else { (&variant.name, true) };
            }
        }
        (baseline, true)
    }

    fn shares(&self) -> Vec<f64> {
        let all: f64 = self.config.variants.iter().map(|v| v.weight).sum();
        self.config.variants.iter().map(|v| v.weight / all).collect()
    }

    /// Takes what came in, by variant, and judges. Returns whether the phase or a variant's traffic changed.
    pub fn see(&mut self, now: UnixMillis, batches: &BTreeMap<String, VariantBatch>) -> bool {
        if self.phase != ExperimentPhase::Running {
            return false;
        }
        for (variant, seen) in self.config.variants.iter().zip(&mut self.arms) {
            let Some(batch) = batches.get(&variant.name).filter(|_| !seen.stopped) else { continue };
            seen.units = seen.units.saturating_add(batch.units);
            for rule in &self.config.metrics {
                if let Some(values) = batch.metrics.get(&rule.name) {
                    seen.metrics.entry(rule.name.clone()).or_default().add(*values);
                }
            }
        }
        self.judge(now)
    }

    /// Ends it: somebody says so.
    pub fn stop(&mut self) {
        if self.phase == ExperimentPhase::Running {
            self.phase = ExperimentPhase::Stopped;
        }
    }

    fn judge(&mut self, now: UnixMillis) -> bool {
        // Once a variant is stopped its users are still new ones to nobody: division is looked at while all run.
        let counts: Vec<u64> = self.arms.iter().map(|a| a.units).collect();
        if self.arms.iter().all(|a| !a.stopped) && division(&counts, &self.shares()) < DIVISION_LEVEL {
            self.phase = ExperimentPhase::Invalid;
            return true;
        }
        let reports = self.report();
        let mut changed = false;
        for (report, seen) in reports.iter().zip(self.arms.iter_mut().skip(1)) {
            let harmful = self
                .config
                .metrics
                .iter()
                .any(|rule| report.gains.get(&rule.name).is_some_and(|gain| gain.high < -rule.margin));
            if harmful && !seen.stopped {
                (seen.stopped, changed) = (true, true);
            }
        }
        if reports.iter().all(|r| r.finding != Finding::Open) {
            self.phase = ExperimentPhase::Decided;
        } else if now >= self.ends {
            self.phase = ExperimentPhase::Inconclusive;
        }
        changed || self.phase != ExperimentPhase::Running
    }

    /// How every variant but the baseline stands.
    pub fn report(&self) -> Vec<VariantReport> {
        let (Some(baseline), others) =
            (self.arms.first(), self.arms.iter().zip(&self.config.variants).skip(1))
        else {
            return Vec::new();
        };
        let tests = (self.config.variants.len().saturating_sub(1) * self.config.metrics.len()).max(1);
        let level = self.config.alpha / tests as f64;
        let gain = |rule: &MetricRule, seen: &Seen| {
            let of = |seen: &Seen| seen.metrics.get(&rule.name).copied().unwrap_or_default();
            let pair = (of(seen), of(baseline));
            let enough = pair.0.n.min(pair.1.n) >= self.config.samples;
            let found = difference(&[pair], rule.kind, rule.margin, level).filter(|_| enough)?;
            Some(match rule.better {
                Better::Higher => found,
                Better::Lower => Sequence { estimate: -found.estimate, low: -found.high, high: -found.low },
            })
        };
        let report = |(seen, variant): (&Seen, &Variant)| {
            let gains: BTreeMap<String, Sequence> =
                self.config.metrics.iter().filter_map(|m| Some((m.name.clone(), gain(m, seen)?))).collect();
            let finding = self.finding(&gains);
            VariantReport {
                name: variant.name.clone(),
                units: seen.units,
                gains,
                finding,
                stopped: seen.stopped,
            }
        };
        others.map(report).collect()
    }

    fn finding(&self, gains: &BTreeMap<String, Sequence>) -> Finding {
        let of = |rule: &MetricRule| gains.get(&rule.name);
        let mut rules = self.config.metrics.iter();
        let Some((first, gain)) = rules.next().and_then(|rule| Some((rule, of(rule)?))) else {
            return Finding::Open;
        };
        let others: Vec<_> = rules.map(|rule| (rule, of(rule))).collect();
        let harmed = others.iter().any(|(rule, gain)| gain.is_some_and(|g| g.high < -rule.margin));
        let unharmed = others.iter().all(|(rule, gain)| gain.is_some_and(|g| g.low >= -rule.margin));
        if gain.high < 0.0 || harmed {
            Finding::Worse
        } else if gain.low > 0.0 && unharmed {
            Finding::Better
        } else if gain.low >= -first.margin && gain.high <= first.margin && unharmed {
            Finding::Equivalent
        } else {
            Finding::Open
        }
    }

    /// The variant to roll out: of those that are better the one with the largest gain.
    pub fn winner(&self) -> Option<VariantReport> {
        let first = &self.config.metrics.first()?.name;
        let gain = |r: &VariantReport| r.gains.get(first).map_or(f64::NEG_INFINITY, |g| g.estimate);
        let better = self.report().into_iter().filter(|r| r.finding == Finding::Better && !r.stopped);
        better.max_by(|a, b| gain(a).total_cmp(&gain(b))).filter(|_| self.phase != ExperimentPhase::Invalid)
    }

    /// The experiment in a sentence.
    pub fn sentence(&self) -> String {
        let variant = |r: &VariantReport| {
            let word = match r.finding {
                Finding::Open => "open",
                Finding::Better => "better",
                Finding::Worse => "worse",
                Finding::Equivalent => "no different",
            };
            let gain = self.config.metrics.first().and_then(|m| Some((&m.name, r.gains.get(&m.name)?)));
            let gain =
                gain.map(|(name, g)| format!(" ({name} better by {} to {})", said(g.low), said(g.high)));
            format!("`{}` is {word}{}", r.name, gain.unwrap_or_default())
        };
        if self.phase == ExperimentPhase::Invalid {
            let counts: Vec<String> = self.arms.iter().map(|a| a.units.to_string()).collect();
            return format!(
                "users are not divided by the weights ({}), so nothing is known",
                counts.join(", ")
            );
        }
        self.report().iter().map(variant).collect::<Vec<_>>().join("; ")
    }
}

fn problems(config: &ExperimentConfig) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut hold = |holds: bool, pointer: String, message: &str, remedy: &str| {
        if !holds {
            found.push(Problem { pointer, message: message.to_owned(), remedy: remedy.to_owned() });
        }
    };
    hold(
        config.variants.len() >= 2,
        "/variants".into(),
        "nothing to compare",
        "name two variants, the baseline first",
    );
    for (at, variant) in config.variants.iter().enumerate() {
        let sound = variant.weight > 0.0 && variant.weight.is_finite();
        hold(sound, format!("/variants/{at}/weight"), "not a weight", "give a number above 0");
        let before = config.variants.iter().take(at).any(|v| v.name == variant.name);
        hold(!before, format!("/variants/{at}/name"), "named twice", "name it once");
    }
    hold(!config.metrics.is_empty(), "/metrics".into(), "nothing decides", "name a metric");
    for (at, metric) in config.metrics.iter().enumerate() {
        let sound = metric.margin > 0.0 && metric.margin.is_finite();
        hold(
            sound,
            format!("/metrics/{at}/margin"),
            "not a margin",
            "give the change that would matter, above 0",
        );
        let before = config.metrics.iter().take(at).any(|m| m.name == metric.name);
        hold(!before, format!("/metrics/{at}/name"), "named twice", "name it once");
    }
    let alpha = config.alpha > 0.0 && config.alpha <= 0.5;
    hold(alpha, "/alpha".into(), "not a chance of error", "give a share such as 0.05");
    hold(config.samples >= 30, "/samples".into(), "too few to say anything", "give at least 30");
    hold(!config.salt.is_empty(), "/salt".into(), "empty", "give it a name of its own");
    found
}
