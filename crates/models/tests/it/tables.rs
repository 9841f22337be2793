//! Tables, their roles and their parts.

use models::onnx::Classes;
use models::train::config::{By, Part, SplitConfig};
use models::train::{Column, Error, Frame, Label, Roles, Table, TrainConfig, Values, folds, problems, split};
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

fn column(name: &str, values: Values) -> Column {
    Column { name: name.to_owned(), values }
}

fn words(codes: &[u32], words: &[&str]) -> Values {
    Values::Category { codes: codes.to_vec(), words: words.iter().map(|word| (*word).to_owned()).collect() }
}

fn roles(target: &str) -> Roles {
    Roles { target: target.to_owned(), ..Roles::default() }
}

#[test]
fn the_order_of_words_changes_nothing() {
    let y = || column("y", Values::Number(vec![0.0, 1.0, 0.0, 1.0]));
    let one = Frame::new(vec![column("x", words(&[0, 1, Values::MISSING, 0], &["b", "a"])), y()]);
    let other = Frame::new(vec![column("x", words(&[2, 0, 1, 2], &["a", "", "b", "unused"])), y()]);
    assert_eq!(one.unwrap(), other.unwrap());
}

#[test]
fn columns_that_cannot_be_what_they_are_to_be_are_named() {
    let frame = || {
        let all = vec![
            column("x", Values::Number(vec![1.0, 2.0, 3.0])),
            column("at", Values::Time(vec![1, 2, Values::NEVER])),
            column("same", Values::Number(vec![1.0; 3])),
            column("y", Values::Number(vec![0.0, 1.0, f64::NAN])),
        ];
        Frame::new(all).unwrap()
    };
    let refused = |roles: Roles| match Table::of(&frame(), &roles) {
        Err(Error::Column { column, .. }) => column,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(roles("z")), "z");
    assert_eq!(refused(roles("at")), "at");
    assert_eq!(refused(roles("same")), "same", "one class alone");
    assert_eq!(refused(Roles { time: Some("x".to_owned()), ..roles("y") }), "x");
    assert_eq!(refused(Roles { features: vec!["at".to_owned()], ..roles("y") }), "at");
    assert_eq!(refused(Roles { features: vec!["y".to_owned()], ..roles("y") }), "y");
    assert_eq!(refused(Roles { exclude: vec!["no".to_owned()], ..roles("y") }), "no");
    let table = Table::of(&frame(), &Roles { time: Some("at".to_owned()), ..roles("y") }).unwrap();
    assert_eq!((table.rows(), table.unlabelled()), (2, 1), "the row without a label and a time is left out");
    let Label::Class { classes, .. } = table.label() else { panic!() };
    assert_eq!(classes, &Classes::Numbers(vec![0, 1]));
    let both = vec![column("x", Values::Number(vec![1.0])), column("x", Values::Number(vec![1.0]))];
    assert!(Frame::new(both).is_err());
    let uneven = vec![column("x", Values::Number(vec![1.0])), column("y", Values::Number(vec![]))];
    assert!(Frame::new(uneven).is_err());
    assert!(Frame::new(vec![column("x", words(&[3], &["a"]))]).is_err(), "a code without a word");
}

#[test]
fn a_configuration_says_everything_that_is_wrong_with_it() {
    let config = |value: serde_json::Value| serde_json::from_value::<TrainConfig>(value);
    assert!(config(json!({"gbdt": {"target": "late"}, "unknown": 1})).is_err());
    assert!(config(json!({"gbdt": {"target": "late"}, "split": {"holdout": 1.5}})).is_err());
    let fine =
        config(json!({"gbdt": {"target": "late"}, "time": "at", "split": {"by": "time", "holdout": "14d"}}))
            .unwrap();
    assert_eq!(problems(&fine), Vec::new());
    let wrong = config(json!({
        "gbdt": {"target": "late", "rounds": 0, "leaves": 1, "rows_share": 2.0},
        "linear": {"target": "late"},
        "split": {"by": "time", "holdout": "14d", "validation": null},
        "search": {"tune": {"l1": [0.0, 1.0]}},
    }))
    .unwrap();
    let pointers: Vec<String> = problems(&wrong).into_iter().map(|problem| problem.pointer).collect();
    let expected =
        ["", "/split/by", "/search", "/gbdt/rounds", "/gbdt/leaves", "/gbdt/rows_share", "/search/tune/l1"];
    assert_eq!(pointers, expected);
}

