//! MLflow's scoring protocol: every form of one table is the same tensor.

use predict::protocol::scoring::{csv, json, predictions};
use predict::{DYNAMIC, DataType, Metadata, Signature, Tensor};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::made::field;

fn matrix() -> Signature {
    Signature { inputs: vec![field("X", DataType::Fp32, &[DYNAMIC, 2])], outputs: Vec::new() }
}

fn columns() -> Signature {
    let column = |n| field(n, DataType::Fp64, &[DYNAMIC, 1]);
    Signature { inputs: vec![column("b"), column("a")], outputs: Vec::new() }
}

fn bound(body: &Json, signature: &Signature) -> Result<Vec<Tensor>, String> {
    let scored = json(body.to_string().as_bytes()).map_err(|e| e.to_string())?;
    scored.bind(signature, &Metadata::default()).map_err(|e| e.to_string())
}

proptest! {
    #[test]
    fn every_form_of_a_table_is_the_same_tensor(rows in prop::collection::vec((-1e6f64..1e6, -9i64..9), 1..8)) {
        let data: Vec<Json> = rows.iter().map(|(a, b)| json!([a, b])).collect();
        let records: Vec<Json> = rows.iter().map(|(a, b)| json!({"a": a, "b": b})).collect();
        let mut text = "a,b\n".to_owned();
        rows.iter().for_each(|(a, b)| text.push_str(&format!("{a},{b}\n")));
        let wanted: Vec<f32> = rows.iter().flat_map(|(a, b)| [*a as f32, *b as f32]).collect();
        let wanted = vec![Tensor::of(DataType::Fp32, vec![rows.len() as i64, 2], wanted).unwrap()];
        for body in [
            json!({"dataframe_split": {"columns": ["a", "b"], "index": [0], "data": data}}),
            json!({"dataframe_records": records}),
            json!({"instances": data}),
            json!({"inputs": data}),
            json!({"inputs": {"X": data}}),
            json!({"inputs": data, "params": {}}),
        ] {
            prop_assert_eq!(bound(&body, &matrix()).unwrap(), wanted.clone(), "{}", body);
        }
        let scored = csv(text.as_bytes()).unwrap();
        prop_assert_eq!(scored.bind(&matrix(), &Metadata::default()).unwrap(), wanted);
        // One tensor for each column, found by name.
        let a: Vec<f64> = rows.iter().map(|r| r.0).collect();
        let b: Vec<f64> = rows.iter().map(|r| r.1 as f64).collect();
        let shape = vec![rows.len() as i64, 1];
        let wanted = vec![
            Tensor::of(DataType::Fp64, shape.clone(), b).unwrap(),
            Tensor::of(DataType::Fp64, shape, a).unwrap(),
        ];
        prop_assert_eq!(scored.bind(&columns(), &Metadata::default()).unwrap(), wanted.clone());
        prop_assert_eq!(bound(&json!({"dataframe_records": records}), &columns()).unwrap(), wanted);
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = json(&body);
        let _ = csv(&body);
    }

    #[test]
    fn a_body_cut_anywhere_is_refused(at in any::<prop::sample::Index>()) {
        let whole = json!({"dataframe_split": {"columns": ["a"], "data": [[1.5], [null]]}}).to_string();
        prop_assert!(json(&whole.as_bytes()[..at.index(whole.len())]).is_err());
    }
}

#[test]
fn columns_are_found_by_the_features_that_the_model_names() {
    let metadata = Metadata { features: vec!["b".to_owned(), "a".to_owned()], ..Metadata::default() };
    let scored = csv(b"a,x,b\n1,9,2\n").unwrap();
    let bound = scored.bind(&matrix(), &metadata).unwrap();
    assert_eq!(*bound[0].values::<f32>().unwrap(), [2.0, 1.0]);
    let missing = csv(b"a,x\n1,9\n").unwrap().bind(&matrix(), &metadata).unwrap_err().to_string();
    assert_eq!(missing, "the column `b` is missing: there are a, x");
}

#[test]
fn missing_values_are_nan_and_fit_floats_alone() {
    let scored = csv(b"a,b\n,NaN\n1,null\n").unwrap();
    let bound = scored.bind(&matrix(), &Metadata::default()).unwrap();
    assert_eq!(bound[0].values::<f32>().unwrap().iter().filter(|x| x.is_nan()).count(), 3);
    let whole = Signature { inputs: vec![field("X", DataType::Int64, &[DYNAMIC, 2])], outputs: Vec::new() };
    let said = scored.bind(&whole, &Metadata::default()).unwrap_err().to_string();
    assert_eq!(said, "a missing value is no INT64, which the model takes `X` as");
}

#[test]
fn what_is_none_of_the_forms_is_refused_with_what_is() {
    for (body, said) in [
        (json!({}), "send exactly one of"),
        (json!({"inputs": [1], "instances": [1]}), "send exactly one of"),
        (json!({"inputs": [[1, 2]], "params": {"t": 1}}), "the model has no parameters"),
        (json!({"data": [1]}), "unknown field `data`"),
        (
            json!({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}),
            "row 0 has 1 values, and there are 2",
        ),
        (
            json!({"dataframe_split": {"columns": ["a"], "data": [[1]]}}),
            "1 columns are given, and the model takes 2",
        ),
        (json!({"dataframe_records": [{"a": 1, "b": 1}, {"c": 1}]}), "row 1 has a column `c`"),
        (json!({"inputs": [["x", 1]]}), "\"x\" is no FP32"),
        (json!({"inputs": {"Z": [[1, 2]]}}), "the model has no input `Z`: it takes X FP32[?, 2]"),
    ] {
        let error = bound(&body, &matrix()).unwrap_err();
        assert!(error.contains(said), "{error} for {body}");
    }
}

