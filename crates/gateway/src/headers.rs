//! What an answer's headers say beside its body: the request's id, the caller's rates in the words of its protocol, and
//! what the answer took.
//!
//! OpenAI's names (`x-ratelimit-*`, resets as Go writes durations) stand on every surface but Anthropic's, which has its own
//! (`anthropic-ratelimit-*`, resets as points in time, and `request-id` beside `x-request-id`).

use std::time::Duration;

use admission::{RateHeaders, Window};
use contract::{RequestId, Surface, UnixMillis};
use http::header::{AGE, HeaderName};
use http::{HeaderMap, HeaderValue};
use llm::CacheResult;

use crate::deltas::Deltas;
use crate::ladder::Instead;
use crate::request::Request;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const OVERHEAD: HeaderName = HeaderName::from_static("forebay-overhead-us");
const ATTEMPTS: HeaderName = HeaderName::from_static("forebay-attempts");
const VERSION: HeaderName = HeaderName::from_static("forebay-model-version");
pub(crate) const DEGRADED: HeaderName = HeaderName::from_static("forebay-degraded");
const COST: HeaderName = HeaderName::from_static("forebay-cost-nanousd");
const CACHE: HeaderName = HeaderName::from_static("forebay-cache");

/// Answers have about as many headers: room for them is made at once.
pub(crate) const MANY: usize = 16;

/// Limit, remaining, reset of one kind of rate.
type Names = [HeaderName; 3];

const REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
const ANTHROPIC_REQUESTS: Names = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
const ANTHROPIC_TOKENS: Names = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];

/// A caller's rates at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) windows: RateHeaders,
    pub(crate) at: UnixMillis,
}

impl Rates {
    /// Writes those that are limited.
    pub(crate) fn put(&self, surface: Surface, headers: &mut HeaderMap) {
        let (requests, tokens, absolute) = match surface {
            Surface::Anthropic => (ANTHROPIC_REQUESTS, ANTHROPIC_TOKENS, true),
            _ => (REQUESTS, TOKENS, false),
        };
        for (names, window) in [(requests, self.windows.requests), (tokens, self.windows.tokens)] {
            if let Some(w) = window {
                self.put_window(names, &w, absolute, headers);
            }
        }
    }

    fn put_window(&self, names: Names, w: &Window, absolute: bool, headers: &mut HeaderMap) {
        let [limit, remaining, reset] = names;
        headers.insert(limit, HeaderValue::from(w.limit));
        headers.insert(remaining, HeaderValue::from(w.remaining));
        let text = if absolute {
            let ms = i64::try_from(w.reset.as_millis()).unwrap_or(i64::MAX);
            UnixMillis(self.at.0.saturating_add(ms).saturating_add(999)).rfc3339()
        } else {
            go_duration(w.reset)
        };
        if let Ok(v) = HeaderValue::from_str(&text) {
            headers.insert(reset, v);
        }
    }
}

/// What is known of an answer when its headers go out.
pub(crate) struct Facts {
    id: RequestId,
    rates: Rates,
    overhead_us: Option<u64>,
    attempts: Option<usize>,
    version: Option<String>,
    cost: Option<i64>,
    degraded: Option<Instead>,
    cache: Option<CacheResult>,
    /// Of an answer that was kept.
    age: Option<Duration>,
}

impl Facts {
    /// Of one that has only been admitted.
    pub(crate) fn admitted(request: &Request) -> Self {
        let (id, rates) = (request.id(), request.rates());
        let degraded = request.instead;
        Facts {
            id,
            rates,
            overhead_us: None,
            attempts: None,
            version: None,
            cost: None,
            degraded,
            cache: None,
            age: degraded.and_then(|i| i.age),
        }
    }

    /// Of one that begins to stream: its cost is in the ledger at its end.
    pub(crate) fn begun(request: &Request, deltas: &Deltas) -> Self {
        let Some(c) = deltas.reply() else { return Facts::admitted(request) };
        Facts {
            // Earlier attempts have ended; the one that answers has taken the time since it started. Waiting for another's
            // call is nobody's overhead.
            overhead_us: match c.cache() {
                Some(CacheResult::Hit) => Some(request.cx.elapsed_us()),
                _ => c.started_us().map(|us| us.saturating_sub(request.cx.meter.called_us())),
            },
            attempts: Some(usize::try_from(c.attempts()).unwrap_or(usize::MAX)),
            version: c.model_version().map(str::to_owned),
            cache: c.cache(),
            age: c.age(),
            ..Facts::admitted(request)
        }
    }

    /// Of one that has ended and not yet settled.
    pub(crate) fn ended(request: &Request) -> Self {
        let meter = &request.cx.meter;
        Facts {
            overhead_us: Some(request.cx.elapsed_us().saturating_sub(meter.called_us())),
            attempts: Some(meter.attempts()),
            version: meter.model_version(),
            cost: Some(meter.spent().cost.nanos()),
            ..Facts::admitted(request)
        }
    }

