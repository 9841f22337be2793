//! Values as a prompt sees them. A list is both: a sequence for `{% for note in notes %}`, and where it is printed, its
//! elements numbered from 1, a blank line between them. A missing element is `[missing]`.

use std::fmt;
use std::sync::Arc;

use contract::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use serde_json::Value as Json;

/// A value for a template.
pub(super) fn shown(v: &Value) -> minijinja::Value {
    match v {
        Value::Text(t) => (&**t).into(),
        Value::Document(d) => (&*d.text).into(),
        Value::Chunks(c) => c.iter().map(|c| &*c.text).collect::<Vec<_>>().join("\n\n").into(),
        Value::Messages(m) => m
            .iter()
            .map(|m| format!("{:?}: {}", m.role, m.content.to_text()))
            .collect::<Vec<_>>()
            .join("\n")
            .into(),
        Value::Json(j) => match &**j {
            Json::String(s) => s.as_str().into(),
            other => other.to_string().into(),
        },
        Value::Embedding(e) => format!("{e:?}").into(),
        Value::Table(t) => (&**t).into(),
        Value::List(items) => {
            let item = |i: &Option<Value>| i.as_ref().map_or_else(|| "[missing]".into(), shown);
            minijinja::Value::from_object(Parts(items.iter().map(item).collect()))
        }
    }
}

#[derive(Debug)]
struct Parts(Vec<minijinja::Value>);

impl Object for Parts {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, part) in self.0.iter().enumerate() {
            write!(f, "{}[{}] {part}", if n == 0 { "" } else { "\n\n" }, n + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_printed_numbered_and_can_be_walked() {
        let list = Value::List([Some(Value::text("a")), None, Some(Value::text("c"))].into());
        let p =
            crate::prompts::Prompt::parse("{{ x }}|{% for n in x %}<{{ n }}>{% endfor %}|{{ x | length }}")
                .unwrap();
        let out = p.render(|_| Some(shown(&list))).unwrap();
        assert_eq!(out[0].content.to_text(), "[1] a\n\n[2] [missing]\n\n[3] c|<a><[missing]><c>|3");
    }
}
