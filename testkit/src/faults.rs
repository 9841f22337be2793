//! The fault wall: sixteen ways an upstream fails, as rules a script applies to the n-th request.
//!
//! [`Scenario`] names the sixteen by code with the parameters of the specification; [`Fault`] is one behaviour with
//! parameters of its own. Pure: [`plan`] turns rules, a request's number and what is known of it into a [`Plan`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, script::ms};

/// A fault and the requests it applies to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// The first request it applies to, counted from 1 since the script became active. Default 1.
    #[serde(default = "one")]
    pub from: u64,
    /// How many requests it applies to. Default: all that follow.
    #[serde(default)]
    pub times: Option<u64>,
}

impl FaultRule {
    /// The fault on every request.
    pub fn always(fault: Fault) -> Self {
        Self { fault, from: 1, times: None }
    }

    /// The fault on the first `times` requests.
    pub fn first(times: u64, fault: Fault) -> Self {
        Self { fault, from: 1, times: Some(times) }
    }

    fn applies_to(&self, number: u64) -> bool {
        number >= self.from && self.times.is_none_or(|times| number - self.from < times)
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let status = match self.fault {
            Fault::Status { status, .. } | Fault::Flapping { status, .. } => status,
            _ => 400,
        };
        if !(400..=599).contains(&status) {
            return Err(Error::Script(format!("fault status must be between 400 and 599, not {status}")));
        }
        if self.from == 0 {
            return Err(Error::Script(
                "fault from must be at least 1: requests are counted from 1".to_owned(),
            ));
        }
        Ok(())
    }
}

/// One way to fail. Durations are milliseconds in JSON and divided by the script's `time_scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An error answer in the protocol's shape.
    Status {
        /// 400 to 599.
        status: u16,
        /// `Retry-After` in whole seconds, rounded up, and `retry-after-ms` when that is not exact. 0 sends none.
        #[serde(default, with = "ms")]
        retry_after: Duration,
    },
    /// The connection is reset (TCP RST) instead of an answer. On a Unix socket: closed.
    Reset {},
    /// No byte for that long, then the connection is closed without an answer.
    Silence {
        /// How long.
        #[serde(default = "two_minutes", with = "ms")]
        lasting: Duration,
    },
    /// The first token comes late; the rest as scripted.
    SlowFirstToken {
        /// Instead of the script's `first_token`.
        #[serde(with = "ms")]
        after: Duration,
    },
    /// The answer ends early. Without streaming half of the body is sent, then it ends as `how` says.
    Cut {
        /// Tokens sent before the cut.
        after_tokens: usize,
        /// How it ends. Default `close`.
        #[serde(default)]
        how: CutHow,
    },
    /// The answer pauses, then goes on. Without streaming: in the middle of the body.
    Stall {
        /// Tokens sent before the pause.
        after_tokens: usize,
        /// How long.
        #[serde(with = "ms")]
        lasting: Duration,
    },
    /// One event that is no JSON is sent in between; no token is lost. Without streaming the body is cut JSON with a
    /// matching `content-length`.
    MalformedChunk {
        /// Tokens sent before it.
        #[serde(default)]
        after_tokens: usize,
    },
    /// The stream ends cleanly after its finish reason, without `[DONE]` (Anthropic: without `message_stop`).
    NoDone {},
    /// 400, the prompt is too long.
    ContextLength {
        /// The window in tokens: prompts within it are served. Default 0: every prompt is too long.
        #[serde(default)]
        window: u64,
    },
    /// The provider's content filter: refused with 400, or stopped after some tokens.
    ContentFilter {
        /// Stop there with the finish reason `content_filter` (Anthropic `refusal`). Default: refuse with 400.
        #[serde(default)]
        after_tokens: Option<usize>,
    },
    /// 400 to requests whose last message is the assistant's; others are served.
    RefusePrefill {},
    /// Down and up in turns, beginning with down at the first request, until `lasting` is over; then up.
    Flapping {
        /// How long it stays down each time.
        #[serde(with = "ms")]
        down: Duration,
        /// How long it stays up each time.
        #[serde(with = "ms")]
        up: Duration,
        /// How long it flaps.
        #[serde(with = "ms")]
        lasting: Duration,
        /// The answer while down. Default 503.
        #[serde(default = "unavailable")]
        status: u16,
    },
    /// An attempt that was billed and failed: usage so far in every chunk (OpenAI), then a cut. Without streaming: 500.
    BilledThenCut {
        /// Tokens sent, and billed, before the cut.
        after_tokens: usize,
    },
}

/// How a cut stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutHow {
    /// The connection closes without the chunked encoding's end.
    #[default]
    Close,
    /// The connection is reset (TCP RST). On a Unix socket: closed.
    Reset,
    /// The HTTP message ends properly, yet no finish reason was sent.
    CleanEnd,
    /// An in-band error event, then a proper end. Without streaming: as `close`.
    ErrorEvent,
}

