//! What is no model, or would run code, is refused with what to do, before any library is looked for.

use std::path::PathBuf;

use onnx::Onnx;
use predict::{Artifact, Backend, Error, LoadSettings};

use crate::fixtures::{fixture, runtime};

fn refusal(content: &[u8]) -> String {
    // No library is there: nothing that is refused gets as far.
    let nowhere = Onnx::new(Some(PathBuf::from("/nowhere/libonnxruntime.so")));
    let refused = nowhere.load(&Artifact::Content(content.to_vec().into()), &LoadSettings::default());
    let why = refused.err().expect("it is refused");
    assert!(matches!(why, Error::Load(_)), "{why:?}");
    why.to_string()
}

#[test]
fn pickles_and_other_formats_are_refused_by_their_first_bytes() {
    for (content, said) in [
        (&b"\x80\x04\x95\0\0"[..], "Python pickle"),
        (b"PK\x03\x04archive/data.pkl", "torch.onnx.export"),
        (b"\x78\x9c\x01", "joblib"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"GGUF\x03", "llama.cpp"),
        (b"tree\nversion=v4\n", "onnxmltools"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"", "empty"),
    ] {
        let why = refusal(content);
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn a_library_that_is_not_there_is_said_to_be_so_with_how_to_get_it() {
    // In a process of its own under nextest: a library that was found stays.
    let missing = refusal(b"\x08\x08\x12\x04test");
    assert!(
        missing.contains("/nowhere/libonnxruntime.so") && missing.contains("ORT_DYLIB_PATH"),
        "{missing}"
    );
    let no_file = Artifact::File(PathBuf::from("/nowhere/model.onnx"));
    let why = Onnx::default().load(&no_file, &LoadSettings::default()).err().unwrap().to_string();
    assert!(why.contains("/nowhere/model.onnx cannot be read"), "{why}");
}

#[test]
fn a_model_that_is_damaged_is_said_to_be_so() {
    let (Some(runtime), Some(path)) = (runtime(), fixture("magika.onnx")) else { return };
    let whole = std::fs::read(path).unwrap();
    for content in [whole[..whole.len() / 2].to_vec(), b"\x08\x08\x12\x04test".to_vec()] {
        let why = runtime.load(&Artifact::Content(content.into()), &LoadSettings::default()).err().unwrap();
        assert!(matches!(&why, Error::Load(_)), "{why}");
    }
}
