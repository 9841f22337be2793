//! A "no" from admission: which limit, whose, and when to come back. The wait it names is computed, never a constant
//! guess where a figure exists.

use std::time::Duration;

use contract::{Code, Money, RetryHint, UnixMillis};

use crate::budget::Period;
use crate::rates::RateHeaders;
use crate::scope::Scope;

/// Which limit said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Requests a minute.
    Requests {
        /// The limit.
        limit: u64,
    },
    /// Tokens a minute.
    Tokens {
        /// The limit.
        limit: u64,
        /// What the request needs.
        needed: u64,
    },
    /// Streams at the same time.
    Streams {
        /// The limit.
        limit: u32,
    },
    /// A budget in tokens.
    TokenBudget {
        /// Of which period.
        period: Period,
        /// The limit.
        limit: u64,
        /// What is settled.
        spent: u64,
        /// When the period ends; never for a total.
        resets_at: Option<UnixMillis>,
        /// Only requests in flight are in the way: their reservations may return soon.
        in_flight: bool,
    },
    /// A budget in money.
    MoneyBudget {
        /// Of which period.
        period: Period,
        /// The limit.
        limit: Money,
        /// What is settled.
        spent: Money,
        /// When the period ends; never for a total.
        resets_at: Option<UnixMillis>,
        /// Only requests in flight are in the way: their reservations may return soon.
        in_flight: bool,
    },
    /// The model's queue is full of work that has as good a claim.
    QueueFull,
    /// Somebody with a better claim needed the place in the queue.
    PushedOut,
    /// The wait would be longer than the caller's deadline allows.
    WaitTooLong {
        /// The expected wait.
        expected: Duration,
        /// What the deadline leaves.
        allowed: Duration,
    },
}

/// A refusal, convertible into the [`contract::Error`] that callers and the ledger see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which limit.
    pub cause: Cause,
    /// Whose limit.
    pub scope: Scope,
    /// When to come back.
    pub retry: RetryHint,
    /// The rate limits of the caller at this moment, for the answer's headers.
    pub headers: RateHeaders,
}

impl Refusal {
    /// The code of the error it becomes.
    pub fn code(&self) -> Code {
        match self.cause {
            Cause::Requests { .. } | Cause::Tokens { .. } | Cause::Streams { .. } => Code::RateLimited,
            Cause::TokenBudget { .. } | Cause::MoneyBudget { .. } => Code::BudgetExhausted,
            Cause::QueueFull | Cause::PushedOut | Cause::WaitTooLong { .. } => Code::Overloaded,
        }
    }
}

fn budget_end(period: Period, in_flight: bool) -> String {
    if in_flight {
        "; requests in flight hold the rest".to_owned()
    } else {
        match period {
            Period::Total => "; raise the limit to go on".to_owned(),
            Period::Day => " this UTC day".to_owned(),
            Period::Month => " this UTC month".to_owned(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whose = match &self.scope {
            Scope::User(..) => "the end user".to_owned(),
            other => other.to_string(),
        };
        match &self.cause {
            Cause::Requests { limit } => write!(f, "{whose} may send {limit} requests a minute"),
            Cause::Tokens { limit, needed } if needed > limit => write!(
                f,
                "the request needs {needed} tokens and {whose} may use {limit} a minute: send a shorter one"
            ),
            Cause::Tokens { limit, .. } => write!(f, "{whose} may use {limit} tokens a minute"),
            Cause::Streams { limit } => write!(f, "{whose} may have {limit} streams open at a time"),
            Cause::TokenBudget { period, limit, spent, in_flight, .. } => {
                write!(f, "{whose} has used {spent} of {limit} tokens{}", budget_end(*period, *in_flight))
            }
            Cause::MoneyBudget { period, limit, spent, in_flight, .. } => {
                write!(f, "{whose} has spent {spent} of {limit}{}", budget_end(*period, *in_flight))
            }
            Cause::QueueFull => write!(f, "the queue of {whose} is full"),
            Cause::PushedOut => write!(f, "the queue of {whose} is full and others have waited with less"),
            Cause::WaitTooLong { expected, allowed } => write!(
                f,
                "the queue of {whose} needs about {} ms and the request allows {} ms",
                expected.as_millis(),
                allowed.as_millis()
            ),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for contract::Error {
    fn from(r: Refusal) -> Self {
        let message = r.to_string();
        contract::Error::new(r.code(), message).retry(r.retry).limit_source(r.scope.to_string())
    }
}

impl From<Box<Refusal>> for contract::Error {
    fn from(r: Box<Refusal>) -> Self {
        (*r).into()
    }
}
