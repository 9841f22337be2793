//! A gate's file: what is wrong in it is told by line and column.

use models::gate::{SignatureRule, parse};

use super::FULL;

fn problems(text: &str) -> Vec<String> {
    let found = parse(text).unwrap_err();
    found.iter().map(|p| format!("{}:{} {} ({})", p.line, p.column, p.message, p.remedy)).collect()
}

#[test]
fn a_gate_needs_nothing_but_its_primary_figure() {
    let gate = parse("primary: {metric: recall@precision=0.9, margin: 0}").unwrap();
    assert_eq!((gate.primary.alpha, gate.signature), (0.05, SignatureRule::Compatible));
    assert_eq!(gate.lineage, ["data", "code", "params"]);
    assert!(gate.calibration.is_none() && gate.fairness.is_none() && gate.approval.is_none());
}

#[test]
fn a_gate_is_written_as_it_is_read() {
    let gate = parse(FULL).unwrap();
    let written = serde_json::to_value(&gate).unwrap();
    assert_eq!(serde_json::from_value::<models::gate::GateConfig>(written).unwrap(), gate);
}

#[test]
fn what_has_the_wrong_shape_is_told_by_its_place() {
    assert_eq!(
        problems("primry: {metric: auc, margin: 0}\nsignature: sme\nfloors: {auc: high}\n"),
        [
            "1:1 the field `primary` is missing (add `primary: …`)",
            "1:1 unknown field `primry` (did you mean `primary`? what can be added here: `primary`, `holdout`, \
             `calibration`, `slices`, `fairness`, `latency`, `size`, `regression_set`, `lineage`, `approval`, `first`, \
             `threshold`, `cost`, `replicates`, `seed`)",
            "2:12 `sme` is not a value of this field (did you mean `same`? it is one of: `compatible`, `same`, `any`)",
            "3:15 expected a number, found `high` (write a number)",
        ]
    );
    assert_eq!(problems("primary:\n  metric: aux\n  margin: 0\n").len(), 1);
}

#[test]
fn what_makes_no_sense_is_told_by_its_place() {
    let text = "primary: {metric: auc, margin: -1, alpha: 2}\nfloors: {speed: 1}\ncalibration: {}\nslices: {columns: []}\n\
        fairness: {columns: [x]}\nlineage: [dta]\nreplicates: 5\n";
    assert_eq!(
        problems(text),
        [
            "1:24 a margin is not negative (give 0 or more)",
            "1:36 not a chance of error (give a share such as 0.05)",
            "2:10 there is no metric `speed`; there are: `auc`, `average_precision`, `accuracy`, `precision`, `recall`, \
             `f1`, `fpr`, `fnr`, `log_loss`, `brier`, `ece`, `ece_mass`, `cost`, `macro_f1`, `micro_f1`, `mae`, `rmse`, \
             `r2`, `mape`, `recall@precision=0.9` (name a metric)",
            "3:1 nothing is asked for (add `ece` or `brier`)",
            "4:1 nothing is asked for (add `margin` or `floor`)",
            "4:10 no column is named (name the columns that divide the rows)",
            "5:1 nothing is asked for (add `dp_difference`, `eo_difference` or `ratio`)",
            "6:11 `dta` is no part of a record (did you mean `data`? there are: `data`, `features`, `code`, `params`, \
             `seed`, `environment`)",
            "7:1 too few or too many (give 100 to 100000)",
        ]
    );
}

#[test]
fn an_empty_file_is_told_what_to_begin_with() {
    assert!(problems("")[0].contains("primary: {metric: auc"), "{:?}", problems(""));
}