/// The sixteen upstream faults by code, with the parameters of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scenario {
    /// 429 with `Retry-After: 2`, once.
    S01,
    /// 429 for good.
    S02,
    /// 500 once.
    S03,
    /// 503 for good.
    S04,
    /// TCP reset.
    S05,
    /// Silence for 120 s.
    S06,
    /// First token after 20 s.
    S07,
    /// Stream cut after token 40 (of 60, when `tokens` says so).
    S08,
    /// Stall of 30 s in mid-stream, after token 20.
    S09,
    /// One malformed chunk, after token 5.
    S10,
    /// No `[DONE]`.
    S11,
    /// `context_length_exceeded`.
    S12,
    /// Content filter.
    S13,
    /// Cut after token 40; the fallback refuses assistant prefill.
    S14,
    /// Flapping for 60 s: 4 s down, 2 s up.
    S15,
    /// Billed for 20 tokens, then cut; the fallback answers.
    S16,
}

impl Scenario {
    /// All of them, in order.
    pub const ALL: [Self; 16] = [
        Self::S01,
        Self::S02,
        Self::S03,
        Self::S04,
        Self::S05,
        Self::S06,
        Self::S07,
        Self::S08,
        Self::S09,
        Self::S10,
        Self::S11,
        Self::S12,
        Self::S13,
        Self::S14,
        Self::S15,
        Self::S16,
    ];

    /// What the failing upstream does.
    pub fn primary(self) -> Vec<FaultRule> {
        let always = |fault| vec![FaultRule::always(fault)];
        let once = |fault| vec![FaultRule::first(1, fault)];
        let secs = Duration::from_secs;
        let status = |status| Fault::Status { status, retry_after: Duration::ZERO };
        match self {
            Self::S01 => once(Fault::Status { status: 429, retry_after: secs(2) }),
            Self::S02 => always(status(429)),
            Self::S03 => once(status(500)),
            Self::S04 => always(status(503)),
            Self::S05 => always(Fault::Reset {}),
            Self::S06 => always(Fault::Silence { lasting: secs(120) }),
            Self::S07 => always(Fault::SlowFirstToken { after: secs(20) }),
            Self::S08 | Self::S14 => always(Fault::Cut { after_tokens: 40, how: CutHow::Close }),
            Self::S09 => always(Fault::Stall { after_tokens: 20, lasting: secs(30) }),
            Self::S10 => always(Fault::MalformedChunk { after_tokens: 5 }),
            Self::S11 => always(Fault::NoDone {}),
            Self::S12 => always(Fault::ContextLength { window: 0 }),
            Self::S13 => always(Fault::ContentFilter { after_tokens: None }),
            Self::S15 => {
                always(Fault::Flapping { down: secs(4), up: secs(2), lasting: secs(60), status: 503 })
            }
            Self::S16 => always(Fault::BilledThenCut { after_tokens: 20 }),
        }
    }

    /// What the upstream behind it does: nothing wrong, except that of S14 refuses assistant prefill.
    pub fn fallback(self) -> Vec<FaultRule> {
        match self {
            Self::S14 => vec![FaultRule::always(Fault::RefusePrefill {})],
            _ => Vec::new(),
        }
    }
}

/// What the rules need to know of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) number: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) prefilled: bool,
    /// Script time (real time × `time_scale`) since the first request under this script.
    pub(crate) elapsed: Duration,
    pub(crate) streaming: bool,
}

/// What happens to one request. The default: nothing goes wrong.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plan {
    pub(crate) instead: Option<Instead>,
    pub(crate) first_token: Option<Duration>,
    pub(crate) cut: Option<(usize, CutHow)>,
    pub(crate) stall: Option<(usize, Duration)>,
    pub(crate) malformed: Option<usize>,
    pub(crate) no_done: bool,
    pub(crate) filter: Option<usize>,
    pub(crate) usage_in_every_chunk: bool,
}

/// What comes instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Instead {
    Status { status: u16, retry_after: Duration },
    Reset,
    Silence(Duration),
    ContextLength(u64),
    ContentFilter,
    RefusePrefill,
}

