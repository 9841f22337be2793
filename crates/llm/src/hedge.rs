//! A second attempt beside one that is slow to begin: whichever has its first output first is the answer.
//!
//! ```text
//! first ── no output after `after`, and the budget allows ──▶ first and second
//!   └── commits ──▶ the answer ◀── one of them commits; the other is dropped, which stops its upstream
//! ```
//!
//! Hedges are few: a share of the calls, and, where one is set, an amount a day (Dean & Barroso, The Tail at Scale, 2013). Of
//! the one that is dropped its prompt is paid for, and recorded as an attempt of its own.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use admission::{RetryBudget, RetrySettings};
use contract::{Clock, Money, Price, Reason, Tick, Usage};
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use pipeline::task;

use crate::attempt::{Asked, Failed, Race, Target, attempt};
use crate::completion::Completion;
use crate::pool::pick::{self, Outlook, Places};

/// When a second attempt is made, and how many of them.
#[derive(Debug)]
pub struct Hedge {
    /// How long the first may take before its first output.
    pub after: Duration,
    /// The most money a day, counted as the prompts of all second attempts; `None` leaves it to the share.
    pub usd_per_day: Option<Money>,
    budget: Mutex<Budget>,
}

#[derive(Debug)]
struct Budget {
    share: RetryBudget,
    day: i64,
    spent: Money,
}

impl Hedge {
    /// Hedges after `after`, for `share` of the calls.
    pub fn new(after: Duration, share: f64, usd_per_day: Option<Money>) -> Self {
        // The first one need not wait for its share to come together.
        let share = RetryBudget::new(RetrySettings { share, floor: 1.0, per_minute: 0.0 });
        let budget = Mutex::new(Budget { share, day: 0, spent: Money::ZERO });
        Hedge { after, usd_per_day, budget }
    }

    fn called(&self, now: Tick) {
        self.budget.lock().share.request(now);
    }

    /// Takes a hedge of this cost out of the budgets, if there is one.
    fn try_take(&self, clock: &dyn Clock, cost: Money) -> bool {
        let day = clock.wall().utc_day();
        let mut b = self.budget.lock();
        if b.day != day {
            (b.day, b.spent) = (day, Money::ZERO);
        }
        let allowed = self.usd_per_day.is_none_or(|most| b.spent + cost <= most);
        if !allowed || !b.share.try_retry(clock.now()) {
            return false;
        }
        b.spent += cost;
        true
    }
}

/// Makes an attempt, and a second one beside it when the model's hedge says so.
pub(crate) async fn race(
    asked: &Asked<'_>,
    t: &Target<'_>,
    tried: Places,
    reason: Option<Reason>,
) -> Result<Completion, Failed> {
    let Some(hedge) = &t.settings.hedge else { return attempt(asked, t, tried, reason, None).await };
    let cx = asked.cx;
    hedge.called(cx.clock.now());
    let race = Race::default();
    let mut first = pin!(attempt(asked, t, tried, reason, Some(&race)));
    let timer = pin!(task::sleep(hedge.after));
    if let Either::Left((done, _)) = select(first.as_mut(), timer).await {
        return done;
    }
    // Not where the first one waits, if there is another place.
    let mut elsewhere = tried;
    if let Some(place) = race.first() {
        elsewhere.insert(place);
    }
    if pick::outlook(&t.settings.endpoints, elsewhere, cx.clock.now()) != Outlook::Now {
        elsewhere = tried;
    }
    let asks = race.first().is_some()
        && pick::outlook(&t.settings.endpoints, elsewhere, cx.clock.now()) == Outlook::Now
        && hedge.try_take(&*cx.clock, prompt(&t.settings.price, t.input));
    if !asks {
        return first.await;
    }
    let second = pin!(attempt(asked, t, elsewhere, Some(Reason::Hedge), Some(&race)));
    let (done, first_left) = match select(first, second).await {
        Either::Left((done, second)) => (done, Either::Right(second)),
        Either::Right((done, first)) => (done, Either::Left(first)),
    };
    match (done, first_left) {
        (Ok(answer), _left) => {
            race.decided.store(true, Ordering::Relaxed);
            Ok(answer)
        }
        // One has failed: all hangs on the other.
        (Err(_), Either::Left(first)) => first.await,
        (Err(failed), Either::Right(second)) => second.await.map_err(|_| failed),
    }
}

fn prompt(price: &Price, input_tokens: u64) -> Money {
    price.cost(&Usage { input_tokens, ..Usage::default() })
}

#[cfg(test)]
mod tests {
    use contract::ManualClock;

    use super::*;

    #[test]
    fn hedges_are_a_share_of_the_calls_and_an_amount_a_day() {
        let clock = ManualClock::default();
        let by_share = Hedge::new(Duration::ZERO, 0.05, None);
        let made = (0..1_000).filter(|_| {
            by_share.called(clock.now());
            by_share.try_take(&clock, Money::ZERO)
        });
        assert!((49..=52).contains(&made.count()));
        let cent = Money::from_nanos(10_000_000);
        let by_money = Hedge::new(Duration::ZERO, 1.0, Some(Money::from_nanos(35_000_000)));
        let made = (0..100).filter(|_| {
            by_money.called(clock.now());
            by_money.try_take(&clock, cent)
        });
        assert_eq!(made.count(), 3);
    }
}
