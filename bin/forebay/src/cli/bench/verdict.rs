//! Where it broke first: which step, and by which symptom. Pure.
//!
//! What this program could not send, or sent late, is not the server's latency. In a step with too much of it only that
//! counts against the server which it cannot explain: errors and sheds, ten times as many missed SLOs, a median far up
//! where nine of ten requests were sent in time. With nothing of that the step is inconclusive, neither good nor bad.

use serde::Serialize;

use super::report::{StepReport, rate, us};
use super::threshold::share;

/// What goes wrong so many times as often as this program was too weak has another reason.
const FAR_MORE: u64 = 10;
/// More than this share of requests makes a symptom.
const SHARE: f64 = 0.01;
/// A request that is sent so late by this program says little about the server.
pub(super) const LATE_US: u64 = 20_000;
/// Fewer of them are an accident.
const LATE_FEW: u64 = 5;
/// The knee: the median is so many times that of the first good step, …
const KNEE_P50: u64 = 2;
/// … or the 99th percentile is.
const KNEE_P99: u64 = 3;
/// Less than this share of the offered rate comes back complete.
const KEEPS_UP: f64 = 0.9;
/// Fewer answers say nothing about the rate at which they come.
const ENOUGH: u64 = 50;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Errors, partial and broken answers, timeouts.
    Errors,
    /// 429 and 503.
    Sheds,
    /// Whole answers that miss the SLO.
    Slo,
    /// Latency far above that of the first good step.
    Knee,
    /// Fewer answers than requests, for no other reason.
    Behind,
    /// This program could not send what was due.
    Client,
}

/// One thing that goes wrong in a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Symptom {
    pub(super) kind: Kind,
    /// For people: a fragment that fits behind "at 10x".
    pub(super) text: String,
}

/// Where it broke first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Broke {
    /// The step's label.
    pub(super) step: String,
    /// Requests a second there.
    pub(super) rate: f64,
    /// The gravest symptom; `client` when nothing else is known.
    pub(super) symptom: Kind,
}

/// What goes wrong in a step, the gravest first. `baseline`: the first good step, if there was one.
pub(super) fn symptoms(step: &StepReport, baseline: Option<&StepReport>, slo: bool) -> Vec<Symptom> {
    let mut found = Vec::new();
    let mut add = |kind, text| found.push(Symptom { kind, text });
    let (all, c) = (&step.all, &step.all.counts);
    let percent = |part, of| format!("{:.1} %", share(part, of) * 100.0);
    if share(c.failed(), all.sent) > SHARE {
        let most = all.by_code.iter().filter(|(code, _)| !is_shed(code)).max_by_key(|(_, n)| **n);
        let most = most.map_or(String::new(), |(code, n)| format!(", most of them `{code}` ({n})"));
        add(Kind::Errors, format!("{} of the requests fail{most}", percent(c.failed(), all.sent)));
    }
    if share(c.sheds, all.sent) > SHARE {
        let offered = match c.sheds - c.sheds_with_retry_after {
            0 => ", each with Retry-After".to_owned(),
            n if n == c.sheds => ", none with Retry-After".to_owned(),
            n => format!(", {n} without Retry-After"),
        };
        add(Kind::Sheds, format!("{} of the requests are shed{offered}", percent(c.sheds, all.sent)));
    }
    let client = client(step);
    let weak = if client.is_some() { step.client.late + step.client.not_sent() } else { 0 };
    let missed = c.complete - c.good;
    if slo && share(missed, c.complete) > SHARE && missed > FAR_MORE * weak {
        add(Kind::Slo, format!("{} of the answers miss the SLO", percent(missed, c.complete)));
    }
    if FAR_MORE * weak < step.planned
        && let Some(text) = baseline.and_then(|b| knee(step, b, client.is_none()))
    {
        add(Kind::Knee, text);
    }
    if client.is_none() {
        let kept = all.complete_per_second / step.offered.max(f64::MIN_POSITIVE);
        if found.is_empty() && c.complete >= ENOUGH && kept < KEEPS_UP {
            let (done, offered) = (rate(all.complete_per_second), rate(step.offered));
            found.push(Symptom {
                kind: Kind::Behind,
                text: format!("only {done} of {offered} answers a second come back: a queue grows"),
            });
        }
    }
    found.extend(client);
    found
}

fn is_shed(code: &str) -> bool {
    code.starts_with("429") || code.starts_with("503")
}