    /// The same of an answer that was read from these deltas.
    pub(crate) fn ended_with(request: &Request, deltas: &Deltas) -> Self {
        let (begun, ended) = (Facts::begun(request, deltas), Facts::ended(request));
        Facts {
            overhead_us: if begun.cache == Some(CacheResult::Shared) { None } else { ended.overhead_us },
            version: ended.version.or(begun.version),
            cache: begun.cache,
            age: begun.age.or(ended.age),
            ..ended
        }
    }

    /// Writes them.
    pub(crate) fn put(&self, surface: Surface, headers: &mut HeaderMap) {
        request_id(self.id, surface, headers);
        self.rates.put(surface, headers);
        if let Some(us) = self.overhead_us {
            headers.insert(OVERHEAD, HeaderValue::from(us));
        }
        if let Some(n) = self.attempts {
            headers.insert(ATTEMPTS, HeaderValue::from(n));
        }
        if let Some(Ok(v)) = self.version.as_deref().map(HeaderValue::from_str) {
            headers.insert(VERSION, v);
        }
        if let Some(instead) = self.degraded {
            headers.insert(DEGRADED, HeaderValue::from_static(instead.rung));
        }
        if let Some(nanos) = self.cost {
            headers.insert(COST, HeaderValue::from(nanos));
        }
        if let Some(cache) = self.cache {
            headers.insert(CACHE, HeaderValue::from_static(cache.as_str()));
        }
        if let Some(age) = self.age {
            headers.insert(AGE, HeaderValue::from(age.as_secs()));
        }
    }
}

/// Writes the id where the surface's clients look for it.
pub(crate) fn request_id(id: RequestId, surface: Surface, headers: &mut HeaderMap) {
    let Ok(v) = HeaderValue::from_str(&id.to_string()) else { return };
    if surface == Surface::Anthropic {
        headers.insert(ANTHROPIC_REQUEST_ID, v.clone());
    }
    headers.insert(REQUEST_ID, v);
}

/// A duration as Go prints it, never shorter than it is: `350ms`, `1s`, `6m0s`, `1h0m0s`. Seconds are whole from a minute on.
fn go_duration(d: Duration) -> String {
    let mut text = String::with_capacity(16);
    let mut put = |n: u64, unit: &str| {
        text.push_str(itoa::Buffer::new().format(n));
        text.push_str(unit);
    };
    let ms = u64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    match ms {
        0 => put(0, "s"),
        1..1_000 => put(ms, "ms"),
        1_000..60_000 => match ms % 1_000 {
            0 => put(ms / 1_000, "s"),
            rest => {
                put(ms / 1_000, ".");
                // The thousandths without the zeros at their end.
                let (mut digits, mut width) = (rest, 3);
                while digits.is_multiple_of(10) {
                    (digits, width) = (digits / 10, width - 1);
                }
                for place in (0..width).rev() {
                    put(digits / 10_u64.pow(place) % 10, "");
                }
                text.push('s');
            }
        },
        _ => {
            let s = ms.div_ceil(1_000);
            if s >= 3_600 {
                put(s / 3_600, "h");
            }
            put(s / 60 % 60, "m");
            put(s % 60, "s");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (350, "350ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (59_999, "59.999s"),
            (60_000, "1m0s"),
            (60_001, "1m1s"),
            (119_500, "2m0s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (86_399_001, "24h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(ms)), text, "{ms} ms");
        }
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms", "who comes back then is not too early");
    }

    #[test]
    fn points_in_time_are_written_in_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_277_571_999, "2026-11-21T16:12:51Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(UnixMillis(ms).rfc3339(), text);
        }
    }

    #[test]
    fn each_surface_has_its_own_names_for_rates() {
        let window = Window { limit: 60, remaining: 59, reset: Duration::from_millis(1_000) };
        let windows = RateHeaders { requests: Some(window), tokens: None };
        let rates = Rates { windows, at: UnixMillis(0) };
        let (mut openai, mut anthropic) = (HeaderMap::new(), HeaderMap::new());
        rates.put(Surface::Openai, &mut openai);
        rates.put(Surface::Anthropic, &mut anthropic);
        assert_eq!(openai.len(), 3);
        assert_eq!(openai["x-ratelimit-limit-requests"], "60");
        assert_eq!(openai["x-ratelimit-remaining-requests"], "59");
        assert_eq!(openai["x-ratelimit-reset-requests"], "1s");
        assert_eq!(anthropic.len(), 3);
        assert_eq!(anthropic["anthropic-ratelimit-requests-remaining"], "59");
        assert_eq!(anthropic["anthropic-ratelimit-requests-reset"], "1970-01-01T00:00:01Z");
    }

    proptest! {
        #[test]
        fn any_duration_and_any_day_can_be_written(nanos: u64, day in -1_000_000i64..1_000_000) {
            prop_assert!(HeaderValue::from_str(&go_duration(Duration::from_nanos(nanos))).is_ok());
            let (this, next) = (UnixMillis(day * 86_400_000).rfc3339(), UnixMillis((day + 1) * 86_400_000).rfc3339());
            prop_assert_ne!(&this, &next);
            if day > -700_000 {
                prop_assert!(this < next, "{} {}", this, next);
            }
        }
    }
}
