//! What a sketch promises: counts that add up, errors within the bound, bounded memory, merging, being written and read.

use proptest::prelude::*;
use watch::sketch::{Bins, CategorySketch, NumericSketch};

use crate::support::column;

/// The largest difference between the sketch's shares and the true ones, at every value.
fn worst(sketch: &NumericSketch, values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.abs() < 1e100).collect();
    sorted.sort_by(f64::total_cmp);
    let (steps, n) = (sketch.steps(), sorted.len() as f64);
    sorted
        .iter()
        .map(|&v| (steps.at_most(v) as f64 / n - sorted.partition_point(|&x| x <= v) as f64 / n).abs())
        .fold(0.0, f64::max)
}

#[test]
fn half_a_million_rows_stay_within_four_thousandths_in_bounded_memory() {
    let values = column("heavy", 5, 500_000, 0.0);
    let mut sketch = NumericSketch::default();
    sketch.extend(&values);
    assert!(sketch.rank_error() < 0.004, "{}", sketch.rank_error());
    assert!(worst(&sketch, &values) <= sketch.rank_error());
    assert!(sketch.held() < 2_048 * 10);
}

#[test]
fn a_column_whose_order_is_adverse_stays_within_the_bound() {
    let mut zigzag: Vec<f64> =
        (0..100_000).map(|i| f64::from(if i % 2 == 0 { i } else { 200_000 - i })).collect();
    for _ in 0..2 {
        let mut sketch = NumericSketch::with_capacity(128);
        sketch.extend(&zigzag);
        assert!(worst(&sketch, &zigzag) <= sketch.rank_error());
        zigzag.sort_by(f64::total_cmp);
    }
}

#[test]
fn thousands_of_categories_fit_and_the_frequent_ones_stay() {
    let mut sketch = CategorySketch::with_capacity(50);
    for i in 0..20_000u32 {
        sketch.extend([Some(format!("rare-{i}").as_str()), Some("often"), None]);
    }
    assert!(sketch.held() <= 100);
    assert_eq!((sketch.count(), sketch.missing()), (40_000, 20_000));
    assert!(sketch.of("often") + sketch.undercount() >= 20_000 && sketch.of("often") <= 20_000);
    assert!(sketch.undercount() <= 40_000 / 51);
    assert!(!sketch.vocabulary().complete());
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![8 => -1e6..1e6f64, 2 => (-3i32..3).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(f64::MIN)]
}

proptest! {
    #[test]
    fn whatever_is_merged_the_bound_holds_and_counts_add_up(
        parts in prop::collection::vec(prop::collection::vec(any_value(), 0..300), 1..8),
        capacity in 8usize..40,
    ) {
        let mut merged = NumericSketch::with_capacity(capacity);
        for part in &parts {
            let mut one = NumericSketch::with_capacity(capacity);
            part.chunks(7).for_each(|chunk| one.extend(chunk));
            merged.merge(&one).unwrap();
        }
        let all = parts.concat();
        let there: Vec<f64> = all.iter().copied().filter(|v| v.abs() < 1e100).collect();
        prop_assert_eq!(merged.count(), there.len() as u64);
        prop_assert_eq!(merged.count() + merged.missing(), all.len() as u64);
        prop_assert_eq!(merged.steps().count(), merged.count());
        prop_assert_eq!(merged.min(), there.iter().copied().reduce(f64::min));
        prop_assert_eq!(merged.max(), there.iter().copied().reduce(f64::max));
        if !there.is_empty() {
            prop_assert!(worst(&merged, &all) <= merged.rank_error() + 1e-12);
            let mean = there.iter().sum::<f64>() / there.len() as f64;
            prop_assert!((merged.mean().unwrap() - mean).abs() <= 1e-6);
            let bins = Bins::deciles(&merged).unwrap();
            prop_assert_eq!(bins.of_sketch(&merged).iter().sum::<u64>(), all.len() as u64);
            prop_assert_eq!(bins.of_values(&all).iter().sum::<u64>(), all.len() as u64);
            let mut sorted = there.clone();
            sorted.sort_by(f64::total_cmp);
            prop_assert_eq!(bins.of_sorted(&sorted, merged.missing()), bins.of_values(&all));
        }
    }

    #[test]
    fn a_sketch_that_was_written_and_read_goes_on_the_same(
        a in prop::collection::vec(-1000i32..1000, 0..300),
        b in prop::collection::vec(-1000i32..1000, 0..300),
    ) {
        let numbers = |v: &[i32]| v.iter().map(|&x| f64::from(x) / 10.0).collect::<Vec<f64>>();
        let mut one = NumericSketch::with_capacity(16);
        one.extend(&numbers(&a));
        let mut read: NumericSketch = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
        one.extend(&numbers(&b));
        read.extend(&numbers(&b));
        prop_assert_eq!(&one, &read);
        let mut words = CategorySketch::with_capacity(4);
        words.extend(a.iter().map(|x| Some(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][(x.unsigned_abs() % 10) as usize])));
        let read: CategorySketch = serde_json::from_str(&serde_json::to_string(&words).unwrap()).unwrap();
        prop_assert_eq!(read, words);
    }

    #[test]
    fn category_counts_are_never_too_large_and_too_small_by_no_more_than_is_said(
        parts in prop::collection::vec(prop::collection::vec(0u8..40, 0..200), 1..6),
        capacity in 1usize..12,
    ) {
        let names: Vec<String> = (0..40).map(|i| format!("c{i}")).collect();
        let mut merged = CategorySketch::with_capacity(capacity);
        for part in &parts {
            let mut one = CategorySketch::with_capacity(capacity);
            one.extend(part.iter().map(|&i| Some(names[i as usize].as_str())));
            merged.merge(&one).unwrap();
        }
        let all = parts.concat();
        prop_assert_eq!(merged.count(), all.len() as u64);
        prop_assert!(merged.held() <= 2 * capacity);
        prop_assert!(merged.undercount() * (capacity as u64 + 1) <= all.len() as u64);
        for (i, name) in names.iter().enumerate() {
            let real = all.iter().filter(|&&x| x as usize == i).count() as u64;
            prop_assert!(merged.of(name) <= real && real <= merged.of(name) + merged.undercount());
        }
        let bins = merged.vocabulary();
        prop_assert_eq!(bins.of_sketch(&merged).iter().sum::<u64>(), all.len() as u64);
        let rows = all.iter().map(|&i| Some(names[i as usize].as_str()));
        prop_assert_eq!(bins.of_values(rows).iter().sum::<u64>(), all.len() as u64);
    }
}