#[test]
fn what_is_written_of_a_configuration_is_read_back() {
    let text = json!({"gbdt": {"target": "late"}, "time": "at", "split": {"by": "time", "holdout": "14d", "gap": "1d"}});
    let config: TrainConfig = serde_json::from_value(text).unwrap();
    let again = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
    assert_eq!(config, again);
}

/// Rows with times, groups and classes.
fn table(rows: &[(i64, u32, bool)]) -> Table {
    let groups: Vec<f64> = rows.iter().map(|(_, group, _)| f64::from(*group)).collect();
    let frame = Frame::new(vec![
        column("x", Values::Number(groups.clone())),
        column("at", Values::Time(rows.iter().map(|(at, ..)| *at).collect())),
        column("group", Values::Number(groups)),
        column("y", Values::Number(rows.iter().map(|(.., y)| f64::from(u8::from(*y))).collect())),
    ]);
    let (time, group) = (Some("at".to_owned()), Some("group".to_owned()));
    Table::of(&frame.unwrap(), &Roles { time, group, classes: Some(true), ..roles("y") }).unwrap()
}

fn rows() -> impl Strategy<Value = Vec<(i64, u32, bool)>> {
    // Both classes are there.
    prop::collection::vec((0..500_i64, 0..12_u32, any::<bool>()), 20..120).prop_map(|mut rows| {
        (rows[0].2, rows[1].2) = (false, true);
        rows
    })
}

fn config(by: By, holdout: Part, gap: u64) -> SplitConfig {
    let gap = Some(pipeline::units::Time(Duration::from_millis(gap)));
    SplitConfig { by, holdout, validation: Some(Part::Share(0.25)), gap }
}

proptest! {
    #[test]
    fn nothing_that_was_seen_is_later_than_what_is_held_back(
        rows in rows(), share in 0.1..0.6_f64, gap in 0..40_u64, length in prop::option::of(20..200_u64),
    ) {
        let part = length.map_or(Part::Share(share), |length| Part::Last(Duration::from_millis(length)));
        if let Ok(parts) = split(&table(&rows), &config(By::Time, part, gap), 3) {
            let time = |row: &u32| rows[*row as usize].0;
            let ends = |rows: &[u32]| (rows.iter().map(time).min().unwrap(), rows.iter().map(time).max().unwrap());
            let (train, valid, holdout) = (ends(&parts.train), ends(&parts.valid), ends(&parts.holdout));
            let apart = i64::try_from(gap).unwrap().max(1);
            prop_assert!(train.1 + apart <= valid.0 && valid.1 + apart <= holdout.0);
            prop_assert_eq!(holdout.1, rows.iter().map(|row| row.0).max().unwrap());
            if let Some(length) = length {
                prop_assert!(holdout.0 > holdout.1 - i64::try_from(length).unwrap());
            }
            if gap == 0 {
                prop_assert_eq!(parts.train.len() + parts.valid.len() + parts.holdout.len(), rows.len());
            }
        }
    }

    #[test]
    fn folds_by_time_learn_from_what_was_before(rows in rows(), count in 2..5_u32, gap in 0..20_u64) {
        let all: Vec<u32> = (0..u32::try_from(rows.len()).unwrap()).collect();
        let config = config(By::Time, Part::Share(0.2), gap);
        if let Ok(folds) = folds(&table(&rows), &config, &all, count, 5) {
            prop_assert_eq!(folds.len(), count as usize);
            let time = |row: &u32| rows[*row as usize].0;
            for fold in &folds {
                let apart = i64::try_from(gap).unwrap().max(1);
                prop_assert!(fold.train.iter().map(time).max().unwrap() + apart <= fold.valid.iter().map(time).min().unwrap());
            }
            for pair in folds.windows(2) {
                prop_assert!(pair[0].valid.iter().all(|row| !pair[1].valid.contains(row)));
                prop_assert!(pair[0].train.len() <= pair[1].train.len());
            }
        }
    }

    #[test]
    fn a_group_is_on_one_side_and_every_row_on_one(rows in rows(), seed: u64) {
        let table = table(&rows);
        if let Ok(parts) = split(&table, &config(By::Group, Part::Share(0.3), 0), seed) {
            let groups = |rows_of: &[u32]| -> Vec<u32> { rows_of.iter().map(|row| rows[*row as usize].1).collect() };
            let (train, valid, holdout) = (groups(&parts.train), groups(&parts.valid), groups(&parts.holdout));
            prop_assert!(train.iter().all(|group| !valid.contains(group) && !holdout.contains(group)));
            prop_assert!(valid.iter().all(|group| !holdout.contains(group)));
            prop_assert_eq!(train.len() + valid.len() + holdout.len(), rows.len());
        }
    }

    #[test]
    fn a_drawn_part_has_its_share_of_each_class_and_the_seed_decides(rows in rows(), seed: u64) {
        let table = table(&rows);
        let config = config(By::Random, Part::Share(0.25), 0);
        let parts = split(&table, &config, seed).unwrap();
        prop_assert_eq!(&parts, &split(&table, &config, seed).unwrap());
        let count = |rows_of: &[u32]| rows_of.iter().filter(|row| rows[**row as usize].2).count() as f64;
        let (held, all) = (count(&parts.holdout), rows.iter().filter(|row| row.2).count() as f64);
        prop_assert!((held - all * 0.25).abs() <= 1.5, "{held} of {all}");
        let every: Vec<u32> = (0..u32::try_from(rows.len()).unwrap()).collect();
        let made = folds(&table, &config, &every, 4, seed).unwrap();
        let mut judged: Vec<u32> = made.iter().flat_map(|fold| fold.valid.clone()).collect();
        judged.sort_unstable();
        prop_assert_eq!(judged, every, "each row is judged once");
    }
}

