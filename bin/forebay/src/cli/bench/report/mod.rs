//! What a run found: the report as JSON, as a table and as a page. Its schema is `forebay.bench/1`: fields are added
//! within it, never renamed or given another meaning.

mod html;
mod plots;
mod table;

use std::time::Duration;

use serde::Serialize;

use super::answer::Outcome;
use super::args::{Price, Slo, Speaks};
use super::client::Sample;
use super::drive::Ran;
use super::plan::{Arrivals, Step, Streaming};
use super::profile::Profile;
use super::tally::{Judge, Percentiles, Tally};
use super::verdict::{Broke, LATE_US, Symptom};

pub(super) use self::html::page;
pub(super) use self::table::render;

/// Stretches of time in a step's timeline, at most.
const STRETCHES: u128 = 60;

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `forebay.bench/1`.
    pub(super) schema: &'static str,
    /// The version of this program.
    pub(super) version: &'static str,
    /// When it began.
    pub(super) started: String,
    pub(super) setup: Setup,
    /// Requests sent before the first step, one a tenant, to see that all is well.
    pub(super) probes: u64,
    pub(super) steps: Vec<StepReport>,
    /// Where it broke first; null when it did not.
    pub(super) broke: Option<Broke>,
    /// Between which rates it breaks, when that was looked for.
    pub(super) limit: Option<Limit>,
    pub(super) thresholds: Vec<Checked>,
    /// Ctrl-C ended it.
    pub(super) interrupted: bool,
    /// What it comes to, for people.
    pub(super) verdict: String,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Setup {
    pub(super) url: String,
    pub(super) surface: Speaks,
    pub(super) model: String,
    /// Requests a second at 1x.
    pub(super) rate: f64,
    pub(super) arrivals: Arrivals,
    pub(super) streaming: Streaming,
    pub(super) profile: Profile,
    /// The folder of documents sent instead of made-up text.
    pub(super) documents: Option<String>,
    pub(super) warm_up_ms: u64,
    pub(super) measured_ms: u64,
    pub(super) ramp_down_ms: u64,
    pub(super) timeout_ms: u64,
    pub(super) in_flight: u64,
    pub(super) seed: u64,
    pub(super) slo: Option<Slo>,
    /// Nanodollars for a token, where the server says no cost.
    pub(super) price: Option<Price>,
    pub(super) tenants: Vec<Weight>,
}

#[derive(Debug, Serialize)]
pub(super) struct Weight {
    pub(super) name: String,
    pub(super) weight: u32,
}

/// One step.
#[derive(Debug, Serialize)]
pub(super) struct StepReport {
    /// `10x`.
    pub(super) label: String,
    /// Requests a second that were asked for.
    pub(super) rate: f64,
    /// How long it was measured.
    pub(super) measured_ms: u64,
    /// Requests of the warm-up: sent, and in no other figure.
    pub(super) warm_up: u64,
    /// Requests that were due while it was measured.
    pub(super) planned: u64,
    /// Those, a second.
    pub(super) offered: f64,
    /// Those that were sent, a second.
    pub(super) sent_per_second: f64,
    pub(super) all: Tally,
    pub(super) tenants: Vec<TenantReport>,
    pub(super) client: ClientReport,
    pub(super) symptoms: Vec<Symptom>,
    pub(super) timeline: Vec<Stretch>,
}

#[derive(Debug, Serialize)]
pub(super) struct TenantReport {
    pub(super) name: String,
    pub(super) tally: Tally,
}

/// What this program itself could not do, which is no fault of the server.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct ClientReport {
    /// Not sent since `--in-flight` others were under way.
    pub(super) over_limit: u64,
    /// Not sent since this program came to them too late.
    pub(super) too_late: u64,
    /// Not sent since this machine had no file or port left for a connection.
    pub(super) no_socket: u64,
    /// Sent more than 20 ms late.
    pub(super) late: u64,
    /// How late they were sent.
    pub(super) late_p99_us: u64,
    pub(super) late_max_us: u64,
    pub(super) most_in_flight: u64,
}

/// A stretch of a step's time; requests are in the one in which they were due.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Stretch {
    /// From the step's beginning, its warm-up included.
    pub(super) at_ms: u64,
    pub(super) length_ms: u64,
    pub(super) sent: u64,
    pub(super) complete: u64,
    pub(super) shed: u64,
    pub(super) failed: u64,
    /// To the end of whole answers.
    pub(super) total_us: Option<Percentiles>,
}

/// Rates between which the server breaks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Limit {
    /// The highest without a symptom.
    pub(super) good: f64,
    /// The lowest with one.
    pub(super) bad: f64,
}

/// A `--fail-on`.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    pub(super) threshold: String,
    pub(super) step: String,
    pub(super) value: Option<f64>,
    /// The value as people read it.
    pub(super) shown: String,
    pub(super) came_true: bool,
}

