//! What starts a pipeline, as a person writes it. These docs are the manual, as those of `model.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use ::pipeline::triggers::{EventRule, Missed, Overlap, Schedule, Trigger, TriggerPlan, When};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value as Json;

use super::model::Config;
use super::units::Time;
use crate::watching::settings::started;

/// No further version of a dataset may come for so long, and no file may change.
const QUIET: Duration = Duration::from_secs(2);
/// The zone of a schedule that names none.
pub(super) const ZONE: &str = "UTC";

/// What starts a pipeline: one trigger, or a list of several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OnConfig(pub Vec<TriggerConfig>);

/// Something that starts a pipeline: exactly one of `http`, `cron`, `dataset`, `run`, `event`, `alert` and `folder`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TriggerConfig {
    /// A path of its own for requests, such as `/summarize`.
    #[schemars(regex(pattern = r"^/[A-Za-z0-9._~/-]*$"), extend("x-expected" = "a path such as /summarize"))]
    pub http: Option<String>,
    /// Times, as cron writes them: minute, hour, day of the month, month, day of the week; or six fields with seconds first; or
    /// `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. Put it in quotes. Where clocks are moved: a time of a named hour
    /// that is left out comes up at the first instant behind the gap, and one that there is twice the first time; with `*` or `*/n`
    /// as the hour it comes up whenever the clock shows it.
    pub cron: Option<String>,
    /// The time zone of `cron`, as IANA names it, such as `Europe/Berlin`. Unless given: UTC.
    pub tz: Option<String>,
    /// What happens to times of `cron` that passed while the server was down or its clock was wrong. Unless given: `once`.
    pub missed: Option<MissedConfig>,
    /// A new version of this dataset. What there is when the trigger is new is no cause.
    pub dataset: Option<String>,
    /// With `dataset`: how long no further version may come before the run starts; it starts after fifteen times as long in any case.
    /// With `folder`: how long a file may not have changed. Unless given: 2s.
    pub quiet: Option<Time>,
    /// The end of a run of this pipeline.
    pub run: Option<String>,
    /// Which ends of `run`. Unless given: `succeeded`.
    pub when: Option<WhenConfig>,
    /// An event that somebody sends to `POST /v1/events` (CloudEvents).
    pub event: Option<EventConfig>,
    /// An alert of this name.
    pub alert: Option<String>,
    /// New or changed files: a folder relative to this file, then a pattern for names, such as `inbox/*.csv`. `*` stands for any
    /// text and `?` for one character. The run is given their paths as `files`.
    pub folder: Option<String>,
}

/// Times that passed unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-expected" = "once, skip or all"))]
pub enum MissedConfig {
    /// One run for all of them.
    Once,
    /// None.
    Skip,
    /// A run for each, one after another: for the newest hundred.
    All,
}

/// Which ends of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-expected" = "succeeded, failed or ended"))]
pub enum WhenConfig {
    /// It has its result.
    Succeeded,
    /// It failed.
    Failed,
    /// Whichever, also when it was cancelled.
    Ended,
}

/// Which events: those that all of this fits.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventConfig {
    /// What happened; a `*` at the end stands for anything.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Where; a `*` at the end stands for anything.
    pub source: Option<String>,
    /// What else must be so: an attribute such as `subject`, or a place in the data such as `data.kind`, and its value, or a list
    /// of values that it may have.
    #[serde(rename = "where")]
    pub matches: BTreeMap<String, Json>,
}

/// What happens when a pipeline is to start while a run of it that a trigger started goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-expected" = "queue, skip or allow"))]
pub enum OverlapConfig {
    /// One run starts when that one has ended, for all that happened meanwhile.
    #[default]
    Queue,
    /// Nothing: what happened meanwhile is passed over.
    Skip,
    /// It starts beside it.
    Allow,
}

impl<'de> Deserialize<'de> for OnConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let read = match Json::deserialize(d)? {
            Json::Array(all) => all.into_iter().map(serde_json::from_value).collect(),
            one => serde_json::from_value(one).map(|one| vec![one]),
        };
        read.map(OnConfig).map_err(D::Error::custom)
    }
}

