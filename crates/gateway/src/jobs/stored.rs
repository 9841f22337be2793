//! A request as it is stored: what was asked, and who asked. The body stands apart, byte for byte.

use bytes::Bytes;
use contract::{Code, Error, KeyId, RunId, TenantId, UnixMillis};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use pipeline::runs::Lane;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::headers::DEGRADED;

/// A request that is to be answered later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Who asked.
    pub tenant: TenantId,
    /// By which key. Revoked since, it does not open any more.
    pub key: Option<KeyId>,
    /// Which route, with its query: `/v1/chat/completions`.
    pub path: String,
    /// The headers that the route is to see.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Who is told when it has ended.
    pub webhook: Option<String>,
    /// What makes a second submission by the same key of the tenant the same one.
    pub idempotency_key: Option<String>,
    /// Who goes first among jobs.
    pub lane: Lane,
    /// It is not begun before.
    pub not_before: Option<UnixMillis>,
    /// It has failed by then; and by the time that the server gives every job.
    pub deadline: Option<UnixMillis>,
    /// The line of a batch that it is.
    pub line: Option<Line>,
    /// What is still said of a response that is made in the background when what was asked is forgotten: a request for
    /// responses without its input.
    pub(crate) background: Option<Json>,
}

/// A line of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The batch.
    pub of: RunId,
    /// Which line, from 1.
    pub number: u64,
    /// What its caller calls it.
    pub custom_id: String,
}

/// The part that is read without the body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<KeyId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) webhook: Option<String>,
    /// Of a line of a batch: what its caller calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) custom_id: Option<String>,
    /// Of a response that is made in the background: what is said of it for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) background: Option<Json>,
}

impl Job {
    /// A job of a tenant: a JSON body for a route.
    pub fn json(
        tenant: TenantId,
        key: Option<KeyId>,
        path: impl Into<String>,
        body: impl Into<Bytes>,
    ) -> Job {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Job {
            tenant,
            key,
            path: path.into(),
            headers,
            body: body.into(),
            webhook: None,
            idempotency_key: None,
            lane: Lane::Normal,
            not_before: None,
            deadline: None,
            line: None,
            background: None,
        }
    }

    /// The same job in other words has the same hash: route, headers that decide the answer, and body.
    pub(super) fn hash(&self) -> blake3::Hash {
        let mut hash = blake3::Hasher::new();
        // Why it became a job decides nothing.
        let headers = self.headers.iter().filter(|(n, _)| **n != DEGRADED);
        let mut headers: Vec<(&str, &[u8])> = headers.map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        headers.sort_unstable();
        let headers = headers.into_iter().flat_map(|(n, v)| [n.as_bytes(), v]);
        for part in [self.path.as_bytes(), &*self.body].into_iter().chain(headers) {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize()
    }

    /// By what it is found again: as for live calls, what one API key of a tenant says another does not repeat. A line is found by
    /// its place in its batch, in words that no header can say: no caller's key is ever that of a line.
    pub(super) fn submit_key(&self) -> Option<String> {
        if let Some(line) = &self.line {
            return Some(format!("\n{} {}", line.of, line.number));
        }
        let by = self.key.as_ref().map(ToString::to_string).unwrap_or_default();
        self.idempotency_key.as_ref().map(|word| format!("{by} {word}"))
    }

    pub(super) fn about(&self) -> Result<String, Error> {
        let text =
            |(n, v): (&HeaderName, &HeaderValue)| Some((n.as_str().to_owned(), v.to_str().ok()?.to_owned()));
        let about = About {
            path: self.path.clone(),
            key: self.key.clone(),
            headers: self.headers.iter().filter_map(text).collect(),
            webhook: self.webhook.clone(),
            custom_id: self.line.as_ref().map(|l| l.custom_id.clone()),
            background: self.background.clone(),
        };
        serde_json::to_string(&about).map_err(|e| {
            Error::new(Code::Internal, format!("the job cannot be written: {e}; this is a defect"))
        })
    }
}

impl About {
    /// What is known of a job. A text that cannot be read is about nothing.
    pub(super) fn read(text: &str) -> About {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The stored request.
    pub(super) fn request(&self, body: Bytes) -> Result<http::Request<Bytes>, Error> {
        let mut request = http::Request::post(self.path.as_str());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
            .body(body)
            .map_err(|e| Error::new(Code::InvalidRequest, format!("the stored request cannot be made: {e}")))
    }
}

/// What its caller calls the line of a batch that is about that.
pub(crate) fn custom_id(about: &str) -> String {
    About::read(about).custom_id.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_call_became_a_job_makes_no_other_job_of_it() {
        let asked = Job::json("gold".into(), None, "/v1/pipelines/p", "{}");
        let mut became = asked.clone();
        became.headers.insert(DEGRADED, HeaderValue::from_static("job"));
        assert_eq!(asked.hash(), became.hash());
        became.headers.insert("forebay-mid-stream", HeaderValue::from_static("error"));
        assert_ne!(asked.hash(), became.hash());
    }
}
