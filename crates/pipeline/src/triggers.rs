//! What starts durable pipelines besides a call.

mod expression;
mod schedule;

pub use schedule::{Schedule, ScheduleError, local_time, zones};
