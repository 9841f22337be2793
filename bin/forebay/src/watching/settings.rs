//! What a monitor's configuration means: its rules, its windows, what they are held against.

use std::collections::BTreeMap;
use std::time::Duration;

use data::{At, Watching};
use predict::captured::OWN;
use watch::alert::{AlertsSettings, Direction, Inhibition, Rule, Severity};
use watch::drift::DriftLimits;
use watch::monitor::MonitorSettings;
use watch::retrain::RetrainSettings;

use crate::config::Config;
use crate::config::model::ModelConfig;
use crate::config::monitor::{
    AlertsConfig, DriftConfig, LastingConfig, MonitorConfig, SeverityConfig, TestConfig,
};
use crate::config::units::Time;

/// How often there is a look unless given.
const EVERY: Duration = Duration::from_secs(60);
/// Windows before that rows are counted in, at least.
pub const USUAL: usize = 3;

/// What a window is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// The rows before it for so long, in milliseconds.
    Before(i64),
    /// A version of a dataset.
    Version(String, At),
    /// It is none; in words.
    Wrong(String),
}

/// What windows are compared with.
pub fn against(drift: &DriftConfig) -> Against {
    let Some(text) = &drift.reference else { return Against::Before(millis(drift.window).saturating_mul(4)) };
    if let Ok(time) = text.parse::<Time>() {
        return match millis(time) {
            0 => Against::Wrong("nothing is that long before".to_owned()),
            long => Against::Before(long),
        };
    }
    match text.split_once('@') {
        Some((dataset, at)) if !dataset.is_empty() => match at.parse() {
            Ok(at) => Against::Version(dataset.to_owned(), at),
            Err(e) => Against::Wrong(format!("failed to {e}")),
        },
        _ => Against::Wrong(format!("`{text}` is neither a time nor a version")),
    }
}

/// A length of time in whole milliseconds.
pub fn millis(time: Time) -> i64 {
    i64::try_from(time.0.as_millis()).unwrap_or(i64::MAX)
}

/// From where on an effect fires, and until where it goes on.
pub fn threshold(config: &MonitorConfig) -> (f64, f64) {
    let fire = config.alert.above.unwrap_or(match test(config) {
        TestConfig::All => 1.0,
        TestConfig::Psi => 0.2,
        TestConfig::W1 | TestConfig::Js => 0.1,
    });
    (fire, config.alert.clear.unwrap_or(fire * 0.75))
}

/// The effect that is asked.
pub fn test(config: &MonitorConfig) -> TestConfig {
    config.drift.as_ref().map(|drift| drift.test).unwrap_or_default()
}

/// From where on an effect counts at all: never above what fires.
pub fn limits(config: &MonitorConfig) -> DriftLimits {
    let min_rows = config.alert.min_rows.map_or(DriftLimits::default().min_rows, |rows| rows.0);
    DriftLimits { min_rows, ..DriftLimits::default() }
}

/// Which columns are summed up.
pub fn watching(drift: &DriftConfig) -> Watching {
    Watching {
        columns: drift.columns.clone(),
        except: drift.except.clone(),
        categories: drift.categories.clone(),
        filter: None,
    }
}

/// Which rows of a dataset count: of what a model was asked, those whose answer somebody got.
pub fn heard(config: &MonitorConfig) -> Option<&'static str> {
    config.watch.starts_with(crate::capture::CAPTURED).then_some("arm <> 'shadow'")
}

/// How often there is a look.
pub fn every(config: &MonitorConfig) -> Duration {
    config.every.map_or(EVERY, |every| every.0).max(Duration::from_millis(100))
}

/// The name of a rule of a monitor: that of its drift is the monitor's own.
pub fn rule(monitor: &str, kind: &str) -> String {
    format!("{monitor}/{kind}")
}

