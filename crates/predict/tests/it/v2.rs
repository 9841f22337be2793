//! The Open Inference Protocol: what is written is read back, and nothing else is taken.

use bytes::{BufMut, Bytes, BytesMut};
use half::f16;
use predict::protocol::v2;
use predict::protocol::{Answer, Request};
use predict::{DataType, Tensor};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::made::{tensors, with_one_nan};

/// Elements as JSON, flat.
fn flat(t: &Tensor) -> Vec<Json> {
    fn float(x: f64) -> Json {
        match x {
            x if x.is_nan() => json!("NaN"),
            x if x.is_infinite() => json!(if x > 0.0 { "Infinity" } else { "-Infinity" }),
            x => json!(x),
        }
    }
    macro_rules! numbers {
        ($t:ty) => {
            t.values::<$t>().unwrap().iter().map(|x| json!(x)).collect()
        };
    }
    match t.datatype() {
        DataType::Bool => t.data().iter().map(|b| json!(*b == 1)).collect(),
        DataType::Uint8 => numbers!(u8),
        DataType::Uint16 => numbers!(u16),
        DataType::Uint32 => numbers!(u32),
        DataType::Uint64 => numbers!(u64),
        DataType::Int8 => numbers!(i8),
        DataType::Int16 => numbers!(i16),
        DataType::Int32 => numbers!(i32),
        DataType::Int64 => numbers!(i64),
        DataType::Fp16 => {
            let wide = |x: &u16| float(f16::from_bits(*x).to_f64());
            t.values::<u16>().unwrap().iter().map(wide).collect()
        }
        DataType::Fp32 => t.values::<f32>().unwrap().iter().map(|x| float((*x).into())).collect(),
        DataType::Fp64 => t.values::<f64>().unwrap().iter().map(|x| float(*x)).collect(),
        DataType::Bytes => t.strings().map(|s| json!(std::str::from_utf8(s).unwrap())).collect(),
    }
}

/// The same in lists as the shape says.
fn nested(elements: &mut impl Iterator<Item = Json>, shape: &[i64]) -> Json {
    match shape {
        [] => elements.next().unwrap(),
        [n, inner @ ..] => (0..*n).map(|_| nested(elements, inner)).collect(),
    }
}

fn body(t: &Tensor, data: Json) -> Bytes {
    let input = json!({"name": "x", "shape": t.shape(), "datatype": t.datatype().as_str(), "data": data});
    json!({"id": "7", "inputs": [input]}).to_string().into()
}

/// A body of binary tensors, and the length of its JSON.
fn binary(all: &[Tensor]) -> (Bytes, usize) {
    let of = |(at, t): (usize, &Tensor)| {
        let size = json!({"binary_data_size": t.data().len()});
        json!({"name": at.to_string(), "shape": t.shape(), "datatype": t.datatype().as_str(), "parameters": size})
    };
    let inputs: Vec<Json> = all.iter().enumerate().map(of).collect();
    let json = json!({"inputs": inputs, "parameters": {"binary_data_output": true}}).to_string();
    let mut out = BytesMut::from(json.as_bytes());
    all.iter().for_each(|t| out.put_slice(t.data()));
    (out.freeze(), json.len())
}

fn only(request: &Request<'_>) -> Tensor {
    assert_eq!(request.inputs.len(), 1);
    request.inputs[0].tensor.clone()
}

/// An answer's outputs, read as a request's inputs: they have one form.
fn read_back(encoded: &v2::Encoded) -> Vec<Tensor> {
    let length = encoded.header.unwrap_or(encoded.body.len());
    let mut json: Json = serde_json::from_slice(&encoded.body[..length]).unwrap();
    assert_eq!((&json["model_name"], &json["model_version"]), (&json!("m\"é"), &json!("3")));
    let outputs = json["outputs"].take();
    let head = json!({"inputs": outputs}).to_string();
    let mut again = BytesMut::from(head.as_bytes());
    again.put_slice(&encoded.body[length..]);
    let again = again.freeze();
    let request = v2::request(&again, Some(head.len())).unwrap();
    request.inputs.iter().map(|i| i.tensor.clone()).collect()
}

