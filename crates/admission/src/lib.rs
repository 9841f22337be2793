//! Who enters and who goes next: rates, budgets, fair queues and adaptive concurrency; which endpoint is asked, when it
//! rests, and how often anything is tried again.
//!
//! Everything that decides is a pure state machine that is told the time; [`Gate`] is the one thread-safe handle around
//! them. No tokio, no I/O, no spawn: futures use [`std::task::Waker`] alone and the caller brings the timers.

mod balance;
mod breaker;
mod budget;
mod desk;
mod fair_queue;
mod gate;
mod limiter;
mod model;
mod rates;
mod refusal;
mod reservation;
mod retry_budget;
mod room;
mod scope;
mod settings;
mod slot;
mod turns;
mod wait;

pub use balance::{PeakEwma, two_of};
pub use breaker::{Breaker, BreakerSettings, BreakerState, Pass};
pub use budget::{Account, Exhausted, Hold, Period};
pub use fair_queue::{Bounds, FairQueue, LaneId, LaneSnapshot, TicketId, Work};
pub use gate::{Entry, Gate, Growing, ModelSnapshot, Snapshot};
pub use limiter::Limiter;
pub use model::{Ask, Outlook, SlotOutcome};
pub use rates::{Bucket, RateHeaders, RateShort, Rates, Short, Window};
pub use refusal::{Cause, Refusal};
pub use reservation::{Amount, Demand, estimate};
pub use retry_budget::{RetryBudget, RetrySettings};
pub use room::Room;
pub use scope::{Caller, Scope};
pub use settings::{Limits, ModelSettings, Priority, Settings, TenantSettings};
pub use slot::{Slot, SlotRequest};
pub use wait::ServiceRate;
