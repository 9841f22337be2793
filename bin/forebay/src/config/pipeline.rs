//! Pipelines and stages as a person writes them, and their conversion to [`pipeline::PipelineSpec`].

use contract::{Budget, Kind, StageName, Value};
use indexmap::IndexMap;
use pipeline::{Collect, DurableSpec, OnFailure, PipelineSpec, Source, StageInRuns, StageSpec};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value as Json};

use super::busy::WhenBusyConfig;
use super::model::AllowanceConfig;
use super::pool::MidStreamConfig;
use super::triggers::{OnConfig, OverlapConfig};
use super::units::{Count, Time, Usd};

/// A pipeline: a graph of stages from an input to an output.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// What starts it besides `/v1/pipelines/NAME`.
    #[serde(default)]
    pub on: Option<OnConfig>,
    /// What happens when a trigger is to start it while a run of it that one started goes on. Unless given: `queue`.
    #[serde(default)]
    pub overlap: OverlapConfig,
    /// What it is given. Unless given: a document.
    #[serde(default)]
    pub input: KindConfig,
    /// What it answers. Unless given: text.
    #[serde(default = "text")]
    pub output: KindConfig,
    /// The limits of the whole.
    #[serde(default)]
    pub budget: BudgetConfig,
    /// What all callers together may use through it.
    #[serde(default)]
    pub limits: AllowanceConfig,
    /// What happens when its streamed answer breaks off after the first output; a caller may say otherwise by the header
    /// `forebay-mid-stream`. What is not streamed begins anew unseen.
    #[serde(default)]
    pub mid_stream: MidStreamConfig,
    /// What it does when its models are busy. Unless given: requests wait, as long as their budget allows.
    #[serde(default)]
    pub when_busy: Option<WhenBusyConfig>,
    /// How long a stream of it goes on when its reader is gone, who can read on meanwhile (`Last-Event-ID`). Unless given: it
    /// ends at once, but for a request that says otherwise by `forebay-resume`.
    #[serde(default)]
    pub resume: Option<Time>,
    /// Its stages in any order: what feeds what is said by `from` and `each`.
    #[schemars(length(min = 1))]
    pub stages: Vec<StageConfig>,
    /// The stage whose output is the answer. Unless given: the last one.
    #[serde(default)]
    pub result: Option<String>,
    /// What a durable run of it may be given (`forebay run --param`), with what it is when it is not; `null`: it must be given.
    /// Stages take it as `{{ params.NAME }}`.
    #[serde(default)]
    pub params: Map<String, Json>,
    /// How many stages of a durable run may be under way at the same time. Unless given: as many as there are places.
    #[serde(default)]
    pub parallel: Option<Count>,
}

/// The limits of a pipeline or of one stage; what is not given is limited by what is around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Until the caller has something useful on the screen. Checked when the file is: some stage must be able to show
    /// something in time. At run time it is measured and reported, not enforced: what comes late still comes.
    pub first_output: Option<Time>,
    /// Until the end.
    pub total: Option<Time>,
    /// Tokens, in and out, over all attempts.
    pub tokens: Option<Count>,
    /// Dollars over all attempts.
    pub usd: Option<Usd>,
}

impl BudgetConfig {
    /// The same in the words of the contract.
    pub fn budget(&self) -> Budget {
        Budget {
            first_output: self.first_output.map(|t| t.0),
            total: self.total.map(|t| t.0),
            tokens: self.tokens.map(|c| c.0),
            usd: self.usd.map(|u| u.0),
        }
    }
}

/// The type of a boundary: `text`, `document`, `chunks`, `messages`, `json`, `embedding`, `table`, `list of …`, or
/// `{json: SCHEMA}`.
#[derive(Debug, Clone, PartialEq)]
pub struct KindConfig(pub Kind);

impl Default for KindConfig {
    fn default() -> Self {
        KindConfig(Kind::Document)
    }
}

fn text() -> KindConfig {
    KindConfig(Kind::Text)
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "text" => Kind::Text,
        "document" => Kind::Document,
        "chunks" => Kind::Chunks,
        "messages" => Kind::Messages,
        "json" => Kind::Json(None),
        "embedding" => Kind::Embedding,
        "table" => Kind::Table,
        _ => Kind::List(Box::new(kind(name.strip_prefix("list of ")?)?)),
    })
}

