//! What starts a pipeline, as its configuration says, and what is handed to whoever starts it.

use std::time::Duration;

use contract::{PipelineName, RunId, TenantId, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::event::{Event, EventRule};
use super::schedule::Schedule;
use crate::runs::Status;

/// Times of a schedule that passed unseen: the server was down, or its clock jumped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One run for all of them.
    #[default]
    Once,
    /// None.
    Skip,
    /// A run for each, the newest [`MOST_MISSED`](super::MOST_MISSED) at most.
    All,
}

/// What happens when a pipeline is to start while a run of it that a trigger started goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// One run starts when that one has ended, for all that happened meanwhile.
    #[default]
    Queue,
    /// Nothing: what happened meanwhile is passed over.
    Skip,
    /// It starts beside it.
    Allow,
}

/// Which ends of a run start another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// It has its result.
    #[default]
    Succeeded,
    /// It failed.
    Failed,
    /// Whichever, also when it was cancelled.
    Ended,
}

impl When {
    /// Whether that end is one of these.
    pub fn takes(self, status: Status) -> bool {
        match self {
            When::Succeeded => status == Status::Succeeded,
            When::Failed => status == Status::Failed,
            When::Ended => status.is_end(),
        }
    }
}

/// Something that starts a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// A time.
    Cron {
        /// Which.
        schedule: Schedule,
        /// What happens to times that passed unseen.
        missed: Missed,
    },
    /// A new version of a dataset.
    Dataset {
        /// Its name.
        dataset: String,
        /// How long no further version may come before the run starts.
        quiet: Duration,
    },
    /// The end of a run of another pipeline.
    Run {
        /// Which.
        pipeline: PipelineName,
        /// Which ends.
        when: When,
    },
    /// An event from outside.
    Event(EventRule),
    /// An alert.
    Alert {
        /// Its name.
        alert: String,
    },
    /// A new or changed file.
    Folder {
        /// The files: a folder and a pattern for names in it.
        files: String,
        /// How long a file may not have changed.
        quiet: Duration,
    },
}

impl Trigger {
    /// What tells it from the other triggers of its pipeline, for ever: what is remembered of it is kept under this name. A
    /// trigger that is written otherwise is another one, and begins anew.
    pub fn id(&self) -> String {
        match self {
            Trigger::Cron { schedule, .. } => format!("cron {schedule}"),
            Trigger::Dataset { dataset, .. } => format!("dataset {dataset}"),
            Trigger::Run { pipeline, when } => {
                let when = match when {
                    When::Succeeded => "succeeded",
                    When::Failed => "failed",
                    When::Ended => "ended",
                };
                format!("run {pipeline} {when}")
            }
            Trigger::Event(rule) => format!("event {rule}"),
            Trigger::Alert { alert } => format!("alert {alert}"),
            Trigger::Folder { files, .. } => format!("folder {files}"),
        }
    }

    /// How long nothing more of its kind may come before a run starts.
    pub(super) fn quiet(&self) -> Duration {
        match self {
            Trigger::Dataset { quiet, .. } => *quiet,
            _ => Duration::ZERO,
        }
    }
}

/// A pipeline and what starts it.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerPlan {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// What starts it: no two with one id.
    pub triggers: Vec<Trigger>,
    /// What happens while a run of it goes on.
    pub overlap: Overlap,
}

/// Why a run is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was time.
    Cron {
        /// The expression and its zone.
        schedule: String,
        /// The time, not when it was noticed.
        at: UnixMillis,
        /// How many earlier times passed unseen, and have no run: those beyond a thousand are not counted.
        missed: u64,
    },
    /// A dataset has new versions.
    Dataset {
        /// Which.
        dataset: String,
        /// The first new one.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A run ended.
    Run {
        /// Of which pipeline.
        pipeline: PipelineName,
        /// Which.
        run: RunId,
        /// How.
        status: Status,
    },
    /// An event came.
    Event(Box<Event>),
    /// An alert fired.
    Alert {
        /// Which.
        alert: String,
        /// What tells this time from the others.
        id: String,
    },
    /// A file is there.
    File {
        /// Where.
        path: String,
        /// Bytes.
        size: u64,
        /// When it was changed.
        modified: UnixMillis,
    },
    /// Somebody asked for it.
    Asked {
        /// What tells this call from the others.
        id: String,
        /// With what.
        params: Map<String, Json>,
    },
}

impl Cause {
    /// What makes two causes the same one.
    pub fn identity(&self) -> String {
        match self {
            Cause::Cron { schedule, at, .. } => format!("cron {schedule} {}", at.0),
            Cause::Dataset { dataset, from, to } => format!("dataset {dataset} {from}-{to}"),
            Cause::Run { run, .. } => format!("run {run}"),
            Cause::Event(event) => format!("event {}", event.identity()),
            Cause::Alert { alert, id } => format!("alert {alert} {id}"),
            Cause::File { path, size, modified } => format!("file {path} {size} {}", modified.0),
            Cause::Asked { id, .. } => format!("asked {id}"),
        }
    }
}

/// A run that is to be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartRun {
    /// Of which pipeline.
    pub pipeline: PipelineName,
    /// Whose run it is: who sent the event or asked. `None` for what no caller caused.
    pub tenant: Option<TenantId>,
    /// Why: at least one cause.
    pub causes: Vec<Cause>,
    /// What makes a second start the same one. Everything else here is the same whenever this is.
    pub key: String,
}

impl StartRun {
    /// What the run is told of its causes: `files` (their paths), `datasets` (the newest version of each), `scheduled_at` (the
    /// newest time, in milliseconds), `events`, `alerts`, `runs`, each where there are some; and what was asked for by name.
    pub fn params(&self) -> Map<String, Json> {
        let mut params = Map::new();
        let mut push = |list: &str, value: Json| {
            let slot = params.entry(list).or_insert_with(|| Json::Array(Vec::new()));
            if let Json::Array(values) = slot {
                values.push(value);
            }
        };
        let (mut datasets, mut scheduled, mut asked) = (Map::new(), None, Map::new());
        for cause in &self.causes {
            match cause {
                Cause::Cron { at, .. } => scheduled = scheduled.max(Some(*at)),
                Cause::Dataset { dataset, to, .. } => drop(datasets.insert(dataset.clone(), (*to).into())),
                Cause::Run { run, .. } => push("runs", run.to_string().into()),
                Cause::Event(event) => push("events", event.to_json()),
                Cause::Alert { alert, .. } => push("alerts", alert.clone().into()),
                Cause::File { path, .. } => push("files", path.clone().into()),
                Cause::Asked { params, .. } => asked.extend(params.clone()),
            }
        }
        if !datasets.is_empty() {
            params.insert("datasets".into(), datasets.into());
        }
        if let Some(at) = scheduled {
            params.insert("scheduled_at".into(), at.0.into());
        }
        params.extend(asked);
        params
    }
}
