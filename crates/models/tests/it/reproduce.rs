//! Names of models, and what two of them differ in.

use std::collections::BTreeMap;

use models::reproduce::{Agreement, Description, Made, agree};
use proptest::prelude::*;
use serde_json::{Value, json};

fn description() -> Description {
    let text =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Description {
        data: text(&[("flights", "b3:11"), ("weather", "b3:22")]),
        features: text(&[("flight_features", "b3:33")]),
        code: text(&[("train.py", "b3:44")]),
        params: BTreeMap::from([
            ("depth".to_owned(), json!(4)),
            ("search".to_owned(), json!({"rate": [0.1, 0.2], "by": "auc"})),
        ]),
        seed: 7,
        environment: text(&[("lightgbm", "4.6.0"), ("python", "3.12")]),
    }
}

fn sentences(a: &Description, b: &Description) -> Vec<String> {
    a.diff(b).iter().map(ToString::to_string).collect()
}

#[test]
fn what_differs_is_named_in_words() {
    let mut other = description();
    other.data.insert("flights".into(), "b3:12".into());
    other.features.clear();
    other.code.insert("util.py".into(), "b3:55".into());
    other.params.insert("depth".into(), json!(6));
    other.params.insert("search".into(), json!({"rate": [0.1, 0.3], "by": "auc"}));
    other.seed = 8;
    other.environment.insert("lightgbm".into(), "4.7.0".into());
    assert_eq!(
        sentences(&description(), &other),
        [
            "the version of the dataset `flights` is `b3:12`, and was `b3:11`",
            "the feature view `flight_features` is not there, and was `b3:33`",
            "the code of `util.py` is `b3:55`, and was not there",
            "the parameter `depth` is 6, and was 4",
            "the parameter `search.rate` is [0.1,0.3], and was [0.1,0.2]",
            "in the environment `lightgbm` is `4.7.0`, and was `4.6.0`",
            "the seed is 8, and was 7",
        ]
    );
    assert_eq!(sentences(&description(), &description()), Vec::<String>::new());
}

#[test]
fn lineage_names_the_parts_that_are_known_and_changes_with_them() {
    let whole = description().lineage();
    assert_eq!(
        whole.keys().collect::<Vec<_>>(),
        ["code", "data", "environment", "features", "params", "seed"]
    );
    let bare = Description { features: BTreeMap::new(), environment: BTreeMap::new(), ..description() };
    assert_eq!(bare.lineage().keys().collect::<Vec<_>>(), ["code", "data", "params", "seed"]);
    let other = Description { seed: 8, ..description() }.lineage();
    assert!(other["seed"] != whole["seed"] && other["data"] == whole["data"]);
}

/// Names of models are kept for years.
#[test]
fn a_model_is_named_as_it_always_was() {
    assert_eq!(description().id().unwrap(), "m-decd8d605b73b743684935fd8fb176c7");
}

#[test]
fn large_numbers_are_told_apart_and_equal_ones_are_not() {
    let with = |value: Value| {
        let mut d = description();
        d.params.insert("n".into(), value);
        d.id().unwrap()
    };
    assert_ne!(with(json!(9_007_199_254_740_993_u64)), with(json!(9_007_199_254_740_992_u64)));
    assert_ne!(with(json!(u64::MAX)), with(json!(u64::MAX - 1)));
    assert_ne!(with(json!(i64::MIN)), with(json!(i64::MIN + 1)));
    assert_eq!(with(json!(1.0)), with(json!(1)), "one number");
    let seeded = |seed| Description { seed, ..description() }.id().unwrap();
    assert_ne!(seeded(u64::MAX), seeded(u64::MAX - 1));
}

#[test]
fn a_rebuilt_model_is_the_same_near_enough_or_another_with_the_reason() {
    let made = |artifact: &str, auc: f64| Made {
        artifact: artifact.into(),
        metrics: BTreeMap::from([("auc".into(), auc)]),
    };
    assert_eq!(agree(&made("a", 0.8), &made("a", 0.1), None), Agreement::Same);
    assert_eq!(agree(&made("a", 0.75), &made("b", 0.75), Some(0.001)), Agreement::Within(0.0));
    let differs = |found| match found {
        Agreement::Differs(reasons) => reasons,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        differs(agree(&made("a", 0.8), &made("b", 0.7), Some(0.001))),
        ["auc is 0.7, and was 0.8: off by more than 0.001"]
    );
    assert_eq!(
        differs(agree(&made("a", 0.8), &made("b", 0.8), None)),
        ["its bytes are `b`, and were `a`; no tolerance is declared"]
    );
    let bare = Made { artifact: "c".into(), metrics: BTreeMap::new() };
    assert_eq!(differs(agree(&made("a", 0.8), &bare, Some(1.0))), ["auc is not known, and was 0.8"]);
    assert_eq!(differs(agree(&bare, &made("a", 0.8), Some(1.0))).len(), 1, "nothing was kept to compare");
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![(-3_i64..3).boxed(), any::<i64>().boxed()].prop_map(Value::from),
        (-2.0..2.0).prop_map(Value::from),
        "[ab.]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|m| m.into_iter().collect()),
        ]
    })
}

prop_compose! {
    fn any_description()(
        data in prop::collection::btree_map("[ab]", "[xy]", 0..3),
        code in prop::collection::btree_map("[ab]", "[xy]", 0..2),
        params in prop::collection::btree_map("[ab]", json(), 0..3),
        seed in 0_u64..2,
        environment in prop::collection::btree_map("[ab]", "[xy]", 0..2),
    ) -> Description {
        Description { data, features: BTreeMap::new(), code, params, seed, environment }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn ids_are_equal_exactly_when_nothing_differs(a in any_description(), b in any_description()) {
        prop_assert_eq!(a.diff(&b).is_empty(), a.id().unwrap() == b.id().unwrap());
        prop_assert_eq!(a.diff(&b).len(), b.diff(&a).len());
        prop_assert!(a.diff(&a.clone()).is_empty());
    }

    #[test]
    fn a_description_has_its_id_after_it_was_kept_as_text(a in any_description()) {
        let text = serde_json::to_string(&a).unwrap();
        let back: Description = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back.id().unwrap(), a.id().unwrap());
        let tree: Description = serde_json::from_value(serde_json::to_value(&a).unwrap()).unwrap();
        prop_assert_eq!(tree.id().unwrap(), a.id().unwrap());
    }
}
