//! What one scope may spend, in tokens and in money, a UTC day, a UTC month and in total.
//!
//! A request holds an estimate when it enters, grows the hold if it uses more, and settles to what it really used. It
//! belongs to the periods in which it *entered*, as its ledger record does: settling after midnight changes yesterday.
//!
//! Invariants: the counter of a period is the sum of what was settled plus what is held by the living; a hold is taken
//! only if it fits the limit together with everything settled and held. A period never goes back: a wall clock that is
//! set back opens no allowance a second time; [`Account::restore`] puts right what a wrong clock has done.

use contract::{Date, Money, UnixMillis};

use crate::reservation::Amount;
use crate::settings::Limits;

/// How long an allowance lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// A UTC day.
    Day,
    /// A UTC calendar month.
    Month,
    /// For ever.
    Total,
}

impl Period {
    /// All of them, in the order accounts keep them.
    pub const ALL: [Period; 3] = [Period::Day, Period::Month, Period::Total];

    /// The number of the period that holds `wall`.
    pub fn number(self, wall: UnixMillis) -> i64 {
        match self {
            Period::Day => wall.utc_day(),
            Period::Month => month_of_day(wall.utc_day()),
            Period::Total => 0,
        }
    }

    /// When the period of this number ends.
    pub fn end(self, number: i64) -> Option<UnixMillis> {
        let day = match self {
            Period::Day => number + 1,
            Period::Month => first_day_of_month(number + 1),
            Period::Total => return None,
        };
        Some(UnixMillis(day.saturating_mul(86_400_000)))
    }
}

/// Months since year 0 of the day.
fn month_of_day(day: i64) -> i64 {
    let date = Date::of_day(day);
    date.year * 12 + date.month - 1
}

/// The inverse: the first day of that month.
fn first_day_of_month(month: i64) -> i64 {
    Date { year: month.div_euclid(12), month: month.rem_euclid(12) + 1, day: 1 }.day()
}

/// One period's counters.
#[derive(Debug, Clone, Copy, Default)]
struct Pot {
    number: i64,
    tokens: Option<u64>,
    money: Option<Money>,
    settled: Amount,
    held: Amount,
}

/// A hold on an account: what [`Account::hold`] gives and [`Account::settle`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hold {
    numbers: [i64; 3],
}

/// Why a hold does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Of which period.
    pub period: Period,
    /// Its limit: in tokens, or in money.
    pub limit: Result<u64, Money>,
    /// What is settled.
    pub settled: Amount,
    /// When the period ends.
    pub resets_at: Option<UnixMillis>,
    /// It would fit if nobody else were in flight.
    pub in_flight: bool,
}

/// The budgets of one scope.
#[derive(Debug, Clone, Copy, Default)]
pub struct Account {
    pots: [Pot; 3],
}

impl Account {
    /// Takes over new limits and keeps the counters.
    pub fn configure(&mut self, limits: &Limits) {
        let [day, month, total] = &mut self.pots;
        (day.tokens, day.money) = (limits.tokens_per_day, limits.usd_per_day);
        (month.tokens, month.money) = (limits.tokens_per_month, limits.usd_per_month);
        (total.tokens, total.money) = (limits.tokens_total, limits.usd_total);
    }

    fn roll(&mut self, wall: UnixMillis) {
        for (pot, period) in self.pots.iter_mut().zip(Period::ALL) {
            let number = period.number(wall);
            if number > pot.number {
                (pot.number, pot.settled, pot.held) = (number, Amount::ZERO, Amount::ZERO);
            }
        }
    }

    /// Whether `amount` fits every period; holds nothing.
    pub fn check(&mut self, wall: UnixMillis, amount: Amount) -> Result<(), Exhausted> {
        self.roll(wall);
        for (pot, period) in self.pots.iter().zip(Period::ALL) {
            let alone = pot.settled.plus(amount);
            let all = alone.plus(pot.held);
            let exhausted = |limit, in_flight| Exhausted {
                period,
                limit,
                settled: pot.settled,
                resets_at: period.end(pot.number),
                in_flight,
            };
            if let Some(limit) = pot.tokens
                && all.tokens > limit
                && amount.tokens > 0
            {
                return Err(exhausted(Ok(limit), alone.tokens <= limit));
            }
            if let Some(limit) = pot.money
                && all.money > limit
                && amount.money > Money::ZERO
            {
                return Err(exhausted(Err(limit), alone.money <= limit));
            }
        }
        Ok(())
    }

    /// Holds `amount` in every period without asking: the caller has checked every scope before.
    pub fn hold(&mut self, wall: UnixMillis, amount: Amount) -> Hold {
        self.roll(wall);
        for pot in &mut self.pots {
            pot.held = pot.held.plus(amount);
        }
        Hold { numbers: self.pots.map(|p| p.number) }
    }

    /// Changes a hold from one amount to another.
    pub fn rehold(&mut self, hold: &Hold, from: Amount, to: Amount) {
        for (pot, number) in self.pots.iter_mut().zip(hold.numbers) {
            if pot.number == number {
                pot.held = pot.held.minus(from).plus(to);
            }
        }
    }

    /// Ends a hold of `held`: `used` is settled. Periods that have passed since are not touched.
    pub fn settle(&mut self, hold: &Hold, held: Amount, used: Amount) {
        for (pot, number) in self.pots.iter_mut().zip(hold.numbers) {
            if pot.number == number {
                pot.held = pot.held.minus(held);
                pot.settled = pot.settled.plus(used);
            }
        }
    }

    /// Changes a figure that was settled from `was` to `is`: a holder thought dead has reported after all.
    pub fn amend(&mut self, hold: &Hold, was: Amount, is: Amount) {
        for (pot, number) in self.pots.iter_mut().zip(hold.numbers) {
            if pot.number == number {
                pot.settled = pot.settled.plus(is).minus(was);
            }
        }
    }

