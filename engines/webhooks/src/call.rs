//! Asks an address for a stage of a run, by the same guard as webhooks go.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::{BoxFuture, Clock};
use http::Request;
use http::header::{RETRY_AFTER, USER_AGENT};
use http_body_util::{BodyExt as _, Full};
use pipeline::outside::{Asked, Call, Came};

use crate::client::{Guard, Why, address, client, wait, why};
use crate::guard::NotPublic;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);

/// Asks addresses.
#[derive(Clone)]
pub struct Caller {
    client: Guard,
    allow_private: bool,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller(allow_private: {})", self.allow_private)
    }
}

impl Caller {
    /// To public addresses over TLS, or to any.
    pub fn new(allow_private: bool, clock: Arc<dyn Clock>) -> Self {
        Caller { client: client(allow_private, CONNECT), allow_private, clock }
    }

    async fn once(&self, asked: Asked) -> Came {
        let uri = match address(&asked.url, self.allow_private) {
            Ok(uri) => uri,
            Err(why) => return Came::Forbidden(why),
        };
        let mut request = Request::builder().method(asked.method).uri(uri);
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        if !asked.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("user-agent")) {
            request = request.header(USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")));
        }
        // The reason may quote a header.
        let Ok(request) = request.body(Full::new(Bytes::from(asked.body))) else {
            return Came::Forbidden("a header cannot be sent".to_owned());
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| match why(&e) {
                Why::NotPublic => Came::Forbidden(NotPublic.to_string()),
                Why::Other(why) => Came::Unreachable(format!("the address cannot be reached: {why}")),
            })?;
            let (head, mut body) = response.into_parts();
            let after = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
            let retry_after = after.and_then(|text| wait(text, self.clock.wall()));
            let (mut text, mut cut) = (BytesMut::new(), false);
            while let Some(frame) = body.frame().await {
                let broken = |e| Came::Unreachable(format!("the answer broke off: {e}"));
                let Ok(piece) = frame.map_err(broken)?.into_data() else { continue };
                let room = asked.at_most.saturating_sub(text.len());
                text.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
                if piece.len() > room {
                    cut = true;
                    break;
                }
            }
            Ok(Came::Answer { status: head.status.as_u16(), retry_after, body: text.into(), cut })
        };
        match tokio::time::timeout(asked.timeout, exchange).await {
            Ok(Ok(came) | Err(came)) => came,
            Err(_) => Came::Late,
        }
    }
}

impl Call for Caller {
    fn check(&self, url: &str) -> Result<(), String> {
        address(url, self.allow_private).map(drop)
    }

    fn call(&self, asked: Asked) -> BoxFuture<'_, Came> {
        Box::pin(async move { self.once(asked).await })
    }
}
