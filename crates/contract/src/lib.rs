//! What every boundary between two stages has: a **type** ([`Kind`]), a **budget** ([`Budget`]) and a **failure
//! contract** ([`FailureContract`]), and the words both executors use to talk about them.
//!
//! This crate is layer 0: no tokio, no I/O, no knowledge of any model, protocol or store. Time enters through
//! [`Clock`] alone.

mod boundary;
mod budget;
mod clock;
mod code;
mod date;
mod deadline;
mod durable;
mod error;
mod event;
mod freshness;
mod grouped;
mod id;
pub mod lineage;
mod message;
mod meter;
mod money;
mod outcome;
mod record;
mod secret;
mod stage;
pub mod trace;
mod usage;
mod value;

pub use boundary::{Boundary, FailureContract, Kind, MidStream};
pub use budget::Budget;
pub use clock::{Clock, ManualClock, SystemClock, Tick, UnixMillis};
pub use code::Code;
pub use date::Date;
pub use deadline::Deadline;
pub use durable::{Attempt, StageLog};
pub use error::{Class, Error, RetryHint};
pub use event::{Event, StageState};
pub use freshness::Freshness;
pub use grouped::grouped;
pub use id::{
    EndpointName, KeyId, ModelName, Name, PipelineName, RequestId, RunId, StageName, TenantId, UserId,
};
pub use message::{Content, Message, Part, Role, ToolCall};
pub use meter::{Held, Meter, Reserve, Spent};
pub use money::{LongPrompt, Money, Price};
pub use outcome::Outcome;
pub use record::{AttemptRecord, Ending, Reason, RequestRecord, StageRecord, Surface};
pub use secret::Secret;
pub use stage::{BoxFuture, Context, Effort, Inputs, Signature, Sink, Stage, Tail, given_table};
pub use trace::{Trace, TraceContext};
pub use usage::Usage;
pub use value::{Chunk, Document, Media, Section, Span, Value};
