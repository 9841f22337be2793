//! The configuration as a person writes it: one struct for each section. These docs are the manual: they become the
//! descriptions of the JSON Schema that editors show.

use ::models::rollout::RolloutConfig;
use contract::{Price, Secret};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::capture::CaptureConfig;
use super::choice::{CHAMPION, PipelineChoiceConfig, PromptConfig};
use super::dataset::DatasetConfig;
use super::feature::{FeaturesConfig, LookupConfig};
use super::jobs::JobsConfig;
use super::lineage::LineageConfig;
use super::monitor::{AlertsConfig, MonitorConfig};
use super::pipeline::PipelineConfig;
use super::pool::{BreakerConfig, EndpointConfig, FallbackConfig, HedgeConfig, PrefillConfig};
use super::runs::RunsConfig;
use super::storage::StorageConfig;
use super::units::{Count, Size, Time, Usd};

/// A Forebay project.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the server listens and what it takes.
    pub server: ServerConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// Models by name: a provider's, or one run here.
    pub models: IndexMap<String, ModelConfig>,
    /// Tenants by name: who shares the capacity, and how. A tenant that is not listed is as `default`.
    pub tenants: IndexMap<String, TenantConfig>,
    /// What single API keys may use, by their id (`forebay key list` shows it), besides what their tenant may.
    pub keys: IndexMap<String, AllowanceConfig>,
    /// What every single end user may use (the `user` of a request), within their tenant.
    pub each_user: AllowanceConfig,
    /// Pipelines by name. Each is callable as a model of the same name.
    pub pipelines: IndexMap<String, PipelineConfig>,
    /// Names that several pipelines answer to.
    pub choices: IndexMap<String, PipelineChoiceConfig>,
    /// Prompts whose versions are kept in the registry.
    pub prompts: IndexMap<String, PromptConfig>,
    /// Where datasets are kept: a folder relative to this file, or `s3://BUCKET/PREFIX` with the credentials of the environment
    /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …). Unless given: `.forebay/data`.
    pub warehouse: Option<String>,
    /// Datasets by name: where their rows come from, and what is expected of them.
    pub datasets: IndexMap<String, DatasetConfig>,
    /// Features of entities, and who may ask for them.
    pub features: FeaturesConfig,
    /// Models, choices and pipelines whose answers are kept, by their names here: a dataset `captured_NAME` of each, and one of all feedback.
    pub capture: IndexMap<String, CaptureConfig>,
    /// What is watched, by names that alerts and triggers know it by.
    pub monitors: IndexMap<String, MonitorConfig>,
    /// Who is told of alerts.
    pub alerts: AlertsConfig,
    /// Requests that are answered later.
    pub jobs: JobsConfig,
    /// Where keys, the ledger, jobs, batches, files and kept notes are.
    pub storage: StorageConfig,
    /// Durable runs of pipelines.
    pub runs: RunsConfig,
    /// Who else is told of what was made of what.
    pub lineage: LineageConfig,
    /// What is reported where.
    pub telemetry: TelemetryConfig,
    /// A price table, relative to this file: what `forebay prices import` made, or one in LiteLLM's JSON format. Unless
    /// given: `prices.json`, when there is one. Prices under `models` go before it.
    pub prices: Option<String>,
}

/// Where the server listens and what it takes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port.
    pub listen: String,
    /// The largest things it takes.
    pub limits: LimitsConfig,
    /// How long streams may go on after SIGTERM.
    pub drain: Time,
    /// Whether a change of this file, or of a file that it names, is noticed and put in place without a restart. SIGHUP and
    /// `forebay reload` do so in any case.
    pub watch: bool,
    /// How long a caller may take to send the head of a request, or send nothing of its body.
    pub read_timeout: Time,
    /// How long a reader may take nothing before its stream is ended.
    pub send_timeout: Time,
    /// What is kept of answers for requests that are repeated under an `Idempotency-Key`, and for readers that come back.
    pub replay: ReplayConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            listen: "127.0.0.1:8080".into(),
            limits: LimitsConfig::default(),
            drain: seconds(30),
            watch: true,
            read_timeout: seconds(15),
            send_timeout: seconds(60),
            replay: ReplayConfig::default(),
        }
    }
}

