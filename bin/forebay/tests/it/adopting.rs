//! A model that a command of the user's own made is held to what the others are: evaluated, gated, released, answering.

use serde_json::{Value as Json, json};

use crate::models::{Made, asked};
use crate::server::eventually;

/// A trainer of somebody's own: how often is a flight late, by its hour, written as LightGBM's text.
const TRAIN: &str = r#"
import csv, math, os
rows = list(csv.DictReader(open(os.environ["FOREBAY_INPUT_PAST"])))
cuts = [3, 7, 11, 15, 19]
part = lambda row: sum(float(row["hour"]) > cut for cut in cuts)
late = [[int(row["late"]) for row in rows if part(row) == n] for n in range(6)]
odds = [math.log((sum(all) + 1) / (len(all) - sum(all) + 1)) for all in late]
line = lambda values: " ".join(map(str, values))
text = f"""tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names=noise hour
feature_infos=[0:1] [0:23]

Tree=0
num_leaves=6
num_cat=0
split_feature={line([1] * 5)}
split_gain={line([1] * 5)}
threshold={line(cuts)}
decision_type={line([2] * 5)}
left_child={line(-1 - n for n in range(5))}
right_child={line([1, 2, 3, 4, -6])}
leaf_value={line(odds)}
shrinkage=1


end of trees
"""
open(os.path.join(os.environ["FOREBAY_OUTPUT"], "model.txt"), "w").write(text)
margin = text.replace("objective=binary sigmoid:1", "objective=regression")
open(os.path.join(os.environ["FOREBAY_OUTPUT"], "margin.txt"), "w").write(margin)
bare = text.replace("feature_names=noise hour", "feature_names=Column_0 Column_1")
open(os.path.join(os.environ["FOREBAY_OUTPUT"], "bare.txt"), "w").write(bare)
open(os.path.join(os.environ["FOREBAY_OUTPUT"], "model.pkl"), "wb").write(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.")
"#;

fn project(made: &Made) {
    let folder = made.folder.path();
    let pipeline = |name: &str, outputs: &str, adopt: &str| {
        format!(
            "  {name}:\n    stages:\n      - rows: {{ingest: {{files: [rows.csv]}}}}\n      \
             - past: {{sql: {{query: \"select hour, noise, late from rows where at < '2026-01-02T13:00:00Z'\"}}, from: rows}}\n      \
             - later: {{sql: {{query: \"select * from rows where at >= '2026-01-02T13:00:00Z'\"}}, from: rows}}\n      \
             - fit: {{exec: {{command: [python3, train.py], inputs: {{past: csv}}, outputs: {{{outputs}}}}}, from: {{past: past}}}}\n      \
             - model: {{adopt: {{{adopt}}}, from: {{model: fit, table: later}}}}\n      \
             - scores: {{evaluate: {{slices: [carrier]}}, from: model}}\n      \
             - release: {{register: {{model: lateness, gate: gate.yaml}}, from: scores}}\n"
        )
    };
    let written = std::fs::read_to_string(folder.join("forebay.yaml")).unwrap();
    let more = [
        pipeline("theirs", "model: model.txt", "target: late, time: at"),
        pipeline("pickle", "model: model.pkl", "target: late"),
        pipeline("two", "all: 'model.*'", "target: late"),
        pipeline("named", "all: 'model.*'", "target: late, file: model.onnx"),
        pipeline("other", "model: model.txt", "target: carrier"),
        pipeline("number", "model: model.txt", "target: noise"),
        pipeline("margin", "model: margin.txt", "target: late"),
        pipeline("bare", "model: bare.txt", "target: late"),
        pipeline("named_so", "model: bare.txt", "target: late, time: at, features: [noise, hour]"),
        pipeline("nothing", "model: model.txt", "target: late")
            .replace("where at >= '2026", "where at >= '2096"),
    ];
    let written = written
        .replace("  other:\n", "  second:\n")
        .replace("linear: {target: late, l2: 0.001}", "linear: {target: late}, features: [hour, noise]")
        + &more.concat();
    std::fs::write(folder.join("forebay.yaml"), written).unwrap();
    std::fs::write(folder.join("train.py"), TRAIN).unwrap();
}

#[test]
fn a_model_that_a_command_made_is_gated_and_answers_as_the_others_do() {
    let Some(made) = Made::new() else { return };
    project(&made);
    made.done(&["check"]);
    made.done(&["run", "theirs"]);
    let shown = made.json(&["models", "show", "lateness", "@champion"]);
    assert_eq!(shown["version"], 1, "{shown}");
    let card = made.done(&["models", "card", "lateness", "1"]);
    assert!(card.contains("made elsewhere, LightGBM") && card.contains("carrier"), "{card}");
    // An equal file on equal rows is the same model, and is not decided again.
    let again = made.done(&["run", "theirs"]);
    assert!(again.contains("this model is the champion already"), "{again}");
    let lineage = made.done(&["lineage", "lateness@1", "--up"]);
    assert!(lineage.contains("model.txt") && lineage.contains("rows"), "{lineage}");
    let (fine, said) = made.said(&["models", "reproduce", "lateness", "1"]);
    assert!(!fine && said.contains("was made by a command of its pipeline"), "{said}");
    // What comes after it is held against it, on rows of its own.
    let (fine, said) = made.said(&["run", "good"]);
    assert!(!fine && said.contains("it takes `carrier`, which nobody sends"), "{said}");
    let said = made.done(&["run", "second"]);
    assert!(said.contains("champion of lateness is version 3 now"), "{said}");
    made.done(&["models", "rollback", "lateness"]);
    let server = made.serve();
    let row = |hour: u32| json!({"dataframe_records": [{"carrier": "AA", "hour": hour, "noise": 0.5}]});
    let chance = |answer: &Json| answer["predictions"][0]["probabilities"][1].as_f64();
    let of = |hour| asked(&server, "/invocations?model=late", &row(hour));
    eventually("it answers", || of(1).0 == 200);
    let (early, late) = (of(1).1, of(23).1);
    assert!(chance(&early).unwrap() < 0.3 && chance(&late).unwrap() > 0.7, "{early} {late}");
}

#[test]
fn what_is_no_model_or_not_the_one_that_is_meant_is_refused_with_what_to_do() {
    let Some(made) = Made::new() else { return };
    project(&made);
    for (pipeline, wanted) in [
        ("pickle", "export it to ONNX"),
        ("two", "say by `file` which of `model.pkl`, `model.txt` is the model"),
        ("named", "has no file `model.onnx` among its outputs, but `model.pkl`, `model.txt`"),
        ("other", "the model gives 2 numbers a row, and what it is to predict has 3 classes"),
        ("number", "has a number; `task: classification` or `regression` says which it is"),
        ("margin", "which is no probability: export it with probabilities"),
        ("bare", "name them by `features`, in its order"),
        ("nothing", "its table has no rows"),
    ] {
        let (fine, said) = made.said(&["run", pipeline]);
        assert!(!fine && said.contains(wanted), "{pipeline}: {said}");
    }
    made.done(&["run", "named_so"]);
    let folder = made.folder.path();
    let written = std::fs::read_to_string(folder.join("forebay.yaml")).unwrap();
    std::fs::write(
        folder.join("forebay.yaml"),
        written.replace("features: [noise, hour]}", "features: [hour, hour]}"),
    )
    .unwrap();
    let (fine, said) = made.said(&["check"]);
    assert!(!fine && said.contains("the column `hour` is there twice"), "{said}");
    let wrong = written.replacen(
        "train: {linear: {target: late}, permutation_importance: true,",
        "train: {adopted: {target: late, whole: true, found: ONNX},",
        1,
    );
    assert_ne!(wrong, written);
    std::fs::write(folder.join("forebay.yaml"), wrong).unwrap();
    let (fine, said) = made.said(&["check"]);
    assert!(!fine && said.contains("unknown field `adopted`"), "{said}");
}