impl ClientReport {
    /// Requests that were not sent.
    pub(super) fn not_sent(&self) -> u64 {
        self.over_limit + self.too_late + self.no_socket
    }
}

impl StepReport {
    /// Sums what came of a step.
    pub(super) fn of(step: &Step, ran: &Ran, judge: &Judge, tenants: &[String]) -> StepReport {
        let window = judge.window.as_secs_f64();
        let a_second = |n: u64| if window > 0.0 { n as f64 / window } else { 0.0 };
        let measured = || ran.samples.iter().filter(|s| s.planned.measured);
        let all = judge.tally(measured());
        let late = Percentiles::of(measured().map(|s| s.late_us).collect());
        let left_out = |v: &[super::plan::Planned]| v.iter().filter(|p| p.measured).count() as u64;
        let client = ClientReport {
            over_limit: left_out(&ran.over_limit),
            too_late: left_out(&ran.too_late),
            no_socket: left_out(&ran.no_socket),
            late: measured().filter(|s| s.late_us > LATE_US).count() as u64,
            late_p99_us: late.map_or(0, |p| p.p99),
            late_max_us: late.map_or(0, |p| p.max),
            most_in_flight: ran.most_in_flight as u64,
        };
        let planned = all.sent + client.not_sent();
        let each = |(i, name): (usize, &String)| TenantReport {
            name: name.clone(),
            tally: judge.tally(measured().filter(|s| s.planned.tenant == i)),
        };
        let several = tenants.len() > 1;
        StepReport {
            label: step.label.clone(),
            rate: step.rate,
            measured_ms: millis(judge.window),
            warm_up: ran.samples.iter().filter(|s| !s.planned.measured).count() as u64,
            planned,
            offered: a_second(planned),
            sent_per_second: a_second(all.sent),
            tenants: if several { tenants.iter().enumerate().map(each).collect() } else { Vec::new() },
            all,
            client,
            symptoms: Vec::new(),
            timeline: timeline(&ran.samples, ran.reached),
        }
    }
}

/// The samples by the time at which they were due.
fn timeline(samples: &[Sample], length: Duration) -> Vec<Stretch> {
    let whole = length.as_millis().max(1);
    // Whole seconds where they are enough, for a short step less.
    let width =
        if whole > 10_000 { whole.div_ceil(STRETCHES).div_ceil(1_000) * 1_000 } else { whole.div_ceil(20) };
    let count = usize::try_from(whole.div_ceil(width)).unwrap_or(0);
    let mut by_stretch: Vec<Vec<&Sample>> = vec![Vec::new(); count];
    for s in samples {
        let place = usize::try_from(s.planned.due.as_millis() / width).unwrap_or(usize::MAX);
        if let Some(stretch) = by_stretch.get_mut(place) {
            stretch.push(s);
        }
    }
    let stretch = |(i, all): (usize, &Vec<&Sample>)| {
        let count = |wanted: fn(&Outcome) -> bool| all.iter().filter(|s| wanted(&s.outcome)).count() as u64;
        let complete = count(|o| *o == Outcome::Complete);
        let shed = count(|o| matches!(o, Outcome::Shed { .. }));
        let totals = all.iter().filter(|s| s.outcome == Outcome::Complete).map(|s| s.total_us);
        Stretch {
            at_ms: u64::try_from(i as u128 * width).unwrap_or(u64::MAX),
            length_ms: u64::try_from(width).unwrap_or(u64::MAX),
            sent: all.len() as u64,
            complete,
            shed,
            failed: all.len() as u64 - complete - shed,
            total_us: Percentiles::of(totals.collect()),
        }
    };
    by_stretch.iter().enumerate().map(stretch).collect()
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds as people read them: three digits that matter.
pub(super) fn us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..100_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        100_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}

/// A rate as people read it.
pub(super) fn rate(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.2}")
    } else if rate < 1_000.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::tally::tests::sample;

    #[test]
    fn times_are_read_with_the_digits_that_matter() {
        let shown = [999, 1_234, 12_345, 123_456, 12_345_678].map(us);
        assert_eq!(shown, ["999 µs", "1.23 ms", "12.3 ms", "123 ms", "12.34 s"]);
        assert_eq!([1.234, 12.34, 1234.5].map(rate), ["1.23", "12.3", "1234"]);
    }

    #[test]
    fn a_timeline_holds_every_request_where_it_was_due() {
        let samples: Vec<Sample> = (0..100).map(|i| sample(i * 10, 5, Outcome::Complete)).collect();
        let line = timeline(&samples, Duration::from_secs(1));
        assert_eq!((line.len(), line.iter().map(|s| s.sent).sum::<u64>()), (20, 100));
        assert!(line.iter().all(|s| s.sent == 5 && s.complete == 5));
        let line = timeline(&samples, Duration::from_secs(300));
        assert_eq!((line.len(), line[0].length_ms, line[0].sent), (60, 5_000, 100));
    }
}
