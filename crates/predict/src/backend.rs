//! What an engine fits: bytes of a model into something that runs.
//!
//! A [`Model`] is used by one thread at a time, which owns it meanwhile; who wants several at once loads several.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytes::Bytes;

use crate::error::Error;
use crate::signature::Signature;
use crate::tensor::Tensor;

mod formats;

pub use formats::{Format, format};

/// Where a model is.
#[derive(Clone, PartialEq, Eq)]
pub enum Artifact {
    /// A file, which may name others beside it.
    File(PathBuf),
    /// The file's content.
    Content(Bytes),
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Artifact::File(path) => write!(f, "{}", path.display()),
            Artifact::Content(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// What a model may take of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadSettings {
    /// Threads that work on one run.
    pub threads: NonZeroUsize,
}

impl Default for LoadSettings {
    /// One.
    fn default() -> Self {
        LoadSettings { threads: NonZeroUsize::MIN }
    }
}

/// What a model says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Who made it.
    pub producer: String,
    /// What it is for.
    pub description: String,
    /// Anything else, as its maker put it there.
    pub properties: BTreeMap<String, String>,
    /// The columns of its one input, when it says which they are.
    pub features: Vec<String>,
}

impl Metadata {
    /// Under what a file that Forebay wrote says its `features`, as a JSON list.
    pub const FEATURES: &str = "forebay.feature_names";
}

/// A runtime.
pub trait Backend: Send + Sync {
    /// What it is called in metadata: `onnxruntime_onnx`.
    fn platform(&self) -> &'static str;

    /// Loads a model. Blocks: seconds for a large one.
    ///
    /// # Errors
    /// [`Error::Load`], in words that say what to do.
    fn load(&self, artifact: &Artifact, settings: &LoadSettings) -> Result<Box<dyn Model>, Error>;
}

/// A loaded model.
pub trait Model: Send {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// What it says of itself.
    fn metadata(&self) -> &Metadata;

    /// About how much memory it holds, in bytes.
    fn bytes(&self) -> u64;

    /// Runs it. The inputs are in the signature's order and fit it; the outputs come in the order of `outputs`, which are
    /// places in the signature. Blocks.
    ///
    /// # Errors
    /// [`Error::Run`] with the runtime's words.
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, Error>;
}
