//! A threshold from months that are drawn from the reference.
//!
//! A drawn month has windows as the real one will have: made of whole runs of blocks, so that what hangs together in
//! time stays together, each from its own phase of the season. It is compared with a reference that is drawn as well,
//! because the real reference is as much a draw as the window: with the reference held fixed, its own error would look
//! like drift ever after. Drawing from `N` runs has only (N − 1) / N of their variance; the drawn reference is made
//! that much shorter that the difference of both varies as that of a new window and the whole reference does. What is
//! stated is right as far as the reference shows the tail: a threshold that one block in thirty exceeds is read from
//! the two largest of 60 blocks.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Quorum, Season};
use crate::{Error, Seeded};

/// How the threshold will be used, and how often it may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Blocks in a window.
    pub window: usize,
    /// Blocks from one window to the next.
    pub step: usize,
    /// Blocks in a month.
    pub month: usize,
    /// Blocks that hang together, and are drawn together.
    pub run: usize,
    /// Blocks after which everything repeats.
    pub season: Season,
    /// How many windows beyond the threshold are an alarm.
    pub quorum: Quorum,
    /// False alarms a month that are borne.
    pub false_alarms: f64,
    /// Months drawn.
    pub months: usize,
    /// Where the draws begin.
    pub seed: u64,
}

impl Default for Plan {
    /// Windows of 7 days each day, runs of one day, no season, one false alarm in four months, 1,000 months drawn.
    fn default() -> Self {
        Plan {
            window: 7,
            step: 1,
            month: 30,
            run: 1,
            season: Season::NONE,
            quorum: Quorum::default(),
            false_alarms: 0.25,
            months: 1_000,
            seed: 1,
        }
    }
}

/// A threshold, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// An alarm is a statistic above it, as often as the quorum asks.
    pub threshold: f64,
    /// Alarms a month to be expected without any drift.
    pub false_alarms_per_month: f64,
    /// Its standard error by the number of months drawn.
    pub standard_error: f64,
    /// Months drawn.
    pub months: usize,
}

/// How long a drift goes unseen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Delay {
    /// Half are found within so many blocks from the onset; none when half are not found within a month.
    pub median: Option<usize>,
    /// Nineteen of twenty are.
    pub most: Option<usize>,
    /// The share that is not found within a month.
    pub missed: f64,
}

/// Numbers of blocks, drawn in runs, so that a row of them keeps its phases.
struct Draws<'p> {
    plan: &'p Plan,
    blocks: usize,
    draw: Seeded,
}

impl Draws<'_> {
    fn season(&self) -> usize {
        self.plan.season.0.max(1)
    }

    /// A run from a place with the phase of `at`.
    fn run_at(&mut self, at: usize, into: &mut Vec<usize>, most: usize) {
        let (season, run) = (self.season(), self.plan.run.max(1));
        let phase = self.plan.season.phase(at);
        // Places of this phase from which a whole run fits.
        let last = self.blocks.saturating_sub(run);
        let places = last.checked_sub(phase).map_or(1, |room| room / season + 1);
        let from = phase + season * self.draw.below(places);
        into.extend((from..from + run).take(most));
    }

    /// `n` blocks in a row from number `from` on.
    fn row(&mut self, from: usize, n: usize) -> Vec<usize> {
        let mut row = Vec::with_capacity(n);
        while row.len() < n {
            self.run_at(from + row.len(), &mut row, n);
            row.truncate(n);
        }
        row
    }

    /// A reference that is shorter by what drawing loses of the variance.
    fn reference(&mut self) -> Vec<usize> {
        let (season, run) = (self.season(), self.plan.run.max(1));
        // In units of runs of one phase.
        let units = (self.blocks / season.max(run)).max(2) as f64;
        let in_window = (self.plan.window as f64 / season.max(run) as f64).max(1.0);
        let kept = ((units - 1.0) * in_window / (in_window + 1.0)).round().max(1.0) as usize;
        self.row(0, kept * season.max(run))
    }
}

fn check<B>(reference: &[B], plan: &Plan) -> Result<(), Error> {
    plan.quorum.check()?;
    let setting = |name, why: &str| Err(Error::Setting { name, why: why.to_owned() });
    if plan.window == 0 || plan.step == 0 || plan.months == 0 || plan.run == 0 {
        return setting("window, step, run, months", "each is at least one");
    }
    if plan.month < plan.step || plan.false_alarms.is_nan() || plan.false_alarms <= 0.0 {
        return setting("month, false_alarms", "a month holds a step, and some false alarms are to be borne");
    }
    if plan.run > 1 && plan.season.0 > 1 && !plan.season.0.is_multiple_of(plan.run) {
        return setting("run", "runs have to fill a season");
    }
    let needs = (2 * plan.season.0.max(1)).max(2 * plan.window).max(2 * plan.run);
    if reference.len() < needs {
        return Err(Error::TooFew {
            what: "the blocks of the reference",
            has: reference.len() as u64,
            needs: needs as u64,
        });
    }
    Ok(())
}

