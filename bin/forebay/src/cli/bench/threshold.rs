//! `--fail-on`: what must not be, for a run in CI.

use std::fmt;
use std::str::FromStr;

use super::tally::{Percentiles, Tally};
use crate::config::units::Time;

/// `[STEP:]METRIC>VALUE`, or with `<`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Threshold {
    /// The step's label; the first step without one.
    pub(super) step: Option<String>,
    metric: Metric,
    above: bool,
    /// Microseconds, a share of one, or a rate.
    limit: f64,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    Latency(Of, At),
    ErrorRate,
    ShedRate,
    /// Whole answers that miss the SLO.
    SloMissRate,
    Goodput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    First,
    Total,
    Tpot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    P50,
    P90,
    P99,
    P999,
    Max,
}

const EXPECTED: &str = "expected METRIC>VALUE or METRIC<VALUE, where the metric is p50, p90, p99, p999 or max of _first, _total or \
    _tpot (p99_first>300ms), error_rate, shed_rate, slo_miss_rate (error_rate>1%) or goodput (goodput<20)";

impl FromStr for Threshold {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (step, rest) = match text.split_once(':') {
            Some((step, rest)) => (Some(step.trim().to_owned()), rest),
            None => (None, text),
        };
        let at = rest.find(['<', '>']).ok_or(EXPECTED)?;
        let (name, tail) = rest.split_at(at);
        let above = tail.starts_with('>');
        let value = tail.get(1..).unwrap_or_default().trim();
        let metric = metric(name.trim()).ok_or(EXPECTED)?;
        let limit = match metric {
            Metric::Latency(..) => value.parse::<Time>().map(|t| t.0.as_micros() as f64)?,
            Metric::Goodput => number(value)?,
            _ => match value.strip_suffix('%') {
                Some(percent) => number(percent.trim())? / 100.0,
                None => number(value)?,
            },
        };
        Ok(Threshold { step, metric, above, limit, text: text.trim().to_owned() })
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(|| EXPECTED.to_owned())
}

fn metric(name: &str) -> Option<Metric> {
    Some(match name {
        "error_rate" => Metric::ErrorRate,
        "shed_rate" => Metric::ShedRate,
        "slo_miss_rate" => Metric::SloMissRate,
        "goodput" => Metric::Goodput,
        _ => {
            let (at, of) = name.split_once('_')?;
            let at = match at {
                "p50" => At::P50,
                "p90" => At::P90,
                "p99" => At::P99,
                "p999" => At::P999,
                "max" => At::Max,
                _ => return None,
            };
            let of = match of {
                "first" => Of::First,
                "total" => Of::Total,
                "tpot" => Of::Tpot,
                _ => return None,
            };
            Metric::Latency(of, at)
        }
    })
}

/// A share of a count, 0 of nothing.
pub(super) fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

impl Threshold {
    /// What it measures in a step; none when there is nothing to measure, such as a latency without an answer.
    pub(super) fn value(&self, tally: &Tally) -> Option<f64> {
        let c = &tally.counts;
        Some(match self.metric {
            Metric::ErrorRate => share(c.failed(), tally.sent),
            Metric::ShedRate => share(c.sheds, tally.sent),
            Metric::SloMissRate => share(c.complete - c.good, c.complete),
            Metric::Goodput => tally.goodput,
            Metric::Latency(of, at) => {
                let of: Option<Percentiles> = match of {
                    Of::First => tally.first_us,
                    Of::Total => tally.total_us,
                    Of::Tpot => tally.tpot_us,
                };
                let p = of?;
                (match at {
                    At::P50 => p.p50,
                    At::P90 => p.p90,
                    At::P99 => p.p99,
                    At::P999 => p.p999,
                    At::Max => p.max,
                }) as f64
            }
        })
    }

    /// Whether it came true. A latency of which there is none did: a server without answers keeps no promise.
    pub(super) fn came_true(&self, tally: &Tally) -> bool {
        self.value(tally).is_none_or(|v| if self.above { v > self.limit } else { v < self.limit })
    }

    /// A value as people read it.
    pub(super) fn show(&self, value: Option<f64>) -> String {
        match (self.metric, value) {
            (_, None) => "no answer".into(),
            (Metric::Latency(..), Some(us)) => super::report::us(us as u64),
            (Metric::Goodput, Some(rate)) => format!("{rate:.1}/s"),
            (_, Some(share)) => format!("{:.2} %", share * 100.0),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::cli::bench::answer::Outcome;
    use crate::cli::bench::tally::{Judge, tests::sample};

    fn tally(outcomes: &[Outcome]) -> Tally {
        let samples: Vec<_> = outcomes.iter().map(|o| sample(0, 400, o.clone())).collect();
        Judge { slo: None, price: None, window: Duration::from_secs(1) }.tally(samples.iter())
    }

    #[test]
    fn a_threshold_comes_true_by_its_metric_and_its_step() {
        let t = tally(&[Outcome::Complete, Outcome::TimedOut]);
        for (text, expected) in [
            ("p99_first>300ms", false),
            ("p99_first > 100ms", true),
            ("max_total>399ms", true),
            ("error_rate>50%", false),
            ("error_rate>0.49", true),
            ("goodput<2", true),
            ("shed_rate>0%", false),
        ] {
            assert_eq!(text.parse::<Threshold>().unwrap().came_true(&t), expected, "{text}");
        }
        assert_eq!("10x:goodput<2".parse::<Threshold>().unwrap().step.as_deref(), Some("10x"));
    }

    #[test]
    fn a_latency_without_an_answer_is_not_kept() {
        let none = tally(&[Outcome::TimedOut]);
        assert!("p99_total>10s".parse::<Threshold>().unwrap().came_true(&none));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}|(p99|max)_(first|total)[<>][0-9]{1,4}m?s") {
            let _ = text.parse::<Threshold>();
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for text in ["p99>3s", "p98_first>3s", "p99_first>3", "error_rate=1", "goodput<1s", "", ":"] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }
}
