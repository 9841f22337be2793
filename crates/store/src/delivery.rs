//! Messages of the outbox: what is to be told, to whom, and how it is doing. They are about a run or a batch, or about the registry.

use contract::{RunId, TenantId, UnixMillis};
use serde::{Deserialize, Serialize};

/// A message that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// The message's id: the same for every try.
    pub id: String,
    /// To where.
    pub url: String,
    /// What is said.
    pub body: Vec<u8>,
    /// When.
    pub at: UnixMillis,
}

/// A message that is to be tried, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDelivery {
    /// The message's id.
    pub id: String,
    /// Whose run it is about.
    pub tenant: TenantId,
    /// Whom it goes to: the address without its path.
    pub receiver: String,
    /// Since when it could be tried.
    pub next_at: UnixMillis,
}

/// Which of a tenant's secrets its messages are signed with: they are numbered from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretNumber {
    /// The current one.
    pub number: u32,
    /// Since when, if there was another before.
    pub since: Option<UnixMillis>,
}

/// How a delivery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It will be tried.
    Waiting,
    /// It was taken.
    Delivered,
    /// Every try failed.
    Failed,
    /// The receiver said that it is gone for good: nothing is sent there any more.
    Disabled,
}

impl DeliveryState {
    /// The name in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Waiting => "waiting",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Failed => "failed",
            DeliveryState::Disabled => "disabled",
        }
    }
}

/// A message of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message's id.
    pub id: String,
    /// The run it is about.
    pub run: RunId,
    /// Whose run that is.
    pub tenant: TenantId,
    /// To where.
    pub url: String,
    /// What is said.
    pub body: Vec<u8>,
    /// How it is doing.
    pub state: DeliveryState,
    /// Since when it is in the outbox.
    pub created_at: UnixMillis,
    /// When it is tried next.
    pub next_at: Option<UnixMillis>,
    /// How often it was tried.
    pub tries: u32,
    /// When it was tried last.
    pub tried_at: Option<UnixMillis>,
    /// The status of the last answer.
    pub answer: Option<u16>,
    /// What went wrong last.
    pub problem: Option<String>,
    /// Whom it is for, if the registry tells it: then `run` stands for that webhook.
    pub webhook: Option<DeliveryWebhook>,
}

/// A webhook of the registry, as far as its messages need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryWebhook {
    /// Its id.
    pub id: String,
    /// What messages to it are signed with now, sealed.
    pub secret: Option<String>,
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// When.
    pub at: UnixMillis,
    /// How the delivery is doing now.
    pub state: DeliveryState,
    /// When it is tried next, when it waits.
    pub next_at: Option<UnixMillis>,
    /// The status of the answer.
    pub answer: Option<u16>,
    /// What went wrong.
    pub problem: Option<String>,
}

/// Whom an address leads to: all of it before its path.
pub fn receiver(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    format!("{scheme}://{authority}").to_ascii_lowercase()
}
