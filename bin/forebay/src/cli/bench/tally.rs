//! What the requests of a step say together: counts, rates, percentiles, tokens, cost. Pure.
//!
//! Percentiles are exact (nearest rank over every complete answer), not estimated from buckets.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::answer::Outcome;
use super::args::{Price, Slo};
use super::client::Sample;

/// Kinds of failures that are told apart; more are `other`.
const CODES: usize = 64;
/// Fewer answers than this have no rate of their own: the window's is taken.
const FEW: usize = 20;

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Percentiles {
    pub(super) n: u64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

impl Percentiles {
    /// Of at least one value.
    pub(super) fn of(mut all: Vec<u64>) -> Option<Percentiles> {
        all.sort_unstable();
        let max = *all.last()?;
        let at = |q| nearest(&all, q).unwrap_or(max);
        Some(Percentiles {
            n: all.len() as u64,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max,
        })
    }
}

/// The smallest value that is not below the share `q` of all: nearest rank, over sorted values.
fn nearest(sorted: &[u64], q: f64) -> Option<u64> {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// How requests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Counts {
    /// Whole answers.
    pub(super) complete: u64,
    /// Of those, answers within the SLO; all of them without one.
    pub(super) good: u64,
    /// Answers that end in an error behind some output.
    pub(super) partial: u64,
    /// Errors instead of an answer.
    pub(super) errors: u64,
    /// 429 and 503.
    pub(super) sheds: u64,
    /// Of those, with `Retry-After`.
    pub(super) sheds_with_retry_after: u64,
    /// `--timeout` passed.
    pub(super) timeouts: u64,
    /// Cut streams, lost connections, what cannot be read.
    pub(super) broken: u64,
    /// Under way at the end of the ramp-down.
    pub(super) unfinished: u64,
}

impl Counts {
    /// What is neither a whole answer nor a refusal.
    pub(super) fn failed(&self) -> u64 {
        self.partial + self.errors + self.timeouts + self.broken + self.unfinished
    }
}

/// What answers cost together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) nanousd: i64,
    /// Answers whose cost the server said.
    pub(super) said: u64,
    /// Answers whose cost was computed from their tokens and `--price`.
    pub(super) computed: u64,
}

/// A set of requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Tally {
    /// Requests that were sent.
    pub(super) sent: u64,
    pub(super) counts: Counts,
    /// `429 overloaded`, `502 upstream_error`, `broken: connection lost`, …
    pub(super) by_code: BTreeMap<String, u64>,
    /// Whole answers a second, where they came.
    pub(super) complete_per_second: f64,
    /// Good ones.
    pub(super) goodput: f64,
    /// To the first output of whole, streamed answers.
    pub(super) first_us: Option<Percentiles>,
    /// To the end of whole answers.
    pub(super) total_us: Option<Percentiles>,
    /// Between two tokens of whole, streamed answers.
    pub(super) tpot_us: Option<Percentiles>,
    /// To the refusal of sheds.
    pub(super) shed_us: Option<Percentiles>,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    /// Answers that said no tokens.
    pub(super) without_usage: u64,
    pub(super) cost: Option<Cost>,
}

/// How samples are judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge {
    pub(super) slo: Option<Slo>,
    pub(super) price: Option<Price>,
    /// How long requests were measured.
    pub(super) window: Duration,
}

impl Slo {
    /// Whether an answer keeps it. What an answer does not have (a first output, when it is not streamed) is not missed.
    fn keeps(&self, sample: &Sample) -> bool {
        let within = |limit: Option<u64>, is: Option<u64>| match (limit, is) {
            (Some(limit), Some(is)) => is <= limit,
            _ => true,
        };
        within(self.first_us, sample.first_us)
            && within(self.total_us, Some(sample.total_us))
            && within(self.tpot_us, sample.tpot_us())
    }
}

impl Judge {
    pub(super) fn good(&self, sample: &Sample) -> bool {
        sample.outcome == Outcome::Complete && self.slo.is_none_or(|slo| slo.keeps(sample))
    }

