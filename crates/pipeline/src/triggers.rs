//! What starts durable pipelines besides a call: times, versions of datasets, ends of runs, events, alerts, files.
//!
//! [`Triggers`] decides about one pipeline, as a pure machine over its [`Memory`]; [`Driver`] brings what is decided to disk and
//! then lets it happen.

mod driver;
mod event;
mod expression;
mod happens;
mod means;
mod memory;
mod plan;
mod schedule;
mod step;
mod times;

pub use driver::Driver;
pub use event::{Event, EventRule};
pub use happens::{Action, Input, Seen, Took};
pub use means::{Came, EndedRun, Start, Watch};
pub use memory::{LastStart, MOST_BYTES, MOST_CAUSES, Memory, REMEMBERED};
pub use plan::{Cause, Missed, Overlap, StartRun, Trigger, TriggerPlan, When};
pub use schedule::{Schedule, ScheduleError, local_time, zones};
pub use step::{MOST_FILES, Triggers};
pub use times::MOST_MISSED;
