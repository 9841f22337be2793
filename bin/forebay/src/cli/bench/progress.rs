//! A line about the step that runs, on a terminal; nothing elsewhere.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::answer::Outcome;
use super::plan::Step;

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(200);

pub(super) struct Progress {
    bar: ProgressBar,
    shown: Cell<Duration>,
    complete: Cell<u64>,
    shed: Cell<u64>,
    failed: Cell<u64>,
}

impl Progress {
    pub(super) fn new(step: &Step) -> Self {
        let bar =
            ProgressBar::new(u64::try_from((step.warm_up + step.measured).as_millis()).unwrap_or(u64::MAX));
        let style = ProgressStyle::with_template("{prefix:>6}  {bar:24}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(step.label.clone());
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        bar.set_draw_target(target);
        let zero = || Cell::new(0);
        Progress { bar, shown: Cell::default(), complete: zero(), shed: zero(), failed: zero() }
    }

    /// A request ended.
    pub(super) fn ended(&self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Complete => &self.complete,
            Outcome::Shed { .. } => &self.shed,
            _ => &self.failed,
        };
        count.set(count.get() + 1);
    }

    /// The time that has passed, and how many are under way.
    pub(super) fn at(&self, passed: Duration, under_way: usize) {
        if self.bar.is_hidden() || passed < self.shown.get() + EVERY {
            return;
        }
        self.shown.set(passed);
        self.bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let (complete, shed, failed) = (self.complete.get(), self.shed.get(), self.failed.get());
        self.bar
            .set_message(format!("{under_way} under way, {complete} complete, {shed} shed, {failed} failed"));
    }

    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