fn client(step: &StepReport) -> Option<Symptom> {
    let c = &step.client;
    let text = if share(c.over_limit, step.planned) > SHARE {
        format!(
            "{} of {} requests were not sent, since --in-flight {} others were under way",
            c.over_limit, step.planned, c.most_in_flight
        )
    } else if share(c.too_late, step.planned) > SHARE {
        format!("{} of {} requests were not sent, since this program came too late", c.too_late, step.planned)
    } else if share(c.no_socket, step.planned) > SHARE {
        let (n, of) = (c.no_socket, step.planned);
        format!("{n} of {of} requests were not sent, since this machine had no file or port left for them")
    } else if c.late >= LATE_FEW && share(c.late, step.all.sent) > SHARE {
        format!(
            "{} of {} requests were sent more than {} late by this program",
            c.late,
            step.all.sent,
            us(LATE_US)
        )
    } else {
        return None;
    };
    Some(Symptom { kind: Kind::Client, text })
}

/// `tail`: whether the 99th percentile says something too.
fn knee(step: &StepReport, baseline: &StepReport, tail: bool) -> Option<String> {
    let (now, then) = (step.all.total_us?, baseline.all.total_us?);
    let times = |name: &str, now: u64, then: u64| {
        format!("the {name} answer takes {} where it took {} at {}", us(now), us(then), baseline.label)
    };
    if now.p50 > KNEE_P50 * then.p50 {
        Some(times("median", now.p50, then.p50))
    } else if tail && now.p99 > KNEE_P99 * then.p99 {
        Some(times("99th-percentile", now.p99, then.p99))
    } else {
        None
    }
}

/// What a step says of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// No symptom.
    Good,
    /// One of the server's.
    Bad,
    /// Only this program's: nothing.
    Inconclusive,
}

pub(super) fn said(step: &StepReport) -> Said {
    match step.symptoms.first().map(|s| s.kind) {
        None => Said::Good,
        // It comes last.
        Some(Kind::Client) => Said::Inconclusive,
        Some(_) => Said::Bad,
    }
}

/// The lowest rate that is bad, or inconclusive where none is.
pub(super) fn first(steps: &[StepReport]) -> Option<Broke> {
    let lowest =
        |wanted| steps.iter().filter(move |s| said(s) == wanted).min_by(|a, b| a.rate.total_cmp(&b.rate));
    let bad = lowest(Said::Bad).or_else(|| lowest(Said::Inconclusive))?;
    let symptom = bad.symptoms.first()?.kind;
    Some(Broke { step: bad.label.clone(), rate: bad.rate, symptom })
}

