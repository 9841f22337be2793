//! Who calls: `Authorization: Bearer` or `x-api-key`, to a key, to a tenant.

use std::net::IpAddr;

use contract::{Code, Error, Freshness, KeyId, MidStream, TenantId, TraceContext};
use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Uri};

use crate::app::App;

/// A caller that may come in.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) key: Option<KeyId>,
    /// The trace that its call is part of.
    pub(crate) trace: Option<TraceContext>,
    /// What it wants when a stream breaks off.
    pub(crate) mid_stream: Option<MidStream>,
    /// What it allows of caches.
    pub(crate) freshness: Freshness,
    /// What it says of being given a job in place of an answer; nothing leaves it to its surface.
    pub(crate) takes_job: Option<bool>,
    /// It was made a job because its pipeline was busy.
    pub(crate) deferred: bool,
}

/// Says what may come in place of an answer: `job`, or `answer` for nothing else.
pub(crate) const ACCEPT: HeaderName = HeaderName::from_static("forebay-accept");
const MID_STREAM: HeaderName = HeaderName::from_static("forebay-mid-stream");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Checks the key, unless the call is made on behalf of somebody whose key was checked. The answer is the same for a missing,
/// unknown, revoked and malformed one but for the first.
pub(crate) fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, Error> {
    let trace = crate::telemetry::caller(headers);
    let mid_stream = mid_stream(headers)?;
    let takes_job = takes_job(headers)?;
    if let Some((tenant, key)) = crate::inside::who() {
        // Only who stored the job could say so: the words of its caller are no part of it.
        let deferred = headers.contains_key(crate::headers::DEGRADED);
        let freshness = freshness(headers);
        return Ok(Caller { tenant, key, trace, mid_stream, freshness, takes_job, deferred });
    }
    let open = || open(headers, trace, mid_stream, takes_job);
    let Some(presented) = presented(headers) else {
        if app.generation.settings.auth_required {
            let m = "no API key was given: send `Authorization: Bearer <key>` or `x-api-key: <key>`";
            return Err(Error::new(Code::InvalidKey, m));
        }
        return open();
    };
    match app.inner.keys.check(presented, app.inner.clock.wall()) {
        Ok(info) => {
            let (tenant, key) = (info.tenant.clone(), Some(info.id.clone()));
            let freshness = freshness(headers);
            Ok(Caller { tenant, key, trace, mid_stream, freshness, takes_job, deferred: false })
        }
        // An open server takes whatever placeholder an SDK insists on, but never a key that was revoked.
        Err(store::Refusal::Malformed) if !app.generation.settings.auth_required => open(),
        Err(_) => Err(Error::new(
            Code::InvalidKey,
            "the API key is not valid; `forebay key list` shows those that are",
        )),
    }
}

/// The header `forebay-mid-stream`.
fn mid_stream(headers: &HeaderMap) -> Result<Option<MidStream>, Error> {
    let Some(value) = headers.get(MID_STREAM) else { return Ok(None) };
    match value.to_str().ok().and_then(MidStream::from_name) {
        Some(policy) => Ok(Some(policy)),
        None => {
            let m = "`forebay-mid-stream` must be one of error, restart, continue";
            Err(Error::new(Code::InvalidRequest, m).param(MID_STREAM.as_str()))
        }
    }
}

/// The header `forebay-accept`.
fn takes_job(headers: &HeaderMap) -> Result<Option<bool>, Error> {
    match headers.get(ACCEPT).map(|v| v.to_str().unwrap_or_default().trim()) {
        None => Ok(None),
        Some("job") => Ok(Some(true)),
        Some("answer") => Ok(Some(false)),
        Some(_) => {
            let m = "`forebay-accept` must be job or answer";
            Err(Error::new(Code::InvalidRequest, m).param(ACCEPT.as_str()))
        }
    }
}

/// What the caller's `Cache-Control` allows.
fn freshness(headers: &HeaderMap) -> Freshness {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok());
    values.fold(Freshness::default(), Freshness::and)
}