/// Combines the rules that apply to a request. Of several faults that replace the answer the first wins.
pub(crate) fn plan<'a>(rules: impl IntoIterator<Item = &'a FaultRule>, facts: Facts) -> Plan {
    let mut plan = Plan::default();
    for rule in rules.into_iter().filter(|rule| rule.applies_to(facts.number)) {
        let instead = match rule.fault {
            Fault::Status { status, retry_after } => Some(Instead::Status { status, retry_after }),
            Fault::Reset {} => Some(Instead::Reset),
            Fault::Silence { lasting } => Some(Instead::Silence(lasting)),
            Fault::ContextLength { window } if facts.prompt_tokens > window || window == 0 => {
                Some(Instead::ContextLength(window))
            }
            Fault::ContentFilter { after_tokens: None } => Some(Instead::ContentFilter),
            Fault::RefusePrefill {} if facts.prefilled => Some(Instead::RefusePrefill),
            Fault::Flapping { down, up, lasting, status } if is_down(facts.elapsed, down, up, lasting) => {
                Some(Instead::Status { status, retry_after: Duration::ZERO })
            }
            Fault::BilledThenCut { .. } if !facts.streaming => {
                Some(Instead::Status { status: 500, retry_after: Duration::ZERO })
            }
            Fault::ContextLength { .. } | Fault::RefusePrefill {} | Fault::Flapping { .. } => None,
            Fault::SlowFirstToken { after } => {
                plan.first_token = Some(after);
                None
            }
            Fault::Cut { after_tokens, how } => {
                plan.cut = Some((after_tokens, how));
                None
            }
            Fault::Stall { after_tokens, lasting } => {
                plan.stall = Some((after_tokens, lasting));
                None
            }
            Fault::MalformedChunk { after_tokens } => {
                plan.malformed = Some(after_tokens);
                None
            }
            Fault::NoDone {} => {
                plan.no_done = true;
                None
            }
            Fault::ContentFilter { after_tokens } => {
                plan.filter = after_tokens;
                None
            }
            Fault::BilledThenCut { after_tokens } => {
                plan.cut = Some((after_tokens, CutHow::Close));
                plan.usage_in_every_chunk = true;
                None
            }
        };
        plan.instead = plan.instead.or(instead);
    }
    plan
}

/// Whether a flapping endpoint is down at a time since its first request.
fn is_down(elapsed: Duration, down: Duration, up: Duration, lasting: Duration) -> bool {
    if elapsed >= lasting {
        return false;
    }
    match elapsed.as_nanos().checked_rem((down + up).as_nanos()) {
        Some(phase) => phase < down.as_nanos(),
        None => false,
    }
}

fn one() -> u64 {
    1
}

fn two_minutes() -> Duration {
    Duration::from_secs(120)
}

fn unavailable() -> u16 {
    503
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FACTS: Facts =
        Facts { number: 1, prompt_tokens: 10, prefilled: false, elapsed: Duration::ZERO, streaming: true };

    #[test]
    fn once_is_once_and_for_good_is_for_good() {
        let hit = |scenario: Scenario, number| {
            plan(&scenario.primary(), Facts { number, ..FACTS }).instead.is_some()
        };
        assert!(hit(Scenario::S01, 1) && !hit(Scenario::S01, 2));
        assert!(hit(Scenario::S02, 1) && hit(Scenario::S02, 1000));
    }

    #[test]
    fn every_scenario_does_something_to_the_first_stream() {
        for scenario in Scenario::ALL {
            assert_ne!(plan(&scenario.primary(), FACTS), Plan::default(), "{scenario:?}");
        }
    }

    #[test]
    fn a_larger_window_serves_what_a_smaller_refuses() {
        let rules = |window| vec![FaultRule::always(Fault::ContextLength { window })];
        assert_eq!(plan(&rules(9), FACTS).instead, Some(Instead::ContextLength(9)));
        assert_eq!(plan(&rules(10), FACTS).instead, None);
    }

    #[test]
    fn prefill_is_refused_only_where_there_is_one() {
        let rules = Scenario::S14.fallback();
        assert_eq!(plan(&rules, FACTS).instead, None);
        assert_eq!(plan(&rules, Facts { prefilled: true, ..FACTS }).instead, Some(Instead::RefusePrefill));
    }

    #[test]
    fn flapping_goes_down_up_and_ends() {
        let rules = Scenario::S15.primary();
        let down =
            |secs| plan(&rules, Facts { elapsed: Duration::from_secs(secs), ..FACTS }).instead.is_some();
        assert!(down(0) && down(3) && !down(4) && !down(5) && down(6) && !down(60) && !down(61));
    }

    #[test]
    fn the_first_of_two_answers_wins() {
        let rules: Vec<_> = [Scenario::S05, Scenario::S04].into_iter().flat_map(Scenario::primary).collect();
        assert_eq!(plan(&rules, FACTS).instead, Some(Instead::Reset));
    }

    proptest! {
        #[test]
        fn a_rule_applies_to_exactly_its_requests(from in 1u64..50, times in 0u64..50, number in 1u64..120) {
            let rule = FaultRule { fault: Fault::Reset {}, from, times: Some(times) };
            prop_assert_eq!(rule.applies_to(number), (from..from + times).contains(&number));
        }

        #[test]
        fn flapping_never_divides_by_zero(elapsed: u32, down: u16, up: u16, lasting: u32) {
            let ms = |n: u64| Duration::from_millis(n);
            is_down(ms(elapsed.into()), ms(down.into()), ms(up.into()), ms(lasting.into()));
        }
    }
}
