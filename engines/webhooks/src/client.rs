//! The one HTTP client of this engine: a connection for each request, to public addresses only unless told otherwise, and no
//! redirect is followed.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use contract::UnixMillis;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::guard::{Guarded, NotPublic, is_public};

pub(crate) type Guard = Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>;

/// A client that connects within `connect`.
pub(crate) fn client(allow_private: bool, connect: Duration) -> Guard {
    let mut tcp = HttpConnector::new_with_resolver(Guarded { allow_private });
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect));
    tcp.enforce_http(false);
    let tls = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        // A connection for each: whom it leads to is looked at each time.
        .pool_max_idle_per_host(0)
        .build(tls)
}

/// The address, if it may be called as far as it says itself.
pub(crate) fn address(url: &str, allow_private: bool) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| "it is not an address".to_owned())?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if allow_private => {}
        _ => return Err("it does not begin with https://".into()),
    }
    if uri.authority().is_none_or(|a| a.as_str().contains('@')) {
        return Err("it may have no user in it".into());
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("it names no host".into());
    }
    if is_odd_address(host) {
        return Err("its host is a number that is no plain address: write four decimal numbers, such as 192.0.2.1, or a name".into());
    }
    // The connector takes an address that is written out as it is, without asking the resolver.
    if !allow_private && host.parse::<IpAddr>().is_ok_and(|ip| !is_public(ip)) {
        return Err("the address is not a public one".into());
    }
    Ok(uri)
}

/// Whether a host is meant as an IPv4 address and is not written as four decimal numbers: some resolvers read `2130706433`,
/// `0x7f.1` and `0177.0.0.1` as 127.0.0.1, some as a name, and what it is would turn out when nobody looks any more.
fn is_odd_address(host: &str) -> bool {
    let dotted = host.ends_with('.');
    let host = host.strip_suffix('.').unwrap_or(host);
    // What ends in a number is an address (the URL standard): no name does.
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let number = match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    };
    number && (dotted || host.parse::<std::net::Ipv4Addr>().is_err())
}

/// Why it could not be asked.
pub(crate) enum Why {
    /// A name may lead elsewhere another day, but it was named to lead there today.
    NotPublic,
    Other(String),
}

/// The last cause.
pub(crate) fn why(e: &(dyn std::error::Error + 'static)) -> Why {
    let (mut cause, mut why) = (Some(e), e.to_string());
    while let Some(next) = cause {
        why = next.to_string();
        let inner = next.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if next.is::<NotPublic>() || inner.is_some_and(|i| i.is::<NotPublic>()) {
            return Why::NotPublic;
        }
        cause = next.source();
    }
    Why::Other(why)
}

/// What `Retry-After` says: seconds, or a date.
pub(crate) fn wait(text: &str, now: UnixMillis) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date: SystemTime = httpdate::parse_http_date(text.trim()).ok()?;
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_is_seconds_or_a_date() {
        let now = UnixMillis(784_111_777_000);
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait("soon", now), None);
    }
}
