//! The sections `monitors` and `alerts`. These docs are the manual, as those of `model.rs`.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use indexmap::IndexMap;
use models::evaluate::Metric;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value as Json;
use watch::alarm::Quorum;

use super::units::{Count, Time};

/// Something that is watched, how, and what happens when it is not as it should be.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorConfig {
    /// What is watched: a dataset, or a model whose answers are kept (`capture`), by what it was asked and answered.
    pub watch: String,
    /// The column that says when a row happened. Unless given: the only one that holds times.
    #[serde(default)]
    pub time: Option<String>,
    /// Whether a window of rows is like those that it is compared with.
    #[serde(default)]
    pub drift: Option<DriftConfig>,
    /// How right a model is, once it is known what was true of what it answered.
    #[serde(default)]
    pub performance: Option<PerformanceConfig>,
    /// How old the newest row may be.
    #[serde(default)]
    pub freshness: Option<Time>,
    /// Whether as many rows come as usual: windows are those of `drift`.
    #[serde(default)]
    pub volume: Option<VolumeConfig>,
    /// How often there is a look at whether a new version is there. Unless given: 1m.
    #[serde(default)]
    pub every: Option<Time>,
    /// When somebody is told.
    #[serde(default)]
    pub alert: AlertConfig,
    /// What happens then: `notify`, `run: PIPELINE`. Unless given: `notify`.
    #[serde(default)]
    pub then: ThenConfig,
    /// How often `run` may start its pipeline.
    #[serde(default)]
    pub retrain: RetrainConfig,
}

/// How windows are compared.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftConfig {
    /// How long a window is. They follow one another without gap, and each is looked at once, when a row behind it has come.
    pub window: Time,
    /// What it is compared with: the rows before the window for so long (`28d`), or a version (`flights@trained`). Unless given: four
    /// times as long as the window.
    #[serde(default)]
    pub reference: Option<String>,
    /// The test and the effect that are asked: `ks+psi`, `ks+w1` or `ks+js`; texts and bools are always tested by chi-squared. Unless given:
    /// the largest of all effects, as a share of its limit.
    #[serde(default)]
    pub test: TestConfig,
    /// These columns alone. Unless given: all but times.
    #[serde(default)]
    pub columns: Vec<String>,
    /// But not these: keys and row numbers, which are always new.
    #[serde(default)]
    pub except: Vec<String>,
    /// Columns of numbers that are names of something, such as a month.
    #[serde(default)]
    pub categories: Vec<String>,
}

/// How right a model is in windows of the time of its answers, once their labels are in.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerformanceConfig {
    /// How long a window is.
    pub window: Time,
    /// How long after the end of a window its labels come. Until then there is an estimate, which raises no alert.
    pub wait: Time,
    /// What is measured: auc, average_precision, accuracy, precision, recall, f1, fpr, fnr, log_loss, brier, ece or recall@precision=0.9 of a
    /// classifier of two classes; mae, rmse or r2 of a model of numbers.
    pub metric: Metric,
    /// It is an alert when the value is surely below this: the whole of its 95 % interval.
    #[serde(default)]
    pub below: Option<f64>,
    /// It is an alert when the value is surely above this.
    #[serde(default)]
    pub above: Option<f64>,
    /// The column with the probability of the positive class, or with the number. Unless given: the captured model's.
    #[serde(default)]
    pub score: Option<String>,
    /// Where it is said what was true. Unless given: what is told at `/v1/feedback` of what the model answered.
    #[serde(default)]
    pub labels: Option<LabelsConfig>,
    /// The label that is positive. Unless given: 1 or true.
    #[serde(default)]
    pub positive: Option<String>,
    /// From this score on a row is called positive.
    #[serde(default = "half")]
    pub cut: f64,
    /// The share of a window's rows that has to be labelled by then; a window with less is not measured.
    #[serde(default = "most")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub labelled: f64,
    /// Columns whose values are looked at each by itself, too.
    #[serde(default)]
    pub slices: Vec<String>,
}

fn half() -> f64 {
    0.5
}

fn most() -> f64 {
    0.8
}

/// Where it is said what was true.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsConfig {
    /// The dataset. Unless given: the one that is watched, whose rows have their labels beside them.
    #[serde(default)]
    pub dataset: Option<String>,
    /// Its columns that say which row a label is of, each with the column there: `{flight: entity}`.
    #[serde(default)]
    pub on: IndexMap<String, String>,
    /// The column of the label; of several for a row the first counts.
    pub column: String,
    /// The column that says when a label became known. All that became known before the newest of it is taken to be there.
    #[serde(default)]
    pub known_at: Option<String>,
}

/// Which effect is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(extend("x-expected" = "ks+psi, ks+w1, ks+js or all"))]
pub enum TestConfig {
    /// The largest beside its limit.
    #[default]
    #[serde(rename = "all")]
    All,
    /// The population stability index.
    #[serde(rename = "ks+psi")]
    Psi,
    /// Wasserstein-1, in standard deviations of the reference.
    #[serde(rename = "ks+w1")]
    W1,
    /// The Jensen–Shannon distance.
    #[serde(rename = "ks+js")]
    Js,
}

/// How few rows are too few.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeConfig {
    /// From this share of the usual count of rows down, it is an alert. The usual count is the median of the windows before.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub below: f64,
}

impl Default for VolumeConfig {
    fn default() -> Self {
        VolumeConfig { below: 0.5 }
    }
}