/// What a monitor goes by.
pub fn settings(name: &str, config: &MonitorConfig, alerts: &AlertsConfig) -> MonitorSettings {
    let mut rules = BTreeMap::new();
    let base = base(config);
    let stale = Inhibition { rule: rule(name, "freshness"), equal: vec!["monitor".to_owned()] };
    let inhibited_by = if config.freshness.is_some() { vec![stale] } else { Vec::new() };
    if config.drift.is_some() {
        let (fire, clear) = threshold(config);
        let drift = Rule { fire, clear: Some(clear), inhibited_by: inhibited_by.clone(), ..base.clone() };
        rules.insert(name.to_owned(), lasting(config, drift));
        let schema = Rule { fire: 1.0, min_samples: 0, ..base.clone() };
        rules.insert(rule(name, "schema"), schema);
    }
    if let Some(volume) = &config.volume {
        let direction = Direction::Below;
        let few = Rule { direction, fire: volume.below, min_samples: 0, inhibited_by, ..base.clone() };
        rules.insert(rule(name, "volume"), few);
    }
    if let Some(performance) = &config.performance {
        let (direction, fire) = match (performance.below, performance.above) {
            (Some(below), _) => (Direction::Below, below),
            (None, above) => (Direction::Above, above.unwrap_or(f64::INFINITY)),
        };
        let right = Rule { direction, fire, ..base.clone() };
        rules.insert(rule(name, "performance"), lasting(config, right));
    }
    if let Some(freshness) = config.freshness {
        let fire = freshness.0.as_secs_f64();
        rules.insert(rule(name, "freshness"), Rule { fire, min_samples: 0, ..base });
    }
    let alerts = AlertsSettings {
        // All series of a monitor are looked at together.
        group_wait: Duration::ZERO,
        group_interval: alerts.interval.0,
        repeat: alerts.repeat.0,
        ..AlertsSettings::default()
    };
    let retrain = config.then.run.as_ref().map(|_| {
        let few = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let r = &config.retrain;
        RetrainSettings {
            quiet: r.quiet.0,
            cooldown: r.cooldown.0,
            per_day: few(r.per_day.0),
            rejected: few(r.rejected.0),
            failed: few(r.failed.0),
        }
    });
    MonitorSettings { rules, alerts, retrain }
}

fn base(config: &MonitorConfig) -> Rule {
    Rule {
        min_samples: limits(config).min_rows,
        severity: match config.alert.severity {
            SeverityConfig::Info => Severity::Info,
            SeverityConfig::Warning => Severity::Warning,
            SeverityConfig::Critical => Severity::Critical,
        },
        group_by: vec!["monitor".to_owned()],
        runbook: config.alert.runbook.clone(),
        ..Rule::default()
    }
}

fn lasting(config: &MonitorConfig, rule: Rule) -> Rule {
    match config.alert.lasting {
        LastingConfig::Windows(quorum) => Rule { quorum, ..rule },
        LastingConfig::Time(time) => Rule { wait: time.0, ..rule },
    }
}

/// The monitor as one of a dataset: that of a model is of the rows that are captured of it.
pub fn of_dataset(config: &Config, monitor: &MonitorConfig) -> MonitorConfig {
    let mut own = monitor.clone();
    if !config.capture.contains_key(&monitor.watch) {
        return own;
    }
    own.watch = crate::capture::dataset(&monitor.watch);
    own.time.get_or_insert_with(|| "at".to_owned());
    if let Some(drift) = &mut own.drift {
        drift.except.extend(OWN.map(|(name, _)| name.to_owned()));
        if !config.models.get(&monitor.watch).is_some_and(ModelConfig::predicts) {
            // Texts are no categories.
            drift.except.extend(["input", "output"].map(str::to_owned));
        }
    }
    own
}

/// The alerts that start pipelines, each with the pipeline.
pub fn started(config: &Config) -> impl Iterator<Item = (&str, &str)> {
    config.monitors.iter().filter_map(|(name, m)| Some((name.as_str(), m.then.run.as_deref()?)))
}
