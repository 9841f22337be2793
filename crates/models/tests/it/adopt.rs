//! What somebody brings: recognised by its content, checked, turned into ONNX, or refused with what to do instead.

use models::onnx::{About, Error, Found, adopt, recognise};
use proptest::prelude::*;

use crate::trees::{bytes_of, cases};

#[test]
fn models_are_recognised_by_their_content_and_become_onnx() {
    for case in cases() {
        let adopted = adopt(&bytes_of(case), &About::default()).unwrap();
        let expected = match (case.library.as_str(), case.name.ends_with("ubj")) {
            ("lightgbm", _) => Found::LightGbm,
            (_, true) => Found::XgboostUbj,
            (_, false) => Found::XgboostJson,
        };
        assert_eq!(adopted.found, expected);
        assert_eq!(adopted.inputs.len(), 1);
        assert_eq!((adopted.inputs[0].kind.as_str(), adopted.inputs[0].shape[0]), ("double", -1));
        // What was made is ONNX, and is taken as it is.
        let again = adopt(&adopted.onnx, &About::default()).unwrap();
        assert_eq!((again.found, &again.onnx), (Found::Onnx, &adopted.onnx));
        assert_eq!((again.inputs, again.outputs), (adopted.inputs, adopted.outputs));
    }
}

#[test]
fn what_runs_code_is_refused_with_how_to_export_it() {
    let zip: &[u8] = b"PK\x03\x04\x14\0\0\0\0\0model/data.pkl\x80\x02}q\0.";
    let protocol_0: &[u8] = b"cposix\nsystem\n(S'true'\ntR.";
    let samples = [
        b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.",
        zip,
        protocol_0,
        b"\x78\x9c\x01\x02\x03",
        b"\x1f\x8b\x08\0\0",
    ];
    for bytes in samples {
        match recognise(bytes) {
            Err(e @ Error::Unsafe { .. }) => assert!(e.to_string().contains("export it to ONNX"), "{e}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(recognise(zip).unwrap_err().to_string().contains("data.pkl"));
}

#[test]
fn what_nobody_knows_is_refused() {
    for bytes in [&b""[..], b"hello", b"\x08", b"GGUF\x03\0\0\0"] {
        assert_eq!(recognise(bytes), Err(Error::Unknown));
    }
}

proptest! {
    #[test]
    fn any_content_is_taken_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = adopt(&bytes, &About::default());
    }

    #[test]
    fn a_damaged_onnx_file_is_taken_or_refused_without_a_panic(at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = adopt(&bytes_of(&cases()[8]), &About::default()).unwrap().onnx;
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = adopt(&bytes, &About::default());
    }
}
