//! When each request of a step is to be sent, and what it is: drawn before the first is sent, so that nothing that
//! happens during the step moves a request (open loop).

use std::time::Duration;

use serde::Serialize;

use super::profile::Profile;
use super::random::Random;
use crate::Error;

/// The most requests in one step: a minute at 50,000 a second.
pub(super) const MOST: usize = 3_000_000;
/// Coefficient of variation of the gaps between arrivals in bursts: a Poisson process has 1.
const BURSTINESS: f64 = 3.0;

/// How requests arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Arrivals {
    /// Independent of one another, as from many users: exponential gaps.
    Poisson,
    /// Evenly spaced.
    Constant,
    /// In bursts with silences between them: gamma gaps whose deviation is three times their mean.
    Burst,
}

impl Arrivals {
    /// The next gap, for a mean of 1.
    fn gap(self, random: &mut Random) -> f64 {
        match self {
            Arrivals::Poisson => random.exponential(),
            Arrivals::Constant => 1.0,
            Arrivals::Burst => random.gamma(1.0 / (BURSTINESS * BURSTINESS)),
        }
    }
}

/// Whether answers are streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Streaming {
    Always,
    Never,
    /// Each request decides by a coin.
    Mixed,
}

/// A step: one rate for one time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// `10x`.
    pub(super) label: String,
    /// Requests a second.
    pub(super) rate: f64,
    /// Sent and not counted.
    pub(super) warm_up: Duration,
    /// Sent and counted.
    pub(super) measured: Duration,
}

/// One request to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// Its number, unique in the run.
    pub(super) number: u64,
    /// When it is to be sent, from the step's beginning.
    pub(super) due: Duration,
    /// Whether it is counted.
    pub(super) measured: bool,
    /// An index into the tenants.
    pub(super) tenant: usize,
    /// Tokens of its prompt, about.
    pub(super) input: u32,
    /// The longest answer wanted.
    pub(super) output: u32,
    pub(super) stream: bool,
    /// Decides its text.
    pub(super) seed: u64,
}

/// What all steps of a run draw from.
#[derive(Debug)]
pub(super) struct Mix<'a> {
    pub(super) arrivals: Arrivals,
    pub(super) profile: &'a Profile,
    pub(super) streaming: Streaming,
    /// Of each tenant; at least one, none 0.
    pub(super) weights: &'a [u32],
}

/// Draws a step's requests in the order in which they are due. `first` is the number of the first.
///
/// # Errors
/// More than [`MOST`] requests.
pub(super) fn draw(step: &Step, mix: &Mix<'_>, first: u64, random: &Random) -> Result<Vec<Planned>, Error> {
    let whole = step.warm_up + step.measured;
    let expected = step.rate * whole.as_secs_f64();
    let too_many = || {
        let message = format!("{} is {expected:.0} requests, and a step has {MOST} at most", step.label);
        Error::new(message, "choose a lower rate, fewer steps or a shorter --for")
    };
    if expected > MOST as f64 {
        return Err(too_many());
    }
    // One sequence for each question: another rate leaves what is asked the same.
    let [mut when, mut what, mut who, mut how] = [1, 2, 3, 4].map(|purpose| random.fork(purpose));
    let total: u64 = mix.weights.iter().map(|w| u64::from(*w)).sum();
    let mut all = Vec::with_capacity(expected as usize + 1);
    let mut at = 0.0;
    loop {
        at += mix.arrivals.gap(&mut when) / step.rate;
        // Evenly spaced arrivals begin at once.
        let due = if mix.arrivals == Arrivals::Constant { at - 1.0 / step.rate } else { at };
        let due = Duration::try_from_secs_f64(due.max(0.0)).unwrap_or(Duration::MAX);
        if due >= whole {
            return Ok(all);
        }
        if all.len() >= MOST {
            return Err(too_many());
        }
        all.push(Planned {
            number: first + all.len() as u64,
            due,
            measured: due >= step.warm_up,
            tenant: tenant(mix.weights, total, &mut who),
            input: mix.profile.input.draw(&mut what),
            output: mix.profile.output.draw(&mut what),
            stream: match mix.streaming {
                Streaming::Always => true,
                Streaming::Never => false,
                Streaming::Mixed => how.next() & 1 == 0,
            },
            seed: what.next(),
        });
    }
}