impl JsonSchema for OnConfig {
    fn schema_name() -> Cow<'static, str> {
        "On".into()
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let one = g.subschema_for::<TriggerConfig>();
        json_schema!({
            "description": "What starts a pipeline: one trigger, or a list of several.",
            "x-expected": "a trigger such as {cron: \"0 3 * * 1\"}, or a list of triggers",
            "anyOf": [one, {"type": "array", "minItems": 1, "maxItems": 100, "items": one}]
        })
    }
}

impl OnConfig {
    /// The path for requests.
    pub fn http(&self) -> Option<&str> {
        self.0.iter().find_map(|t| t.http.as_deref())
    }

    /// Whether anything but a request starts it.
    pub fn is_durable(&self) -> bool {
        self.0.iter().any(|t| t.http.is_none())
    }
}

impl TriggerConfig {
    /// What it is, by the field that says so.
    pub(super) fn kinds(&self) -> Vec<&'static str> {
        let given = [
            ("http", self.http.is_some()),
            ("cron", self.cron.is_some()),
            ("dataset", self.dataset.is_some()),
            ("run", self.run.is_some()),
            ("event", self.event.is_some()),
            ("alert", self.alert.is_some()),
            ("folder", self.folder.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(kind, _)| kind).collect()
    }

    /// The same in the words of the pipeline crate; `None` for a path for requests, and for what does not check.
    pub fn trigger(&self) -> Option<Trigger> {
        let quiet = self.quiet.map_or(QUIET, |t| t.0);
        if let Some(expression) = &self.cron {
            let schedule = Schedule::parse(expression, self.tz.as_deref().unwrap_or(ZONE)).ok()?;
            let missed = match self.missed {
                None | Some(MissedConfig::Once) => Missed::Once,
                Some(MissedConfig::Skip) => Missed::Skip,
                Some(MissedConfig::All) => Missed::All,
            };
            return Some(Trigger::Cron { schedule, missed });
        }
        if let Some(dataset) = &self.dataset {
            return Some(Trigger::Dataset { dataset: dataset.clone(), quiet });
        }
        if let Some(pipeline) = &self.run {
            let when = match self.when {
                None | Some(WhenConfig::Succeeded) => When::Succeeded,
                Some(WhenConfig::Failed) => When::Failed,
                Some(WhenConfig::Ended) => When::Ended,
            };
            return Some(Trigger::Run { pipeline: pipeline.as_str().into(), when });
        }
        if let Some(EventConfig { kind, source, matches }) = self.event.clone() {
            return Some(Trigger::Event(EventRule { kind, source, matches }));
        }
        if let Some(alert) = &self.alert {
            return Some(Trigger::Alert { alert: alert.clone() });
        }
        self.folder.as_ref().map(|files| Trigger::Folder { files: files.clone(), quiet })
    }
}

/// What starts the pipelines of a configuration besides requests.
pub fn plans(config: &Config) -> Vec<TriggerPlan> {
    let plan = |(name, p): (&String, &super::pipeline::PipelineConfig)| {
        let mut triggers: Vec<Trigger> =
            p.on.iter().flat_map(|on| &on.0).filter_map(TriggerConfig::trigger).collect();
        // A monitor that starts a pipeline is a trigger of it, written or not.
        for (alert, _) in started(config).filter(|(_, run)| run == name) {
            let trigger = Trigger::Alert { alert: alert.to_owned() };
            if !triggers.iter().any(|t| t.id() == trigger.id()) {
                triggers.push(trigger);
            }
        }
        let overlap = match p.overlap {
            OverlapConfig::Queue => Overlap::Queue,
            OverlapConfig::Skip => Overlap::Skip,
            OverlapConfig::Allow => Overlap::Allow,
        };
        (!triggers.is_empty()).then(|| TriggerPlan { pipeline: name.as_str().into(), triggers, overlap })
    };
    config.pipelines.iter().filter_map(plan).collect()
}