/// The statistics of all windows of a row of blocks, each with the number of blocks at its end. `before` blocks come
/// before number 0 of the season's phases.
fn windows<'a, B>(
    row: &[&'a B],
    reference: &[&'a B],
    plan: &Plan,
    statistic: &impl Fn(&[&'a B], &[&'a B]) -> f64,
) -> Vec<(usize, f64)> {
    let ends = (plan.window..=row.len()).step_by(plan.step);
    let of = |end: usize| {
        let first = end - plan.window;
        let window = row.get(first..end).unwrap_or_default();
        let alike: Vec<&'a B> =
            plan.season.alike(reference, first, plan.window).into_iter().copied().collect();
        (end, statistic(window, &alike))
    };
    ends.map(of).collect()
}

/// Beginnings of alarms at a threshold, not counting the first `warm` windows.
fn onsets(windows: &[(usize, f64)], threshold: f64, quorum: Quorum, warm: usize) -> usize {
    let (mut last, mut alarmed, mut count) = (VecDeque::new(), false, 0);
    for (at, &(_, value)) in windows.iter().enumerate() {
        let alarm = quorum.met(&mut last, value > threshold);
        count += usize::from(alarm && !alarmed && at >= warm);
        alarmed = alarm;
    }
    count
}

/// Finds the lowest threshold whose false alarms a month are borne. `statistic` compares the blocks of a window with
/// those of a reference; the larger, the further apart.
///
/// # Errors
/// When the reference holds less than two windows, two seasons or two runs, or the plan contradicts itself.
pub fn calibrate<B>(
    reference: &[B],
    plan: &Plan,
    statistic: impl Fn(&[&B], &[&B]) -> f64,
) -> Result<Calibrated, Error> {
    check(reference, plan)?;
    let mut draws = Draws { plan, blocks: reference.len(), draw: Seeded::new(plan.seed) };
    let pick =
        |numbers: Vec<usize>| numbers.into_iter().filter_map(|i| reference.get(i)).collect::<Vec<&B>>();
    // Before a month come the windows that its first ones are counted with.
    let warm = plan.quorum.n;
    let blocks = plan.window + (warm - 1) * plan.step + plan.month;
    let mut months: Vec<Vec<(usize, f64)>> = Vec::with_capacity(plan.months);
    for _ in 0..plan.months {
        let drawn = pick(draws.reference());
        let phase = draws.draw.below(plan.season.0.max(1));
        // The month begins anywhere in the season: blocks before it are cut off again.
        let row = pick(draws.row(0, phase + blocks));
        let mut found = windows(&row, &drawn, plan, &statistic);
        found.retain(|(end, _)| end - plan.window >= phase);
        months.push(found);
    }
    let mut levels: Vec<f64> = months.iter().flatten().map(|(_, v)| *v).filter(|v| v.is_finite()).collect();
    levels.sort_unstable_by(f64::total_cmp);
    let rate = |threshold: f64| {
        let each: Vec<f64> = months.iter().map(|m| onsets(m, threshold, plan.quorum, warm) as f64).collect();
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        let spread = each.iter().map(|c| (c - mean) * (c - mean)).sum::<f64>() / each.len() as f64;
        (mean, (spread / each.len() as f64).sqrt())
    };
    // From the top the rate rises until alarms run into one another: the lowest level before it is first too high.
    let (mut low, mut high) = (levels.len() / 2, levels.len().saturating_sub(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let borne = levels.get(middle).is_some_and(|&level| rate(level).0 <= plan.false_alarms);
        if borne { high = middle } else { low = middle + 1 }
    }
    let Some(&threshold) = levels.get(high) else {
        return Err(Error::TooFew { what: "the windows of the reference", has: 0, needs: 1 });
    };
    let (false_alarms_per_month, standard_error) = rate(threshold);
    Ok(Calibrated { threshold, false_alarms_per_month, standard_error, months: plan.months })
}

/// How long a drift goes unseen with a calibrated threshold: months whose blocks come from `drifted` from some moment
/// on. Blocks of both begin with the phase 0 of the season.
///
/// # Errors
/// As [`calibrate`], for either side.
pub fn delay<B>(
    reference: &[B],
    drifted: &[B],
    plan: &Plan,
    threshold: f64,
    statistic: impl Fn(&[&B], &[&B]) -> f64,
) -> Result<Delay, Error> {
    check(reference, plan)?;
    check(drifted, &Plan { window: 1, ..*plan })?;
    let mut draws = Draws { plan, blocks: reference.len(), draw: Seeded::new(plan.seed) };
    let mut after = Draws { plan, blocks: drifted.len(), draw: Seeded::new(plan.seed ^ 0x5DEE_CE66) };
    let season = plan.season.0.max(1);
    let mut delays: Vec<usize> = Vec::new();
    for _ in 0..plan.months {
        let drawn: Vec<&B> = draws.reference().into_iter().filter_map(|i| reference.get(i)).collect();
        // The onset is after a whole window and all that the quorum looks back on, anywhere in the season and between
        // two windows.
        let before = plan.window + plan.quorum.n * plan.step + draws.draw.below(season * plan.step);
        let mut row: Vec<&B> = draws.row(0, before).into_iter().filter_map(|i| reference.get(i)).collect();
        row.extend(after.row(before, plan.month).into_iter().filter_map(|i| drifted.get(i)));
        let mut last = VecDeque::new();
        for (end, value) in windows(&row, &drawn, plan, &statistic) {
            // An alarm from before the onset is a false one: it is not counted as found.
            if plan.quorum.met(&mut last, value > threshold && end > before) {
                delays.push(end - before);
                break;
            }
        }
    }
    delays.sort_unstable();
    let within = |share: f64| delays.get(((plan.months as f64 * share).ceil() as usize).max(1) - 1).copied();
    let missed = 1.0 - delays.len() as f64 / plan.months as f64;
    Ok(Delay { median: within(0.5), most: within(0.95), missed })
}
