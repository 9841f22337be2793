//! Where the library is, and the one environment of the process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use predict::{Artifact, Backend, Error, LoadSettings, Model};

use crate::load;

/// The backend. Nothing is loaded before the first model.
#[derive(Debug, Clone, Default)]
pub struct Onnx {
    library: Option<PathBuf>,
}

/// A process has one; which library it is of is decided by the first model.
static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();

/// Where packages put the library.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libonnxruntime.so",
    "/usr/lib/aarch64-linux-gnu/libonnxruntime.so",
    "/usr/local/lib/libonnxruntime.so",
    "/opt/homebrew/lib/libonnxruntime.dylib",
];

impl Onnx {
    /// With the library at this path; without one it is `ORT_DYLIB_PATH`, or beside the program, or where packages put it, or
    /// whatever the system's loader finds.
    pub fn new(library: Option<PathBuf>) -> Self {
        Onnx { library }
    }

    fn environment(&self) -> Result<&'static Environment, Error> {
        let made = ENVIRONMENT.get_or_init(|| {
            let path = self.path();
            let builder = ort::init_from(&path).map_err(|e| {
                format!(
                    "ONNX Runtime cannot be loaded: {e}. Install it (`pip download --no-deps onnxruntime`, and unzip \
                     `onnxruntime/capi/libonnxruntime.so.*`) and name the file by ORT_DYLIB_PATH"
                )
            })?;
            builder
                .with_name("forebay")
                .with_telemetry(false)
                .build()
                .map_err(|e| format!("ONNX Runtime cannot be started: {e}"))
        });
        made.as_ref().map_err(|e| Error::Load(e.clone()))
    }

    fn path(&self) -> PathBuf {
        let named = || std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()).map(PathBuf::from);
        let beside = || {
            let folder = std::env::current_exe().ok()?.parent()?.to_owned();
            Some(folder.join(LIBRARY)).filter(|p| p.is_file())
        };
        let packaged = || PLACES.iter().map(Path::new).find(|p| p.is_file()).map(Path::to_path_buf);
        let found = self.library.clone().or_else(named).or_else(beside).or_else(packaged);
        found.unwrap_or_else(|| LIBRARY.into())
    }
}

#[cfg(target_os = "macos")]
const LIBRARY: &str = "libonnxruntime.dylib";
#[cfg(not(target_os = "macos"))]
const LIBRARY: &str = "libonnxruntime.so";

impl Backend for Onnx {
    fn platform(&self) -> &'static str {
        "onnxruntime_onnx"
    }

    fn load(&self, artifact: &Artifact, settings: &LoadSettings) -> Result<Box<dyn Model>, Error> {
        // What is no model is refused before a library is looked for.
        load::check(artifact)?;
        Ok(Box::new(load::load(self.environment()?, artifact, settings)?))
    }
}
