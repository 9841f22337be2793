//! What may be said of each sort of thing.

use super::{Entity, Op, shown};
use crate::tracking::Refused;

/// What is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// Runs.
    Runs,
    /// Experiments.
    Experiments,
    /// Logged models.
    LoggedModels,
    /// Registered models.
    RegisteredModels,
    /// Versions of registered models.
    ModelVersions,
}

const NUMERIC: [Op; 6] =
    [Op::Equal, Op::NotEqual, Op::Less, Op::LessOrEqual, Op::Greater, Op::GreaterOrEqual];
const STRING: [Op; 6] = [Op::NotEqual, Op::Equal, Op::Like, Op::Ilike, Op::In, Op::NotIn];
const NULLABLE: [Op; 6] = [Op::NotEqual, Op::Equal, Op::Like, Op::Ilike, Op::IsNull, Op::IsNotNull];
const PLAIN: [Op; 4] = [Op::NotEqual, Op::Equal, Op::Like, Op::Ilike];

impl Vocabulary {
    /// Names of attributes that a filter may compare.
    pub(super) const fn attributes(self) -> &'static [&'static str] {
        match self {
            Vocabulary::Runs => &[
                "artifact_uri",
                "end_time",
                "run_id",
                "run_name",
                "start_time",
                "status",
                "user_id",
                "created",
                "Created",
                "run name",
                "Run name",
                "Run Name",
            ],
            Vocabulary::Experiments => &["name", "experiment_id", "creation_time", "last_update_time"],
            Vocabulary::LoggedModels => &[
                "name",
                "model_id",
                "model_type",
                "status",
                "source_run_id",
                "experiment_id",
                "artifact_location",
                "creation_timestamp_ms",
                "last_updated_timestamp_ms",
            ],
            Vocabulary::RegisteredModels => &["name"],
            Vocabulary::ModelVersions => &["name", "version_number", "run_id", "source_path"],
        }
    }

    /// Names of attributes by which an order may go.
    pub(super) const fn orderable(self) -> &'static [&'static str] {
        match self {
            Vocabulary::ModelVersions => {
                &["name", "version_number", "creation_timestamp", "last_updated_timestamp"]
            }
            Vocabulary::RegisteredModels => &["timestamp", "last_updated_timestamp", "name"],
            Vocabulary::Runs => &[
                "artifact_uri",
                "end_time",
                "run_id",
                "run_name",
                "start_time",
                "status",
                "user_id",
                "created",
                "Created",
            ],
            other => other.attributes(),
        }
    }

    pub(super) fn is_numeric(self, key: &str) -> bool {
        match self {
            Vocabulary::Runs => matches!(key, "start_time" | "end_time" | "created" | "Created"),
            Vocabulary::Experiments => matches!(key, "creation_time" | "last_update_time"),
            Vocabulary::LoggedModels => {
                matches!(key, "creation_timestamp_ms" | "last_updated_timestamp_ms")
            }
            Vocabulary::RegisteredModels => false,
            Vocabulary::ModelVersions => key == "version_number",
        }
    }

    /// Attributes that are compared with lists.
    pub(super) const fn listed(self) -> &'static [&'static str] {
        match self {
            Vocabulary::Runs => &["run_id"],
            Vocabulary::Experiments => &["experiment_id"],
            Vocabulary::RegisteredModels => &["name"],
            Vocabulary::ModelVersions => &["name", "run_id"],
            Vocabulary::LoggedModels => &[],
        }
    }

    /// Whether there is one of that name, in words for whoever asked.
    pub(super) fn entity(self, word: &str) -> Result<Entity, Refused> {
        let word = word.strip_prefix('`').and_then(|w| w.strip_suffix('`')).unwrap_or(word);
        if self == Vocabulary::LoggedModels {
            return match word {
                "attributes" => Ok(Entity::Attribute),
                "metrics" => Ok(Entity::Metric),
                "params" => Ok(Entity::Param),
                "tags" => Ok(Entity::Tag),
                _ => Err(Refused::invalid(format!(
                    "Invalid entity type: '{word}'. Expected one of ['attributes', 'metrics', 'params', 'tags']."
                ))),
            };
        }
        if self != Vocabulary::Runs && !matches!(word, "attribute" | "tag" | "tags") {
            return Err(Refused::invalid(format!(
                "Invalid entity type '{word}'. Valid entity types are ('attribute', 'tag', 'tags')"
            )));
        }
        match word {
            "metric" | "metrics" => Ok(Entity::Metric),
            "parameter" | "parameters" | "param" | "params" => Ok(Entity::Param),
            "tag" | "tags" => Ok(Entity::Tag),
            "attribute" | "attr" | "attributes" | "run" => Ok(Entity::Attribute),
            "dataset" | "datasets" => Ok(Entity::Dataset),
            _ => Err(Refused::invalid(format!(
                "Invalid entity type '{word}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']"
            ))),
        }
    }

    /// Whether something may be compared so, in words for whoever asked.
    pub(super) fn allows(
        self,
        entity: Entity,
        key: &str,
        op: Option<Op>,
        written: &str,
    ) -> Result<Op, Refused> {
        let numeric = entity == Entity::Metric || entity == Entity::Attribute && self.is_numeric(key);
        let nullable = matches!(self, Vocabulary::Runs | Vocabulary::Experiments);
        let allowed: &[Op] = match entity {
            _ if numeric => &NUMERIC,
            Entity::Attribute if self == Vocabulary::Experiments && key == "experiment_id" => {
                &[Op::Equal, Op::NotEqual, Op::In, Op::NotIn]
            }
            Entity::Attribute | Entity::Dataset => &STRING,
            Entity::Param | Entity::Tag if nullable => &NULLABLE,
            Entity::Param | Entity::Tag if self == Vocabulary::LoggedModels => &STRING,
            Entity::Metric | Entity::Param | Entity::Tag => &PLAIN,
        };
        if let Some(op) = op.filter(|op| allowed.contains(op)) {
            return Ok(op);
        }
        let words: Vec<&str> = allowed.iter().map(|op| op.as_str()).collect();
        let written = written.to_uppercase();
        let message = match (self, entity) {
            (Vocabulary::LoggedModels, _) => {
                let plural = match entity {
                    Entity::Attribute => "attributes",
                    Entity::Metric => "metrics",
                    Entity::Param => "params",
                    _ => "tags",
                };
                let words: &[&str] = if numeric {
                    &["<", "<=", ">", ">=", "=", "!="]
                } else {
                    &["=", "!=", "LIKE", "ILIKE", "IN", "NOT IN"]
                };
                let all = shown(words, "(", ")");
                format!("Invalid comparison operator for {plural}.{key}: '{written}'. Expected one of {all}.")
            }
            (Vocabulary::Runs, _) | (Vocabulary::Experiments, Entity::Attribute)
                if key != "experiment_id" =>
            {
                let all =
                    shown(if numeric && entity == Entity::Attribute { STRINGS } else { &words }, "{", "}");
                // It closes the quotes around some of them.
                let end = if numeric || matches!(entity, Entity::Tag | Entity::Dataset) { "" } else { "'" };
                format!("Invalid comparator '{written}' not one of '{all}{end}")
            }
            (_, Entity::Tag) => format!("Invalid comparator for tag: {written}"),
            (Vocabulary::Experiments, _) => format!("Invalid comparator for experiment_id: {written}"),
            (Vocabulary::ModelVersions, _) if numeric => {
                format!("Invalid comparator for attribute {key}: {written}")
            }
            _ => format!("Invalid comparator for attribute: {written}"),
        };
        Err(Refused::invalid(message))
    }
}

/// What MLflow names where a numeric attribute is compared as none can be.
const STRINGS: &[&str] = &["!=", "=", "LIKE", "ILIKE", "IN", "NOT IN"];
