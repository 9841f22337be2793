//! The surfaces: OpenAI chat completions, completions and responses, Anthropic messages and the native pipelines API,
//! over one way in and one way out.
//!
//! The way in: key → tenant → limits and reservation → a [`request::Request`], whose drop is the way out: usage settles
//! and the ledger gets its one record, however the request ends. No surface knows how an answer is made; no stage knows
//! which surface asked.

mod admin;
mod anthropic;
mod app;
mod auth;
mod batches;
mod body;
mod came;
mod chat;
mod choosing;
mod commands;
mod completions;
mod configuration;
mod current;
mod deltas;
mod drain;
mod ended;
mod errors;
mod events;
mod features;
mod feedback;
mod files;
mod front;
mod headers;
mod heard;
mod inference;
pub mod inside;
mod intake;
mod jobs;
mod ladder;
mod lineage;
mod metrics;
mod mlflow;
mod models;
mod monitors;
mod native;
mod nested;
mod openai;
mod openapi;
mod ops;
mod readers;
mod replay;
mod request;
mod responses;
mod rollouts;
mod room;
mod router;
mod runs;
mod sample;
mod segment;
mod send_limit;
mod serve;
mod slots;
mod socket;
mod telemetry;
mod turn;
mod upload;
mod written;

pub use admin::{Inventory, KeyMade, KeyWanted, ModelInfo};
pub use app::{App, Fits, Limits, MovedBy, Parts, Pipeline, Settings, Upstream};
pub use batches::{Batches, BatchesSettings, named as batch_named};
pub use choosing::PipelineChoice;
pub use commands::{Pass, Passes, serve_commands};
pub use configuration::{ConfigProblem, ConfigRefusal, ConfigState, Configuration, Reloaded};
pub use current::{Current, Latest};
pub use ended::EndedRequests;
pub use features::{
    FeatureColumn, FeatureRows, FeatureStatus, FeatureValue, Features, FeaturesMaterialized, FeaturesNamed,
    FeaturesPush, FeaturesState,
};
pub use inference::{Lookup, LookupUse};
pub use jobs::{Job, Jobs, JobsSettings, Line};
pub use ladder::{KeptAnswers, Rung, WhenBusy};
pub use monitors::{MonitorState, Monitors};
pub use replay::Replay;
pub use rollouts::{RolloutState, Rollouts};
pub use router::router;
pub use runs::{RunWanted, Runs, root as runs_root};
pub use segment::segment;
pub use serve::{Listening, serve};
pub use slots::FairSlots;
pub use telemetry::{Telemetry, Tracing};
pub use upload::{Form, form};