    /// Sets what is settled in the period that holds `wall`, as the ledger's sums say.
    pub fn restore(&mut self, period: Period, wall: UnixMillis, settled: Amount) {
        for (pot, p) in self.pots.iter_mut().zip(Period::ALL) {
            if p == period {
                let number = period.number(wall);
                if pot.number != number {
                    (pot.number, pot.held) = (number, Amount::ZERO);
                }
                pot.settled = settled;
            }
        }
    }

    /// What is settled and what is held in the running period.
    pub fn counters(&mut self, wall: UnixMillis, period: Period) -> (Amount, Amount) {
        self.roll(wall);
        let at = Period::ALL.iter().position(|p| *p == period).unwrap_or(0);
        self.pots.get(at).map_or((Amount::ZERO, Amount::ZERO), |p| (p.settled, p.held))
    }

    /// What the living hold, of whatever period.
    pub fn held(&self) -> Amount {
        // The pot that lasts for ever sees every hold.
        self.pots.last().map_or(Amount::ZERO, |p| p.held)
    }

    /// Whether nothing is held and no limited period remembers anything, so that the account may be forgotten.
    pub fn is_forgettable(&mut self, wall: UnixMillis) -> bool {
        self.roll(wall);
        self.pots.iter().all(|p| {
            p.held == Amount::ZERO && ((p.tokens.is_none() && p.money.is_none()) || p.settled == Amount::ZERO)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn months_end_where_the_calendar_says() {
        // 2024-02-29 12:00 UTC → 2024-03-01; 2025-12-31 → 2026-01-01.
        let february = Period::Month.number(UnixMillis(1_709_208_000_000));
        assert_eq!(Period::Month.end(february), Some(UnixMillis(1_709_251_200_000)));
        let december = Period::Month.number(UnixMillis(1_767_139_200_000));
        assert_eq!(Period::Month.end(december), Some(UnixMillis(1_767_225_600_000)));
    }

    #[test]
    fn a_clock_set_back_opens_no_second_allowance() {
        let mut account = Account::default();
        account.configure(&Limits { tokens_per_day: Some(10), ..Default::default() });
        let ten = Amount { tokens: 10, money: Money::ZERO };
        let hold = account.hold(UnixMillis(5 * DAY), ten);
        account.settle(&hold, ten, ten);
        assert!(account.check(UnixMillis(4 * DAY), ten).is_err());
        assert!(account.check(UnixMillis(5 * DAY), ten).is_err());
        assert!(account.check(UnixMillis(6 * DAY), ten).is_ok());
    }

    #[test]
    fn a_request_that_ends_after_midnight_is_yesterdays() {
        let mut account = Account::default();
        let ten = Amount { tokens: 10, money: Money::ZERO };
        let hold = account.hold(UnixMillis(5 * DAY), ten);
        assert_eq!(account.counters(UnixMillis(6 * DAY), Period::Day), (Amount::ZERO, Amount::ZERO));
        account.settle(&hold, ten, ten);
        assert_eq!(account.counters(UnixMillis(6 * DAY), Period::Day), (Amount::ZERO, Amount::ZERO));
        assert_eq!(account.counters(UnixMillis(6 * DAY), Period::Total), (ten, Amount::ZERO));
    }

    #[test]
    fn what_the_ledger_says_is_taken_over_at_start() {
        let mut account = Account::default();
        account.configure(&Limits { tokens_per_day: Some(10), ..Default::default() });
        account.restore(Period::Day, UnixMillis(DAY), Amount { tokens: 9, money: Money::ZERO });
        let two = Amount { tokens: 2, money: Money::ZERO };
        assert!(account.check(UnixMillis(DAY), two).is_err_and(|e| !e.in_flight && e.settled.tokens == 9));
    }

    proptest! {
        #[test]
        fn months_of_days_are_inverse_to_days_of_months(day in -800_000i64..800_000) {
            let month = month_of_day(day);
            prop_assert!(first_day_of_month(month) <= day && day < first_day_of_month(month + 1));
        }

        #[test]
        fn the_counter_is_always_the_settled_plus_the_living(ops in prop::collection::vec((0u8..4, 0u64..50, 0u64..80), 1..200)) {
            let limit = 200;
            let mut account = Account::default();
            account.configure(&Limits { tokens_per_day: Some(limit), ..Default::default() });
            let amount = |tokens| Amount { tokens, money: Money::ZERO };
            let (mut live, mut day, mut settled) = (Vec::new(), 100i64, 0u64);
            for (op, a, b) in ops {
                let wall = UnixMillis(day * DAY);
                match op {
                    0 | 1 => {
                        let held: u64 = live.iter().map(|(_, d, n)| if *d == day { *n } else { 0 }).sum();
                        let fits = account.check(wall, amount(a)).is_ok();
                        prop_assert_eq!(fits, a == 0 || settled + held + a <= limit);
                        if fits {
                            live.push((account.hold(wall, amount(a)), day, a));
                        }
                    }
                    2 if !live.is_empty() => {
                        let (hold, d, n) = live.swap_remove(a as usize % live.len());
                        account.settle(&hold, amount(n), amount(b));
                        settled += if d == day { b } else { 0 };
                    }
                    3 if a < 5 => (day, settled) = (day + 1, 0),
                    _ => {}
                }
                let held: u64 = live.iter().map(|(_, d, n)| if *d == day { *n } else { 0 }).sum();
                prop_assert_eq!(account.counters(UnixMillis(day * DAY), Period::Day), (amount(settled), amount(held)));
            }
        }
    }
}