#[test]
fn one_output_is_a_list_and_several_are_rows_or_names() {
    let label = Tensor::of_strings(vec![2], ["a", "b"]).unwrap();
    let of = |shape: &[i64]| Tensor::of(DataType::Fp32, shape.to_vec(), vec![0.5f32, f32::NAN]).unwrap();
    let pair = Tensor::of(DataType::Fp32, vec![2, 2], vec![0.25f32, 0.75, 1.0, 0.0]).unwrap();
    let read = |all: &[(&str, Tensor)], by_row| -> Json {
        let body = predictions(all, by_row).unwrap();
        serde_json::from_slice::<Json>(&body).unwrap()["predictions"].take()
    };
    for by_row in [true, false] {
        assert_eq!(read(&[("y", of(&[2, 1]))], by_row), json!([0.5, "NaN"]));
        assert_eq!(read(&[("y", of(&[1, 2]))], by_row), json!([[0.5, "NaN"]]));
    }
    let both = [("label", label), ("p", pair)];
    assert_eq!(read(&both, false), json!({"label": ["a", "b"], "p": [[0.25, 0.75], [1.0, 0.0]]}));
    assert_eq!(
        read(&both, true),
        json!([{"label": "a", "p": [0.25, 0.75]}, {"label": "b", "p": [1.0, 0.0]}])
    );
}

#[test]
fn a_model_of_one_column_takes_the_one_of_its_name() {
    use predict::tabular::{Cell, Frame};
    let field = |shape: &[i64]| predict::Field {
        name: "distance".to_owned(),
        datatype: predict::DataType::Fp64,
        shape: shape.to_vec(),
    };
    let column = |x: f64| vec![Cell::Float(x), Cell::Null];
    let names = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
    let of = |shape: &[i64], frame: &Frame| {
        let signature = predict::Signature { inputs: vec![field(shape)], outputs: Vec::new() };
        let bound = frame.bind(&signature, &predict::Metadata::default())?;
        Ok::<_, predict::Error>(bound[0].values::<f64>().unwrap()[0])
    };
    let wide = Frame { names: names(&["hour", "distance"]), columns: vec![column(1.0), column(2.0)] };
    let other = Frame { names: names(&["hour", "carrier"]), ..wide.clone() };
    let single = Frame { names: names(&["hour"]), columns: vec![column(1.0)] };
    for shape in [&[-1, 1][..], &[-1]] {
        assert_eq!(of(shape, &wide), Ok(2.0), "{shape:?}");
        assert!(of(shape, &other).is_err(), "{shape:?}");
        // A single column needs no name.
        assert_eq!(of(shape, &single), Ok(1.0), "{shape:?}");
    }
}

mod columns {
    use predict::tabular::{Cell, Columns, Frame, Values};
    use predict::{DataType, Field, Metadata, Signature};
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Own {
        Numbers(Vec<f64>),
        Texts(Vec<u32>),
    }

    const ROWS: usize = 5;
    const WORDS: [&str; 2] = ["a", "é"];

    fn own() -> impl Strategy<Value = Own> {
        let number = prop_oneof![Just(f64::NAN), (-3i8..3).prop_map(f64::from), any::<f64>()];
        prop_oneof![
            proptest::collection::vec(number, ROWS).prop_map(Own::Numbers),
            proptest::collection::vec(prop_oneof![0u32..2, Just(u32::MAX)], ROWS).prop_map(Own::Texts),
        ]
    }

    fn signature() -> impl Strategy<Value = Signature> {
        let datatype = prop_oneof![
            Just(DataType::Fp32),
            Just(DataType::Fp64),
            Just(DataType::Fp16),
            Just(DataType::Int64),
            Just(DataType::Bytes),
            Just(DataType::Bool),
        ];
        let shape = prop_oneof![Just(vec![-1]), Just(vec![-1, 1]), Just(vec![-1, 2]), Just(vec![-1, -1]),];
        proptest::collection::vec(("[a-c]", datatype, shape), 1..4).prop_map(|all| Signature {
            inputs: all.into_iter().map(|(name, datatype, shape)| Field { name, datatype, shape }).collect(),
            outputs: Vec::new(),
        })
    }

    proptest! {
        #[test]
        fn columns_in_memory_become_what_their_cells_do(
            own in proptest::collection::vec(own(), 1..4),
            signature in signature(),
            features in prop_oneof![Just(vec![]), Just(vec!["b", "a"]), Just(vec!["x"])],
        ) {
            let words = WORDS.map(str::to_owned);
            let values = own.iter().map(|column| match column {
                Own::Numbers(all) => Values::Numbers(all),
                Own::Texts(codes) => Values::Texts { codes, words: &words },
            });
            let columns = Columns(["a", "b", "c"].into_iter().zip(values).collect());
            let cells = |column: &Own| match column {
                Own::Numbers(all) => {
                    all.iter().map(|x| if x.is_nan() { Cell::Null } else { Cell::Float(*x) }).collect()
                }
                Own::Texts(codes) => {
                    let word = |code: &u32| WORDS.get(*code as usize).copied().unwrap_or_default();
                    codes.iter().map(|code| Cell::Text(word(code).to_owned())).collect()
                }
            };
            let names = ["a", "b", "c"].iter().take(own.len()).map(|n| (*n).to_owned()).collect();
            let frame = Frame { names: Some(names), columns: own.iter().map(cells).collect() };
            let metadata = Metadata {
                features: features.into_iter().map(str::to_owned).collect(),
                ..Metadata::default()
            };
            prop_assert_eq!(columns.bind(&signature, &metadata), frame.bind(&signature, &metadata));
        }
    }
}