/// What is kept of answers. Nothing is kept of those nobody asked to keep, nor over the end of the server.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayConfig {
    /// All answers together; at least 1mb. When it is full, those that are over go, the oldest first.
    pub memory: Size,
    /// One answer. The beginning of a longer one is dropped: it cannot be repeated, and is read on near its end only.
    pub answer: Size,
    /// How long an answer is kept once it is over. A repeat that comes later is a new request.
    pub keep: Time,
    /// The longest that an answer may go on without a reader (`forebay-resume`, and `resume` of a pipeline).
    pub resume: Time,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        ReplayConfig {
            memory: Size(64_000_000),
            answer: Size(4_000_000),
            keep: seconds(600),
            resume: seconds(300),
        }
    }
}

/// The largest things the server takes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// A request body.
    pub body: Size,
    /// All request bodies together that are being read.
    pub bodies: Size,
    /// A document's text after it was extracted.
    pub document: Size,
    /// All files of a tenant together (`/v1/files`). A single one may be as long as a request body.
    pub files: Size,
    /// All headers of a request together.
    pub header: Size,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            body: Size(32_000_000),
            bodies: Size(512_000_000),
            document: Size(16_000_000),
            files: Size(1_000_000_000),
            header: Size(32 << 10),
        }
    }
}

/// Who may call.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Whether a call needs a key (made by `forebay key create`). Unless given: yes, except on a loopback address.
    pub required: Option<bool>,
}

/// A model: exactly one of `openai`, `anthropic`, `local`, `onnx`, `registry` and `choice`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// The model's name at an endpoint that speaks OpenAI's protocol (OpenAI itself, vLLM, Ollama, …).
    pub openai: Option<String>,
    /// The model's name at an endpoint that speaks Anthropic's protocol.
    pub anthropic: Option<String>,
    /// A GGUF file relative to this one, or the name of a model that `forebay models pull` fetched.
    pub local: Option<String>,
    /// An ONNX file relative to this one: a predictive model, asked by the Open Inference Protocol (`/v2/models/NAME/infer`) and
    /// by `/invocations`.
    pub onnx: Option<String>,
    /// The name of a registered model: a predictive model whose version is the one that `alias` stands for. When the alias moves, the
    /// other version is loaded and then served; the one before stays in memory for the way back.
    pub registry: Option<String>,
    /// Chat models of this file of which one answers to this name: which one is kept in the registry, under the same name, and moved by
    /// `forebay models choose`; the first one until somebody does. Whoever calls it, and every stage, asks the name of the choice.
    pub choice: Vec<String>,
    /// How another model of a `choice` comes to answer: some users first, compared with those who are answered as before. Without it,
    /// everybody is answered by it at once.
    pub rollout: Option<RolloutConfig>,
    /// The alias whose version of a `registry` model or a `choice` answers. Unless given: `champion`.
    pub alias: Option<String>,
    /// Feature views in which columns of an `onnx` or `registry` model are looked up when a request leaves them out: each by the keys that
    /// the request says, as it is at that moment. A column is the feature of its name, or `VIEW__FEATURE`, as in a training set.
    pub features: IndexMap<String, LookupConfig>,
    /// How requests to an `onnx` or `registry` model are brought together.
    pub batch: BatchConfig,
    /// How often an `onnx` or `registry` model is in memory, and so may run at once. Unless given: once, or once for each core when its runs are
    /// over sooner than a thread is woken.
    pub instances: Option<Count>,
    /// The endpoint, up to and without `/chat/completions` or `/v1/messages`. Unless given: the provider's own.
    pub base_url: Option<String>,
    /// The provider's key: write `${NAME}`, not the key itself.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub api_key: Option<Secret>,
    /// Models to try in turn when this one cannot answer.
    pub fallback: Vec<FallbackConfig>,
    /// More endpoints of the same model: they share its load, and one that fails rests. The model's own address is one of them,
    /// unless it names neither `base_url` nor `api_key`. At most 63.
    #[schemars(length(max = 63))]
    pub endpoints: Vec<EndpointConfig>,
    /// When one of its endpoints rests after failures.
    pub breaker: BreakerConfig,
    /// A second attempt beside one that is slow to begin.
    pub hedge: Option<HedgeConfig>,
    /// Whether and how it goes on behind the beginning of an answer. Unless given: `plain` for `anthropic`, else `off`.
    pub prefill: Option<PrefillConfig>,
    /// What it costs. Unless given: from the price table; a local model is free.
    pub price: Option<PriceConfig>,
    /// Tokens of prompt and answer together. Unless given: from the price table or the file.
    pub context_window: Option<Count>,
    /// The longest answer in tokens.
    pub max_output_tokens: Option<Count>,
    /// How fast all callers together may ask for it by name.
    pub limits: RatesConfig,
    /// The most requests at once; what the upstream bears is found below this.
    pub max_concurrency: Option<Count>,
    /// The longest wait for its turn that a caller is let into: who would wait longer is refused at once, and told when to come
    /// again. Unless given: as many may wait before a caller as half of what is answered at once, and 16 at least. Jobs and the
    /// stages of pipelines wait as long as their own budgets say.
    pub max_wait: Option<Time>,
    /// Keep its answers, and give them again to equal requests. Unless given: every request is a call.
    pub cache: Option<CacheConfig>,
    /// How long to wait for it.
    pub timeouts: TimeoutsConfig,
    /// A local model's worker is stopped after this long without a request.
    pub idle_stop: Option<Time>,
    /// A local model's threads. Unless given: one for each core; of an `onnx` or `registry` model one, so that requests share the machine.
    pub threads: Option<Count>,
    /// A local model's context in tokens, for each stream.
    pub context: Option<Count>,
    /// How many streams a local model serves at once.
    pub parallel: Option<Count>,
}

