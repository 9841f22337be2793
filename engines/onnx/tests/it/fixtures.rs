//! Fixtures, or a loud word that they are missing.

use std::path::PathBuf;

use onnx::Onnx;

/// The file of a fixture.
pub(crate) fn fixture(file: &str) -> Option<PathBuf> {
    let found = std::env::var_os("FOREBAY_FIXTURES").map(|folder| PathBuf::from(folder).join(file));
    let found = found.filter(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: {file} is not in FOREBAY_FIXTURES");
    }
    found
}

/// The runtime.
pub(crate) fn runtime() -> Option<Onnx> {
    fixture("libonnxruntime.so").map(|library| Onnx::new(Some(library)))
}
