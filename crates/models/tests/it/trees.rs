//! Trees of LightGBM and XGBoost as ONNX: what the libraries answer, what ONNX Runtime answers for our files, and what
//! `Forest` answers, are one.

use std::path::PathBuf;
use std::sync::LazyLock;

use models::onnx::{About, Classes, Error, Feature, Forest, Link, Node, Scorer, Step, Test, Tree};
use models::onnx::{lightgbm, ubjson, write, xgboost};
use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) library: String,
    features: Option<Vec<Feature>>,
    classes: Option<Classes>,
    pub(crate) model: String,
    rows: Vec<Vec<Option<f64>>>,
    library_answers: Vec<Vec<f64>>,
    sha256: Option<String>,
    onnx_answers: Option<Vec<Vec<f64>>>,
    labels: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

pub(crate) fn cases() -> &'static [Case] {
    static CASES: LazyLock<Cases> =
        LazyLock::new(|| serde_json::from_str(include_str!("../oracles/trees.json")).unwrap());
    &CASES.cases
}

pub(crate) fn bytes_of(case: &Case) -> Vec<u8> {
    if case.name.ends_with("ubj") {
        let pairs = case.model.as_bytes().chunks(2);
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    } else {
        case.model.clone().into_bytes()
    }
}

fn forest(case: &Case) -> Forest {
    match case.library.as_str() {
        "lightgbm" => lightgbm::read(&case.model).unwrap(),
        _ if case.name.ends_with("ubj") => xgboost::read(&ubjson::read(&bytes_of(case)).unwrap()).unwrap(),
        _ => xgboost::read(&serde_json::from_str(&case.model).unwrap()).unwrap(),
    }
}

fn written(case: &Case) -> Vec<u8> {
    let forest = forest(case);
    let scorer = match &case.features {
        Some(features) => Scorer::Trees(&forest, features),
        None => Scorer::Matrix(&forest),
    };
    write(scorer, case.classes.as_ref(), &About::default()).unwrap()
}

