//! What is tracked: experiments, runs and what was logged of them. Times are milliseconds since the epoch, as clients gave them.

/// Whether it was deleted. What is deleted stays, and can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It was not.
    Active,
    /// It was.
    Deleted,
}

impl Stage {
    /// Its word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Active => "active",
            Stage::Deleted => "deleted",
        }
    }

    pub(super) fn of(word: &str) -> Stage {
        if word == "deleted" { Stage::Deleted } else { Stage::Active }
    }
}

/// Which stages are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum View {
    /// What is not deleted.
    #[default]
    Active,
    /// What is.
    Deleted,
    /// Both.
    All,
}

impl View {
    /// A condition on a column.
    pub(super) fn condition(self, column: &str) -> String {
        match self {
            View::Active => format!("{column} = 'active'"),
            View::Deleted => format!("{column} = 'deleted'"),
            View::All => format!("{column} IN ('active', 'deleted')"),
        }
    }
}

/// A key and its value, as a tag or a parameter has them.
pub type Pair = (String, String);

/// An experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// Its number in its tenant; the first is 0, `Default`.
    pub id: i64,
    /// Unique in its tenant, deleted ones included.
    pub name: String,
    /// Where artifacts of its runs go.
    pub location: String,
    /// Deleted or not.
    pub stage: Stage,
    /// When it was made.
    pub created_at: i64,
    /// When it was changed.
    pub updated_at: i64,
    /// By key.
    pub tags: Vec<Pair>,
}

/// What is known of a run itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// 32 hexadecimal digits.
    pub id: String,
    /// For people.
    pub name: String,
    /// Its experiment.
    pub experiment: i64,
    /// Who ran it, as the client says.
    pub user: String,
    /// `RUNNING`, `SCHEDULED`, `FINISHED`, `FAILED` or `KILLED`.
    pub status: String,
    /// When it began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Deleted or not.
    pub stage: Stage,
    /// Where its artifacts are.
    pub location: String,
}

/// A value that was measured. One that is no number is NaN; infinite ones are kept as the largest double of their sign.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name.
    pub key: String,
    /// The value.
    pub value: f64,
    /// When.
    pub at: i64,
    /// At which step.
    pub step: i64,
    /// The logged model that it is of.
    pub model: Option<String>,
    /// The dataset that it was measured on: name and digest.
    pub dataset: (Option<String>, Option<String>),
}

impl Metric {
    /// A value without a model.
    pub fn new(key: impl Into<String>, value: f64, at: i64, step: i64) -> Self {
        Metric { key: key.into(), value, at, step, model: None, dataset: (None, None) }
    }

    /// As the database keeps the value: finite, and whether it is none.
    pub(super) fn stored(&self) -> (f64, bool) {
        if self.value.is_nan() { (0.0, true) } else { (self.value.clamp(f64::MIN, f64::MAX), false) }
    }
}

/// A metric back from the database.
pub(super) fn value_of(value: f64, nan: bool) -> f64 {
    if nan { f64::NAN } else { value }
}

/// A dataset that was used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What tells its states apart.
    pub digest: String,
    /// How `source` is to be read.
    pub source_type: String,
    /// Where it is.
    pub source: String,
    /// Its columns, in JSON.
    pub schema: Option<String>,
    /// Its figures, in JSON.
    pub profile: Option<String>,
}

/// A dataset as an input of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetInput {
    /// It.
    pub dataset: Dataset,
    /// For what, in the tag `mlflow.data.context`.
    pub tags: Vec<Pair>,
}

/// A run with all that was logged of it; of a metric, its newest value.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Itself.
    pub info: RunInfo,
    /// By key.
    pub params: Vec<Pair>,
    /// By key.
    pub tags: Vec<Pair>,
    /// By key.
    pub metrics: Vec<Metric>,
    /// Datasets that it read.
    pub datasets: Vec<DatasetInput>,
    /// Logged models that it read.
    pub model_inputs: Vec<String>,
    /// Logged models that it made, and at which step.
    pub model_outputs: Vec<(String, i64)>,
}

/// What is to be a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewTrackedRun {
    /// Fresh, 32 hexadecimal digits.
    pub id: String,
    /// Its experiment.
    pub experiment: i64,
    /// For people.
    pub name: String,
    /// Who runs it.
    pub user: String,
    /// When it began.
    pub started_at: i64,
    /// The first of each key counts.
    pub tags: Vec<Pair>,
}

/// What changes of a run; nothing stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunUpdate {
    /// Its status.
    pub status: Option<String>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Its name, which is its tag `mlflow.runName` too.
    pub name: Option<String>,
}

/// What is logged at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logged {
    /// Measured.
    pub metrics: Vec<Metric>,
    /// Set once for all.
    pub params: Vec<Pair>,
    /// Set.
    pub tags: Vec<Pair>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins, if there is one.
    pub next: Option<u64>,
}

impl<T> Page<T> {
    /// Of one row more than fits, which says that there is more.
    pub(super) fn of(mut items: Vec<T>, from: u64, most: u64) -> Page<T> {
        let fits = usize::try_from(most).unwrap_or(usize::MAX);
        let next = (items.len() > fits).then(|| from.saturating_add(most));
        items.truncate(fits);
        Page { items, next }
    }
}

/// What is wanted of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// The filter; empty for all.
    pub filter: String,
    /// The order; empty for the natural one.
    pub order: Vec<String>,
    /// Deleted ones or not.
    pub view: View,
    /// Where to begin.
    pub from: u64,
    /// How many at most.
    pub most: u64,
}
