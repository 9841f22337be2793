//! Where ended requests go besides the ledger: a sink that the binary wires to an exporter.
//!
//! Nothing here is on the path of a token: a request that has ended is handed over once, by a call that never waits.

use std::sync::Arc;

use contract::{RequestId, RequestRecord, Trace, TraceContext};
use http::{HeaderMap, HeaderName};

/// Takes ended requests.
///
/// Contract: `ended` never waits and never fails; what it cannot take it drops and counts.
pub trait Telemetry: Send + Sync + std::fmt::Debug {
    /// A request ended; its spans have the ids of `trace`. A request that is not sampled is told too, for metrics.
    fn ended(&self, record: Box<RequestRecord>, trace: Trace);

    /// How many requests were dropped so far, by reason: names known at build time, sums that never fall.
    fn dropped(&self) -> Vec<(&'static str, u64)>;
}

/// What the gateway is told about tracing.
#[derive(Debug, Clone)]
pub struct Tracing {
    /// Where ended requests go.
    pub sink: Arc<dyn Telemetry>,
    /// The share of requests to trace, of those whose caller leaves it to us: 0 to 1.
    pub share: f64,
}

impl Tracing {
    pub(crate) fn trace(&self, request: RequestId, caller: Option<TraceContext>) -> Trace {
        Trace::of(request, caller, self.share)
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The caller's position in its trace. Two headers contradict each other, and are read as none.
pub(crate) fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let one = all.next()?.to_str().ok()?;
    if all.next().is_some() { None } else { TraceContext::parse(one) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn one_traceparent_is_read_and_two_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(caller(&headers), None);
        headers.append("traceparent", HeaderValue::from_static(GOOD));
        assert_eq!(caller(&headers).map(|t| t.to_string()).as_deref(), Some(GOOD));
        headers.append("traceparent", HeaderValue::from_static(GOOD));
        assert_eq!(caller(&headers), None);
        headers.insert("traceparent", HeaderValue::from_bytes(b"00-\xff").unwrap());
        assert_eq!(caller(&headers), None);
    }
}
