//! A text of a stage's configuration that may be filled in by a run: `{{ params.n }}` becomes the value itself, which may be a
//! number, and is its text then; a list or an object is its JSON.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A text, as it is written or filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl<'de> de::Visitor<'de> for Scalar {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<Word, E> {
                Ok(Word(b.to_string()))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Word, E> {
                Ok(Word(n.to_string()))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Word, E> {
                Ok(Word(n.to_string()))
            }
            fn visit_f64<E: de::Error>(self, x: f64) -> Result<Word, E> {
                Ok(Word(x.to_string()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<Word, A::Error> {
                let items = serde_json::Value::deserialize(de::value::SeqAccessDeserializer::new(items))?;
                Ok(Word(items.to_string()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, fields: A) -> Result<Word, A::Error> {
                let fields = serde_json::Value::deserialize(de::value::MapAccessDeserializer::new(fields))?;
                Ok(Word(fields.to_string()))
            }
        }
        d.deserialize_any(Scalar)
    }
}

impl JsonSchema for Word {
    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"], "x-expected": "a text, a number, true or false"})
    }
    fn inline_schema() -> bool {
        true
    }
}
