//! One message, once: signed, to where it is to go, and what the receiver said.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use contract::{BoxFuture, Clock, Secret, UnixMillis};
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pipeline::runs::{Deliver, Delivered, Message};

use crate::guard::{Guarded, NotPublic, is_public};
use crate::{Error, Signer};

/// An answer is read up to here, to be polite; what it says is nobody's business.
const ANSWER_LIMIT: usize = 16 << 10;

/// How webhooks are sent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What messages are signed with, the current secret first. Without one nothing is sent.
    pub secrets: Vec<Secret>,
    /// The operator's own receiver, whose messages are signed with these secrets themselves; all others' with one that is
    /// derived from them for the tenant.
    pub own: Option<String>,
    /// Addresses of private networks and of this machine may be called too, also without TLS.
    pub allow_private: bool,
    /// How long one try may take.
    pub timeout: Duration,
}

/// Sends webhooks.
#[derive(Debug, Clone)]
pub struct Webhooks {
    client: Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>,
    signer: Signer,
    own: Option<String>,
    allow_private: bool,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Webhooks {
    /// With these settings.
    ///
    /// # Errors
    /// A secret that is none.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let allow_private = settings.allow_private;
        let mut tcp = HttpConnector::new_with_resolver(Guarded { allow_private });
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.timeout));
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // A connection for each: whom it leads to is looked at each time.
            .pool_max_idle_per_host(0)
            .build(tls);
        let signer = Signer::new(&settings.secrets)?;
        let own = settings.own.clone();
        Ok(Webhooks { client, signer, own, allow_private, timeout: settings.timeout, clock })
    }

    /// The address, if it may be called as far as it says itself.
    fn uri(&self, url: &str) -> Result<Uri, String> {
        if self.signer.is_empty() {
            return Err("no secret is configured to sign it with (`jobs.webhook.secret`)".into());
        }
        let uri: Uri = url.parse().map_err(|_| "it is not an address".to_owned())?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if self.allow_private => {}
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
        if !self.allow_private && host.parse::<IpAddr>().is_ok_and(|ip| !is_public(ip)) {
            return Err("the address is not a public one".into());
        }
        Ok(uri)
    }

    async fn once(&self, m: &Message) -> Delivered {
        let uri = match self.uri(&m.url) {
            Ok(uri) => uri,
            Err(why) => return Delivered::Forbidden(why),
        };
        let now = self.clock.wall();
        let timestamp = now.0.div_euclid(1_000);
        let signature = match self.own.as_deref() == Some(&m.url) {
            true => self.signer.sign(&m.id, timestamp, &m.body),
            false => self.signer.of_tenant(&m.tenant, &m.secrets).sign(&m.id, timestamp, &m.body),
        };
        let request = Request::post(uri)
            .header(CONTENT_TYPE, kind(&m.body))
            .header(USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &m.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::from(m.body.clone())));
        let request = match request {
            Ok(request) => request,
            Err(e) => return Delivered::Forbidden(format!("the message cannot be sent: {e}")),
        };
        let exchange = async {
            let response = self.client.request(request).await?;
            let (head, body) = response.into_parts();
            let _ = Limited::new(body, ANSWER_LIMIT).collect().await;
            Ok::<_, hyper_util::client::legacy::Error>(Response::from_parts(head, ()))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Err(_) => {
                Delivered::Unreachable(format!("the receiver did not answer within {:?}", self.timeout))
            }
            Ok(Err(e)) => unreachable(&e),
            Ok(Ok(r)) => {
                let after = r.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
                let retry_after = after.and_then(|text| wait(text, now));
                Delivered::Answer { status: r.status().as_u16(), retry_after }
            }
        }
    }
}

/// What a message is. Those about jobs are CloudEvents, which begin with their version; those in OpenAI's form have none.
fn kind(body: &[u8]) -> &'static str {
    match body.starts_with(br#"{"specversion":"#) {
        true => "application/cloudevents+json; charset=utf-8",
        false => "application/json",
    }
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
fn unreachable(e: &(dyn std::error::Error + 'static)) -> Delivered {
    let (mut cause, mut why) = (Some(e), e.to_string());
    while let Some(next) = cause {
        why = next.to_string();
        let inner = next.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if next.is::<NotPublic>() || inner.is_some_and(|i| i.is::<NotPublic>()) {
            // A name may lead elsewhere another day, but it was named to lead there today.
            return Delivered::Forbidden(NotPublic.to_string());
        }
        cause = next.source();
    }
    Delivered::Unreachable(format!("the receiver cannot be reached: {why}"))
}

/// What `Retry-After` says: seconds, or a date.
fn wait(text: &str, now: UnixMillis) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date: SystemTime = httpdate::parse_http_date(text.trim()).ok()?;
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    Some(date.duration_since(now).unwrap_or_default())
}

impl Deliver for Webhooks {
    fn check(&self, url: &str) -> Result<(), String> {
        self.uri(url).map(drop)
    }

    fn deliver(&self, message: Message) -> BoxFuture<'_, Delivered> {
        Box::pin(async move { self.once(&message).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_version_of_cloudevents_is_said_to_be_one() {
        assert_eq!(
            kind(br#"{"specversion":"1.0","id":"msg_1"}"#),
            "application/cloudevents+json; charset=utf-8"
        );
        assert_eq!(kind(br#"{"id":"evt_1","type":"batch.completed"}"#), "application/json");
    }

    #[test]
    fn a_time_to_wait_is_seconds_or_a_date() {
        let now = UnixMillis(784_111_777_000);
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait("soon", now), None);
    }

    #[test]
    fn a_host_that_is_a_number_is_four_decimal_ones_or_refused_at_once() {
        let settings = |allow_private| Settings {
            secrets: vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
            own: None,
            allow_private,
            timeout: Duration::from_secs(1),
        };
        for allow_private in [false, true] {
            let clock = Arc::new(contract::SystemClock::default());
            let hooks = Webhooks::new(&settings(allow_private), clock).unwrap();
            for host in [
                "2130706433",
                "0177.0.0.1",
                "0x7f000001",
                "0X7F.1",
                "127.1",
                "127.0.0.1.",
                "1.1.1.01",
                "1.2.3.4.5",
                "256.1.1.1",
                "a.example.0x",
            ] {
                let why = hooks.check(&format!("https://{host}/x")).expect_err(host);
                assert!(why.contains("four decimal numbers"), "{host}: {why}");
            }
            for host in ["1.1.1.1", "a.example", "1password.example", "0xa.example", "[2606:4700::1111]:8443"]
            {
                assert_eq!(hooks.check(&format!("https://{host}/x")), Ok(()), "{host}");
            }
        }
    }
}
