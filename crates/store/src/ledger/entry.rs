//! What the ledger's journal holds, and its encoding: one letter for the kind, then JSON.

use contract::{
    Code, Ending, KeyId, ModelName, Money, PipelineName, RequestId, RequestRecord, Surface, TenantId,
    UnixMillis, Usage, UserId,
};
use serde::{Deserialize, Serialize};

use crate::{Error, journal::frame};

/// A request that may cost something from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The request.
    pub id: RequestId,
    /// When it arrived.
    pub at: UnixMillis,
    /// Who pays.
    pub tenant: TenantId,
    /// With which key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The end user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineName>,
    /// The model asked for by a plain model call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Tokens reserved, in and out.
    pub reserved_tokens: u64,
    /// Money reserved.
    pub reserved_cost: Money,
}

impl Admitted {
    /// The record of a request whose process died: the reservation stands for the usage, all of it as input tokens.
    pub fn lost(self) -> RequestRecord {
        RequestRecord {
            id: self.id,
            at: self.at,
            surface: Surface::Native,
            tenant: self.tenant,
            key: self.key,
            user: self.user,
            pipeline: self.pipeline,
            pipeline_version: None,
            model: self.model,
            stream: false,
            queued_us: 0,
            first_output_us: None,
            total_us: 0,
            usage: Usage { input_tokens: self.reserved_tokens, estimated: true, ..Usage::default() },
            cost: self.reserved_cost,
            attempts: Vec::new(),
            stages: Vec::new(),
            facts: serde_json::Map::new(),
            ending: Ending::Lost,
            error: Some(contract::Error::new(
                Code::Internal,
                "the server stopped while this request ran; its usage is estimated by what was reserved",
            )),
        }
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A request entered.
    Admitted(Admitted),
    /// A request ended.
    Settled(Box<RequestRecord>),
}

/// Encodes into `buffer`, which is cleared, as a sealed frame.
pub(super) fn encode(buffer: &mut Vec<u8>, kind: u8, body: &impl Serialize) -> Result<(), Error> {
    frame::begin(buffer);
    buffer.push(kind);
    serde_json::to_writer(&mut *buffer, body)?;
    if frame::seal(buffer) { Ok(()) } else { Err(Error::TooLarge(buffer.len())) }
}

/// The kind letter of [`Entry::Admitted`].
pub(super) const ADMITTED: u8 = b'A';
/// The kind letter of [`Entry::Settled`].
pub(super) const SETTLED: u8 = b'S';

impl Entry {
    /// Reads a payload of the journal.
    pub fn decode(payload: &[u8]) -> Result<Entry, Error> {
        match payload.split_first() {
            Some((&ADMITTED, json)) => Ok(Entry::Admitted(serde_json::from_slice(json)?)),
            Some((&SETTLED, json)) => Ok(Entry::Settled(Box::new(serde_json::from_slice(json)?))),
            _ => Err(Error::Decode(serde::de::Error::custom("an unknown kind of journal entry"))),
        }
    }
}
