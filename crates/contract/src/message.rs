//! Chat messages, in the shape all providers can be mapped from and to. Tool calls pass through unread.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions of the operator.
    #[serde(alias = "developer")]
    System,
    /// The caller.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty when the turn is tool calls only.
    pub content: Content,
    /// The speaker's name, where the provider knows such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls the model wants made (assistant turns).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call this answers (tool turns).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A turn of plain text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message {
            role,
            content: Content::Text(text.into()),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

/// The content of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Content {
    /// Plain text: the common case, kept free of any list.
    Text(String),
    /// Text mixed with other media.
    Parts(Vec<Part>),
}

impl Content {
    /// All text of it, parts joined by nothing.
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Content::Text(t) => t.as_str().into(),
            Content::Parts(parts) => parts.iter().filter_map(Part::text).collect::<String>().into(),
        }
    }
}

/// A piece of mixed content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Part {
    /// Text.
    Text(String),
    /// Anything else (image, audio, file), in OpenAI's content-part form, passed through; also text with marks of its own,
    /// such as a provider's cache's.
    Other(serde_json::Value),
}

impl Part {
    /// Its text, when it is text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Part::Text(t) => Some(t),
            Part::Other(v) if v.get("type").and_then(serde_json::Value::as_str) == Some("text") => {
                v.get("text").and_then(serde_json::Value::as_str)
            }
            Part::Other(_) => None,
        }
    }
}

/// A call the model wants made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id of the call.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// The arguments: JSON text, exactly as the model wrote it.
    pub arguments: String,
}
