//! A scriptable fake of an LLM provider: OpenAI chat completions and Anthropic messages over TCP or a Unix socket.
//!
//! People run it as `forebay fake-upstream` to rehearse what their pipelines do when a provider is slow, wrong or gone;
//! tests and benchmarks embed it:
//!
//! ```
//! # async fn example() -> Result<(), testkit::Error> {
//! use testkit::{FakeUpstream, Scenario, Script};
//!
//! let fake = FakeUpstream::start(Script { scenario: Some(Scenario::S08), ..Script::default() }).await?;
//! let url = format!("{}/v1/chat/completions", fake.base_url());
//! // … send a request to `url`, leave, and see when the fake noticed:
//! let end = fake.wait_for_end(1).await?;
//! println!("{url}: {:?} after {} tokens", end.how, end.tokens_sent);
//! # Ok(())
//! # }
//! ```
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/chat/completions` | OpenAI, streamed or not |
//! | `POST /v1/messages`, `POST /v1/messages/count_tokens` | Anthropic, streamed or not |
//! | `GET /v1/models`, `GET /v1/models/{id}` | in Anthropic's shape if `anthropic-version` is sent |
//! | `GET`, `DELETE /_fake/log` | what arrived and how it ended; forget it |
//! | `GET`, `POST /_fake/script` | the [`Script`] in force; another one |
//!
//! The fake uses no Forebay crate, so that it shares no mistake with what it tests. Beside it, for tests alone: [`stores`], what
//! every storage must do, and [`postgres`], a real server.

mod anthropic;
mod body;
mod error;
mod faults;
mod log;
mod openai;
pub mod postgres;
mod render;
mod request;
mod script;
mod server;
mod service;
pub mod stores;
mod tokens;

pub use error::Error;
pub use faults::{CutHow, Fault, FaultRule, Scenario};
pub use log::{CAPACITY as LOG_CAPACITY, EndedHow, Key, Protocol, RequestEnd, RequestRecord};
pub use script::{
    Beyond, DEFAULT_TOKENS, LogMode, MAX_NATURAL_TOKENS, MAX_TOKENS, Places, Script, ToolCall, UsagePlace,
};
pub use server::{Address, FakeUpstream, Handle, serve};
pub use tokens::count_words;
