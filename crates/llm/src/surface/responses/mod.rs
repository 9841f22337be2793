//! OpenAI responses for callers: what the official SDKs send and parse.
//!
//! Nothing is stored here: a request that needs what was said before is refused, and an answer says `"store":false`, unless it
//! is made in the background and kept by whoever makes it. A response
//! ends in one of three ways: `completed`, `incomplete` (its limit, or filtered) or `failed`; what broke off is never the
//! first. Its items are what the deltas say in their order, an item for each run of text, of reasoning and for each call.

mod events;
mod input;
mod object;
mod request;
mod tools;

pub use events::Events;
pub use object::{Unanswered, render, unanswered};
pub use request::{Echo, parse};
