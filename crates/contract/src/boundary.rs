//! A boundary: the type of what crosses it, what that may cost, and what happens when it does not come.

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::{Budget, StageName, Value};

/// The type of a boundary.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Plain text.
    Text,
    /// A document with structure.
    Document,
    /// Pieces of a document.
    Chunks,
    /// A conversation.
    Messages,
    /// JSON, by schema when one is given.
    Json(Option<Arc<Json>>),
    /// A vector of 32-bit floats.
    Embedding,
    /// A versioned table.
    Table,
    /// Many of one kind.
    List(Box<Kind>),
    /// Whatever can be shown as text or JSON: only for inputs, such as a prompt's variables.
    Any,
}

impl Kind {
    /// Whether a stage that takes `self` can be given `given`.
    ///
    /// Besides equal kinds: a document is taken where text is, and text where a document is (it becomes a plain one);
    /// chunks are a list of text; JSON with a schema is taken where any JSON is.
    pub fn accepts(&self, given: &Kind) -> bool {
        match (self, given) {
            (Kind::Text, Kind::Document)
            | (Kind::Document, Kind::Text)
            | (Kind::Json(None), Kind::Json(_)) => true,
            (Kind::Any, _) => true,
            (Kind::List(a), Kind::Chunks) => **a == Kind::Text,
            (Kind::List(a), Kind::List(b)) => a.accepts(b),
            (a, b) => a == b,
        }
    }

    /// The kind of one element, when this is many. An element of chunks is text.
    pub fn element(&self) -> Option<Kind> {
        match self {
            Kind::Chunks => Some(Kind::Text),
            Kind::List(k) => Some((**k).clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => f.write_str("text"),
            Kind::Document => f.write_str("document"),
            Kind::Chunks => f.write_str("chunks"),
            Kind::Messages => f.write_str("messages"),
            Kind::Json(_) => f.write_str("json"),
            Kind::Embedding => f.write_str("embedding"),
            Kind::Table => f.write_str("table"),
            Kind::List(k) => write!(f, "list of {k}"),
            Kind::Any => f.write_str("any"),
        }
    }
}

/// What the executor does when a stage fails or runs out of its budget.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum FailureContract {
    /// The request fails with the stage's error.
    #[default]
    Fail,
    /// Run the stage again, at most this many times more, while its deadline allows and nothing was shown; then fail.
    Retry(u32),
    /// Use another stage's output instead.
    Fallback(StageName),
    /// Use what there is: the partial value, or the elements of a fan-out that succeeded; the result is marked partial.
    Partial,
    /// Go on without: whatever takes this value is given nothing.
    Skip,
    /// Use this value.
    Default(Value),
}

/// What happens when a model's stream breaks after its first output was shown. Before that, failures are repaired unseen
/// whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MidStream {
    /// The answer ends with an error, after what came.
    #[default]
    Error,
    /// The answer begins anew, from this or another model; a reset tells the reader to forget what came. For readers that
    /// know of it.
    Restart,
    /// Another attempt goes on behind the last word (assistant prefill), where a model can; elsewhere as `error`.
    Continue,
}

impl MidStream {
    /// The name in the configuration and in headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Restart => "restart",
            Self::Continue => "continue",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Error, Self::Restart, Self::Continue].into_iter().find(|p| p.as_str() == name)
    }
}

/// The boundary behind a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Boundary {
    /// What crosses it.
    pub kind: Kind,
    /// What it may take.
    pub budget: Budget,
    /// What happens when it does not come.
    pub on_failure: FailureContract,
}
