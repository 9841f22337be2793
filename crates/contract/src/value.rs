//! What crosses a boundary. Values are cheap to clone: anything large is shared.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Kind, Message};

/// A half-open range of bytes in the text of a document, always on character boundaries.
pub type Span = Range<usize>;

/// A value of some [`Kind`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(Arc<str>),
    /// A document with its structure.
    Document(Arc<Document>),
    /// Pieces of one document, in its order.
    Chunks(Arc<[Chunk]>),
    /// A conversation.
    Messages(Arc<[Message]>),
    /// JSON; the boundary names its schema.
    Json(Arc<serde_json::Value>),
    /// A vector of 32-bit floats.
    Embedding(Arc<[f32]>),
    /// A table, by the name of its immutable version.
    Table(Arc<str>),
    /// Values of one kind. `None` marks an element that failed under the contract `partial` or was skipped.
    List(Arc<[Option<Value>]>),
}

impl Value {
    /// As text: what a caller that takes nothing else is given. Parts of lists stand apart by a blank line.
    pub fn to_text(&self) -> String {
        let join = |parts: Vec<String>| parts.join("\n\n");
        match self {
            Value::Text(t) => t.to_string(),
            Value::Document(d) => d.text.to_string(),
            Value::Json(j) => j.to_string(),
            Value::Chunks(chunks) => join(chunks.iter().map(|c| c.text.to_string()).collect()),
            Value::List(items) => join(items.iter().flatten().map(Value::to_text).collect()),
            Value::Messages(m) => join(m.iter().map(|m| m.content.to_text().into_owned()).collect()),
            Value::Table(t) => t.to_string(),
            Value::Embedding(e) => format!("{e:?}"),
        }
    }

    /// As JSON: JSON as it is, lists and embeddings as arrays (a missing element is null), the rest as text.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Json(j) => (**j).clone(),
            Value::List(items) => {
                items.iter().map(|i| i.as_ref().map_or(serde_json::Value::Null, Value::to_json)).collect()
            }
            Value::Embedding(e) => serde_json::Value::from(e.to_vec()),
            other => serde_json::Value::String(other.to_text()),
        }
    }

    /// Text from anything that is text.
    pub fn text(t: impl Into<Arc<str>>) -> Self {
        Value::Text(t.into())
    }

    /// Its kind; an empty list is a list of JSON.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Text(_) => Kind::Text,
            Value::Document(_) => Kind::Document,
            Value::Chunks(_) => Kind::Chunks,
            Value::Messages(_) => Kind::Messages,
            Value::Json(_) => Kind::Json(None),
            Value::Embedding(_) => Kind::Embedding,
            Value::Table(_) => Kind::Table,
            Value::List(items) => {
                Kind::List(Box::new(items.iter().flatten().next().map_or(Kind::Json(None), Value::kind)))
            }
        }
    }
}

/// What a document was before its text was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Media {
    /// `text/plain`
    Plain,
    /// `text/markdown`
    Markdown,
    /// `text/html`
    Html,
    /// `application/pdf`
    Pdf,
}

/// A document: its text and where its sections are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// A title, when the source has one.
    pub title: Option<String>,
    /// What it was.
    pub media: Media,
    /// The text, without markup. All spans point into it.
    pub text: Arc<str>,
    /// Its sections in order, not overlapping; empty when it has no structure.
    pub sections: Vec<Section>,
}

/// A stretch of a document under one heading (or on one page).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// The heading; `p. 3` for a page.
    pub heading: String,
    /// 1 for the outermost.
    pub level: u8,
    /// The section's text, heading included, subsections not.
    pub span: Span,
}

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its place in the sequence, from 0.
    pub index: usize,
    /// Its text: the document's text at `span`.
    pub text: Arc<str>,
    /// Where it stands.
    pub span: Span,
    /// The headings above it, outermost first, joined by ` › `; empty without structure.
    pub heading: Arc<str>,
    /// Its length in tokens, by the counter that cut it.
    pub tokens: u32,
    /// blake3 of its text: equal text, equal hash, whatever surrounds it.
    pub hash: [u8; 32],
}
