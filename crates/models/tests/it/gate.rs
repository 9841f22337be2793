//! Gates: what they take and refuse, and what their records hold.

mod file;
mod kinds;
mod paired;
mod seal;

use contract::UnixMillis;
use models::evaluate::{Kept, Key, Rows, Truth};
use models::gate::{
    Approved, Case, Contender, Decision, Field, GateConfig, Holdout, Lineage, Measured, ModelSignature,
    Verdict, decide, parse,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Rows whose labels follow a hidden number; a model sees it through noise. `noise` 0 sees all of it.
pub(crate) fn rows(seed: u64, n: usize, noise: f64) -> Rows {
    let mut hidden = Pcg64::seed_from_u64(1);
    let mut own = Pcg64::seed_from_u64(seed);
    let (mut labels, mut scores, mut carriers, mut regions) = (vec![], vec![], vec![], vec![]);
    for row in 0..n {
        let p: f64 = hidden.random();
        labels.push(hidden.random_bool(p));
        scores.push((p + noise * (own.random::<f64>() - 0.5)).clamp(0.0, 1.0));
        carriers.push(Some(["AA", "BB", "CC"][row % 3]));
        regions.push(Some(["north", "south"][(row / 3) % 2]));
    }
    let rows = Rows::new(Truth::Binary { labels, scores }).unwrap();
    rows.key(Key::new("carrier", carriers)).unwrap().key(Key::new("region", regions)).unwrap()
}

fn field(name: &str) -> Field {
    Field { name: name.into(), ty: "float".into(), optional: false }
}

pub(crate) fn contender<'a>(id: &str, rows: &'a Rows) -> Contender<'a> {
    let parts = ["data", "code", "params", "environment"];
    Contender {
        id: id.into(),
        rows,
        trained_until: Some(UnixMillis(1_000)),
        measured: Measured {
            latency_p99_ms: Some(2.0),
            artifact_bytes: Some(1_000_000),
            memory_bytes: Some(9_000_000),
        },
        signature: Some(ModelSignature { inputs: vec![field("x")], outputs: vec![field("p")] }),
        lineage: parts.iter().map(|part| ((*part).to_owned(), format!("b3:{part}"))).collect::<Lineage>(),
        kept: Some(Kept { rows: 3, failed: 0, wrong: vec![] }),
    }
}

pub(crate) fn case<'a>(challenger: &'a Rows, champion: Option<&'a Rows>) -> Case<'a> {
    let (from, until) = (Some(UnixMillis(2_000)), Some(UnixMillis(3_000)));
    Case {
        model: "flight-delay".into(),
        holdout: Holdout { dataset: "flights".into(), version: "7".into(), from, until },
        challenger: contender("m-new", challenger),
        champion: champion.map(|rows| contender("m-old", rows)),
        approvals: vec![],
    }
}

pub(crate) const FULL: &str = "
primary: {metric: auc, margin: 0.01}
holdout: {rows: 500}
floors: {auc: 0.6, brier: 0.25}
calibration: {ece: 0.08, brier: 0.005}
slices: {columns: [carrier], minimum: 200, margin: 0.05, floor: 0.6}
fairness: {columns: [region], dp_difference: 0.15, eo_difference: 0.2, ratio: 0.7}
latency: {p99: 10ms, times_champion: 1.5}
size: {artifact: 50mb, memory: 100mb, times_champion: 2}
regression_set: {wrong: 0}
lineage: [data, code, params, environment]
replicates: 500
";

fn gate(text: &str) -> GateConfig {
    parse(text).unwrap()
}

fn failed(decision: &Decision) -> Vec<&str> {
    decision.failed().map(|c| c.name.as_str()).collect()
}

#[test]
fn a_model_that_is_as_good_is_accepted_and_every_check_says_why() {
    let (new, old) = (rows(2, 3_000, 0.2), rows(3, 3_000, 0.2));
    let decision = decide(&gate(FULL), &case(&new, Some(&old)), NOW).unwrap();
    assert_eq!(failed(&decision), Vec::<&str>::new(), "{}", decision.sentence());
    assert_eq!(decision.verdict, Verdict::Accepted);
    let names: Vec<&str> = decision.checks.iter().map(|c| c.name.as_str()).collect();
    let expected = [
        "holdout",
        "primary",
        "floor.auc",
        "floor.brier",
        "calibration.ece",
        "calibration.brier",
        "slices.carrier.floor",
        "slices.carrier.margin",
        "fairness.region.dp_difference",
        "fairness.region.eo_difference",
        "fairness.region.ratio",
        "latency.p99",
        "latency.p99.times_champion",
        "size.artifact",
        "size.artifact.times_champion",
        "size.memory",
        "regression_set",
        "signature",
        "lineage",
    ];
    assert_eq!(names, expected);
    assert!(decision.checks.iter().all(|c| c.sentence.len() > 20), "{:#?}", decision.checks);
    assert_eq!(decision, decide(&gate(FULL), &case(&new, Some(&old)), NOW).unwrap(), "and the same again");
}

