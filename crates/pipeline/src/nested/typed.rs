//! An answer as JSON says it, as a value of the kind that its pipeline promises. Pure.

use std::sync::Arc;

use contract::{Code, Document, Error, Kind, Media, Value};
use serde_json::Value as Json;

/// The value.
///
/// # Errors
/// `internal` for JSON that is none of that kind.
pub(super) fn typed(kind: &Kind, json: Json) -> Result<Value, Error> {
    let other = |kind: &Kind| {
        Error::new(Code::Internal, format!("the pipeline promised {kind} and answered something else"))
    };
    Ok(match (kind, json) {
        (Kind::Text, Json::String(text)) => Value::text(text),
        (Kind::Document, Json::String(text)) => Value::Document(Arc::new(Document {
            title: None,
            media: Media::Plain,
            text: text.into(),
            sections: Vec::new(),
        })),
        (Kind::Table, Json::String(name)) => Value::Table(name.into()),
        (Kind::Json(_) | Kind::Any, json) => Value::Json(Arc::new(json)),
        (Kind::List(one), Json::Array(items)) => {
            let value = |item: Json| match item {
                // What failed in it.
                Json::Null if !matches!(**one, Kind::Json(_)) => Ok(None),
                item => typed(one, item).map(Some),
            };
            Value::List(items.into_iter().map(value).collect::<Result<_, _>>()?)
        }
        (Kind::Embedding, json) => {
            let floats: Vec<f32> = serde_json::from_value(json).map_err(|_| other(kind))?;
            Value::Embedding(floats.into())
        }
        (Kind::Messages, json) => {
            let messages: Vec<contract::Message> = serde_json::from_value(json).map_err(|_| other(kind))?;
            Value::Messages(messages.into())
        }
        (kind, _) => return Err(other(kind)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            ".{0,20}".prop_map(Value::text),
            proptest::collection::vec(-1e6f32..1e6, 0..5).prop_map(|v| Value::Embedding(v.into())),
            any::<i64>().prop_map(|n| Value::Json(Arc::new(serde_json::json!({"n": [n, null]})))),
        ]
    }

    proptest! {
        #[test]
        fn a_value_that_was_told_as_json_is_the_same_again(value in leaf(), n in 0usize..4) {
            let kind = value.kind();
            prop_assert_eq!(typed(&kind, value.to_json()).unwrap(), value.clone());
            let list = Value::List(vec![Some(value); n].into());
            prop_assert_eq!(typed(&Kind::List(Box::new(kind)), list.to_json()).unwrap(), list);
        }

        #[test]
        fn no_json_breaks_it(text in ".{0,20}", n in any::<i64>()) {
            for kind in [Kind::Text, Kind::Chunks, Kind::Messages, Kind::List(Box::new(Kind::Text)), Kind::Table] {
                let _ = typed(&kind, serde_json::json!({"a": [text.clone(), n]}));
                let _ = typed(&kind, serde_json::json!([text.clone(), null]));
            }
        }
    }
}
