//! What can go wrong with a model in a file: cases that whoever brings it can act on.

/// A model cannot be read, turned into ONNX, or taken. Messages fit "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not what the format asks for.
    #[error("read the {format} model: {what}; export it again, or check that the file is whole")]
    Malformed {
        /// The format it was taken for.
        format: &'static str,
        /// What is wrong, and where.
        what: String,
    },
    /// Sound, but ONNX cannot say the same, or this release does not.
    #[error("turn the {format} model into ONNX: {what}; {remedy}")]
    Unsupported {
        /// The format.
        format: &'static str,
        /// What it has that is not supported.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// It would run code when it is loaded.
    #[error("take the model: it is {what}, which runs code when it is loaded; {remedy}")]
    Unsafe {
        /// What it is.
        what: &'static str,
        /// How to export it instead.
        remedy: &'static str,
    },
    /// Neither of the formats known here.
    #[error(
        "take the model: its content is none of ONNX, a LightGBM text model, an XGBoost JSON or UBJ model; export it as one of these"
    )]
    Unknown,
}

impl Error {
    pub(super) fn malformed(format: &'static str, what: impl Into<String>) -> Error {
        Error::Malformed { format, what: what.into() }
    }
}
