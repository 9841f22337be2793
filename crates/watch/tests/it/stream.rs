//! Detectors against river's on series whose changes are known.

use proptest::prelude::*;
use serde_json::Value as Json;
use watch::Seeded;
use watch::stream::{Adwin, AdwinSettings, Direction, PageHinkley, PageHinkleySettings};

use crate::support::{column, golden, near, number, whole};

fn series(row: &Json) -> Vec<f64> {
    let (n, seed) = (whole(row, "n"), row["seed"].as_u64().unwrap());
    let levels = row["levels"].as_array().unwrap();
    let level = |i: usize| {
        let mut past = levels.iter().filter(|l| l[0].as_u64().unwrap() as usize <= i);
        past.next_back().unwrap()[1].as_f64().unwrap()
    };
    if row["kind"] == "unit" {
        let mut draw = Seeded::new(seed);
        return (0..n).map(|i| f64::from(u8::from(draw.unit() < level(i)))).collect();
    }
    let values = column(row["kind"].as_str().unwrap(), seed, n, 0.0);
    values.into_iter().enumerate().map(|(i, v)| v + level(i)).collect()
}

fn changes(series: &[f64], mut update: impl FnMut(f64) -> bool) -> Vec<u64> {
    series.iter().enumerate().filter(|(_, v)| update(**v)).map(|(i, _)| i as u64).collect()
}

fn expected(of: &Json) -> Vec<u64> {
    of["at"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap()).collect()
}

#[test]
fn adwin_finds_changes_where_river_does() {
    let mut found = 0;
    for row in golden("stream") {
        let series = series(&row);
        for of in row["adwin"].as_array().unwrap() {
            let settings: AdwinSettings = serde_json::from_value(of["settings"].clone()).unwrap();
            let mut adwin = Adwin::new(settings);
            let at = changes(&series, |v| adwin.update(v));
            assert_eq!(at, expected(of), "{} {}", row["kind"], of["settings"]);
            assert_eq!(adwin.width(), of["width"].as_u64().unwrap());
            near("mean", adwin.mean().unwrap(), number(of, "mean"), 1e-9);
            // What river calls the variance is the sum of squares.
            let squares = adwin.variance().unwrap() * adwin.width() as f64;
            near("squares", squares, number(of, "variance"), 1e-9);
            found += at.len();
        }
    }
    assert!(found >= 15, "{found}");
}

#[test]
fn page_hinkley_finds_changes_where_river_does() {
    let mut found = 0;
    for row in golden("stream") {
        let series = series(&row);
        for of in row["page_hinkley"].as_array().unwrap() {
            let number = |key: &str, or: f64| of["settings"][key].as_f64().unwrap_or(or);
            let settings = PageHinkleySettings {
                min_instances: number("min_instances", 30.0) as u64,
                delta: number("delta", 0.005),
                threshold: number("threshold", 50.0),
                alpha: number("alpha", 1.0 - 0.0001),
                direction: match of["settings"]["mode"].as_str() {
                    Some("up") => Direction::Up,
                    Some("down") => Direction::Down,
                    _ => Direction::Both,
                },
            };
            let mut detector = PageHinkley::new(settings);
            let at = changes(&series, |v| detector.update(v));
            assert_eq!(at, expected(of), "{} {}", row["kind"], of["settings"]);
            found += at.len();
        }
    }
    assert!(found >= 15, "{found}");
}

proptest! {
    #[test]
    fn a_detector_that_was_written_and_read_goes_on_the_same(
        values in prop::collection::vec(0u8..100, 1..400), at in 0usize..400,
    ) {
        let mut adwin = Adwin::new(AdwinSettings { clock: 4, ..AdwinSettings::default() });
        let mut hinkley = PageHinkley::new(PageHinkleySettings { threshold: 5.0, ..PageHinkleySettings::default() });
        let mut count = 0u64;
        for (i, &v) in values.iter().enumerate() {
            if i == at {
                adwin = serde_json::from_str(&serde_json::to_string(&adwin).unwrap()).unwrap();
                hinkley = serde_json::from_str(&serde_json::to_string(&hinkley).unwrap()).unwrap();
            }
            // Halves are read exactly whatever reads them.
            let change = adwin.update(f64::from(v) / 2.0);
            hinkley.update(f64::from(v) / 2.0);
            hinkley.update(f64::NAN);
            count = if change { adwin.width() } else { (count + 1).min(adwin.width()) };
            prop_assert!(adwin.width() <= i as u64 + 1);
            prop_assert!(adwin.mean().unwrap() >= 0.0 && adwin.mean().unwrap() <= 50.0);
        }
    }
}