/// XGBoost adds in 32 bits.
fn close(case: &Case, a: f64, b: f64) -> bool {
    let tolerance = if case.library == "lightgbm" { 1e-9 } else { 1e-6 };
    (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

#[test]
fn onnx_runtime_answered_what_lightgbm_did() {
    for case in cases() {
        let bytes = written(case);
        if let Some(folder) = std::env::var_os("FOREBAY_WRITE_ONNX") {
            std::fs::write(PathBuf::from(folder).join(format!("{}.onnx", case.name)), &bytes).unwrap();
            continue;
        }
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            Some(&sum),
            case.sha256.as_ref(),
            "{}: other bytes than ONNX Runtime was asked about: run tests/oracles/make.py again",
            case.name
        );
        let recorded = case.onnx_answers.as_ref().unwrap();
        for (row, (theirs, onnx)) in case.library_answers.iter().zip(recorded).enumerate() {
            // A binary model of theirs answers with the second class alone.
            let onnx = &onnx[onnx.len() - theirs.len()..];
            for (a, b) in theirs.iter().zip(onnx) {
                assert!(close(case, *a, *b), "{} row {row}: {a} and {b}", case.name);
            }
        }
    }
}

#[test]
fn a_forest_answers_what_its_library_does() {
    for case in cases() {
        let forest = forest(case);
        for (row, theirs) in case.rows.iter().zip(&case.library_answers) {
            let value = |i: u32| {
                let x = row[i as usize].unwrap_or(f64::NAN);
                #[expect(clippy::cast_possible_truncation, reason = "as XGBoost does")]
                if forest.single { f64::from(x as f32) } else { x }
            };
            let ours = forest.answer(value);
            let ours = &ours[ours.len() - theirs.len()..];
            assert!(
                theirs.iter().zip(ours).all(|(a, b)| close(case, *a, *b)),
                "{}: {theirs:?} and {ours:?}",
                case.name
            );
        }
    }
}

#[test]
fn the_label_is_the_likeliest_class() {
    for case in cases() {
        let (Some(labels), Some(answers)) = (&case.labels, &case.onnx_answers) else { continue };
        for (label, answer) in labels.as_array().unwrap().iter().zip(answers) {
            let mut best = 0;
            for (i, p) in answer.iter().enumerate() {
                if *p > answer[best] {
                    best = i;
                }
            }
            match &case.classes {
                Some(Classes::Texts(all)) => assert_eq!(label.as_str(), Some(all[best].as_str())),
                _ => assert_eq!(label.as_u64(), Some(best as u64)),
            }
        }
    }
}

#[test]
fn equal_models_make_equal_bytes() {
    for case in cases() {
        assert_eq!(written(case), written(case));
    }
}

#[test]
fn what_the_graph_cannot_say_is_refused_with_what_to_do() {
    let text = &cases()[0].model;
    let refused = |text: String| match lightgbm::read(&text) {
        Err(e @ Error::Unsupported { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(
        refused(text.replacen("is_linear=0", "is_linear=1", 1)).contains("train it without `linear_tree`")
    );
    let custom = text.replacen("objective=binary sigmoid:1", "objective=custom", 1);
    assert!(refused(custom).contains("its objective is `custom`"));
    assert!(matches!(lightgbm::read(&text[..text.len() / 2]), Err(Error::Malformed { .. })));
}

#[test]
fn a_tree_whose_children_point_back_is_refused() {
    let text = cases()[0].model.clone();
    let at = text.find("left_child=").unwrap() + "left_child=".len();
    let end = at + text[at..].find(' ').unwrap();
    let back = format!("{}0{}", &text[..at], &text[end..]);
    assert!(matches!(lightgbm::read(&back), Err(Error::Malformed { .. })));
}

fn trees(scores: usize, features: u32) -> impl Strategy<Value = Vec<Tree>> {
    let test = prop_oneof![
        (-3.0..3.0).prop_map(Test::AtMost),
        (-3.0..3.0).prop_map(Test::Below),
        prop::collection::btree_set(0..70_u32, 1..6).prop_map(|set| Test::OneOf(set.into_iter().collect())),
    ];
    // A chain: each node has a leaf on one side and the next node, or the last leaf, on the other.
    let node = (0..features, test, any::<bool>(), any::<bool>());
    let tree = (0..scores, prop::collection::vec(node, 0..6), prop::collection::vec(-2.0..2.0, 7));
    let tree = tree.prop_map(|(score, nodes, leaves)| {
        let last = nodes.len();
        let nodes = nodes.into_iter().enumerate().map(|(i, (feature, test, missing, turned))| {
            let here = Step::Leaf(u32::try_from(i).unwrap());
            let next = u32::try_from(i + 1).unwrap();
            let on = if i + 1 < last { Step::Node(next) } else { Step::Leaf(next) };
            let (yes, no) = if turned { (on, here) } else { (here, on) };
            Node { feature, test, yes, no, missing }
        });
        Tree { score, nodes: nodes.collect(), leaves }
    });
    prop::collection::vec(tree, 0..5)
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(cut in 0_usize..20_000, byte in any::<u8>(), which in 0..9_usize) {
        let mut bytes = cases()[which].model.clone().into_bytes();
        let at = cut % bytes.len();
        bytes[at] = byte;
        let _ = lightgbm::read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(cut in any::<usize>(), byte in any::<u8>()) {
        let case = cases().iter().find(|case| case.name.ends_with("ubj")).unwrap();
        let mut bytes = bytes_of(case);
        let at = cut % bytes.len();
        bytes[at] = byte;
        if let Ok(model) = ubjson::read(&bytes) {
            let _ = xgboost::read(&model);
        }
        bytes.truncate(at);
        prop_assert!(ubjson::read(&bytes).is_err());
    }

    #[test]
    fn any_forest_is_written(trees in trees(2, 3)) {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let forest = Forest { names, base: vec![0.5, -0.5], trees, link: Link::Softmax, single: false };
        prop_assert!(write(Scorer::Matrix(&forest), None, &About::default()).is_ok());
    }
}
