//! The gateway's own share of a request's time.

use contract::RequestRecord;

/// Microseconds in which neither a stage nor an attempt was under way: parsing, admission, rendering, the ledger's
/// journal. `None` when nothing ran. Waiting for a slot belongs to the attempt, not to the overhead.
pub(super) fn overhead_us(r: &RequestRecord) -> Option<u64> {
    // Most requests are one call.
    if let ([a], []) = (r.attempts.as_slice(), r.stages.as_slice()) {
        let busy = a.ended_us.min(r.total_us).saturating_sub(a.started_us);
        return Some(r.total_us.saturating_sub(busy));
    }
    let attempts = r.attempts.iter().map(|a| (a.started_us, a.ended_us));
    let stages = r.stages.iter().map(|s| (s.started_us, s.ended_us));
    let mut spans: Vec<(u64, u64)> = attempts.chain(stages).collect();
    if spans.is_empty() {
        return None;
    }
    spans.sort_unstable();
    let (mut busy, mut until) = (0u64, 0u64);
    for (from, to) in spans {
        let (from, to) = (from.max(until), to.min(r.total_us));
        busy += to.saturating_sub(from);
        until = until.max(to);
    }
    Some(r.total_us.saturating_sub(busy))
}
