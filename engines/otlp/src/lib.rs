//! Traces and metrics of requests to an OpenTelemetry collector, as OTLP over HTTP.
//!
//! The path of a request is not instrumented. When a request has ended, its ledger record is offered to a bounded
//! queue ([`Exporter::offer`]: never waits, counts what it drops); one task ([`Worker`]) makes spans of it, whose times
//! are the record's, observes the metrics of OpenTelemetry's conventions for generative AI, and sends both. A collector
//! that hangs or is gone costs a request nothing.
//!
//! What was said is never sent: neither prompts and answers nor the end user's name.

mod client;
mod error;
mod exporter;
mod metrics;
mod settings;
mod spans;
mod worker;

pub use error::Error;
pub use exporter::{Dropped, Exporter, start};
pub use settings::{Settings, Upstream};
pub use spans::spans;
pub use worker::Worker;
