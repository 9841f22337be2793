//! What a model was made of: the description that names it, what differs between two, and whether a rebuilt one is the same.
//!
//! Invariants: the id is a hash of the whole description and of nothing else; two descriptions have one id exactly when nothing differs
//! between them [test: ids_are_equal_exactly_when_nothing_differs].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gate::seal::{SealError, canonical};

/// What a model is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Versions of datasets, by name. A version is named by its content, so that one changed row is another.
    pub data: BTreeMap<String, String>,
    /// Hashes of feature views' definitions, by name.
    #[serde(default)]
    pub features: BTreeMap<String, String>,
    /// Hashes of the code that made it, by file or stage.
    pub code: BTreeMap<String, String>,
    /// What it was told.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    /// Where its randomness came from.
    pub seed: u64,
    /// What it ran in, by name: `python`, `lightgbm`, `forebay`, `cpu`, …
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// What two descriptions differ in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Which part: `data`, `features`, `code`, `params`, `seed`, `environment`.
    pub part: String,
    /// What in it: a name, or a path of names.
    pub what: String,
    /// What the first has.
    pub before: Option<Value>,
    /// What the second has.
    pub after: Option<Value>,
}

/// Numbers as they are told apart: JSON's canonical form has 53 bits, ids have all of them.
fn whole(value: &Value) -> Value {
    match value {
        Value::Number(n) => {
            let large = n.as_i64().map(i64::unsigned_abs).or(n.as_u64()).filter(|n| *n > 1 << 53);
            large.map_or_else(|| value.clone(), |_| serde_json::json!({"integer": n.to_string()}))
        }
        Value::Array(items) => items.iter().map(whole).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), whole(v))).collect()),
        other => other.clone(),
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>, SealError> {
    canonical(&whole(value))
}

impl Description {
    /// The name of a model that is made of this: `m-` and 32 hexadecimal digits.
    ///
    /// # Errors
    /// It has no canonical form, which JSON values always have.
    pub fn id(&self) -> Result<String, SealError> {
        let value = serde_json::to_value(self).map_err(|e| SealError::Form(e.to_string()))?;
        let hash = blake3::derive_key("forebay model id 1", &bytes(&value)?);
        let digits: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
        Ok(format!("m-{digits}"))
    }

    /// The parts that are known, each by a hash of it: what a gate asks for as lineage.
    pub fn lineage(&self) -> crate::gate::Lineage {
        let mut known = BTreeMap::new();
        let mut note = |part: &str, any: bool, value: Value| {
            if let Some(bytes) = bytes(&value).ok().filter(|_| any) {
                known.insert(part.to_owned(), format!("b3:{}", blake3::hash(&bytes).to_hex()));
            }
        };
        note("data", !self.data.is_empty(), texts(&self.data));
        note("features", !self.features.is_empty(), texts(&self.features));
        note("code", !self.code.is_empty(), texts(&self.code));
        // A model that was told nothing was told so.
        note("params", true, self.params.clone().into_iter().collect());
        note("seed", true, self.seed.into());
        note("environment", !self.environment.is_empty(), texts(&self.environment));
        known
    }

    /// What `other` has that this has not, or has otherwise: in the order of the parts, by name.
    pub fn diff(&self, other: &Description) -> Vec<Difference> {
        let mut found = Vec::new();
        let parts = [
            ("data", texts(&self.data), texts(&other.data)),
            ("features", texts(&self.features), texts(&other.features)),
            ("code", texts(&self.code), texts(&other.code)),
            ("params", self.params.clone().into_iter().collect(), other.params.clone().into_iter().collect()),
            ("environment", texts(&self.environment), texts(&other.environment)),
        ];
        for (part, before, after) in parts {
            walk(part, String::new(), (Some(&before), Some(&after)), &mut found);
        }
        if self.seed != other.seed {
            let (before, after) = (Some(self.seed.into()), Some(other.seed.into()));
            found.push(Difference { part: "seed".to_owned(), what: String::new(), before, after });
        }
        found
    }
}

fn texts(map: &BTreeMap<String, String>) -> Value {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn walk(part: &str, path: String, pair: (Option<&Value>, Option<&Value>), found: &mut Vec<Difference>) {
    match pair {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(part, path, (a.get(name), b.get(name)), found);
            }
        }
        (Some(a), Some(b)) if bytes(a).ok() == bytes(b).ok() => {}
        (before, after) => found.push(Difference {
            part: part.to_owned(),
            what: path,
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

impl fmt::Display for Difference {
    /// A sentence: "the parameter `depth` is 6, and was 4".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = match self.part.as_str() {
            "data" => "the version of the dataset",
            "features" => "the feature view",
            "code" => "the code of",
            "params" => "the parameter",
            "environment" => "in the environment",
            _ => "the seed",
        };
        f.write_str(noun)?;
        if !self.what.is_empty() {
            write!(f, " `{}`", self.what)?;
        }
        let said = |value: &Value| match value {
            Value::String(text) => format!("`{text}`"),
            other => other.to_string(),
        };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, " is {}, and was {}", said(after), said(before)),
            (None, Some(after)) => write!(f, " is {}, and was not there", said(after)),
            (Some(before), None) => write!(f, " is not there, and was {}", said(before)),
            (None, None) => Ok(()),
        }
    }
}

/// What came out: enough to say whether it came out again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The hash of the artifact's bytes.
    pub artifact: String,
    /// Figures on one holdout.
    pub metrics: BTreeMap<String, f64>,
}

/// Whether a rebuilt model is the one that was kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// To the byte.
    Same,
    /// Not to the byte, and no figure is off by more than was declared: by this much at most.
    Within(f64),
    /// It is another: why, each a sentence.
    Differs(Vec<String>),
}

/// Compares a rebuilt model with the one that was kept. Without a tolerance only equal bytes will do.
pub fn agree(kept: &Made, rebuilt: &Made, tolerance: Option<f64>) -> Agreement {
    if kept.artifact == rebuilt.artifact {
        return Agreement::Same;
    }
    let mut reasons = Vec::new();
    let Some(tolerance) = tolerance else {
        let (was, is) = (&kept.artifact, &rebuilt.artifact);
        reasons.push(format!("its bytes are `{is}`, and were `{was}`; no tolerance is declared"));
        return Agreement::Differs(reasons);
    };
    let mut largest = 0.0_f64;
    for (name, was) in &kept.metrics {
        match rebuilt.metrics.get(name) {
            Some(is) if (is - was).abs() <= tolerance => largest = largest.max((is - was).abs()),
            Some(is) => reasons.push(format!("{name} is {is}, and was {was}: off by more than {tolerance}")),
            None => reasons.push(format!("{name} is not known, and was {was}")),
        }
    }
    if kept.metrics.is_empty() {
        reasons.push("its bytes differ, and no figure was kept to compare".to_owned());
    }
    if reasons.is_empty() { Agreement::Within(largest) } else { Agreement::Differs(reasons) }
}
