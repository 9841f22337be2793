//! What the ledger's journal holds, and its encoding: one letter for the kind, then JSON.

use std::collections::HashSet;

use contract::{
    Code, Ending, KeyId, ModelName, Money, PipelineName, RequestId, RequestRecord, Surface, TenantId,
    UnixMillis, Usage, UserId,
};
use serde::{Deserialize, Serialize};

use super::Settled;
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
    /// Which protocol the caller spoke.
    #[serde(default = "native")]
    pub surface: Surface,
    /// Whether the caller asked for a stream.
    #[serde(default)]
    pub stream: bool,
    /// The estimated input.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens reserved, in and out.
    pub reserved_tokens: u64,
    /// Money reserved.
    pub reserved_cost: Money,
}

fn native() -> Surface {
    Surface::Native
}

impl Admitted {
    /// The record of a request whose process died: the reservation stands for the usage.
    pub fn lost(self) -> RequestRecord {
        let input_tokens = self.input_tokens.min(self.reserved_tokens);
        let output_tokens = self.reserved_tokens - input_tokens;
        RequestRecord {
            id: self.id,
            at: self.at,
            surface: self.surface,
            tenant: self.tenant,
            key: self.key,
            user: self.user,
            pipeline: self.pipeline,
            pipeline_version: None,
            model: self.model,
            stream: self.stream,
            queued_us: 0,
            first_output_us: None,
            total_us: 0,
            usage: Usage { input_tokens, output_tokens, estimated: true, ..Usage::default() },
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
    Settled(Settled),
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

/// The id at the head of a payload as it is written, without reading the rest.
fn id(payload: &[u8]) -> Option<RequestId> {
    let text = payload.get(1..)?.strip_prefix(br#"{"id":""#)?.split(|b| *b == b'"').next()?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Decodes payloads of this process: first what ended, then those admissions whose end is not among it. Those that cannot be read are
/// counted.
pub(super) fn decode_open(payloads: &[Vec<u8>]) -> (Vec<Entry>, usize) {
    let (mut entries, mut bad) = (Vec::new(), 0);
    let (admitted, rest): (Vec<_>, Vec<_>) = payloads.iter().partition(|p| p.first() == Some(&ADMITTED));
    let mut decode = |p: &[u8], entries: &mut Vec<Entry>| match Entry::decode_own(p) {
        Ok(e) => entries.push(e),
        Err(_) => bad += 1,
    };
    rest.iter().for_each(|p| decode(p, &mut entries));
    let ended: HashSet<RequestId> = entries
        .iter()
        .filter_map(|e| match e {
            Entry::Settled(s) => Some(s.id()),
            Entry::Admitted(_) => None,
        })
        .collect();
    let open = admitted.into_iter().filter(|p| !id(p).is_some_and(|id| ended.contains(&id)));
    open.for_each(|p| decode(p, &mut entries));
    (entries, bad)
}

impl Entry {
    /// Reads a payload of the journal, whoever wrote it.
    pub fn decode(payload: &[u8]) -> Result<Entry, Error> {
        Entry::decode_by(payload, Settled::read)
    }

    /// Reads a payload that this process wrote.
    fn decode_own(payload: &[u8]) -> Result<Entry, Error> {
        Entry::decode_by(payload, Settled::read_own)
    }

    fn decode_by(payload: &[u8], settled: fn(&str) -> Result<Settled, Error>) -> Result<Entry, Error> {
        match payload.split_first() {
            Some((&ADMITTED, json)) => Ok(Entry::Admitted(serde_json::from_slice(json)?)),
            Some((&SETTLED, json)) => settled(utf8(json)?).map(Entry::Settled),
            _ => Err(Error::Decode(serde::de::Error::custom("an unknown kind of journal entry"))),
        }
    }
}

fn utf8(json: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(json).map_err(|e| Error::Decode(serde::de::Error::custom(e)))
}

/// The record in a payload, if it is that of a request that has ended.
pub(crate) fn record(payload: &[u8]) -> Option<RequestRecord> {
    let json = payload.strip_prefix(&[SETTLED])?;
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ledger) fn admitted(n: u128) -> Admitted {
        Admitted {
            id: RequestId::from_parts(UnixMillis(5), n),
            at: UnixMillis(5),
            tenant: TenantId::from("t"),
            key: None,
            user: None,
            pipeline: None,
            model: None,
            surface: Surface::Openai,
            stream: true,
            input_tokens: 1,
            reserved_tokens: 1,
            reserved_cost: Money::ZERO,
        }
    }

    fn payload(kind: u8, body: &impl Serialize) -> Vec<u8> {
        let mut buffer = Vec::new();
        encode(&mut buffer, kind, body).unwrap();
        buffer.split_off(frame::HEADER)
    }

    #[test]
    fn only_admissions_without_an_end_are_kept() {
        let payloads = [
            payload(ADMITTED, &admitted(1)),
            payload(ADMITTED, &admitted(2)),
            payload(SETTLED, &admitted(1).lost()),
            b"S{\"id\":\"torn".to_vec(),
            b"".to_vec(),
        ];
        let (entries, bad) = decode_open(&payloads);
        assert_eq!(bad, 2);
        let settled = Entry::Settled(Settled::new(&admitted(1).lost()).unwrap());
        assert_eq!(entries, [settled, Entry::Admitted(admitted(2))]);
    }
}