pub(super) fn secret<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.map(Secret::new))
}

/// How requests to a predictive model are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Whether requests share runs. Unless given: when a try at its start shows that together is as apart.
    pub share: Option<bool>,
    /// The most rows of a run that requests share.
    pub max_rows: Count,
    /// The longest that a request waits for others while the model is free. It waits only under load, and only when that costs
    /// less than it spares.
    pub delay: Time,
    /// The most requests that may wait.
    pub queue: Count,
}

impl Default for BatchConfig {
    fn default() -> Self {
        BatchConfig {
            share: None,
            max_rows: Count(64),
            delay: Time(std::time::Duration::from_millis(1)),
            queue: Count(1_024),
        }
    }
}

/// What a model costs, in dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// Input tokens.
    pub input: Usd,
    /// Output tokens.
    pub output: Usd,
    /// Input tokens read from the provider's cache. Unless given: as `input`.
    pub cached_input: Option<Usd>,
}

impl PriceConfig {
    /// The same in the unit bills are computed in.
    pub fn price(&self) -> Price {
        let nanos = |usd: Usd| usd.0.nanos();
        Price {
            input: nanos(self.input),
            output: nanos(self.output),
            cached_input: nanos(self.cached_input.unwrap_or(self.input)),
            long: None,
        }
    }
}

/// Which answers of a model are kept, in memory: complete ones only. A request equal in everything that decides the answer
/// is answered with it, and equal requests at the same time are one call.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// For how long.
    pub ttl: Time,
    /// All of them together; those used least recently go first.
    pub max_bytes: Size,
    /// Who is given them: everybody of the `tenant`, or only the end `user` who was answered first (a request that names
    /// none is then always a call). Never another tenant.
    pub scope: CacheScopeConfig,
    /// Whether to keep also what was asked for with a temperature above zero: the same answer again where the caller may
    /// want another.
    pub sampled: bool,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig {
            ttl: seconds(3_600),
            max_bytes: Size(64_000_000),
            scope: CacheScopeConfig::Tenant,
            sampled: false,
        }
    }
}

/// Who is given a kept answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheScopeConfig {
    /// Everybody of the tenant.
    Tenant,
    /// The end user who was answered first.
    User,
}