impl<'de> Deserialize<'de> for KindConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let found = match Json::deserialize(d)? {
            Json::String(name) => kind(&name),
            Json::Object(mut map) => map.remove("json").map(|schema| Kind::Json(Some(schema.into()))),
            _ => None,
        };
        found.map(KindConfig).ok_or_else(|| D::Error::custom("expected a type such as text or document"))
    }
}

impl JsonSchema for KindConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Kind".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The type of a boundary.",
            "x-expected": "a type: text, document, chunks, messages, json, embedding, table, list of …",
            "anyOf": [
                {"type": "string", "pattern": "^(list of ){0,4}(text|document|chunks|messages|json|embedding|table)$",
                 "x-expected": "a type: text, document, chunks, messages, json, embedding, table, list of …"},
                {"type": "object", "properties": {"json": {"type": "object", "description": "A JSON Schema."}},
                 "required": ["json"], "additionalProperties": false}
            ]
        })
    }
}

/// A stage: `name: {KIND: {…}, from, each, parallel, on_failure, stream, draft, budget}`.
#[derive(Debug, Clone, PartialEq)]
pub struct StageConfig(pub StageSpec);

/// The fields every kind of stage has, apart from the one named after its kind.
pub const STAGE_FIELDS: [&str; 14] = [
    "from",
    "each",
    "parallel",
    "on_failure",
    "stream",
    "draft",
    "budget",
    "after",
    "approval",
    "group",
    "retries",
    "cache",
    "matrix",
    "collect",
];

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StageFields {
    from: Option<Json>,
    each: Option<String>,
    parallel: Option<Count>,
    on_failure: OnFailureConfig,
    stream: Option<bool>,
    draft: Option<bool>,
    budget: BudgetConfig,
    after: Vec<String>,
    approval: Option<String>,
    group: Option<String>,
    retries: Option<Count>,
    cache: Option<bool>,
    matrix: IndexMap<String, Vec<Json>>,
    collect: Option<CollectConfig>,
}

/// The table that a stage gives that is run for each element.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CollectConfig {
    keep: Vec<String>,
    #[serde(rename = "as")]
    output: String,
}

impl Default for CollectConfig {
    fn default() -> Self {
        CollectConfig { keep: Vec::new(), output: "output".to_owned() }
    }
}

/// The failure contract as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnFailureConfig {
    #[default]
    Fail,
    Partial,
    Skip,
    Retry(Count),
    Fallback(String),
    Default(Json),
}

impl From<OnFailureConfig> for OnFailure {
    fn from(c: OnFailureConfig) -> Self {
        match c {
            OnFailureConfig::Fail => OnFailure::Fail,
            OnFailureConfig::Partial => OnFailure::Partial,
            OnFailureConfig::Skip => OnFailure::Skip,
            OnFailureConfig::Retry(n) => OnFailure::Retry(u32::try_from(n.0).unwrap_or(u32::MAX)),
            OnFailureConfig::Fallback(stage) => OnFailure::Fallback(StageName::new(stage)),
            OnFailureConfig::Default(Json::String(text)) => OnFailure::Default(Value::Text(text.into())),
            OnFailureConfig::Default(json) => OnFailure::Default(Value::Json(json.into())),
        }
    }
}

impl<'de> Deserialize<'de> for StageConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let entry = Map::deserialize(d)?.into_iter().next();
        let Some((name, Json::Object(body))) = entry else {
            return Err(D::Error::custom("expected a stage: name: {KIND: {…}}"));
        };
        let (fields, kinds): (Map<_, _>, Map<_, _>) =
            body.into_iter().partition(|(k, _)| STAGE_FIELDS.contains(&k.as_str()));
        let Some((kind, config)) = kinds.into_iter().next() else {
            return Err(D::Error::custom("expected a kind of stage"));
        };
        let fields: StageFields = serde_json::from_value(Json::Object(fields)).map_err(D::Error::custom)?;
        let from = match fields.from {
            None | Some(Json::Null) => Source::Auto,
            Some(Json::Object(map)) => Source::Named(
                map.into_iter().filter_map(|(k, v)| Some((k, v.as_str()?.to_owned()))).collect(),
            ),
            Some(other) => Source::One(other.as_str().unwrap_or_default().to_owned()),
        };
        Ok(StageConfig(StageSpec {
            name: StageName::new(name),
            kind,
            // `extract:` with nothing behind it is a stage without settings.
            config: if config.is_null() { Json::Object(Map::new()) } else { config },
            from,
            each: fields.each,
            parallel: fields.parallel.map(|c| u32::try_from(c.0).unwrap_or(u32::MAX)),
            on_failure: fields.on_failure.into(),
            stream: fields.stream,
            draft: fields.draft,
            budget: fields.budget.budget(),
            runs: StageInRuns {
                after: fields.after.into_iter().map(StageName::new).collect(),
                approval: fields.approval,
                group: fields.group,
                retries: fields.retries.map(|n| u32::try_from(n.0).unwrap_or(u32::MAX)),
                cache: fields.cache,
                matrix: fields.matrix.into_iter().collect(),
                collect: fields.collect.map(|c| Collect { keep: c.keep, output: c.output }),
            },
        }))
    }
}