/// The verdict in one sentence.
pub(super) fn sentence(steps: &[StepReport], broke: Option<&Broke>) -> String {
    let Some(broke) = broke else {
        return match steps.iter().map(|s| s.rate).max_by(f64::total_cmp) {
            Some(most) => format!("It did not break: no symptom up to {} requests a second.", rate(most)),
            None => "Nothing was measured.".into(),
        };
    };
    let told = steps.iter().find(|s| s.label == broke.step).map_or(&[][..], |s| &s.symptoms);
    let texts: Vec<&str> = told.iter().map(|s| s.text.as_str()).collect();
    let at = format!("at {} ({} requests a second)", broke.step, rate(broke.rate));
    match broke.symptom {
        Kind::Client => format!(
            "The load tool, not the server, gives out first, {at}: {}; what the server would do there is not known.",
            texts.join("; ")
        ),
        _ => {
            let unclear = steps.iter().filter(|s| s.rate < broke.rate && said(s) == Said::Inconclusive);
            let unclear: Vec<&str> = unclear.map(|s| s.label.as_str()).collect();
            let unclear = match unclear.as_slice() {
                [] => String::new(),
                some => format!(" This tool was too weak to tell at {}.", some.join(", ")),
            };
            format!("It breaks first {at}: {}.{unclear}", texts.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::answer::Outcome;
    use crate::cli::bench::drive::Ran;
    use crate::cli::bench::plan::Step;
    use crate::cli::bench::tally::{Judge, tests::sample};

    /// A step at which so many answers take so long, and some end otherwise.
    fn step(label: &str, rate: f64, ms: u64, others: &[(u64, Outcome)]) -> StepReport {
        let window = Duration::from_secs(10);
        let plan = Step { label: label.into(), rate, warm_up: Duration::ZERO, measured: window };
        let n = (rate * 10.0) as u64;
        let each = 10_000 / n;
        let mut samples: Vec<_> = (0..n).map(|i| sample(i * each, ms, Outcome::Complete)).collect();
        let mut place = samples.iter_mut();
        for (n, outcome) in others {
            place.by_ref().take(*n as usize).for_each(|s| s.outcome = outcome.clone());
        }
        let ran = Ran { samples, reached: window, ..Ran::default() };
        StepReport::of(&plan, &ran, &Judge { slo: None, price: None, window }, &["all".into()])
    }

    fn judged(mut steps: Vec<StepReport>) -> (Option<Broke>, String) {
        for i in 0..steps.len() {
            let (before, rest) = steps.split_at_mut(i);
            let baseline = before.iter().find(|s| s.symptoms.is_empty());
            rest[0].symptoms = symptoms(&rest[0], baseline, false);
        }
        let broke = first(&steps);
        let text = sentence(&steps, broke.as_ref());
        (broke, text)
    }

    #[test]
    fn the_first_step_with_a_symptom_is_where_it_broke() {
        let shed = Outcome::Shed { status: 429, code: "overloaded".into(), retry_after: true };
        let (broke, text) = judged(vec![
            step("1x", 10.0, 100, &[]),
            step("10x", 100.0, 150, &[(300, shed)]),
            step("100x", 1_000.0, 150, &[(10_000, Outcome::TimedOut)]),
        ]);
        let broke = broke.unwrap();
        assert_eq!((broke.step.as_str(), broke.symptom), ("10x", Kind::Sheds));
        assert_eq!(
            text,
            "It breaks first at 10x (100.0 requests a second): 30.0 % of the requests are shed, each with Retry-After."
        );
    }

    #[test]
    fn errors_are_graver_than_sheds_and_a_few_are_none() {
        let error = Outcome::Error { status: 502, code: "upstream_error".into() };
        let shed = Outcome::Shed { status: 503, code: String::new(), retry_after: false };
        let (broke, text) = judged(vec![step("1x", 100.0, 100, &[(20, error.clone()), (50, shed)])]);
        assert_eq!(broke.unwrap().symptom, Kind::Errors);
        assert!(
            text.contains("`502 upstream_error` (20)") && text.contains("none with Retry-After"),
            "{text}"
        );
        assert_eq!(judged(vec![step("1x", 100.0, 100, &[(5, error)])]).0, None);
    }

    #[test]
    fn latency_far_above_the_first_steps_is_a_knee() {
        let (broke, text) = judged(vec![step("1x", 10.0, 100, &[]), step("10x", 100.0, 300, &[])]);
        assert_eq!(broke.unwrap().symptom, Kind::Knee);
        assert!(text.contains("the median answer takes 300 ms where it took 100 ms at 1x"), "{text}");
    }

    #[test]
    fn what_the_client_could_not_send_is_never_held_against_the_server() {
        let slow = || step("10x", 100.0, 900, &[]);
        let mut late = slow();
        late.client.late = LATE_FEW - 1;
        assert_eq!(symptoms(&late, None, false), []);
        late.client.late = 500;
        let found = symptoms(&late, Some(&step("1x", 10.0, 100, &[])), false);
        assert_eq!(found.iter().map(|s| s.kind).collect::<Vec<_>>(), [Kind::Client]);
        // A median says more than a few late requests can explain.
        late.client.late = 50;
        let found = symptoms(&late, Some(&step("1x", 10.0, 100, &[])), false);
        assert_eq!(found.iter().map(|s| s.kind).collect::<Vec<_>>(), [Kind::Knee, Kind::Client]);
        let mut full = slow();
        (full.client.over_limit, full.planned) = (500, 1_500);
        full.symptoms = symptoms(&full, None, false);
        let text = sentence(std::slice::from_ref(&full), first(std::slice::from_ref(&full)).as_ref());
        assert!(text.starts_with("The load tool, not the server") && text.contains("--in-flight"), "{text}");
    }

    #[test]
    fn a_step_at_which_the_tool_was_weak_is_neither_good_nor_bad() {
        let mut weak = step("5x", 50.0, 100, &[]);
        weak.symptoms = vec![Symptom { kind: Kind::Client, text: "late".into() }];
        let mut bad = step("10x", 100.0, 100, &[]);
        bad.symptoms = vec![Symptom { kind: Kind::Sheds, text: "sheds".into() }];
        assert_eq!((said(&weak), said(&bad)), (Said::Inconclusive, Said::Bad));
        let steps = [weak, bad];
        let broke = first(&steps).unwrap();
        assert_eq!(broke.step, "10x");
        let text = sentence(&steps, Some(&broke));
        assert!(text.ends_with("sheds. This tool was too weak to tell at 5x."), "{text}");
    }

    #[test]
    fn a_run_without_a_symptom_did_not_break() {
        let (broke, text) = judged(vec![step("1x", 10.0, 100, &[]), step("10x", 100.0, 110, &[])]);
        assert_eq!(
            (broke, text.as_str()),
            (None, "It did not break: no symptom up to 100.0 requests a second.")
        );
    }
}
