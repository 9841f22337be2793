//! Answers that are kept for a while: a request that is sent twice is answered once, and a reader that was cut off reads
//! on where it was.
//!
//! A request asks for it by `Idempotency-Key` or `forebay-resume`, a pipeline by `resume`; of one that does not, nothing
//! is kept and nothing here runs. Then the call is made in a task of its own ([`drive`]), which writes what goes over the
//! wire into a journal; every connection, the first one too, is a reader of it. [`layer`] does that for HTTP, [`socket`]
//! for WebSockets.
//!
//! | | |
//! |---|---|
//! | [`journal`] | the bytes of an answer and the places of its readers; pure |
//! | `events` | server-sent events as bytes: numbers, and what is behind one; pure |
//! | `answer` | one answer, and waiting for it |
//! | [`store`] | all of them, by key and by id, within bounds |
//! | [`said`] | what a request says about its answer |
//! | [`told`] | what a request tells of its end |
//!
//! Nothing is kept over the end of the process: for that there are jobs.

mod answer;
mod drive;
mod events;
mod journal;
mod layer;
mod reader_body;
mod said;
mod socket;
mod store;
mod told;

pub(crate) use layer::{answer, events, resumable};
pub(crate) use said::{is_asked, key};
pub(crate) use socket::{Kept, Next, Opening, opening, resume, run};
pub use store::Replay;
pub(crate) use store::{Replays, reused};
pub(crate) use told::{Told, current, first_event};

#[cfg(test)]
mod tests;