/// How long to wait for an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsConfig {
    /// For a connection. Unless given: 5s.
    pub connect: Option<Time>,
    /// For the first token of the answer. Unless given: 10s where another endpoint or a fallback can be asked instead; else,
    /// and for a local model, 60s. More for models that think before they speak.
    pub first_token: Option<Time>,
    /// Between two tokens. Unless given: 15s, and 30s for a local model.
    pub silence: Option<Time>,
}

impl ModelConfig {
    /// Whether it is a predictive model, which is asked by other routes than language models.
    pub fn predicts(&self) -> bool {
        self.onnx.is_some() || self.registry.is_some()
    }

    /// Whether it is a name that several chat models answer to.
    pub fn is_choice(&self) -> bool {
        !self.choice.is_empty()
    }

    /// Whether it is a chat model itself.
    pub fn is_chat(&self) -> bool {
        !self.predicts() && !self.is_choice()
    }

    /// The alias of a model of the registry.
    pub fn alias(&self) -> &str {
        self.alias.as_deref().unwrap_or(CHAMPION)
    }

    /// How long to wait for it.
    pub fn timeouts(&self) -> llm::Timeouts {
        let elsewhere = !self.fallback.is_empty() || !self.endpoints.is_empty();
        let (first, silence) = match (self.local.is_some(), elsewhere) {
            (true, _) => (60, 30),
            (false, true) => (10, 15),
            (false, false) => (60, 15),
        };
        let t = &self.timeouts;
        llm::Timeouts {
            connect: t.connect.unwrap_or(seconds(5)).0,
            first_token: t.first_token.unwrap_or(seconds(first)).0,
            silence: t.silence.unwrap_or(seconds(silence)).0,
        }
    }
}

/// A tenant: who shares the capacity, and how.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantConfig {
    /// Its share of a busy model, against the other tenants' weights.
    pub weight: Count,
    /// Tenants of a higher priority are served before all of a lower one.
    pub priority: PriorityConfig,
    /// What it may use.
    pub budget: AllowanceConfig,
}

impl Default for TenantConfig {
    fn default() -> Self {
        TenantConfig {
            weight: Count(1),
            priority: PriorityConfig::Normal,
            budget: AllowanceConfig::default(),
        }
    }
}

/// How urgent a tenant's work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriorityConfig {
    /// What can wait.
    Batch,
    /// A request that somebody looks at.
    Normal,
    /// Before everybody else.
    High,
}

/// How fast something may be used; what is not given is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RatesConfig {
    /// Tokens, in and out, in any minute.
    pub tokens_per_minute: Option<Count>,
    /// Requests in any minute.
    pub requests_per_minute: Option<Count>,
    /// Streams at the same time.
    pub concurrent_streams: Option<Count>,
}

/// What may be used in a time; what is not given is not limited. Days and months are UTC's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AllowanceConfig {
    /// Dollars in a day.
    pub usd_per_day: Option<Usd>,
    /// Dollars in a calendar month.
    pub usd_per_month: Option<Usd>,
    /// Tokens, in and out, in a day.
    pub tokens_per_day: Option<Count>,
    /// Tokens, in and out, in a calendar month.
    pub tokens_per_month: Option<Count>,
    /// Tokens, in and out, in any minute.
    pub tokens_per_minute: Option<Count>,
    /// Requests in any minute.
    pub requests_per_minute: Option<Count>,
    /// Streams at the same time.
    pub concurrent_streams: Option<Count>,
}

/// What is reported where.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// A collector that takes OTLP over HTTP, such as `http://localhost:4318`: traces and metrics are sent there. Unless
    /// given: to where the variable `OTEL_EXPORTER_OTLP_ENDPOINT` says, or nowhere.
    pub otlp: Option<String>,
    /// What is logged: a level, or a filter such as `info,forebay=debug`.
    pub log: String,
    /// The share of requests that are traced, from 0 to 1, of those whose caller does not decide by a `traceparent`.
    #[schemars(range(min = 0, max = 1))]
    pub sample: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        TelemetryConfig { otlp: None, log: "info".into(), sample: 1.0 }
    }
}

const fn seconds(n: u64) -> Time {
    Time(std::time::Duration::from_secs(n))
}
