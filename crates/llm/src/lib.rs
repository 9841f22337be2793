//! Chat models: one trait for every upstream, one request form for every surface, and the registry that turns a call
//! by name into one coherent answer or one clear error.
//!
//! - Requests and deltas are in [`chat`]; endpoints, settings and slots in [`model`]; [`answer`] puts deltas together.
//! - The registry and its call are in [`models`]; a [`Completion`] is a committed answer of a model, a [`Reply`]
//!   that or one from [`cache`]. How a call gets there: `repair`
//!   (what is asked next), `attempt` (one try), [`pool`] (the endpoints of a model), [`hedge`]; what is done when it breaks
//!   off behind that: `rescue`.
//! - Protocols of upstreams are in [`codec`], protocols of callers in [`surface`].
//! - Prompt files are read by [`prompts`]; [`generate`] is the stage kind, and [`generate::cascade`] the one that asks
//!   a larger model when a small one's answer does not do; [`tokens`] counts, `runs` without an encoding.

pub mod answer;
mod attempt;
pub mod cache;
pub mod chat;
pub mod choice;
pub mod codec;
mod completion;
pub mod generate;
pub mod hedge;
mod json;
mod live;
mod mark;
pub mod model;
pub mod models;
pub mod pool;
pub mod prompts;
mod repair;
mod rescue;
mod runs;
pub mod surface;
pub mod tokens;

pub use answer::Answer;
pub use cache::{CacheResult, CacheScope, CacheSettings, Key, Reply, Shelf, Shelved};
pub use chat::{ChatRequest, Delta, DeltaStream, FinishReason};
pub use choice::{CHOICES, Choice, Chooser, Chosen, Options};
pub use completion::Completion;
pub use generate::cascade::CascadeKind;
pub use generate::{GenerateKind, PartCache};
pub use hedge::Hedge;
pub use model::{
    Attempt, ChatModel, Endpoint, Fallback, FallbackOn, ModelSettings, Prefill, Slot, SlotOutcome, Slots,
    Timeouts, Unlimited,
};
pub use models::{Asking, Models};
pub use pool::{EndpointState, Health};
pub use prompts::{Prompt, Prompts, Texts};
pub use tokens::TokenCounter;
