//! What a file is by its first bytes, so that one that is no model is refused with words that help, and one that would run code
//! is not opened at all.

/// What a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A protocol buffer that begins as ONNX models do.
    Onnx,
    /// ONNX Runtime's own.
    Ort,
    /// Python objects: reading it runs code.
    Pickle,
    /// PyTorch, Keras or NumPy: Python objects in an archive.
    Zip,
    /// Compressed, most likely by joblib: Python objects inside.
    Compressed,
    /// Keras or others.
    Hdf5,
    /// A language model for llama.cpp.
    Gguf,
    /// Weights without a graph.
    Safetensors,
    /// TensorFlow Lite.
    TfLite,
    /// LightGBM's text.
    LightGbm,
    /// XGBoost's JSON or UBJSON.
    XgBoost,
    /// A pointer of Git LFS in place of the file.
    LfsPointer,
    /// A page.
    Html,
    /// Nothing at all.
    Empty,
    /// None of these.
    Unknown,
}

/// Looks at the first bytes; 64 are enough.
pub fn format(head: &[u8]) -> Format {
    let starts = |with: &[u8]| head.starts_with(with);
    let trimmed = head.trim_ascii_start();
    let later = |at: usize, with: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(with));
    match head {
        [] => Format::Empty,
        [0x80, 2..=5, ..] => Format::Pickle,
        _ if starts(b"PK\x03\x04") => Format::Zip,
        [0x1f, 0x8b, ..] | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Format::Compressed,
        _ if starts(b"BZh") || starts(b"\xfd7zXZ") || starts(b"\x28\xb5\x2f\xfd") => Format::Compressed,
        _ if starts(b"\x89HDF\r\n") => Format::Hdf5,
        _ if starts(b"GGUF") => Format::Gguf,
        _ if later(4, b"TFL3") => Format::TfLite,
        _ if later(4, b"ORTM") => Format::Ort,
        _ if starts(b"version https://git-lfs") => Format::LfsPointer,
        _ if later(8, b"{\"") => Format::Safetensors,
        _ if starts(b"tree\nversion=") => Format::LightGbm,
        _ if trimmed.starts_with(b"{\"learner\"") || starts(b"{L\x00") => Format::XgBoost,
        _ if trimmed.starts_with(b"<") => Format::Html,
        // Pickles of protocol 0 are text: marks and names of modules.
        _ if starts(b"ccopy_reg") || starts(b"(dp0") || starts(b"(lp0") || starts(b"c__") => Format::Pickle,
        // ModelProto: field 1 (ir_version), a varint, and then another of its fields.
        [0x08, version, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72, ..] if *version < 0x20 => {
            Format::Onnx
        }
        _ => Format::Unknown,
    }
}

impl Format {
    /// Why it is not loaded and what would be; nothing of what may be.
    pub fn refusal(self) -> Option<&'static str> {
        Some(match self {
            Format::Onnx | Format::Ort | Format::Unknown => return None,
            Format::Pickle => {
                "this is a Python pickle, and reading one runs whatever code is in it: export the model to ONNX (skl2onnx, onnxmltools) and give that file"
            }
            Format::Zip => {
                "this is an archive as PyTorch, Keras and NumPy write it, with Python objects inside, which are not opened: export the model to ONNX (torch.onnx.export, tf2onnx)"
            }
            Format::Compressed => {
                "this is a compressed file, as joblib writes pickles, and reading one runs whatever code is in it: export the model to ONNX (skl2onnx)"
            }
            Format::Hdf5 => "this is an HDF5 file of Keras: export the model to ONNX (tf2onnx)",
            Format::Gguf => "this is a language model for llama.cpp: name it as `local: …` among the models",
            Format::Safetensors => {
                "these are weights without a graph: export the model to ONNX (torch.onnx.export, optimum-cli export onnx)"
            }
            Format::TfLite => "this is a TensorFlow Lite model: convert it to ONNX (tf2onnx)",
            Format::LightGbm => {
                "this is LightGBM's own text: convert it to ONNX (onnxmltools.convert_lightgbm)"
            }
            Format::XgBoost => {
                "this is XGBoost's own format: convert it to ONNX (onnxmltools.convert_xgboost)"
            }
            Format::LfsPointer => "this is a pointer of Git LFS and not the file: run `git lfs pull`",
            Format::Html => {
                "this is a page or XML and not a model: was the address of the file itself downloaded?"
            }
            Format::Empty => "this file is empty",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        for (head, wanted) in [
            (&b""[..], Format::Empty),
            (b"\x80\x04\x95\x10", Format::Pickle),
            (b"ccopy_reg\n_reconstructor", Format::Pickle),
            (b"PK\x03\x04\x14\0", Format::Zip),
            (b"\x78\x9c\xed", Format::Compressed),
            (b"\x89HDF\r\n\x1a\n", Format::Hdf5),
            (b"GGUF\x03\0\0\0", Format::Gguf),
            (b"\x18\0\0\0TFL3", Format::TfLite),
            (b"\x30\0\0\0ORTM", Format::Ort),
            (b"version https://git-lfs.github.com/spec/v1", Format::LfsPointer),
            (b"\x40\0\0\0\0\0\0\0{\"__meta", Format::Safetensors),
            (b"tree\nversion=v4", Format::LightGbm),
            (b"{\"learner\":{}", Format::XgBoost),
            (b"<!DOCTYPE html>", Format::Html),
            (b"\x08\x08\x12\x07skl2onnx", Format::Onnx),
            (b"\x08\x07:\x10", Format::Onnx),
            (b"hello", Format::Unknown),
        ] {
            assert_eq!(format(head), wanted, "{head:?}");
        }
    }
}
