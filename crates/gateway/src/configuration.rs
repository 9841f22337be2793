//! The configuration in force as operators see it, and the way to have it read again. The binary does both; here it is shown.

use contract::{BoxFuture, UnixMillis};
use serde::{Deserialize, Serialize};

/// Who reads the configuration.
pub trait Configuration: Send + Sync {
    /// What is in force. Never waits.
    fn state(&self) -> ConfigState;

    /// Reads it again, and puts it in place when it is sound. Dropping the future does not take that back.
    ///
    /// # Errors
    /// Why it is refused: then what was in force still is.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ConfigRefusal>>;
}

/// What is in force, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// A hash of the file and of the files it names: equal configurations, equal version.
    pub version: String,
    /// When it was loaded.
    pub loaded_at: UnixMillis,
    /// Whether a change of the files is noticed.
    pub watched: bool,
    /// What the file says otherwise than the server does, until it is started again.
    pub needs_restart: Vec<String>,
    /// What became of the last attempt to load another, when it was refused: what is in force is not what the file says.
    pub refused: Option<ConfigRefusal>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is in force now.
    pub config: ConfigState,
    /// What is not as it was: `models.small: changed`, `pipelines.digest: added`, `prompts/digest.md: changed`.
    pub changed: Vec<String>,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRefusal {
    /// When.
    pub at: UnixMillis,
    /// All of it as `forebay check` prints it.
    pub message: String,
    /// Every problem with its place; none when it is not one of the file.
    pub problems: Vec<ConfigProblem>,
}

/// Something wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigProblem {
    /// The line, from one.
    pub line: usize,
    /// The column in characters, from one.
    pub column: usize,
    /// JSON pointer of the value at fault.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}
