//! Values as they are kept: JSON that names its kind, so that what is read is what was written.

use std::sync::Arc;

use contract::{Chunk, Code, Document, Error, Media, Message, Section, Span, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A value on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Text.
    Text(String),
    /// A document.
    Document {
        /// Its title.
        title: Option<String>,
        /// What it was.
        media: Media,
        /// Its text.
        text: String,
        /// Its sections.
        sections: Vec<Section>,
    },
    /// Pieces of a document: place, span, heading, tokens, text.
    Chunks(Vec<(usize, Span, String, u32, String)>),
    /// A conversation.
    Messages(Vec<Message>),
    /// JSON.
    Json(Json),
    /// A vector.
    Embedding(Vec<f32>),
    /// A version of a table.
    Table(String),
    /// Many.
    List(Vec<Option<Kept>>),
}

impl From<&Value> for Kept {
    fn from(value: &Value) -> Kept {
        match value {
            Value::Text(t) => Kept::Text(t.to_string()),
            Value::Document(d) => Kept::Document {
                title: d.title.clone(),
                media: d.media,
                text: d.text.to_string(),
                sections: d.sections.clone(),
            },
            Value::Chunks(chunks) => {
                let one = |c: &Chunk| {
                    (c.index, c.span.clone(), c.heading.to_string(), c.tokens, c.text.to_string())
                };
                Kept::Chunks(chunks.iter().map(one).collect())
            }
            Value::Messages(m) => Kept::Messages(m.to_vec()),
            Value::Json(j) => Kept::Json((**j).clone()),
            Value::Embedding(e) => Kept::Embedding(e.to_vec()),
            Value::Table(t) => Kept::Table(t.to_string()),
            Value::List(items) => Kept::List(items.iter().map(|i| i.as_ref().map(Kept::from)).collect()),
        }
    }
}

impl From<Kept> for Value {
    fn from(kept: Kept) -> Value {
        match kept {
            Kept::Text(t) => Value::text(t),
            Kept::Document { title, media, text, sections } => {
                Value::Document(Arc::new(Document { title, media, text: text.into(), sections }))
            }
            Kept::Chunks(chunks) => {
                let one = |(index, span, heading, tokens, text): (usize, Span, String, u32, String)| Chunk {
                    index,
                    hash: *blake3::hash(text.as_bytes()).as_bytes(),
                    text: text.into(),
                    span,
                    heading: heading.into(),
                    tokens,
                };
                Value::Chunks(chunks.into_iter().map(one).collect())
            }
            Kept::Messages(m) => Value::Messages(m.into()),
            Kept::Json(j) => Value::Json(Arc::new(j)),
            Kept::Embedding(e) => Value::Embedding(e.into()),
            Kept::Table(t) => Value::Table(t.into()),
            Kept::List(items) => Value::List(items.into_iter().map(|i| i.map(Value::from)).collect()),
        }
    }
}

impl Kept {
    /// As bytes: equal values, equal bytes.
    ///
    /// # Errors
    /// `internal` for what cannot be written, which is a defect.
    pub fn bytes(value: &Value) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(&Kept::from(value))
            .map_err(|e| Error::new(Code::Internal, format!("a value cannot be kept: {e}; this is a defect")))
    }

    /// From bytes.
    ///
    /// # Errors
    /// `internal` for bytes that are none.
    pub fn value(bytes: &[u8]) -> Result<Value, Error> {
        let kept: Kept = serde_json::from_slice(bytes)
            .map_err(|e| Error::new(Code::Internal, format!("a kept value cannot be read: {e}")))?;
        Ok(kept.into())
    }

    /// What it is, in short, for people: the name of a table, else its kind and its hash.
    pub(super) fn short(bytes: &[u8]) -> String {
        match serde_json::from_slice(bytes) {
            Ok(Kept::Table(name)) => name,
            _ => blake3::hash(bytes).to_hex().get(..12).unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        let chunk =
            (0usize..9, ".{0,12}", ".{0,4}", 0u32..99).prop_map(|(index, text, heading, tokens)| Chunk {
                index,
                hash: *blake3::hash(text.as_bytes()).as_bytes(),
                span: 0..text.len(),
                text: text.into(),
                heading: heading.into(),
                tokens,
            });
        let leaf = prop_oneof![
            ".{0,20}".prop_map(Value::text),
            ".{0,20}".prop_map(|t| Value::Table(t.into())),
            proptest::collection::vec(any::<f32>().prop_filter("finite", |f| f.is_finite()), 0..5)
                .prop_map(|v| Value::Embedding(v.into())),
            any::<i64>().prop_map(|n| Value::Json(Arc::new(serde_json::json!({"n": [n, null]})))),
            proptest::collection::vec(chunk, 0..4).prop_map(|c| Value::Chunks(c.into())),
            ".{0,20}".prop_map(|t| Value::Document(Arc::new(Document {
                title: Some(t.clone()),
                media: Media::Html,
                text: t.into(),
                sections: vec![Section { heading: "h".into(), level: 1, span: 0..1 }],
            }))),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            proptest::collection::vec(proptest::option::of(inner), 0..4).prop_map(|v| Value::List(v.into()))
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(value in values()) {
            let bytes = Kept::bytes(&value).unwrap();
            prop_assert_eq!(Kept::value(&bytes).unwrap(), value);
        }
    }
}
