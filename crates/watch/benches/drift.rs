//! What a comparison costs: 500,000 rows × 20 columns against a reference of as many, with Kolmogorov–Smirnov
//! (statistic and probability), PSI and Wasserstein-1 of each column; on one core, in CPU time of this process: what
//! else the machine does then counts for little.
//!
//! - `shipped`: the reference is sorted once and kept; each column of the window is sorted once and walked once.
//! - `shipped, reference sorted too`: the first comparison, with nothing kept.
//! - `shipped, from sketches`: the window goes through a sketch in batches of 8,192 rows, and nothing is kept of it.
//! - `two sorts a statistic`: each statistic by itself, as a function of two columns: what most libraries do.
//!
//! `cargo bench -p forebay-watch --bench drift`
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};

use watch::Seeded;
use watch::drift::{NumericReference, Sample, Side, ks, psi, wasserstein};
use watch::sketch::{Bins, NumericSketch};

/// CPU time of this process.
struct CpuTime;

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;
    fn start(&self) -> Duration {
        cpu_time()
    }
    fn end(&self, start: Duration) -> Duration {
        cpu_time().saturating_sub(start)
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

const ROWS: usize = 500_000;
const COLUMNS: usize = 20;

fn table(seed: u64, shift: f64) -> Vec<Vec<f64>> {
    let mut draw = Seeded::new(seed);
    (0..COLUMNS).map(|c| (0..ROWS).map(|_| draw.normal() * (1.0 + c as f64) + shift).collect()).collect()
}

fn sketch_of(column: &[f64]) -> NumericSketch {
    let mut sketch = NumericSketch::default();
    column.chunks(8_192).for_each(|batch| sketch.extend(batch));
    sketch
}

/// Sorts both sides for itself.
fn naive(reference: &[f64], window: &[f64], bins: &Bins) -> (f64, f64, f64) {
    let sorted = |v: &[f64]| Sample::new(v.to_vec());
    let (a, b) = (sorted(reference), sorted(window));
    let first = ks(a.sorted(), b.sorted()).unwrap().p_value;
    let (a, b) = (sorted(reference), sorted(window));
    let second = wasserstein(a.sorted(), b.sorted()).unwrap();
    let (a, b) = (sorted(reference), sorted(window));
    let third = psi(&bins.of_sorted(a.sorted(), 0), &bins.of_sorted(b.sorted(), 0)).unwrap();
    (first, second, third)
}

fn compare(c: &mut Criterion<CpuTime>) {
    let (reference, window) = (table(1, 0.0), table(2, 0.01));
    let kept: Vec<(NumericReference, Sample)> = reference
        .iter()
        .map(|column| (NumericReference::new(sketch_of(column)).unwrap(), Sample::new(column.clone())))
        .collect();
    let mut group = c.benchmark_group("500k x 20");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(8));
    group.bench_function("shipped", |b| {
        b.iter_batched(
            || window.clone(),
            |window| {
                for ((kept, reference), column) in kept.iter().zip(window) {
                    let sample = Sample::new(column);
                    black_box(kept.compare_exactly(reference, Side::Sample(&sample)).unwrap());
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("shipped, reference sorted too", |b| {
        b.iter_batched(
            || (reference.clone(), window.clone()),
            |(reference, window)| {
                for (((kept, _), reference), column) in kept.iter().zip(reference).zip(window) {
                    let (reference, sample) = (Sample::new(reference), Sample::new(column));
                    black_box(kept.compare_exactly(&reference, Side::Sample(&sample)).unwrap());
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("shipped, from sketches", |b| {
        b.iter(|| {
            for ((kept, _), column) in kept.iter().zip(&window) {
                black_box(kept.compare(Side::Sketch(&sketch_of(column))).unwrap());
            }
        });
    });
    group.bench_function("two sorts a statistic", |b| {
        b.iter(|| {
            for (((kept, _), reference), column) in kept.iter().zip(&reference).zip(&window) {
                black_box(naive(reference, column, kept.bins()));
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = compare
}
criterion_main!(benches);
