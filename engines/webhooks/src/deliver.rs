//! One message, once: signed, to where it is to go, and what the receiver said.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{BoxFuture, Clock, Secret, UnixMillis};
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use pipeline::runs::{Deliver, Delivered, Message, Signed};

use crate::client::{Guard, Why, address, client, wait, why};
use crate::guard::NotPublic;
use crate::{Error, Sealing, Signer};

/// An answer is read up to here, to be polite; what it says is told to who tries a receiver out alone.
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
    /// What keeps the secrets of the registry's webhooks.
    pub sealing: Sealing,
}

/// Sends webhooks.
#[derive(Debug, Clone)]
pub struct Webhooks {
    client: Guard,
    signer: Signer,
    own: Option<String>,
    allow_private: bool,
    timeout: Duration,
    sealing: Sealing,
    clock: Arc<dyn Clock>,
}

impl Webhooks {
    /// With these settings.
    ///
    /// # Errors
    /// A secret that is none.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let allow_private = settings.allow_private;
        let client = client(allow_private, settings.timeout);
        let signer = Signer::new(&settings.secrets)?;
        let own = settings.own.clone();
        let (timeout, sealing) = (settings.timeout, settings.sealing.clone());
        Ok(Webhooks { client, signer, own, allow_private, timeout, sealing, clock })
    }

    /// The address, if it may be called as far as it says itself.
    fn uri(&self, url: &str) -> Result<Uri, String> {
        if self.signer.is_empty() {
            return Err("no secret is configured to sign it with (`jobs.webhook.secret`)".into());
        }
        address(url, self.allow_private)
    }

    /// The request that brings a message now.
    fn request(&self, m: &Message, now: UnixMillis) -> Result<Request<Full<Bytes>>, Delivered> {
        let uri = match &m.signed {
            Signed::Tenant(_) => self.uri(&m.url),
            Signed::Registry { .. } => address(&m.url, self.allow_private),
        };
        let timestamp = now.0.div_euclid(1_000);
        let request = Request::post(uri.map_err(Delivered::Forbidden)?)
            .header(CONTENT_TYPE, kind(&m.body))
            .header(USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")));
        let request = match &m.signed {
            Signed::Tenant(secrets) => {
                let signature = match self.own.as_deref() == Some(&m.url) {
                    true => self.signer.sign(&m.id, timestamp, &m.body),
                    false => self.signer.of_tenant(&m.tenant, secrets).sign(&m.id, timestamp, &m.body),
                };
                request
                    .header("webhook-id", &m.id)
                    .header("webhook-timestamp", timestamp)
                    .header("webhook-signature", signature)
            }
            Signed::Registry { webhook, secret } => {
                let request =
                    request.header("x-mlflow-delivery-id", &m.id).header("x-mlflow-timestamp", timestamp);
                match secret {
                    // Another server may know how to open it, or this one when it is configured again.
                    Some(sealed) => {
                        let secret = self.sealing.open(sealed, webhook).map_err(Delivered::Unreachable)?;
                        let signer = Signer::of_text(&secret);
                        request.header("x-mlflow-signature", signer.sign(&m.id, timestamp, &m.body))
                    }
                    None => request,
                }
            }
        };
        let body = Full::new(Bytes::from(m.body.clone()));
        request.body(body).map_err(|e| Delivered::Forbidden(format!("the message cannot be sent: {e}")))
    }

    /// Brings a message. What came of it, and the beginning of what the receiver said.
    async fn once(&self, m: &Message) -> (Delivered, Vec<u8>) {
        let now = self.clock.wall();
        let request = match self.request(m, now) {
            Ok(request) => request,
            Err(came) => return (came, Vec::new()),
        };
        let exchange = async {
            let response = self.client.request(request).await?;
            let (head, body) = response.into_parts();
            Ok::<_, hyper_util::client::legacy::Error>((head, beginning(body).await))
        };
        let came = match tokio::time::timeout(self.timeout, exchange).await {
            Err(_) => {
                Delivered::Unreachable(format!("the receiver did not answer within {:?}", self.timeout))
            }
            Ok(Err(e)) => match why(&e) {
                Why::NotPublic => Delivered::Forbidden(NotPublic.to_string()),
                Why::Other(why) => Delivered::Unreachable(format!("the receiver cannot be reached: {why}")),
            },
            Ok(Ok((head, said))) => {
                let after = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
                let retry_after = after.and_then(|text| wait(text, now));
                return (Delivered::Answer { status: head.status.as_u16(), retry_after }, said);
            }
        };
        (came, Vec::new())
    }
}

/// What an answer says, up to the limit.
async fn beginning(mut body: Incoming) -> Vec<u8> {
    let mut said = Vec::new();
    while said.len() < ANSWER_LIMIT
        && let Some(Ok(frame)) = body.frame().await
    {
        let data = frame.into_data().unwrap_or_default();
        let room = ANSWER_LIMIT - said.len();
        said.extend_from_slice(data.get(..room).unwrap_or(&data));
    }
    said
}

/// What a message is. Those about jobs are CloudEvents, which begin with their version; those in OpenAI's form have none.
fn kind(body: &[u8]) -> &'static str {
    match body.starts_with(br#"{"specversion":"#) {
        true => "application/cloudevents+json; charset=utf-8",
        false => "application/json",
    }
}

impl Deliver for Webhooks {
    fn check(&self, url: &str) -> Result<(), String> {
        self.uri(url).map(drop)
    }

    fn check_address(&self, url: &str) -> Result<(), String> {
        address(url, self.allow_private).map(drop)
    }

    fn deliver(&self, message: Message) -> BoxFuture<'_, Delivered> {
        Box::pin(async move { self.once(&message).await.0 })
    }

    fn try_out(&self, message: Message) -> BoxFuture<'_, (Delivered, String)> {
        Box::pin(async move {
            let (came, said) = self.once(&message).await;
            (came, String::from_utf8_lossy(&said).into_owned())
        })
    }

    fn seal(&self, secret: &Secret, webhook: &str) -> Result<String, String> {
        self.sealing.seal(secret, webhook)
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
    fn a_host_that_is_a_number_is_four_decimal_ones_or_refused_at_once() {
        let settings = |allow_private| Settings {
            secrets: vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
            own: None,
            allow_private,
            timeout: Duration::from_secs(1),
            sealing: Sealing::default(),
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