/// When somebody is told.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertConfig {
    /// From this effect on a column has drifted. Unless given: 0.2 of `ks+psi`, 0.1 of the others, and 1 where the largest of all is
    /// asked as a share of its limit. It has to be sure, too: q < 0.01 over all columns.
    #[schemars(range(min = 0.0))]
    pub above: Option<f64>,
    /// Until this effect an alert that fires goes on. Unless given: three quarters of `above`.
    #[schemars(range(min = 0.0))]
    pub clear: Option<f64>,
    /// For how long: `2 windows`, `2 of 3 windows`, or a time. Unless given: one window.
    #[serde(rename = "for")]
    pub lasting: LastingConfig,
    /// Rows that a window needs. Unless given: 30.
    pub min_rows: Option<Count>,
    /// How loud.
    pub severity: SeverityConfig,
    /// What to do, for who is told.
    pub runbook: String,
}

/// How loud an alert is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-expected" = "info, warning or critical"))]
pub enum SeverityConfig {
    /// To be known.
    Info,
    /// To be looked at.
    #[default]
    Warning,
    /// To be acted on now.
    Critical,
}

/// For how long something has to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastingConfig {
    /// In so many windows of the last.
    Windows(Quorum),
    /// For so long.
    Time(Time),
}

impl Default for LastingConfig {
    fn default() -> Self {
        LastingConfig::Windows(Quorum::default())
    }
}

impl FromStr for LastingConfig {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let none = || "expected `2 windows`, `2 of 3 windows` or a time such as `1h`".to_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| word.parse::<usize>().ok().filter(|n| (1..=100).contains(n));
        let quorum = match words.as_slice() {
            [n, "window" | "windows"] => number(n).map(|n| Quorum { m: n, n }),
            [m, "of", n, "windows"] => number(m).zip(number(n)).map(|(m, n)| Quorum { m, n }),
            [time] => return time.parse().map(LastingConfig::Time).map_err(|_| none()),
            _ => None,
        };
        quorum.filter(|q| q.m <= q.n).map(LastingConfig::Windows).ok_or_else(none)
    }
}

impl<'de> Deserialize<'de> for LastingConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for LastingConfig {
    fn schema_name() -> Cow<'static, str> {
        "Lasting".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "For how long: `2 windows`, `2 of 3 windows`, or a time such as `1h`.",
            "x-expected": "`2 windows`, `2 of 3 windows` or a time such as 1h",
            "type": "string",
            "pattern": r"^\s*(\d+\s+windows?|\d+\s+of\s+\d+\s+windows|\d+(\.\d+)?(ms|s|m|h|d))\s*$"
        })
    }
}

/// What happens when an alert fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThenConfig {
    /// Whether the channels of `alerts` are told.
    pub notify: bool,
    /// The durable pipeline that is started.
    pub run: Option<String>,
}

impl Default for ThenConfig {
    fn default() -> Self {
        ThenConfig { notify: true, run: None }
    }
}

/// One thing that happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    run: String,
}

impl<'de> Deserialize<'de> for ThenConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut then = ThenConfig { notify: false, run: None };
        for one in Vec::<Json>::deserialize(d)? {
            match one {
                Json::String(word) if word == "notify" => then.notify = true,
                other => then.run = Some(serde_json::from_value::<Run>(other).map_err(D::Error::custom)?.run),
            }
        }
        Ok(then)
    }
}

impl JsonSchema for ThenConfig {
    fn schema_name() -> Cow<'static, str> {
        "Then".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What happens when an alert fires: `notify` tells the channels of `alerts`, `run: PIPELINE` starts a durable pipeline. \
                            Drift may train and is no reason to promote: let such a pipeline register its model `as: challenger`.",
            "x-expected": "a list such as [notify, run: PIPELINE]",
            "type": "array",
            "maxItems": 2,
            "items": {
                "x-expected": "`notify` or `run: PIPELINE`",
                "anyOf": [
                    {"const": "notify"},
                    {
                        "type": "object",
                        "properties": {"run": {"type": "string", "description": "The durable pipeline that is started."}},
                        "required": ["run"],
                        "additionalProperties": false
                    }
                ]
            }
        })
    }
}

/// How often a pipeline may be started by an alert.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrainConfig {
    /// How long the first reason waits for others.
    pub quiet: Time,
    /// The least time from the end of a run to the start of the next.
    pub cooldown: Time,
    /// Runs a day (UTC).
    pub per_day: Count,
    /// After so many challengers in a row that were not taken, no more are trained until somebody asks for one.
    pub rejected: Count,
    /// After so many failed runs in a row, no more are tried until somebody asks for one.
    pub failed: Count,
}

impl Default for RetrainConfig {
    fn default() -> Self {
        let seconds = |s| Time(Duration::from_secs(s));
        let (quiet, cooldown) = (seconds(900), seconds(21_600));
        RetrainConfig { quiet, cooldown, per_day: Count(2), rejected: Count(3), failed: Count(3) }
    }
}

/// Who is told of alerts, and how often.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Whether they are in the server's log.
    pub log: bool,
    /// Addresses that are told by a signed webhook (Standard Webhooks, with `jobs.webhook.secret` as the secret).
    pub webhooks: Vec<String>,
    /// Addresses that take messages as Slack does: write `${NAME}`, since whoever knows one can write there.
    pub slack: Vec<String>,
    /// Addresses of Prometheus' Alertmanagers, such as `http://alertmanager:9093`: all of a cluster.
    pub alertmanager: Vec<String>,
    /// The least time between two messages about one monitor.
    pub interval: Time,
    /// After how long what still fires is said again; 0s for never.
    pub repeat: Time,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        let (interval, repeat) = (Time(Duration::from_secs(300)), Time(Duration::from_secs(4 * 3_600)));
        AlertsConfig {
            log: true,
            webhooks: Vec::new(),
            slack: Vec::new(),
            alertmanager: Vec::new(),
            interval,
            repeat,
        }
    }
}
