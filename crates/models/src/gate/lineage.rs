//! What a model's record says it was made of, and what it takes and gives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The parts of a record that a gate can ask for.
pub(super) const PARTS: &[&str] = &["data", "features", "code", "params", "seed", "environment"];

/// What a model was made of: the parts that are known, each by what names it (a version, a hash).
pub type Lineage = BTreeMap<String, String>;

/// A column that a model takes or gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type: `float`, `int`, `text`, `bool`, …
    #[serde(rename = "type")]
    pub ty: String,
    /// Whether it may be left out.
    #[serde(default)]
    pub optional: bool,
}

/// What a model takes and gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSignature {
    /// What it takes.
    pub inputs: Vec<Field>,
    /// What it gives.
    pub outputs: Vec<Field>,
}

impl ModelSignature {
    /// Why whoever calls `before` cannot call this model: each reason a fragment.
    pub fn breaks(&self, before: &ModelSignature) -> Vec<String> {
        let of = |fields: &'_ [Field], name: &str| fields.iter().find(|f| f.name == name).cloned();
        let mut reasons = Vec::new();
        for field in &self.inputs {
            match of(&before.inputs, &field.name) {
                None if field.optional => {}
                None => reasons.push(format!("takes `{}`, which nobody sends", field.name)),
                Some(sent) if !widens(&sent.ty, &field.ty) => {
                    reasons.push(format!("takes `{}` as {}, not {}", field.name, field.ty, sent.ty));
                }
                Some(sent) if sent.optional && !field.optional => {
                    reasons.push(format!("needs `{}`, which could be left out", field.name));
                }
                Some(_) => {}
            }
        }
        for field in &before.outputs {
            match of(&self.outputs, &field.name) {
                None => reasons.push(format!("does not give `{}`", field.name)),
                Some(given) if given.ty != field.ty => {
                    reasons.push(format!("gives `{}` as {}, not {}", field.name, given.ty, field.ty));
                }
                Some(given) if given.optional && !field.optional => {
                    reasons.push(format!("does not always give `{}`", field.name));
                }
                Some(_) => {}
            }
        }
        reasons
    }
}

/// Whether every value of one type is one of the other.
fn widens(from: &str, to: &str) -> bool {
    let wider: &[&str] = match from {
        "int" => &["float", "double", "long"],
        "bool" => &["int", "long", "float", "double"],
        "long" | "float" => &["double"],
        _ => &[],
    };
    from == to || wider.contains(&to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(inputs: &[(&str, &str, bool)], outputs: &[(&str, &str)]) -> ModelSignature {
        let field = |name: &str, ty: &str, optional| Field { name: name.into(), ty: ty.into(), optional };
        ModelSignature {
            inputs: inputs.iter().map(|(name, ty, optional)| field(name, ty, *optional)).collect(),
            outputs: outputs.iter().map(|(name, ty)| field(name, ty, false)).collect(),
        }
    }

    #[test]
    fn a_model_that_asks_less_and_gives_more_is_compatible() {
        let before = signature(&[("a", "int", false), ("b", "text", false)], &[("p", "float")]);
        let after =
            signature(&[("a", "float", false), ("c", "text", true)], &[("p", "float"), ("q", "float")]);
        assert_eq!(after.breaks(&before), Vec::<String>::new());
    }

    #[test]
    fn every_reason_is_told_why_callers_would_break() {
        let before = signature(&[("a", "text", false), ("o", "int", true)], &[("p", "float"), ("q", "int")]);
        let after =
            signature(&[("a", "int", false), ("n", "int", false), ("o", "int", false)], &[("q", "text")]);
        assert_eq!(
            after.breaks(&before),
            [
                "takes `a` as int, not text",
                "takes `n`, which nobody sends",
                "needs `o`, which could be left out",
                "does not give `p`",
                "gives `q` as text, not int",
            ]
        );
    }
}