impl JsonSchema for StageConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StageEntry".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // The definition `Stage` is composed with the kinds of the registry by `schema::of`.
        let budget = generator.subschema_for::<BudgetConfig>();
        let count = generator.subschema_for::<Count>();
        json_schema!({
            "description": "A stage: its name, then what it does.",
            "type": "object", "minProperties": 1, "maxProperties": 1, "x-forebay": "stage-entry",
            "x-expected": "a stage: `name: {KIND: {…}}`",
            "additionalProperties": {
                "type": "object", "additionalProperties": false, "x-forebay": "stage",
                "x-expected": "a map with the kind of the stage, such as `{generate: {…}}`",
                "properties": {
                    "from": {
                        "description": "Where its input comes from: a stage or `input`; or a map, input name → stage.",
                        "x-expected": "a stage's name, or a map of input names to stages",
                        "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]
                    },
                    "each": {"type": "string", "description": "Run once for each element of this stage's output; in durable runs, for each row of its table too."},
                    "parallel": count,
                    "on_failure": {
                        "description": "What happens when it fails. Unless given: `fail`.",
                        "x-expected": "fail, partial, skip, {retry: N}, {fallback: STAGE} or {default: VALUE}",
                        "anyOf": [
                            {"type": "string", "enum": ["fail", "partial", "skip"]},
                            {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
                             "properties": {
                                "retry": generator.subschema_for::<Count>(),
                                "fallback": {"type": "string"},
                                "default": {}
                             }}
                        ]
                    },
                    "stream": {"type": "boolean", "description": "Whether its output is the streamed answer."},
                    "draft": {"type": "boolean", "description": "Whether its output is shown as a draft."},
                    "budget": budget,
                    "after": {
                        "description": "Of a durable run: stages that it waits for without taking their output.",
                        "type": "array", "items": {"type": "string"}
                    },
                    "approval": {
                        "type": "string",
                        "description": "Of a durable run: what somebody is asked before it starts (`forebay runs approve`)."
                    },
                    "group": {
                        "type": "string",
                        "description": "Of a durable run: the concurrency group (`runs.concurrency`) whose places it takes."
                    },
                    "retries": generator.subschema_for::<Count>(),
                    "cache": {
                        "type": "boolean",
                        "description": "Of a durable run: whether its output is taken from an earlier run that made it of the same. Unless given: as its kind says."
                    },
                    "matrix": {
                        "description": "Of a durable run: it is run once for every combination of these values, which it takes as `{{ matrix.NAME }}`.",
                        "type": "object", "additionalProperties": {"type": "array", "minItems": 1}
                    },
                    "collect": {
                        "description": "Of a durable run, with `each`: its output is a table with a row for each element: the fields of `keep`, the output, `status` (done, partial, failed), `error`, `request_id`, `input_tokens`, `output_tokens` and `cost_usd`.",
                        "x-expected": "a map such as {keep: [path], as: summary}",
                        "type": "object", "additionalProperties": false,
                        "properties": {
                            "keep": {
                                "description": "The fields of the element that its row has.",
                                "type": "array", "items": {"type": "string"}
                            },
                            "as": {
                                "description": "What the column of the output is called. Unless given: `output`.",
                                "type": "string", "minLength": 1
                            }
                        }
                    }
                }
            }
        })
    }
}

impl PipelineConfig {
    /// The same in the words of the pipeline crate.
    pub fn spec(&self) -> PipelineSpec {
        PipelineSpec {
            input: self.input.0.clone(),
            output: self.output.0.clone(),
            budget: self.budget.budget(),
            stages: self.stages.iter().map(|s| s.0.clone()).collect(),
            result: self.result.as_deref().map(StageName::new),
            durable: DurableSpec {
                triggered: self.on.as_ref().is_some_and(OnConfig::is_durable),
                params: self.params.clone(),
                parallel: self.parallel.map(|n| u32::try_from(n.0).unwrap_or(u32::MAX)),
            },
        }
    }
}
