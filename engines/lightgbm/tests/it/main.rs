//! Drives the real worker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod process;
mod training;

use models::train::worker::{Worker, WorkerSettings};
use models::train::{Column, Frame, Values};

/// The worker's program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_forebay-lightgbm");

fn worker() -> Worker {
    Worker::new(WorkerSettings { program: PROGRAM.into(), memory: 2 << 30, threads: 2 })
}

/// Numbers that look random and are always the same.
fn noise(seed: u64, row: usize) -> f64 {
    let mut z =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(row as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    #[expect(clippy::cast_precision_loss, reason = "a test")]
    let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    unit
}

/// Flights, as it were: lateness depends on the hour, the carrier and the distance, with holes.
fn frame(rows: usize) -> Frame {
    let carriers = ["AA", "B6", "DL", "UA", "WN"];
    let hole = |seed: u64, row: usize, x: f64| if noise(seed, row) < 0.1 { f64::NAN } else { x };
    let hour: Vec<f64> = (0..rows).map(|row| (noise(1, row) * 24.0).floor()).collect();
    let distance: Vec<f64> = (0..rows).map(|row| noise(2, row) * 3000.0).collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test")]
    let carrier: Vec<u32> = (0..rows).map(|row| (noise(3, row) * 5.0) as u32).collect();
    let late = |row: usize| {
        let score = (hour[row] - 12.0) / 8.0 + f64::from(carrier[row] == 2) * 1.5 - distance[row] / 3000.0;
        f64::from(noise(4, row) < 1.0 / (1.0 + (-2.0 * score).exp()))
    };
    let number = |seed: u64, all: &[f64]| {
        Values::Number(all.iter().enumerate().map(|(row, x)| hole(seed, row, *x)).collect())
    };
    let column = |name: &str, values: Values| Column { name: name.to_owned(), values };
    Frame::new(vec![
        column("hour", number(5, &hour)),
        column("distance", number(6, &distance)),
        column(
            "carrier",
            Values::Category { codes: carrier.clone(), words: carriers.map(str::to_owned).to_vec() },
        ),
        column("at", Values::Time((0..rows).map(|row| row as i64 * 60_000).collect())),
        column("late", Values::Number((0..rows).map(late).collect())),
    ])
    .unwrap()
}
