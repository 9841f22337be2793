//! Providers of chat models over HTTP: OpenAI-compatible and Anthropic endpoints, over TCP, TLS or a Unix socket.
//!
//! Only the transport lives here: what the bytes mean is [`llm::codec`]'s, and whether to try again [`llm::Models`]'s.

mod client;
mod connection;
mod endpoint;
mod error;
pub mod http1;

pub use client::Client;
pub use endpoint::{AnthropicEndpoint, EndpointSettings, OpenAiEndpoint};
pub use error::Error;
