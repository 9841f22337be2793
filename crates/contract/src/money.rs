//! Money in integer nanodollars and prices in nanodollars per million tokens: no floating point anywhere a bill is
//! added up.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Usage;

/// An amount in nanodollars (10⁻⁹ USD). Additions saturate: a bill never wraps around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// More than anybody can spend.
    pub const MAX: Money = Money(i64::MAX);

    /// From nanodollars.
    pub const fn from_nanos(n: i64) -> Self {
        Money(n)
    }

    /// In nanodollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// In dollars, for people and plots only.
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// From dollars as a person writes them; rounds to the nearest nanodollar, saturates, and NaN is nothing.
    pub fn from_usd(usd: f64) -> Self {
        Money((usd * 1e9).round() as i64)
    }

    /// `self` without `other`, never below nothing.
    #[must_use]
    pub fn saturating_sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0).max(0))
    }
}

impl Add for Money {
    type Output = Money;
    fn add(self, o: Money) -> Money {
        Money(self.0.saturating_add(o.0))
    }
}
impl AddAssign for Money {
    fn add_assign(&mut self, o: Money) {
        *self = *self + o;
    }
}
impl Sub for Money {
    type Output = Money;
    fn sub(self, o: Money) -> Money {
        Money(self.0.saturating_sub(o.0))
    }
}
impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(iter: I) -> Money {
        iter.fold(Money::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// `$1.25`, `$0.000012`: at least two decimals, no trailing zeros behind them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let abs = self.0.unsigned_abs();
        let fraction = format!("{:09}", abs % 1_000_000_000);
        let trimmed = fraction.trim_end_matches('0');
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}${}.{trimmed:0<2}", abs / 1_000_000_000)
    }
}

impl FromStr for Money {
    type Err = String;

    /// Reads dollars: `0.02`, `$0.02`, `20`; at most nine decimals.
    fn from_str(s: &str) -> Result<Money, String> {
        let bad = || format!("`{s}` is not an amount of dollars such as 0.02");
        let s = s.trim();
        let digits = s.strip_prefix('$').unwrap_or(s);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let numeric = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if digits.is_empty() || !numeric(whole) || !numeric(fraction) || fraction.len() > 9 {
            return Err(bad());
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
        whole.checked_mul(1_000_000_000).and_then(|w| w.checked_add(nanos)).map(Money).ok_or_else(bad)
    }
}

/// What a model costs, in nanodollars per million tokens (so that $0.0375 per million is exact).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Price {
    /// Input tokens that were not read from the provider's cache.
    pub input: i64,
    /// Output tokens, reasoning included.
    pub output: i64,
    /// Input tokens read from the provider's cache.
    pub cached_input: i64,
    /// What holds instead for a long prompt, where the provider has such a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongPrompt>,
}

/// The prices of all tokens of a call whose prompt is longer than a bound, in nanodollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongPrompt {
    /// The bound: a prompt of more tokens, cached ones included.
    pub above: u64,
    /// Input tokens that were not read from the provider's cache.
    pub input: i64,
    /// Output tokens.
    pub output: i64,
    /// Input tokens read from the provider's cache.
    pub cached_input: i64,
}

impl Price {
    /// Free of charge: a local model.
    pub const FREE: Price = Price { input: 0, output: 0, cached_input: 0, long: None };

    /// What holds for a prompt of so many tokens.
    #[must_use]
    pub fn for_prompt(self, input_tokens: u64) -> Price {
        match self.long {
            Some(l) if input_tokens > l.above => {
                Price { input: l.input, output: l.output, cached_input: l.cached_input, long: None }
            }
            _ => Price { long: None, ..self },
        }
    }

    /// The dearest of both in every part: what a reservation counts with.
    #[must_use]
    pub fn dearest(self, other: Price) -> Price {
        let flat = |p: Price| match p.long {
            Some(l) => (p.input.max(l.input), p.output.max(l.output), p.cached_input.max(l.cached_input)),
            None => (p.input, p.output, p.cached_input),
        };
        let (a, b) = (flat(self), flat(other));
        Price { input: a.0.max(b.0), output: a.1.max(b.1), cached_input: a.2.max(b.2), long: None }
    }

    /// What `usage` costs, rounded up to a whole nanodollar once per attempt.
    pub fn cost(&self, usage: &Usage) -> Money {
        let Price { input, output, cached_input, .. } = self.for_prompt(usage.input_tokens);
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let part = |tokens: u64, price: i64| i128::from(tokens) * i128::from(price.max(0));
        let total = part(usage.input_tokens - cached, input)
            .saturating_add(part(cached, cached_input))
            .saturating_add(part(usage.output_tokens, output));
        Money(i64::try_from(total.saturating_add(999_999) / 1_000_000).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_published_price_is_exact() {
        let mini = Price { input: 150_000_000, output: 600_000_000, cached_input: 75_000_000, long: None };
        let usage =
            Usage { input_tokens: 1_000, output_tokens: 500, cached_input_tokens: 200, ..Usage::default() };
        assert_eq!(mini.cost(&usage), Money::from_nanos(800 * 150 + 200 * 75 + 500 * 600));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(n in 0..i64::MAX) {
            let money = Money::from_nanos(n);
            prop_assert_eq!(money.to_string().parse::<Money>(), Ok(money));
        }

        #[test]
        fn cost_never_wraps_and_never_falls_when_tokens_rise(i in any::<u64>(), o in any::<u64>(), p in 0..i64::MAX) {
            let price = Price { input: p, output: p, cached_input: p, long: None };
            let less = Usage { input_tokens: i / 2, output_tokens: o / 2, ..Usage::default() };
            let more = Usage { input_tokens: i, output_tokens: o, ..Usage::default() };
            prop_assert!(Money::ZERO <= price.cost(&less) && price.cost(&less) <= price.cost(&more));
        }
    }
}