#[test]
fn a_model_that_is_worse_is_refused_with_the_evidence() {
    let (new, old) = (rows(2, 3_000, 1.5), rows(3, 3_000, 0.2));
    let decision = decide(&gate(FULL), &case(&new, Some(&old)), NOW).unwrap();
    assert_eq!(decision.verdict, Verdict::Refused);
    assert!(failed(&decision).contains(&"primary"), "{:?}", failed(&decision));
    let check = decision.checks.iter().find(|c| c.name == "primary").unwrap();
    assert!(check.value.unwrap() < check.limit.unwrap());
    assert_eq!(check.evidence["test"], "delong");
    assert!(
        check.sentence.contains("DeLong's test") && check.sentence.contains("more than the margin of 0.01")
    );
    assert!(
        decision
            .sentence()
            .starts_with("`m-new` may not answer as `flight-delay`, against `m-old`: auc is 0.")
    );
}

/// Each fault alone fails the one check that is there for it.
#[test]
fn every_check_fails_by_itself() {
    type Fault = fn(&mut Case<'_>);
    let faults: [(&str, Fault); 14] = [
        ("holdout", |c| c.challenger.trained_until = Some(UnixMillis(2_000))),
        ("holdout", |c| c.challenger.trained_until = None),
        ("holdout", |c| c.champion.as_mut().unwrap().trained_until = Some(UnixMillis(2_500))),
        ("holdout", |c| c.holdout.from = None),
        ("latency.p99", |c| c.challenger.measured.latency_p99_ms = Some(11.0)),
        ("latency.p99.times_champion", |c| c.challenger.measured.latency_p99_ms = Some(3.1)),
        ("latency.p99", |c| c.challenger.measured.latency_p99_ms = None),
        ("size.artifact", |c| c.challenger.measured.artifact_bytes = Some(51_000_000)),
        ("size.memory", |c| c.challenger.measured.memory_bytes = None),
        ("regression_set", |c| {
            c.challenger.kept = Some(Kept { rows: 3, failed: 1, wrong: vec!["JFK".into()] })
        }),
        ("regression_set", |c| c.challenger.kept = None),
        ("signature", |c| c.challenger.signature.as_mut().unwrap().inputs.push(field("new"))),
        ("signature", |c| c.challenger.signature = None),
        ("lineage", |c| {
            c.challenger.lineage.remove("code");
        }),
    ];
    let (new, old) = (rows(2, 3_000, 0.2), rows(3, 3_000, 0.2));
    for (name, fault) in faults {
        let mut case = case(&new, Some(&old));
        fault(&mut case);
        let decision = decide(&gate(FULL), &case, NOW).unwrap();
        assert_eq!(decision.verdict, Verdict::Refused, "{name}");
        assert!(failed(&decision).contains(&name), "{name}: {:?}", failed(&decision));
        assert!(failed(&decision).iter().all(|f| f.starts_with(name)), "{name}: {:?}", failed(&decision));
    }
}

#[test]
fn a_model_that_fails_one_group_or_one_slice_is_refused_though_it_is_good_on_average() {
    let (base, old) = (rows(2, 6_000, 0.2), rows(3, 6_000, 0.2));
    let Truth::Binary { labels, scores } = base.truth().clone() else { panic!() };
    // Turned around for one carrier in one region: 1 of 6 rows.
    let spoiled = scores.iter().enumerate().map(|(row, s)| if row % 6 == 5 { 1.0 - s } else { *s }).collect();
    let key = |name: &str, of: fn(usize) -> &'static str| Key::new(name, (0..6_000).map(|row| Some(of(row))));
    let new = Rows::new(Truth::Binary { labels, scores: spoiled })
        .unwrap()
        .key(key("carrier", |row| ["AA", "BB", "CC"][row % 3]))
        .unwrap()
        .key(key("region", |row| ["north", "south"][(row / 3) % 2]))
        .unwrap();
    let gate = gate(
        "
primary: {metric: auc, margin: 0.3}
slices: {columns: [carrier], margin: 0.05, floor: 0.7}
fairness: {columns: [region], eo_difference: 0.1}
",
    );
    let decision = decide(&gate, &case(&new, Some(&old)), NOW).unwrap();
    assert_eq!(
        failed(&decision),
        ["slices.carrier.floor", "slices.carrier.margin", "fairness.region.eo_difference"]
    );
    let slice = decision.checks.iter().find(|c| c.name == "slices.carrier.margin").unwrap();
    assert_eq!(slice.evidence["part"], "CC");
    assert!(slice.sentence.contains("does worst on `carrier` `CC` (2000 rows)"), "{}", slice.sentence);
}

#[test]
fn parts_and_groups_that_are_too_small_show_nothing() {
    let (new, old) = (rows(2, 300, 0.2), rows(3, 300, 0.2));
    let text = "
primary: {metric: auc, margin: 0.5}
slices: {columns: [carrier], minimum: 200, floor: 0.1}
fairness: {columns: [region], dp_difference: 0.9, minimum: 200}
";
    let decision = decide(&gate(text), &case(&new, Some(&old)), NOW).unwrap();
    assert_eq!(failed(&decision), ["slices.carrier.floor", "fairness.region.dp_difference"]);
    assert!(decision.sentence().contains("so nothing is shown"));
    let fairness = decision.checks.iter().find(|c| c.name.starts_with("fairness")).unwrap();
    assert_eq!(fairness.evidence["too_small"][0]["rows"], 150);
}

#[test]
fn a_champion_that_was_asked_other_rows_is_no_champion_to_compare_with() {
    let (new, old) = (rows(2, 1_000, 0.2), rows(3, 999, 0.2));
    let decision =
        decide(&gate("primary: {metric: auc, margin: 0.5}"), &case(&new, Some(&old)), NOW).unwrap();
    assert_eq!(failed(&decision), ["holdout", "primary"]);
}

#[test]
fn a_first_model_is_held_against_a_floor_or_one_that_knows_nothing() {
    let (good, blind) = (rows(2, 2_000, 0.2), rows(3, 2_000, 2_000_000.0));
    let verdict = |text: &str, rows| decide(&gate(text), &case(rows, None), NOW).unwrap().verdict;
    for metric in ["auc", "accuracy", "log_loss", "f1", "brier"] {
        let text = format!("primary: {{metric: {metric}, margin: 0}}\nreplicates: 300");
        if metric != "f1" {
            assert_eq!(verdict(&text, &good), Verdict::Accepted, "{metric}");
        }
        assert_eq!(verdict(&text, &blind), Verdict::Refused, "{metric}");
    }
    let floor = |floor: f64| {
        verdict(
            &format!("primary: {{metric: auc, margin: 0}}\nfirst: {{floor: {floor}}}\nreplicates: 300"),
            &good,
        )
    };
    assert_eq!((floor(0.75), floor(0.9)), (Verdict::Accepted, Verdict::Refused));
}

#[test]
fn approval_is_waited_for_only_when_nothing_else_is_missing() {
    let (new, old) = (rows(2, 2_000, 0.2), rows(3, 2_000, 0.2));
    let gate = gate("primary: {metric: auc, margin: 0.05}\napproval: {people: 2, roles: [risk]}");
    let approve = |by: &str, role: &str| Approved {
        by: by.into(),
        roles: vec![role.into()],
        at: NOW,
        said: String::new(),
    };
    let verdict = |approvals: Vec<Approved>, champion| {
        let case = Case { approvals, ..case(&new, champion) };
        decide(&gate, &case, NOW).unwrap().verdict
    };
    let old = Some(&old);
    assert_eq!(verdict(vec![], old), Verdict::WaitsForApproval);
    let twice = vec![approve("ada", "risk"), approve("ada", "risk")];
    assert_eq!(verdict(twice, old), Verdict::WaitsForApproval, "one person is one");
    let others = vec![approve("ada", "dev"), approve("bob", "dev")];
    assert_eq!(verdict(others, old), Verdict::WaitsForApproval, "nobody of the role");
    assert_eq!(verdict(vec![approve("ada", "dev"), approve("bob", "risk")], old), Verdict::Accepted);
    let worse = rows(4, 2_000, 3.0);
    let case = Case { challenger: contender("m-new", &worse), ..case(&new, old) };
    assert_eq!(
        decide(&gate, &case, NOW).unwrap().verdict,
        Verdict::Refused,
        "no word helps a model that is worse"
    );
}

#[test]
fn a_gate_that_was_not_written_for_such_a_model_is_an_error() {
    let new = rows(2, 500, 0.2);
    let error = |text: &str| decide(&gate(text), &case(&new, None), NOW).unwrap_err().to_string();
    assert!(error("primary: {metric: rmse, margin: 0}").contains("has no `rmse`"));
    let text = "primary: {metric: auc, margin: 0}\nslices: {columns: [airport], floor: 0.5}";
    assert!(error(text).contains("there is no column `airport`; there are: `carrier`, `region`"));
}