proptest! {
    #[test]
    fn elements_in_json_are_read_flat_and_nested_to_the_last_bit(t in tensors()) {
        let wanted = with_one_nan(&t);
        let all = flat(&t);
        let lists = nested(&mut all.clone().into_iter(), t.shape());
        let all = body(&t, all.into());
        prop_assert_eq!(&only(&v2::request(&all, None).unwrap()), &wanted);
        if !t.shape().is_empty() {
            let all = body(&t, lists);
            prop_assert_eq!(only(&v2::request(&all, None).unwrap()), wanted);
        }
    }

    #[test]
    fn binary_tensors_are_slices_of_the_body(all in prop::collection::vec(tensors(), 0..4)) {
        let (body, length) = binary(&all);
        let read = v2::request(&body, Some(length)).unwrap();
        prop_assert!(read.binary);
        let within = |d: &Bytes| d.is_empty() || body.as_ptr_range().contains(&d.as_ptr());
        for (input, t) in read.inputs.iter().zip(&all) {
            prop_assert_eq!(&input.tensor, t);
            prop_assert!(within(input.tensor.data()));
        }
    }

    #[test]
    fn an_answer_reads_back_as_it_was(all in prop::collection::vec((tensors(), any::<bool>()), 0..4)) {
        let outputs = all.iter().map(|(t, binary)| ("y", t.clone(), *binary)).collect();
        let encoded = v2::answer(&Answer { model: "m\"é", version: "3", id: Some("a\\"), outputs }).unwrap();
        let wanted: Vec<Tensor> = all.iter().map(|(t, b)| if *b { t.clone() } else { with_one_nan(t) }).collect();
        prop_assert_eq!(encoded.header.is_some(), all.iter().any(|(_, b)| *b));
        prop_assert_eq!(read_back(&encoded), wanted);
    }

    #[test]
    fn a_body_cut_anywhere_is_refused(t in tensors()) {
        let whole = body(&t, flat(&t).into());
        for end in 0..whole.len() {
            prop_assert!(v2::request(&whole.slice(..end), None).is_err(), "{end}");
        }
        let (whole, length) = binary(&[t.clone(), t]);
        for end in 0..whole.len() {
            prop_assert!(v2::request(&whole.slice(..end), Some(length)).is_err(), "{end}");
        }
    }

    #[test]
    fn bytes_changed_anywhere_never_panic(t in tensors(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        for (whole, length) in [(body(&t, flat(&t).into()), None), { let (b, n) = binary(std::slice::from_ref(&t)); (b, Some(n)) }] {
            let mut changed = whole.to_vec();
            let at = at.index(changed.len());
            changed[at] = with;
            if let Ok(read) = v2::request(&changed.into(), length) {
                // What is taken holds what it says.
                for input in &read.inputs {
                    let t = &input.tensor;
                    prop_assert!(Tensor::new(t.datatype(), t.shape().to_vec(), t.data().clone()).is_ok());
                }
            }
        }
    }

    #[test]
    fn any_text_as_data_is_read_or_refused(
        text in r#"[\[\], 0-9.eE"\\a-zNI+-]{0,40}"#, t in prop::sample::select(&DataType::ALL[..]), n in 0i64..4,
    ) {
        for shape in [vec![], vec![n], vec![n, 2]] {
            if let Ok(read) = v2::data(t, shape.clone(), &text) {
                prop_assert_eq!(read.shape(), &shape[..]);
            }
        }
    }
}

#[test]
fn lists_that_do_not_fit_the_shape_are_refused() {
    let read = |shape: &[i64], text: &str| v2::data(DataType::Int32, shape.to_vec(), text);
    for text in ["[1,2,3,4]", "[[1,2],[3,4]]", " [ [1 ,2 ] , [3,4.0] ] "] {
        assert_eq!(*read(&[2, 2], text).unwrap().values::<i32>().unwrap(), [1, 2, 3, 4], "{text}");
    }
    for text in [
        "",
        "[",
        "]",
        "[1,2,3]",
        "[1,2,3,4,5]",
        "[[1,2,3],[4]]",
        "[[1,2],3,4]",
        "[1,[2,3,4]]",
        "[[[1,2],[3,4]]]",
        "[[1,2,3,4]]",
        "[1,2,3,4],",
        "[1,2,3,4][]",
        "[1,2,,4]",
        "[1,2,3,4,]",
        "[,1,2,3]",
        "1,2,3,4",
        "[1 2,3,4]",
        "[1,2,3,4.5]",
        "[1,2,3,\"4\"]",
        "[1,2,3,null]",
        "[1,2,3,true]",
        "[1,2,3,99999999999]",
        "{}",
        "[1,2,3,+4]",
    ] {
        assert!(read(&[2, 2], text).is_err(), "{text}");
    }
    for (shape, text) in
        [(&[0][..], "[]"), (&[0, 3], "[]"), (&[2, 0], "[[],[]]"), (&[2, 0], "[]"), (&[], "[7]")]
    {
        assert!(read(shape, text).is_ok(), "{shape:?} {text}");
    }
}

#[test]
fn floats_that_json_lacks_come_as_words_as_null_and_as_python_writes_them() {
    let wanted = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5].map(f32::to_bits);
    let bits = |t: &Tensor| t.values::<f32>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for data in [
        r#"["NaN","Infinity","-Infinity",0.5]"#,
        "[NaN, Infinity, -Infinity, 0.5]",
        r#"[null,Infinity,-Infinity,5e-1]"#,
    ] {
        let body = format!(r#"{{"inputs":[{{"name":"NaN","shape":[4],"datatype":"FP32","data":{data}}}]}}"#);
        let body = Bytes::from(body);
        let read = v2::request(&body, None).unwrap();
        assert_eq!(bits(&read.inputs[0].tensor), wanted, "{data}");
        assert_eq!(read.inputs[0].name, "NaN");
    }
    assert!(v2::data(DataType::Fp32, vec![1], "[1e39]").is_err());
    assert!(v2::data(DataType::Fp16, vec![1], "[70000]").is_err());
    assert!(v2::data(DataType::Fp64, vec![1], "[1e39]").is_ok());
    assert!(v2::data(DataType::Int64, vec![1], "[null]").is_err());
}

#[test]
fn what_a_request_says_of_itself_is_read() {
    let body = Bytes::from_static(
        br#"{"id":"a","parameters":{"timeout":1500,"sequence_id":7,"binary_data_output":true},"inputs":[],
             "outputs":[{"name":"y","parameters":{"binary_data":false}},{"name":"z"}]}"#,
    );
    let read = v2::request(&body, None).unwrap();
    assert_eq!((read.id.as_deref(), read.binary), (Some("a"), true));
    assert_eq!(read.timeout, Some(std::time::Duration::from_micros(1_500)));
    let outputs: Vec<_> = read.outputs.iter().map(|o| (&*o.name, o.binary)).collect();
    assert_eq!(outputs, [("y", Some(false)), ("z", None)]);
}

#[test]
fn what_is_not_there_is_said() {
    let said =
        |body: &'static str| v2::request(&Bytes::from_static(body.as_bytes()), None).unwrap_err().to_string();
    for (body, wanted) in [
        (
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FLOAT","data":[1]}]}"#,
            "`FLOAT` is no datatype: they are BOOL",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[-1],"datatype":"FP32","data":[1]}]}"#,
            "input `x`: the shape [-1] is none",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[3],"datatype":"FP32","data":[1]}]}"#,
            "input `x`: 4 bytes are not",
        ),
        (r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}"#, "input `x`: neither `data`"),
        (
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}"#,
            "`binary_data_size` is 4, and 0 bytes",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"shared_memory_region":"r"}}]}"#,
            "shared memory is not supported",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":3}}]}"#,
            "classification is not supported",
        ),
        ("{}", "missing field `inputs`"),
    ] {
        assert!(said(body).contains(wanted), "{} for {body}", said(body));
    }
}
