//! What a request says about its answer: its key, how long it goes on without a reader, and what of it is there already.

use std::time::Duration;

use contract::{Code, Error};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const RESUME: HeaderName = HeaderName::from_static("forebay-resume");
const LAST: HeaderName = HeaderName::from_static("last-event-id");

/// What beside its address and its body decides what a request is answered.
static MATTERS: [HeaderName; 4] =
    [CONTENT_TYPE, ACCEPT, HeaderName::from_static("prefer"), HeaderName::from_static("forebay-mid-stream")];

/// The longest key, in bytes.
const LONGEST: usize = 255;

/// Whether a request wants its answer to be kept: all that a request costs which does not.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    headers.contains_key(KEY) || headers.contains_key(RESUME) || headers.contains_key(LAST)
}

/// What a request says about its answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) key: Option<String>,
    pub(super) window: Option<Duration>,
    pub(super) last: Option<u64>,
}

impl Said {
    pub(super) fn of(headers: &HeaderMap) -> Result<Said, Error> {
        let window = one(headers, &RESUME)?.map(|text| {
            let m = "`forebay-resume` must be a time such as 30s, 500ms or 2m";
            duration(text).ok_or_else(|| Error::new(Code::InvalidRequest, m).param("forebay-resume"))
        });
        let said = Said { key: key(headers)?, window: window.transpose()?, last: last(headers)? };
        if said.last.is_some() && said.key.is_none() {
            // A new answer behind the beginning of another would be half of two.
            let m = "`Last-Event-ID` says where to read on, and nothing says in what: send the request's `Idempotency-Key`, or ask GET /v1/requests/{id}/events";
            return Err(Error::new(Code::InvalidRequest, m).param("last-event-id"));
        }
        Ok(said)
    }
}

/// The caller's key for a request that is to be answered once: live, or by a job.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(key) = one(headers, &KEY)? else { return Ok(None) };
    if key.is_empty() || key.len() > LONGEST {
        let m = format!("the idempotency key must have 1 to {LONGEST} characters");
        return Err(Error::new(Code::InvalidRequest, m).param("idempotency-key"));
    }
    Ok(Some(key.to_owned()))
}

/// The number of the last event that a caller has.
pub(crate) fn last(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let m = "`Last-Event-ID` must be the id of an event, which is a number";
    let number =
        |text: &str| text.parse().map_err(|_| Error::new(Code::InvalidRequest, m).param("last-event-id"));
    one(headers, &LAST)?.filter(|text| !text.is_empty()).map(number).transpose()
}

/// A header that may be there once, in visible characters.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Error> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else { return Ok(None) };
    match (first.to_str(), all.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => {
            let m = format!("the header `{name}` must be there once, in visible ASCII characters");
            Err(Error::new(Code::InvalidRequest, m).param(name.as_str()))
        }
    }
}

/// `30s`, `500ms`, `2m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

/// The hash of everything that makes a request what it is.
pub(super) fn asked(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let path = parts.uri.path_and_query().map_or("", |p| p.as_str());
    let headers = MATTERS.iter().map(|name| parts.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes));
    hash([path.as_bytes()].into_iter().chain(headers).chain([body]))
}

/// The hash of several parts.
pub(super) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // The length first: what stands in one part can never be taken for what stands in the next.
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(all: &[(&'static str, &str)]) -> Result<Said, Option<String>> {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(is_asked(&headers), !all.is_empty());
        Said::of(&headers).map_err(|e| {
            assert_eq!(e.code, Code::InvalidRequest);
            e.param
        })
    }

    #[test]
    fn what_a_request_says_is_read_or_refused_by_its_name() {
        let longest = "k".repeat(LONGEST);
        let too_long = "k".repeat(LONGEST + 1);
        let of = |key: Option<&str>, window: Option<u64>, last| Said {
            key: key.map(str::to_owned),
            window: window.map(Duration::from_millis),
            last,
        };
        assert_eq!(said(&[]), Ok(Said::default()));
        assert_eq!(said(&[("idempotency-key", &longest)]), Ok(of(Some(&longest), None, None)));
        assert_eq!(
            said(&[("idempotency-key", "k"), ("forebay-resume", "30s"), ("last-event-id", "7")]),
            Ok(of(Some("k"), Some(30_000), Some(7)))
        );
        let nothing_to_read_on_in = [("forebay-resume", "30s"), ("last-event-id", "7")];
        assert_eq!(said(&nothing_to_read_on_in), Err(Some("last-event-id".to_owned())));
        assert_eq!(said(&[("forebay-resume", "500ms")]), Ok(of(None, Some(500), None)));
        assert_eq!(
            said(&[("forebay-resume", "2m"), ("last-event-id", "")]),
            Ok(of(None, Some(120_000), None))
        );
        for (name, value) in [
            ("idempotency-key", ""),
            ("idempotency-key", "  "),
            ("idempotency-key", &too_long),
            ("forebay-resume", "soon"),
            ("forebay-resume", "s"),
            ("forebay-resume", "30"),
            ("forebay-resume", "18446744073709551615m"),
            ("last-event-id", "x"),
            ("last-event-id", "-1"),
        ] {
            assert_eq!(said(&[(name, value)]), Err(Some(name.to_owned())), "{value}");
        }
        for name in ["idempotency-key", "forebay-resume", "last-event-id"] {
            assert_eq!(said(&[(name, "1s"), (name, "1s")]), Err(Some(name.to_owned())));
        }
    }

    #[test]
    fn what_stands_in_one_part_of_a_request_is_not_taken_for_the_next() {
        let of = |parts: &[&str]| hash(parts.iter().map(|p| p.as_bytes()));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["ab", ""]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
    }
}
