//! Where a request stands in a distributed trace: the caller's `traceparent`, read strictly, and the ids of our own
//! spans.
//!
//! Ids are not stored and need no random source: they are made from the request's id, so that the exporter and
//! whoever calls an upstream name the same span without talking to each other. Without a caller's trace, the trace id
//! *is* the request id's 16 bytes: who knows one finds the other.

use std::fmt;

use crate::{RequestId, StageName};

/// A position in a trace, as [W3C Trace Context](https://www.w3.org/TR/trace-context/) writes it in `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not zero.
    pub trace: [u8; 16],
    /// The span that calls; not zero.
    pub span: [u8; 8],
    /// Whether the caller keeps the trace.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`. What the standard calls invalid is `None`: a wrong length, upper-case digits, zero ids,
    /// version `ff`, anything behind version 00. Of a higher version the known beginning is read.
    pub fn parse(text: &str) -> Option<TraceContext> {
        let bytes = text.as_bytes();
        let [version] = hex::<1>(bytes.get(..2)?)?;
        let (trace, span) = (hex::<16>(bytes.get(3..35)?)?, hex::<8>(bytes.get(36..52)?)?);
        let [flags] = hex::<1>(bytes.get(53..55)?)?;
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let end = match version {
            0 => bytes.len() == 55,
            0xff => false,
            _ => bytes.get(55).is_none_or(|b| *b == b'-'),
        };
        let valid = dashes && end && trace != [0; 16] && span != [0; 8];
        valid.then_some(TraceContext { trace, span, sampled: flags & 1 == 1 })
    }

    /// The same trace, called from another span.
    pub fn child(self, span: [u8; 8]) -> TraceContext {
        TraceContext { span, ..self }
    }
}

/// `N` bytes of lower-case hex digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = *pair else { return None };
        *byte = nibble(high)? << 4 | nibble(low)?;
    }
    (digits.len() == 2 * N).then_some(out)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

/// The trace of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The caller's span, when it sent one.
    pub parent: Option<[u8; 8]>,
    /// The request's own span, in its trace.
    pub root: TraceContext,
}

impl Trace {
    /// The trace of a request. The caller's decision holds; without one, `share` of the requests are kept (0 to 1),
    /// and always the same ones.
    pub fn of(request: RequestId, caller: Option<TraceContext>, share: f64) -> Trace {
        let sampled = match caller {
            Some(c) => c.sampled,
            // 53 bits are what a double holds exactly.
            None => ((mix(request, 0) >> 11) as f64) < share * (1u64 << 53) as f64,
        };
        let trace = caller.map_or(*request.as_bytes(), |c| c.trace);
        let root = TraceContext { trace, span: id(request, Kind::Root), sampled };
        Trace { parent: caller.map(|c| c.span), root }
    }
}

/// The span of a stage.
pub fn stage_span(request: RequestId, stage: &StageName) -> [u8; 8] {
    // FNV-1a: names are few and short.
    let hash = stage
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    id(request, Kind::Stage(hash))
}

/// The span of an attempt, by its ordinal within the request.
pub fn attempt_span(request: RequestId, ordinal: u32) -> [u8; 8] {
    id(request, Kind::Attempt(ordinal))
}

enum Kind {
    Root,
    Stage(u64),
    Attempt(u32),
}

fn id(request: RequestId, kind: Kind) -> [u8; 8] {
    let salt = match kind {
        Kind::Root => 1,
        Kind::Attempt(n) => (u64::from(n) << 8) | 2,
        Kind::Stage(hash) => hash | 1 << 63,
    };
    // Zero is no id.
    mix(request, salt).max(1).to_be_bytes()
}

/// Splitmix64 over the request's id and a salt.
fn mix(request: RequestId, salt: u64) -> u64 {
    let (high, low) = request.as_bytes().split_at(8);
    let number = |b: &[u8]| b.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    [number(high), salt].into_iter().fold(number(low), |state, word| {
        let mut z = (state ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMillis;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_of_the_standard_is_read() {
        let t = TraceContext::parse(GOOD).unwrap();
        assert!(t.sampled);
        assert_eq!(t.to_string(), GOOD);
        assert!(!TraceContext::parse(&GOOD.replace("-01", "-00")).unwrap().sampled);
        let unknown_flags = TraceContext::parse(&GOOD.replace("-01", "-03")).unwrap();
        assert_eq!(unknown_flags.to_string(), GOOD, "flags we do not know are not sent on");
        let later = format!("cc{}-what-the-future-holds", &GOOD[2..]);
        assert_eq!(TraceContext::parse(&later), Some(t));
    }

    #[test]
    fn what_the_standard_calls_invalid_is_not_read() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}00"),
            &format!("cc{}x", &GOOD[2..]),
            &GOOD.to_uppercase(),
            &GOOD.replace("00-", "ff-"),
            &GOOD.replace('-', "_"),
            &GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &GOOD.replace("-01", "-0g"),
            &GOOD.replace("0af", "\u{e9}f"),
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_share_of_kept_traces_is_the_one_asked_for() {
        let kept = |share: f64| {
            let ids = (0..10_000u128).map(|n| RequestId::from_parts(UnixMillis(1_700_000_000_000), n));
            ids.filter(|id| Trace::of(*id, None, share).root.sampled).count()
        };
        assert_eq!((kept(0.0), kept(1.0)), (0, 10_000));
        assert!((2_300..2_700).contains(&kept(0.25)), "{}", kept(0.25));
    }

    #[test]
    fn the_callers_decision_holds_whatever_the_share() {
        let id = RequestId::from_parts(UnixMillis(1), 1);
        let caller = TraceContext::parse(GOOD).unwrap();
        let kept = Trace::of(id, Some(caller), 0.0);
        assert_eq!(
            (kept.root.sampled, kept.root.trace, kept.parent),
            (true, caller.trace, Some(caller.span))
        );
        let left = Trace::of(id, Some(TraceContext { sampled: false, ..caller }), 1.0);
        assert!(!left.root.sampled);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_written_alike(text in ".{0,60}") {
            if let Some(t) = TraceContext::parse(&text) {
                prop_assert_eq!(TraceContext::parse(&t.to_string()), Some(t));
            }
        }

        #[test]
        fn every_position_reads_back(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled: bool) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let t = TraceContext { trace, span, sampled };
            prop_assert_eq!(TraceContext::parse(&t.to_string()), Some(t));
        }

        #[test]
        fn spans_of_a_request_do_not_collide(r in any::<u128>(), attempts in 0u32..200) {
            let id = RequestId::from_parts(UnixMillis(1), r);
            let mut all: Vec<_> = (1..=attempts).map(|n| attempt_span(id, n)).collect();
            all.push(Trace::of(id, None, 1.0).root.span);
            all.extend(["draft", "parts", "summary"].map(|s| stage_span(id, &s.into())));
            let distinct: BTreeSet<_> = all.iter().collect();
            prop_assert_eq!(distinct.len(), all.len());
        }
    }
}