    /// Sums what ended.
    pub(super) fn tally<'a>(&self, samples: impl Iterator<Item = &'a Sample>) -> Tally {
        let mut counts = Counts::default();
        let mut by_code = BTreeMap::new();
        let (mut first, mut total, mut tpot, mut shed) = (vec![], vec![], vec![], vec![]);
        let (mut ends, mut good_ends) = (vec![], vec![]);
        let (mut sent, mut input_tokens, mut output_tokens, mut without_usage) = (0, 0_u64, 0_u64, 0);
        let mut cost = None;
        for s in samples {
            sent += 1;
            count(&s.outcome, &mut counts, &mut by_code);
            input_tokens = input_tokens.saturating_add(s.took.input_tokens);
            output_tokens = output_tokens.saturating_add(s.took.output_tokens);
            self.add_cost(s, &mut cost);
            match s.outcome {
                Outcome::Shed { .. } => shed.push(s.total_us),
                Outcome::Complete => {
                    without_usage += u64::from(!s.took.counted);
                    total.push(s.total_us);
                    first.extend(s.first_us);
                    tpot.extend(s.tpot_us());
                    ends.push(s.ended());
                    if self.good(s) {
                        counts.good += 1;
                        good_ends.push(s.ended());
                    }
                }
                _ => {}
            }
        }
        Tally {
            sent,
            counts,
            by_code,
            complete_per_second: per_second(ends, self.window),
            goodput: per_second(good_ends, self.window),
            first_us: Percentiles::of(first),
            total_us: Percentiles::of(total),
            tpot_us: Percentiles::of(tpot),
            shed_us: Percentiles::of(shed),
            input_tokens,
            output_tokens,
            without_usage,
            cost,
        }
    }

    fn add_cost(&self, s: &Sample, cost: &mut Option<Cost>) {
        let computed = || {
            let price = self.price.filter(|_| s.took.counted)?;
            // Microdollars would do; a float is exact up to nine million dollars in nanodollars.
            let nanos = price.input * s.took.input_tokens as f64 + price.output * s.took.output_tokens as f64;
            Some(nanos.round() as i64)
        };
        let said = s.took.cost_nanousd;
        let Some(nanos) = said.or_else(computed) else { return };
        let sum = cost.get_or_insert(Cost { nanousd: 0, said: 0, computed: 0 });
        sum.nanousd = sum.nanousd.saturating_add(nanos);
        *if said.is_some() { &mut sum.said } else { &mut sum.computed } += 1;
    }
}

fn count(outcome: &Outcome, counts: &mut Counts, by_code: &mut BTreeMap<String, u64>) {
    let name = |status: &dyn std::fmt::Display, code: &str| format!("{status} {code}").trim_end().to_owned();
    let code = match outcome {
        Outcome::Complete => {
            counts.complete += 1;
            return;
        }
        Outcome::Partial { code } => {
            counts.partial += 1;
            name(&"partial", code)
        }
        Outcome::Error { status, code } => {
            counts.errors += 1;
            name(status, code)
        }
        Outcome::Shed { status, code, retry_after } => {
            counts.sheds += 1;
            counts.sheds_with_retry_after += u64::from(*retry_after);
            name(status, code)
        }
        Outcome::TimedOut => {
            counts.timeouts += 1;
            "timeout".into()
        }
        Outcome::Broken(why) => {
            counts.broken += 1;
            format!("broken: {why}")
        }
        Outcome::Unfinished => {
            counts.unfinished += 1;
            "unfinished".into()
        }
        // No request: the step counts it as not sent.
        Outcome::NoSocket => return,
    };
    let known = by_code.len() < CODES || by_code.contains_key(&code);
    *by_code.entry(if known { code } else { "other".into() }).or_default() += 1;
}

/// Answers a second.
///
/// An overloaded server works off its queue after the last request was sent: over the window alone it would seem to do
/// more than it can. A single straggler on the other hand is no reason to count its whole wait. So the middle nine tenths of the answers
/// are divided by the time in which they came, and the result is at most what the window gives.
fn per_second(mut ends: Vec<Duration>, window: Duration) -> f64 {
    if ends.is_empty() || window.is_zero() {
        return 0.0;
    }
    ends.sort_unstable();
    let n = ends.len();
    let of_window = n as f64 / window.as_secs_f64();
    if n < FEW {
        return of_window;
    }
    let (from, to) = (n / 20, n - 1 - n / 20);
    let came = match (ends.get(from), ends.get(to)) {
        (Some(first), Some(last)) => last.saturating_sub(*first).as_secs_f64(),
        _ => 0.0,
    };
    if came > 0.0 { of_window.min((to - from) as f64 / came) } else { of_window }
}

#[cfg(test)]
pub(super) mod tests;
