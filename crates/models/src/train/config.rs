//! What a person writes of a training. What of it cannot be is said by `check.rs`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use indexmap::IndexMap;
use pipeline::units::{Size, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::metric::Metric;

/// Trains a model on a table and gives it as an ONNX file that takes the table's columns by their names.
///
/// Exactly one of `gbdt` and `linear` says what is trained. Missing numbers and words, and words that training did not see, are
/// taken by both. The same table, configuration and seed give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Gradient-boosted trees, by LightGBM in a process of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gbdt: Option<GbdtConfig>,
    /// Linear or logistic regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear: Option<LinearConfig>,
    /// In the record of a model that was made elsewhere: what it predicts, and what it is held to. No training has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub adopted: Option<AdoptedConfig>,
    /// The columns that are learnt from; all that have no other role when it is empty.
    #[serde(default)]
    pub features: Vec<String>,
    /// Columns that are not learnt from.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The column that says when a row happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The column that says how much a row counts; not negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// The column that says what a row belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How much the rows of a class count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// What is held back.
    #[serde(default)]
    pub split: SplitConfig,
    /// Judges tries by so many folds instead of the validation part: by time each fold is later than what it learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folds: Option<u32>,
    /// Tries several parameters and keeps the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchConfig>,
    /// The figure that decides. AUC for two classes, log loss for more, RMSE for numbers, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Trains once more on the training and the validation part together, for as many rounds as were best.
    #[serde(default)]
    pub refit: bool,
    /// Tells how much each column matters, also by how much worse the model is on the held-back part when a column's values
    /// are shuffled.
    #[serde(default)]
    pub permutation_importance: bool,
    /// What is drawn is drawn from it.
    #[serde(default)]
    pub seed: u64,
}

impl TrainConfig {
    /// What the record of a model says that was made elsewhere; nothing is divided unless `split` is set.
    pub fn adopted(own: AdoptedConfig) -> TrainConfig {
        TrainConfig {
            gbdt: None,
            linear: None,
            adopted: Some(own),
            features: Vec::new(),
            exclude: Vec::new(),
            time: None,
            weight: None,
            group: None,
            class_weights: None,
            split: SplitConfig::default(),
            folds: None,
            search: None,
            metric: None,
            refit: false,
            permutation_importance: false,
            seed: 0,
        }
    }
}

/// A model that was made elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptedConfig {
    /// The column that it predicts.
    pub target: String,
    /// Classification of words and 0/1, regression of other numbers, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Whether all rows of the table are held back from it.
    pub whole: bool,
    /// What its file was: `ONNX`, `LightGBM`, `XGBoost`.
    pub found: String,
}

/// How trees are grown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GbdtConfig {
    /// The column that is to be predicted.
    pub target: String,
    /// Classification of words and 0/1, regression of other numbers, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The most rounds: a tree each, or a tree for each of several classes.
    #[serde(default = "GbdtConfig::rounds")]
    pub rounds: u32,
    /// Stop when the metric on the validation part has not become better for so many rounds; 0 never stops.
    #[serde(default = "GbdtConfig::early_stopping")]
    pub early_stopping: u32,
    /// How much of each tree counts.
    #[serde(default = "GbdtConfig::learning_rate")]
    pub learning_rate: f64,
    /// The most leaves of a tree.
    #[serde(default = "GbdtConfig::leaves")]
    pub leaves: u32,
    /// The most splits from the root to a leaf; as many as there are, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// The fewest rows of a leaf.
    #[serde(default = "GbdtConfig::min_rows")]
    pub min_rows: u32,
    /// The share of rows that each tree sees.
    #[serde(default = "GbdtConfig::all")]
    pub rows_share: f64,
    /// The share of columns that each tree sees.
    #[serde(default = "GbdtConfig::all")]
    pub columns_share: f64,
    /// L1 regularisation of the leaves.
    #[serde(default)]
    pub l1: f64,
    /// L2 regularisation of the leaves.
    #[serde(default)]
    pub l2: f64,
    /// The most bins that a column's values are put into.
    #[serde(default = "GbdtConfig::bins")]
    pub bins: u32,
    /// The memory that the training may take: the worker's address space. The table is in it twice and its bins once.
    #[serde(default = "GbdtConfig::memory")]
    pub memory: Size,
    /// Threads; one for each core when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
}

impl GbdtConfig {
    fn rounds() -> u32 {
        300
    }
    fn early_stopping() -> u32 {
        30
    }
    fn learning_rate() -> f64 {
        0.1
    }
    fn leaves() -> u32 {
        31
    }
    fn min_rows() -> u32 {
        20
    }
    fn all() -> f64 {
        1.0
    }
    fn bins() -> u32 {
        255
    }
    fn memory() -> Size {
        Size(8 << 30)
    }
}

/// How a linear model is fitted: numbers are imputed by their mean and standardised, words are encoded one-hot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearConfig {
    /// The column that is to be predicted.
    pub target: String,
    /// Classification of words and 0/1, regression of other numbers, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// L1 regularisation of the coefficients, beside the mean loss of a row.
    #[serde(default)]
    pub l1: f64,
    /// L2 regularisation of the coefficients (half of the squares), beside the mean loss of a row.
    #[serde(default = "LinearConfig::l2")]
    pub l2: f64,
    /// The most steps of the solver.
    #[serde(default = "LinearConfig::steps")]
    pub steps: u32,
}

