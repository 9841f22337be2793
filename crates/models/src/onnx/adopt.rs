//! Takes models that others trained: recognised by their content, never by their name.
//!
//! ONNX is checked and taken as it is; LightGBM's and XGBoost's models are turned into ONNX. Pickles (also joblib's and
//! PyTorch's) run code when they are loaded and are refused, with what to do instead.

use predict::Metadata;
use prost::Message as _;
use serde::Serialize;

use super::proto::{self, element};
use super::{About, Error, Forest, Scorer, lightgbm, ubjson, write, xgboost};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// ONNX.
    Onnx,
    /// A text model of LightGBM.
    LightGbm,
    /// A model of XGBoost, as JSON.
    XgboostJson,
    /// A model of XGBoost, as UBJSON.
    XgboostUbj,
}

/// An input or an output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The type of its elements, as ONNX calls it: `float`, `double`, `int64`, `string`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Its shape; −1 where any size goes. Empty when it says none.
    pub shape: Vec<i64>,
}

/// A model that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Adopted {
    /// What it was.
    pub found: Found,
    /// The ONNX file: its own bytes, when it was one.
    pub onnx: Vec<u8>,
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
}

const PICKLE: &str = "export it to ONNX where it was trained (scikit-learn: `skl2onnx.to_onnx`, PyTorch: `torch.onnx.export`), or save \
    a LightGBM model by `booster.save_model(\"model.txt\")`, an XGBoost model by `booster.save_model(\"model.ubj\")`";

/// What the content is.
///
/// # Errors
/// It would run code when it is loaded, or is none of the formats known here.
pub fn recognise(bytes: &[u8]) -> Result<Found, Error> {
    if let Some(what) = runs_code(bytes) {
        return Err(Error::Unsafe { what, remedy: PICKLE });
    }
    let text = bytes.trim_ascii_start();
    if bytes.starts_with(lightgbm::MAGIC) || bytes.starts_with(b"tree\r\n") {
        return Ok(Found::LightGbm);
    }
    if text.starts_with(b"{") {
        // UBJSON's object begins with the length of a key, JSON's with a quote or a space.
        let second = text.get(1).copied().unwrap_or_default();
        let json = second == b'"' || second.is_ascii_whitespace();
        return Ok(if json { Found::XgboostJson } else { Found::XgboostUbj });
    }
    // An ONNX file begins with its version, the field 1 of its message.
    if bytes.first() == Some(&0x08) && proto::Model::decode(bytes).is_ok_and(|model| model.graph.is_some()) {
        return Ok(Found::Onnx);
    }
    Err(Error::Unknown)
}

/// Takes a model: checks it, and turns it into ONNX where it is none.
///
/// # Errors
/// As [`recognise`]; it is damaged; it has what ONNX cannot say, or what a server would have to look for elsewhere.
pub fn adopt(bytes: &[u8], about: &About) -> Result<Adopted, Error> {
    let found = recognise(bytes)?;
    let onnx = match found {
        Found::Onnx => bytes.to_vec(),
        Found::LightGbm => {
            let text =
                std::str::from_utf8(bytes).map_err(|_| Error::malformed("LightGBM", "it is not UTF-8"))?;
            converted(&lightgbm::read(text)?, about)?
        }
        Found::XgboostJson => {
            let model =
                serde_json::from_slice(bytes).map_err(|e| Error::malformed("XGBoost", e.to_string()))?;
            converted(&xgboost::read(&model)?, about)?
        }
        Found::XgboostUbj => converted(&xgboost::read(&ubjson::read(bytes)?)?, about)?,
    };
    let (inputs, outputs) = check(&onnx)?;
    Ok(Adopted { found, onnx, inputs, outputs })
}

/// The same model, that also says how the columns are called that it takes side by side.
#[must_use]
pub fn with_features(mut onnx: Vec<u8>, names: &[String]) -> Vec<u8> {
    let entry =
        proto::Entry { key: Metadata::FEATURES.to_owned(), value: serde_json::json!(names).to_string() };
    // Of a message that comes in two pieces, the lists are one behind the other.
    onnx.extend(proto::Model { metadata_props: vec![entry], ..proto::Model::default() }.encode_to_vec());
    onnx
}

fn converted(forest: &Forest, about: &About) -> Result<Vec<u8>, Error> {
    write(Scorer::Matrix(forest), None, about)
}