/// A caller of a server that asks for no key. Not a web page from somewhere else in the browser of whoever may come in:
/// it would spend on his account. A page that the same address serves is not from elsewhere; the same name may be, since
/// whoever owns a name says where it leads.
fn open(
    headers: &HeaderMap,
    trace: Option<TraceContext>,
    mid_stream: Option<MidStream>,
    takes_job: Option<bool>,
) -> Result<Caller, Error> {
    let page = headers.get(ORIGIN).map(|o| o.to_str().ok().and_then(|o| o.parse::<Uri>().ok()));
    let asked = headers.get(HOST).and_then(|h| h.to_str().ok());
    let own = |page: &Uri| {
        let host = page.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        is_this_machine(host) || address && page.authority().map(Authority::as_str) == asked
    };
    if page.is_some_and(|page| !page.as_ref().is_some_and(own)) {
        let m = "a server without keys takes no calls of web pages from elsewhere: make a key with `forebay key create` and send it";
        return Err(Error::new(Code::Forbidden, m));
    }
    // A page whose own name was made to lead here says nothing of where it is from, as long as it only reads.
    let host = asked.and_then(|h| h.parse::<Authority>().ok());
    if headers.contains_key(HOST) && !host.is_some_and(|h| is_private(h.host())) {
        let m = "a server without keys is called by an address or a private name, not by one that anybody may own: make a key with `forebay key create` and send it";
        return Err(Error::new(Code::Forbidden, m));
    }
    let (tenant, freshness) = (App::open_tenant(), freshness(headers));
    Ok(Caller { tenant, key: None, trace, mid_stream, freshness, takes_job, deferred: false })
}

/// Whether a host, an IPv6 address in brackets or not, names this machine and can name no other.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Endings of names that nobody can buy: RFC 6761, RFC 6762, and what ICANN keeps for private use.
const PRIVATE: [&str; 4] = ["localhost", "local", "internal", "test"];

/// Whether a host is an address, or a name that leads nowhere on the Internet: of one label, or with a private ending.
fn is_private(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let ending = bare.rsplit_once('.').map(|(_, last)| last);
    bare.parse::<IpAddr>().is_ok()
        || ending.is_none_or(|last| PRIVATE.iter().any(|own| own.eq_ignore_ascii_case(last)))
}

/// The key as it was sent.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(API_KEY) {
        return value.to_str().ok();
    }
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_keys_is_not_called_by_a_name_that_anybody_may_own() {
        let by = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            open(&headers, None, None, None).map(|_| ()).map_err(|e| e.code)
        };
        for own in [
            "localhost:8080",
            "10.0.0.5",
            "[::1]:8080",
            "forebay:8080",
            "forebay.ml.svc.cluster.local",
            "a.internal:1",
            "LOCALHOST.",
        ] {
            assert_eq!(by(own), Ok(()), "{own}");
        }
        for other in ["evil.com", "evil.com:18082", "127.0.0.1.nip.io", "10.0.0.5.evil.com", "not a host", ""]
        {
            assert_eq!(by(other), Err(Code::Forbidden), "{other}");
        }
    }

    #[test]
    fn a_web_page_from_elsewhere_may_not_ask_a_server_without_keys() {
        let from = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "10.0.0.5:8080".parse().unwrap());
            if let Some(o) = origin {
                headers.insert(ORIGIN, o.parse().unwrap());
            }
            open(&headers, None, None, None).map(|_| ()).map_err(|e| e.code)
        };
        for own in [
            None,
            Some("http://localhost:3000"),
            Some("http://127.0.0.1"),
            Some("https://[::1]:8443"),
            Some("http://10.0.0.5:8080"),
        ] {
            assert_eq!(from(own), Ok(()), "{own:?}");
        }
        for page in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "http://10.0.0.1:8080",
            "http://10.0.0.5",
            "x y",
        ] {
            assert_eq!(from(Some(page)), Err(Code::Forbidden), "{page}");
        }
    }
}