impl LinearConfig {
    fn l2() -> f64 {
        1e-4
    }
    fn steps() -> u32 {
        500
    }
}

/// What the target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of several classes.
    Classification,
    /// A number.
    Regression,
}

/// How much classes count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// All classes together as much as each other.
    Balanced,
    /// By the class; 1 for those that are not named.
    By(IndexMap<String, f64>),
}

/// What is held back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// By what rows are parted.
    pub by: By,
    /// What nothing is seen of until the end: a share such as `0.2`, or by time a length such as `14d`.
    pub holdout: Part,
    /// What early stopping and the search go by, out of the rest; without it there is neither.
    pub validation: Option<Part>,
    /// By time: what lies so close before a part is not learnt from, since its labels were not known then.
    pub gap: Option<Time>,
}

impl Default for SplitConfig {
    fn default() -> Self {
        SplitConfig {
            by: By::Random,
            holdout: Part::Share(0.2),
            validation: Some(Part::Share(0.1)),
            gap: None,
        }
    }
}

impl SplitConfig {
    pub(super) fn gap(&self) -> Duration {
        self.gap.map_or(Duration::ZERO, |gap| gap.0)
    }
}

/// By what rows are parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// What is held back is later.
    Time,
    /// Drawn, the same share of each class.
    Random,
    /// Drawn, each group as a whole.
    Group,
}

/// A part of the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// A share of them.
    Share(f64),
    /// The last ones, of so long a time.
    Last(Duration),
}

impl FromStr for Part {
    type Err = String;
    fn from_str(text: &str) -> Result<Part, String> {
        let expected = "expected a share such as 0.2, or a length of time such as 14d";
        match text.parse::<f64>() {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(Part::Share(share)),
            Ok(_) => Err(format!("a share lies between 0 and 1; {expected}")),
            Err(_) => match text.parse::<Time>() {
                Ok(Time(length)) if !length.is_zero() => Ok(Part::Last(length)),
                _ => Err(expected.to_owned()),
            },
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Share(share) => share.fmt(f),
            Part::Last(length) => Time(*length).fmt(f),
        }
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Part::Share(share) => s.serialize_f64(*share),
            Part::Last(_) => s.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Part;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as 0.2, or a length of time such as 14d")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Part, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, x: f64) -> Result<Part, E> {
                x.to_string().parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, x: u64) -> Result<Part, E> {
                x.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, x: i64) -> Result<Part, E> {
                x.to_string().parse().map_err(E::custom)
            }
        }
        d.deserialize_any(Text)
    }
}

impl JsonSchema for Part {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Part".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"], "exclusiveMinimum": 0, "exclusiveMaximum": 1,
            "pattern": r"^0?\.[0-9]{1,9}$|^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d)$",
            "x-expected": "a share such as 0.2, or a length of time such as 14d"
        })
    }
}

/// How parameters are searched. Each try is drawn from the seed and its number, so more tries leave the first ones as they were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// The most tries. The first one is what is configured beside.
    #[serde(default = "SearchConfig::trials")]
    pub trials: u32,
    /// No try begins after so long. It makes the result depend on how fast the machine is: the report says how many there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// How tries that lead nowhere are given up.
    #[serde(default)]
    pub prune: Prune,
    /// Which parameters are tried, and between which bounds.
    #[serde(default)]
    pub tune: Tuned,
}

impl SearchConfig {
    fn trials() -> u32 {
        30
    }
}

/// How tries are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prune {
    /// A try that is worse than the median of those before it at the same round, from the fifth on. Quicker, and it gives up what learns
    /// slowly and far.
    Median,
    /// All begin with a ninth of the rounds; the better third goes on with three times as many, twice (successive halving).
    Halving,
    /// None.
    #[default]
    Never,
}

/// Bounds of what is tried: `[low, high]`. What is `null` stays as it is configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tuned {
    /// Trees; between the bounds on a logarithmic scale.
    pub learning_rate: Option<[f64; 2]>,
    /// Trees; logarithmic.
    pub leaves: Option<[f64; 2]>,
    /// Trees; logarithmic.
    pub min_rows: Option<[f64; 2]>,
    /// Trees.
    pub rows_share: Option<[f64; 2]>,
    /// Trees.
    pub columns_share: Option<[f64; 2]>,
    /// Logarithmic.
    pub l1: Option<[f64; 2]>,
    /// Logarithmic.
    pub l2: Option<[f64; 2]>,
}

impl Default for Tuned {
    fn default() -> Self {
        Tuned {
            learning_rate: Some([0.03, 0.2]),
            leaves: Some([8.0, 255.0]),
            min_rows: Some([5.0, 200.0]),
            rows_share: Some([0.6, 1.0]),
            columns_share: Some([0.5, 1.0]),
            l1: Some([1e-8, 1.0]),
            l2: Some([1e-8, 10.0]),
        }
    }
}