/// What would run code, if this is it.
fn runs_code(bytes: &[u8]) -> Option<&'static str> {
    const ZIP: &[u8] = b"PK\x03\x04";
    if bytes.starts_with(ZIP) {
        let pickle = bytes.windows(8).any(|window| window == b"data.pkl");
        return Some(if pickle {
            "a PyTorch file (a zip with `data.pkl`)"
        } else {
            "a zip archive, such as PyTorch's or Keras'"
        });
    }
    // Protocol 2 to 5 begin with their number.
    if matches!(bytes, [0x80, 2..=5, ..]) {
        return Some("a pickle");
    }
    // Protocols 0 and 1 are text and have no mark, but end with a full stop and name what they call.
    let head = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
    let calls = |mark: &[u8]| head.windows(mark.len()).any(|window| window == mark);
    if bytes.ends_with(b".")
        && (head.starts_with(b"c") || head.starts_with(b"("))
        && (calls(b"\nR") || calls(b"\n(") || calls(b"\ntR"))
    {
        return Some("a pickle of protocol 0 or 1");
    }
    // joblib's compressed files are pickles inside.
    match bytes {
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Some("a zlib stream, as joblib writes pickles"),
        [0x1f, 0x8b, ..] => Some("a gzip stream, as joblib writes pickles"),
        [b'B', b'Z', b'h', ..] => Some("a bzip2 stream, as joblib writes pickles"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] | [0x5d, 0, 0, ..] => {
            Some("an xz stream, as joblib writes pickles")
        }
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("an lz4 stream, as joblib writes pickles"),
        [0x89, b'H', b'D', b'F', ..] => Some("an HDF5 file, in which Keras may keep code"),
        _ => None,
    }
}

/// Whether a server can run it from these bytes alone; what goes in and out.
fn check(bytes: &[u8]) -> Result<(Vec<Port>, Vec<Port>), Error> {
    let bad = |what: String| Error::malformed("ONNX", what);
    let model = proto::Model::decode(bytes).map_err(|e| bad(e.to_string()))?;
    let own: Vec<&str> = model.functions.iter().map(|function| function.domain.as_str()).collect();
    let graph = model.graph.as_ref().ok_or_else(|| bad("it has no graph".to_owned()))?;
    if !(3..=13).contains(&model.ir_version) {
        return Err(bad(format!("its IR version is {}", model.ir_version)));
    }
    if graph.initializer.iter().any(|tensor| tensor.data_location == 1 || !tensor.external_data.is_empty()) {
        return Err(Error::Unsupported {
            format: "ONNX",
            what: "its weights are in another file".to_owned(),
            remedy: "save it as one file (`onnx.save(model, path, save_as_external_data=False)`)",
        });
    }
    let known = |domain: &str| {
        matches!(domain, "" | "ai.onnx" | "ai.onnx.ml" | "com.microsoft") || own.contains(&domain)
    };
    if let Some(node) = graph.node.iter().find(|node| !known(&node.domain)) {
        return Err(Error::Unsupported {
            format: "ONNX",
            what: format!("it uses the operator `{}::{}`", node.domain, node.op_type),
            remedy: "export it with standard operators: a library with others would have to be loaded",
        });
    }
    if graph.output.is_empty() {
        return Err(bad("it gives nothing".to_owned()));
    }
    let constants: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !constants.contains(&input.name.as_str()));
    Ok((inputs.map(port).collect(), graph.output.iter().map(port).collect()))
}

fn port(value: &proto::ValueInfo) -> Port {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let kind = match tensor.map(|tensor| tensor.elem_type) {
        Some(element::FLOAT) => "float",
        Some(element::UINT8) => "uint8",
        Some(element::INT64) => "int64",
        Some(element::STRING) => "string",
        Some(element::BOOL) => "bool",
        Some(element::DOUBLE) => "double",
        Some(element::UINT32) => "uint32",
        Some(3) => "int8",
        Some(4) => "uint16",
        Some(5) => "int16",
        Some(6) => "int32",
        Some(10) => "float16",
        Some(13) => "uint64",
        Some(16) => "bfloat16",
        Some(_) => "other",
        None => "not a tensor",
    };
    let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.as_slice());
    let shape = dims.unwrap_or_default().iter().map(|dim| dim.dim_value.unwrap_or(-1)).collect();
    Port { name: value.name.clone(), kind: kind.to_owned(), shape }
}