#[test]
fn the_holdout_that_is_found_again_is_the_one_that_was_held_back() {
    use models::train::frozen::Frozen;
    // Every third row has no label; times run backwards, so that the holdout comes first.
    let rows = 40_i64;
    let label = |row: i64| if row % 3 == 2 { f64::NAN } else { f64::from(u8::from(row % 2 == 0)) };
    let frame = Frame::new(vec![
        column("x", Values::Number((0..rows).map(|row| row as f64).collect())),
        column("at", Values::Time((0..rows).map(|row| (rows - row) * 1_000).collect())),
        column("y", Values::Number((0..rows).map(label).collect())),
    ])
    .unwrap();
    let config: TrainConfig = serde_json::from_value(json!({
        "linear": {"target": "y"}, "time": "at", "split": {"by": "time", "holdout": 0.25, "validation": 0.1},
    }))
    .unwrap();
    let table = Table::of(&frame, &Roles { time: Some("at".to_owned()), ..roles("y") }).unwrap();
    let parts = split(&table, &config.split, config.seed).unwrap();
    let frozen = Frozen::of(&frame, &config).unwrap();
    assert_eq!(frozen.rows.len(), parts.holdout.len());
    assert_eq!(
        frozen.rows,
        [0, 1, 3, 4, 6, 7, 9],
        "rows by their numbers in the table, without those that have no label"
    );
    let Label::Class { of, .. } = &frozen.label else { panic!() };
    assert_eq!(of, &frozen.rows.iter().map(|row| u32::from(row % 2 == 0)).collect::<Vec<_>>());
    let (from, until) = frozen.between.unwrap();
    assert!(frozen.learnt_until.unwrap() < from && from <= until);
    let only = frame.only(&frozen.rows);
    assert_eq!(only.column("x").unwrap().values, Values::Number(vec![0.0, 1.0, 3.0, 4.0, 6.0, 7.0, 9.0]));
    assert_eq!(frame.texts("x").unwrap()[3].as_deref(), Some("3"));
    assert!(frame.texts("at").is_err() && frame.texts("y").unwrap()[2].is_none());
}
