//! What a failure means for a stage: again, later, or never. Pure; the pause's jitter is made of the run and the attempt.

use std::time::Duration;

use contract::{Class, Code, Error, RetryHint, RunId, UnixMillis};

use super::entry::Retry;

/// A spent budget that comes back within this long is waited for.
const BUDGET_WAIT: Duration = Duration::from_secs(3_600);

/// What is to become of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts, and is tried again.
    Again(UnixMillis),
    /// There was no room: it does not count, and is tried again.
    Later(UnixMillis),
    /// It has failed.
    Never,
}

/// What went before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    pub(crate) run: RunId,
    /// Leases so far.
    pub(crate) attempts: u32,
    /// Failures that counted, this one not yet.
    pub(crate) failures: u32,
    /// Times there was no room, this one not yet.
    pub(crate) postponed: u32,
}

pub(crate) fn decide(retry: &Retry, tried: Tried, error: &Error, now: UnixMillis) -> Verdict {
    let hint = match error.retry {
        RetryHint::After(d) => Some(d),
        RetryHint::No | RetryHint::Elsewhere => None,
    };
    let at = |n: u32| later(now, pause(retry, tried, n).max(hint.unwrap_or_default()));
    if no_room(error, hint) {
        return Verdict::Later(at(tried.postponed));
    }
    let passes = match error.class() {
        Class::Upstream | Class::Internal | Class::Deadline => true,
        // A provider's rate is a fault of the provider's to us: it may pass, and may not for ever.
        Class::Overloaded => error.upstream_status.is_some(),
        Class::Invalid | Class::Denied => false,
    };
    if passes && tried.failures + 1 < retry.attempts {
        Verdict::Again(at(tried.failures))
    } else {
        Verdict::Never
    }
}

/// Whether it was for want of room with us, which says nothing about the work.
fn no_room(error: &Error, hint: Option<Duration>) -> bool {
    match error.code {
        Code::Draining | Code::StorageUnavailable => true,
        // Without a hint it is larger than the limit itself, and always will be.
        Code::RateLimited | Code::Overloaded => error.upstream_status.is_none() && hint.is_some(),
        Code::BudgetExhausted => hint.is_some_and(|d| d <= BUDGET_WAIT),
        // The whole time went by in a model's queue.
        Code::DeadlineExceeded => error.limit_source.is_some(),
        _ => false,
    }
}

/// `first · 2^n`, at most `most`, times 0.8 to 1.2.
fn pause(retry: &Retry, tried: Tried, n: u32) -> Duration {
    let ms = retry.first_ms.max(1).saturating_mul(1_i64 << n.min(30)).min(retry.most_ms.max(1));
    let random = u64::from_le_bytes(*tried.run.as_bytes().last_chunk::<8>().unwrap_or(&[0; 8]));
    let jitter = (random ^ u64::from(tried.attempts)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let share = 80 + jitter % 41;
    Duration::from_millis(u64::try_from(ms).unwrap_or(1).saturating_mul(share) / 100)
}

/// `now` moved by `d`.
pub(super) fn later(now: UnixMillis, d: Duration) -> UnixMillis {
    UnixMillis(now.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::RequestId;

    fn tried(failures: u32) -> Tried {
        let run = RunId::of(RequestId::from_parts(UnixMillis(5), 7));
        Tried { run, attempts: failures + 1, failures, postponed: 0 }
    }

    fn verdict(failures: u32, error: &Error) -> Verdict {
        decide(&Retry::default(), tried(failures), error, UnixMillis(0))
    }

    #[test]
    fn faults_that_may_pass_are_tried_again_and_wrong_requests_never() {
        for code in [
            Code::UpstreamError,
            Code::UpstreamTimeout,
            Code::WorkerCrashed,
            Code::Internal,
            Code::DeadlineExceeded,
        ] {
            assert!(matches!(verdict(0, &Error::new(code, "x")), Verdict::Again(_)), "{code}");
            assert_eq!(verdict(2, &Error::new(code, "x")), Verdict::Never, "{code}");
        }
        for code in
            [Code::InvalidRequest, Code::TooLarge, Code::NotFound, Code::InvalidKey, Code::ContentFiltered]
        {
            assert_eq!(verdict(0, &Error::new(code, "x")), Verdict::Never, "{code}");
        }
    }

    #[test]
    fn want_of_room_is_waited_for_however_often_and_as_long_as_it_says() {
        let hint = RetryHint::After(Duration::from_secs(40));
        for code in [
            Code::RateLimited,
            Code::Overloaded,
            Code::Draining,
            Code::StorageUnavailable,
            Code::BudgetExhausted,
        ] {
            let e = Error::new(code, "x").retry(hint);
            assert_eq!(verdict(99, &e), Verdict::Later(UnixMillis(40_000)), "{code}");
        }
        let queue = Error::new(Code::DeadlineExceeded, "x").limit_source("model:m");
        assert!(matches!(verdict(9, &queue), Verdict::Later(_)));
    }

    #[test]
    fn a_request_larger_than_its_limit_and_a_budget_spent_for_long_are_not_waited_for() {
        let spent =
            Error::new(Code::BudgetExhausted, "x").retry(RetryHint::After(Duration::from_secs(7_200)));
        for e in [Error::new(Code::RateLimited, "x"), Error::new(Code::Overloaded, "x"), spent] {
            assert_eq!(verdict(0, &e), Verdict::Never, "{e:?}");
        }
    }

    #[test]
    fn a_provider_that_is_overloaded_for_good_is_given_up() {
        let e = Error::new(Code::RateLimited, "x")
            .upstream_status(429)
            .retry(RetryHint::After(Duration::from_secs(1)));
        assert!(matches!(verdict(0, &e), Verdict::Again(_)));
        assert_eq!(verdict(2, &e), Verdict::Never);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_by_a_fifth_at_most() {
        let retry = Retry { attempts: 99, ..Retry::default() };
        for n in 0..40 {
            let ms = i64::try_from(pause(&retry, tried(n), n).as_millis()).unwrap();
            let wanted = (1_000_i64 << n.min(20)).min(300_000);
            assert!((wanted * 8 / 10..=wanted * 12 / 10).contains(&ms), "{n}: {ms}");
        }
    }
}
