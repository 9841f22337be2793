//! The report of a comparison: what is told, in which order, and what hostile names do to its page.

use contract::UnixMillis;
use watch::drift::{DriftLimits, Level, Profile, Reference};
use watch::report::{DriftReport, Shape, Side};

fn side(name: &str, rows: u64) -> Side {
    Side { name: name.to_owned(), rows }
}

fn profile(numbers: &[(&str, &[f64])], categories: &[(&str, &[&str])]) -> Profile {
    let mut profile = Profile::default();
    for (name, values) in numbers {
        profile.numbers(name, values).unwrap();
    }
    for (name, values) in categories {
        profile.categories(name, values.iter().map(|v| (!v.is_empty()).then_some(*v))).unwrap();
    }
    profile
}

fn report(was: Profile, is: &Profile, rows: u64) -> DriftReport {
    let reference = Reference::new(was);
    let window = (side("what is", rows), is);
    DriftReport::new(UnixMillis(0), (side("what was", rows), &reference), window, DriftLimits::default())
        .unwrap()
}

fn cycle(n: usize, of: usize, add: f64) -> Vec<f64> {
    (0..n).map(|i| (i % of) as f64 + add).collect()
}

#[test]
fn the_worst_column_comes_first_and_says_what_moved() {
    let (calm, far, near) = (cycle(5_000, 100, 0.0), cycle(5_000, 100, 80.0), cycle(5_000, 100, 12.0));
    let carriers: Vec<&str> = (0..5_000).map(|i| ["AA", "UA"][i % 2]).collect();
    let others: Vec<&str> = (0..5_000).map(|i| ["AA", "UA", "ZZ", ""][i % 4]).collect();
    let was = profile(&[("a", &calm), ("far", &calm), ("near", &calm)], &[("carrier", &carriers)]);
    let is = profile(&[("a", &calm), ("far", &far), ("near", &near)], &[("carrier", &others)]);
    let report = report(was, &is, 5_000);
    let names: Vec<&str> = report.columns.iter().map(|c| c.column.as_str()).collect();
    assert_eq!((names[3], report.columns[3].level, report.level), ("a", Level::Calm, Level::Alert));
    let far = report.columns.iter().find(|c| c.column == "far").unwrap();
    assert!(far.of_limit > report.columns.iter().find(|c| c.column == "near").unwrap().of_limit);
    let Shape::Numbers { reference, window, bars, .. } = &far.shape else { panic!("{far:?}") };
    assert_eq!((window.mean - reference.mean).round(), 80.0);
    let sums = bars.iter().fold((0.0, 0.0), |s, b| (s.0 + b.reference, s.1 + b.window));
    assert!((sums.0 - 1.0).abs() < 1e-9 && (sums.1 - 1.0).abs() < 1e-9, "{sums:?}");
    let carrier = report.columns.iter().find(|c| c.column == "carrier").unwrap();
    let Shape::Categories { unseen, unseen_share, missing, .. } = &carrier.shape else { panic!() };
    assert_eq!((unseen[0].label.as_str(), *unseen_share, *missing), ("ZZ", 0.25, (0.0, 0.25)));
    assert_eq!(carrier.level, Level::Alert);
}

#[test]
fn columns_that_are_gone_or_emptied_are_as_loud_as_drift_and_new_ones_are_not() {
    let values = cycle(500, 10, 0.0);
    let none = vec![f64::NAN; 500];
    let of =
        |is: &Profile| report(profile(&[("a", &values), ("b", &values), ("never", &none)], &[]), is, 500);
    let gone = of(&profile(&[("a", &values), ("never", &none)], &[]));
    assert_eq!((gone.level, &gone.schema.gone), (Level::Alert, &vec!["b".to_owned()]));
    let emptied = of(&profile(&[("a", &values), ("b", &none), ("never", &none)], &[]));
    assert_eq!((emptied.level, &emptied.emptied), (Level::Alert, &vec!["b".to_owned()]));
    let new = of(&profile(&[("a", &values), ("b", &values), ("c", &values), ("never", &none)], &[]));
    assert_eq!((new.level, &new.schema.new), (Level::Warn, &vec!["c".to_owned()]));
    assert!(new.emptied.is_empty(), "what never held a value is not emptied");
}

#[test]
fn a_page_is_whole_and_lets_nothing_out_of_its_places() {
    let hostile = "<script>alert(1)</script>\"'";
    let values = cycle(300, 7, 0.0);
    let names: Vec<&str> = (0..300).map(|i| [hostile, "b"][i % 2]).collect();
    let was = profile(&[(hostile, &values), ("gone<b>", &values)], &[("k", &["a"; 300])]);
    let is = profile(&[(hostile, &cycle(300, 7, 3.0))], &[("k", &names), ("new<i>", &names)]);
    let reference = Reference::new(was);
    let report = DriftReport::new(
        UnixMillis(1_767_225_600_000),
        (side(hostile, 1_234_567), &reference),
        (side("window", 300), &is),
        DriftLimits::default(),
    );
    let page = report.unwrap().leaving_out(vec!["at<u>".into()]).page();
    assert!(!page.contains("<script") && !page.contains("gone<b>") && !page.contains("<i>\""), "{page}");
    for part in
        ["1,234,567", "2026-01-01T00:00:00Z", "&lt;script&gt;", "<path class=\"is\"", "unseen", "</html>"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing comes from elsewhere");
}

#[test]
fn a_report_is_written_and_read_again() {
    let values = cycle(300, 7, 0.0);
    let report = report(profile(&[("a", &values)], &[]), &profile(&[("a", &values)], &[]), 300);
    let text = serde_json::to_string(&report).unwrap();
    let again: DriftReport = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
}

proptest::proptest! {
    #[test]
    fn whatever_is_compared_the_shares_add_up_and_the_page_is_whole(
        was in proptest::collection::vec(proptest::num::f64::ANY, 1..200),
        is in proptest::collection::vec(proptest::num::f64::ANY, 1..200),
    ) {
        let report = report(profile(&[("x", &was)], &[]), &profile(&[("x", &is)], &[]), 200);
        for column in &report.columns {
            let Shape::Numbers { bars, .. } = &column.shape else { panic!("{column:?}") };
            let sums = bars.iter().fold((0.0, 0.0), |s, b| (s.0 + b.reference, s.1 + b.window));
            proptest::prop_assert!((sums.0 - 1.0_f64).abs() < 1e-9 && (sums.1 - 1.0_f64).abs() < 1e-9, "{:?}", sums);
        }
        proptest::prop_assert!(report.page().ends_with("</html>\n") || report.page().ends_with("</html>"));
    }
}
