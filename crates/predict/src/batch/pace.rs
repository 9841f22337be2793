//! What a run costs and how often requests come, by measure.
//!
//! The time of a run is taken as `fixed + rows × per_row`, fitted by least squares over what was seen lately. Waiting for one
//! more request costs each of the n that wait one gap, and spares one run its fixed part: it is worth it when n gaps are less.

use std::time::Duration;

use contract::Tick;

/// How much of a measure the newest is.
const NEWEST: f64 = 1.0 / 16.0;

/// Exponentially weighted sums; times in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    last: Option<Tick>,
    gap: Option<f64>,
    rows: f64,
    time: f64,
    rows_rows: f64,
    rows_time: f64,
    weight: f64,
}

fn nanos(d: Duration) -> f64 {
    d.as_secs_f64() * 1e9
}

fn duration(nanos: f64) -> Duration {
    Duration::from_secs_f64((nanos / 1e9).clamp(0.0, 1e6))
}

impl Pace {
    /// A request came.
    pub fn arrived(&mut self, now: Tick) {
        if let Some(last) = self.last.replace(now) {
            let gap = nanos(now.since(last));
            self.gap = Some(self.gap.map_or(gap, |g| g + (gap - g) * NEWEST));
        }
    }

    /// A run of so many rows took so long.
    pub fn ran(&mut self, rows: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (x, y) = (rows as f64, nanos(took));
        let mix = |old: &mut f64, new: f64| *old += (new - *old) * NEWEST;
        mix(&mut self.weight, 1.0);
        mix(&mut self.rows, x);
        mix(&mut self.time, y);
        mix(&mut self.rows_rows, x * x);
        mix(&mut self.rows_time, x * y);
    }

    /// `(fixed, per_row)` in nanoseconds, once something ran. Neither is below zero.
    fn fit(&self) -> Option<(f64, f64)> {
        if self.weight <= 0.0 {
            return None;
        }
        // The sums began at nothing: what they lack of a whole is put right.
        let (x, y) = (self.rows / self.weight, self.time / self.weight);
        let (xx, xy) = (self.rows_rows / self.weight, self.rows_time / self.weight);
        let spread = xx - x * x;
        let slope = if spread > 1e-9 * xx.max(1.0) { ((xy - x * y) / spread).max(0.0) } else { 0.0 };
        Some(((y - slope * x).max(0.0), slope))
    }

    /// How long a run of so many rows is likely to take.
    pub fn estimate(&self, rows: usize) -> Option<Duration> {
        let (fixed, per_row) = self.fit()?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rows = rows as f64;
        // Where all runs were of one size, nothing is known of a row: more rows are then taken to cost in proportion.
        let mean = (self.rows / self.weight).max(1.0);
        let most = if per_row > 0.0 { fixed + per_row * rows } else { fixed * (rows / mean).max(1.0) };
        Some(duration(most))
    }

    /// How long to wait for one more request while so many wait, or not at all.
    pub fn worth_waiting(&self, waiting: usize) -> Option<Duration> {
        let ((fixed, _), gap) = (self.fit()?, self.gap?);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let cost = gap * waiting as f64;
        (cost < fixed).then(|| duration(gap).max(Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_estimated_by_what_runs_took() {
        let mut pace = Pace::default();
        assert_eq!(pace.estimate(1), None);
        for n in 0..200 {
            let rows = 1 + n % 9;
            pace.ran(rows, Duration::from_nanos(5_000 + 1_000 * rows as u64));
        }
        let near = |rows, wanted: f64| {
            let got = nanos(pace.estimate(rows).unwrap());
            assert!((got / wanted - 1.0).abs() < 0.02, "{rows}: {got}");
        };
        near(1, 6_000.0);
        near(64, 69_000.0);
    }

    #[test]
    fn company_is_waited_for_when_its_gap_costs_less_than_a_run() {
        let mut pace = Pace::default();
        for n in 0..100u64 {
            pace.arrived(Tick(n * 10_000));
            pace.ran(1 + n as usize % 4, Duration::from_nanos(100_000 + 100 * (1 + n % 4)));
        }
        assert_eq!(pace.worth_waiting(1).map(|d| d.as_micros()), Some(10));
        assert!(pace.worth_waiting(9).is_some() && pace.worth_waiting(11).is_none());
    }
}