fn tenant(weights: &[u32], total: u64, random: &mut Random) -> usize {
    let mut place = random.below(usize::try_from(total).unwrap_or(usize::MAX)) as u64;
    for (i, weight) in weights.iter().enumerate() {
        match place.checked_sub(u64::from(*weight)) {
            Some(left) => place = left,
            None => return i,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn(arrivals: Arrivals, rate: f64, weights: &[u32], seed: u64) -> Vec<Planned> {
        let step = Step {
            label: "1x".into(),
            rate,
            warm_up: Duration::from_secs(5),
            measured: Duration::from_secs(95),
        };
        let profile = Profile::named("chat").unwrap();
        let mix = Mix { arrivals, profile: &profile, streaming: Streaming::Mixed, weights };
        draw(&step, &mix, 10, &Random::new(seed)).unwrap()
    }

    fn any_arrivals() -> impl Strategy<Value = Arrivals> {
        prop::sample::select(vec![Arrivals::Poisson, Arrivals::Constant, Arrivals::Burst])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn arrivals_come_at_the_rate_asked_for_in_order_and_within_the_step(
            arrivals in any_arrivals(), rate in 100.0f64..400.0, seed in any::<u64>(),
        ) {
            let all = drawn(arrivals, rate, &[1], seed);
            // The deviation of the count is the gaps' coefficient of variation times its root.
            let expected = rate * 100.0;
            let allowed = 5.0 * BURSTINESS * expected.sqrt() + 2.0;
            prop_assert!((all.len() as f64 - expected).abs() < allowed, "{} for {expected}", all.len());
            prop_assert!(all.windows(2).all(|w| w[0].due <= w[1].due && w[0].number + 1 == w[1].number));
            prop_assert!(all.iter().all(|p| p.due < Duration::from_secs(100)));
            prop_assert!(all.iter().all(|p| p.measured == (p.due >= Duration::from_secs(5))));
        }

        #[test]
        fn gaps_vary_as_their_process_says(rate in 200.0f64..400.0, seed in any::<u64>()) {
            let variation = |arrivals| {
                let all = drawn(arrivals, rate, &[1], seed);
                let gaps: Vec<f64> = all.windows(2).map(|w| (w[1].due - w[0].due).as_secs_f64()).collect();
                let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
                let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
                variance.sqrt() / mean
            };
            prop_assert!(variation(Arrivals::Constant) < 0.01);
            prop_assert!((variation(Arrivals::Poisson) - 1.0).abs() < 0.1);
            prop_assert!((variation(Arrivals::Burst) - BURSTINESS).abs() < 0.6);
        }

        #[test]
        fn tenants_get_their_share_of_the_requests(a in 1u32..5, b in 1u32..5, seed in any::<u64>()) {
            let all = drawn(Arrivals::Poisson, 200.0, &[a, b], seed);
            let share = all.iter().filter(|p| p.tenant == 0).count() as f64 / all.len() as f64;
            prop_assert!((share - f64::from(a) / f64::from(a + b)).abs() < 0.03);
        }
    }

    #[test]
    fn equal_seeds_give_equal_plans_and_a_coin_streams_half() {
        let one = drawn(Arrivals::Poisson, 50.0, &[1, 2], 3);
        assert_eq!(one, drawn(Arrivals::Poisson, 50.0, &[1, 2], 3));
        assert_ne!(one, drawn(Arrivals::Poisson, 50.0, &[1, 2], 4));
        let share = one.iter().filter(|p| p.stream).count() as f64 / one.len() as f64;
        assert!((share - 0.5).abs() < 0.05, "{share}");
    }

    #[test]
    fn a_step_that_does_not_fit_into_memory_is_refused() {
        let profile = Profile::named("chat").unwrap();
        let mix = Mix {
            arrivals: Arrivals::Constant,
            profile: &profile,
            streaming: Streaming::Never,
            weights: &[1],
        };
        let step = Step {
            label: "100x".into(),
            rate: 1e6,
            warm_up: Duration::ZERO,
            measured: Duration::from_secs(60),
        };
        assert!(draw(&step, &mix, 0, &Random::new(1)).is_err());
    }
}
