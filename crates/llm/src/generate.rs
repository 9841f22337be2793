//! The stage kind `generate`: a prompt rendered from the stage's inputs, answered by a model, streamed when shown.
//!
//! It records nothing itself: the call does. It keeps within the pipeline's budget by asking for no more output than
//! the budget has left. An answer that breaks off is partial; a JSON answer that does not fit its schema has failed.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use contract::{
    BoxFuture, Code, Context, Error, Event, Inputs, Kind, ModelName, Outcome, Signature, Stage, TenantId,
    Value,
};
use futures_util::StreamExt;
use pipeline::{Problem, Shows, Site, StageKind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::{Answer, ChatRequest, Delta, Models, prompts::Prompt};

/// Answers kept by the hash of what was asked. Tenants never see each other's.
pub trait PartCache: Send + Sync {
    /// The answer, when there is one. An error of the store is a miss.
    fn get<'a>(&'a self, tenant: &'a TenantId, key: &'a [u8; 32]) -> BoxFuture<'a, Option<String>>;
    /// Keeps an answer; failing to is not an error of the request.
    fn put<'a>(&'a self, tenant: &'a TenantId, key: &'a [u8; 32], text: &'a str) -> BoxFuture<'a, ()>;
}

/// The configuration of a generate stage.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The model, by its name in `models`.
    #[schemars(extend("x-forebay-ref" = "model"))]
    model: String,
    /// The prompt file, relative to the project folder.
    #[serde(default)]
    prompt: Option<PathBuf>,
    /// The prompt itself, instead of a file.
    #[serde(default)]
    prompt_text: Option<String>,
    /// At most this many tokens of output.
    #[serde(default)]
    #[schemars(range(min = 1))]
    max_output_tokens: Option<u64>,
    /// Sampling temperature.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f64>,
    /// Texts that end the output.
    #[serde(default)]
    stop: Vec<String>,
    /// JSON Schema of the answer: the output is then JSON instead of text.
    #[serde(default)]
    schema: Option<Json>,
    /// Keep answers and use them again for equal prompts.
    #[serde(default)]
    cache: bool,
}

/// Makes `generate` stages.
#[derive(Clone)]
pub struct GenerateKind {
    models: Models,
    project: PathBuf,
    cache: Option<Arc<dyn PartCache>>,
}

impl GenerateKind {
    /// Stages that ask `models` and read prompts below `project`. Without a cache, `cache: true` has no effect.
    pub fn new(models: Models, project: PathBuf, cache: Option<Arc<dyn PartCache>>) -> Self {
        GenerateKind { models, project, cache }
    }

    fn source(&self, config: &Config) -> Result<String, Problem> {
        let problem = |pointer: &str, message: String, remedy: &str| Problem {
            pointer: pointer.to_owned(),
            message,
            remedy: remedy.to_owned(),
        };
        match (&config.prompt, &config.prompt_text) {
            (None, Some(text)) => Ok(text.clone()),
            (Some(path), None) => {
                if !path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
                    let m = format!("`{}` leaves the project folder", path.display());
                    return Err(problem("/prompt", m, "name a file inside the project folder"));
                }
                std::fs::read_to_string(self.project.join(path)).map_err(|e| {
                    let m = format!("the prompt file `{}` cannot be read: {}", path.display(), e.kind());
                    problem("/prompt", m, "create the file, or correct its path")
                })
            }
            _ => {
                let m = "exactly one of `prompt` and `prompt_text` is needed".to_owned();
                Err(problem("", m, "name a prompt file with `prompt`, or write the prompt in `prompt_text`"))
            }
        }
    }
}

impl StageKind for GenerateKind {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(Config).to_value()
    }

    fn build(&self, config: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let problem = |pointer: &str, message: String, remedy: &str| Problem {
            pointer: pointer.to_owned(),
            message,
            remedy: remedy.to_owned(),
        };
        let config = Config::deserialize(config)
            .map_err(|e| vec![problem("", e.to_string(), "see the reference of `generate`")])?;
        let mut problems = Vec::new();
        let model = ModelName::from(config.model.as_str());
        // A registry for a check knows no model: the configuration checks the name by the schema's reference.
        if self.models.get(&model).is_none() && !self.models.names().is_empty() {
            let known: Vec<_> = self.models.names().iter().map(ToString::to_string).collect();
            let remedy = format!("use one of: {}", known.join(", "));
            problems.push(problem("/model", format!("there is no model `{model}`"), &remedy));
        }
        let validator = config.schema.as_ref().and_then(|s| match jsonschema::validator_for(s) {
            Ok(v) => Some(v),
            Err(e) => {
                problems.push(problem("/schema", format!("not a JSON Schema: {e}"), "correct the schema"));
                None
            }
        });
        let pointer = if config.prompt.is_some() { "/prompt" } else { "/prompt_text" };
        let prompt = self.source(&config).and_then(|source| {
            Prompt::parse(&source).map_err(|e| problem(pointer, e.to_string(), "correct the prompt"))
        });
        let prompt = match prompt {
            Ok(p) if problems.is_empty() => p,
            Ok(_) => return Err(problems),
            Err(p) => {
                problems.push(p);
                return Err(problems);
            }
        };
        let output = match &config.schema {
            Some(s) => Kind::Json(Some(Arc::new(s.clone()))),
            None => Kind::Text,
        };
        let signature = Signature {
            inputs: prompt.variables().map(|v| (v.to_owned(), Kind::Any)).collect(),
            output,
            streams: true,
            instant: false,
            blocking: false,
        };
        let cache = self.cache.clone().filter(|_| config.cache);
        let models = self.models.clone();
        Ok(Arc::new(Generate { models, model, prompt, config, signature, validator, cache }))
    }

    fn shows(&self) -> Shows {
        Shows::Deltas
    }
}

struct Generate {
    models: Models,
    model: ModelName,
    prompt: Prompt,
    config: Config,
    signature: Signature,
    validator: Option<jsonschema::Validator>,
    cache: Option<Arc<dyn PartCache>>,
}

impl Stage for Generate {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            match self.ask(cx, &inputs).await {
                Ok((text, None)) => self.value(text).into(),
                Ok((text, Some(e))) if self.validator.is_none() && !text.is_empty() => {
                    Outcome::Partial(Value::text(text), e)
                }
                Ok((_, Some(e))) | Err(e) => Outcome::Failed(e),
            }
        })
    }
}

impl Generate {
    /// The text, and why it is not all of it.
    async fn ask(&self, cx: &Context, inputs: &Inputs) -> Result<(String, Option<Error>), Error> {
        let request = self.request(inputs)?;
        let key = self.cache.as_ref().map(|c| (c, self.key(&request)));
        if let Some((cache, key)) = &key
            && let Some(text) = cache.get(&cx.tenant, key).await
        {
            cx.meter.cached(cx.stage.as_ref());
            show(cx, &text).await?;
            return Ok((text, None));
        }
        let request = self.within_budget(request, cx)?;
        let version = Some(self.prompt.version().to_owned());
        let mut completion = self.models.call_with_prompt(&self.model, request, version, cx).await?;
        let mut answer = Answer::default();
        while let Some(delta) = completion.next().await {
            match delta {
                Ok(delta) => {
                    if let Delta::Text(t) = &delta {
                        show(cx, t).await?;
                    }
                    answer.push(delta);
                }
                Err(e) => return Ok((answer.text, Some(e))),
            }
        }
        if answer.finish == Some(crate::FinishReason::ContentFilter) {
            let e = Error::new(Code::ContentFiltered, "the provider filtered the content");
            return Ok((answer.text, Some(e)));
        }
        // An answer cut by its output limit is not kept: with another limit it would be longer.
        if let (Some((cache, key)), Some(crate::FinishReason::Stop)) = (key, answer.finish) {
            cache.put(&cx.tenant, &key, &answer.text).await;
        }
        Ok((answer.text, None))
    }

    fn request(&self, inputs: &Inputs) -> Result<ChatRequest, Error> {
        // An input that its contract left out is empty text, so that a prompt can say `{% if notes %}`.
        let render = |name: &str| Some(inputs.get(name).map_or_else(|| "".into(), shown));
        let messages =
            self.prompt.render(render).map_err(|e| Error::new(Code::InvalidRequest, e.to_string()))?;
        Ok(ChatRequest {
            messages,
            max_output_tokens: self.config.max_output_tokens,
            temperature: self.config.temperature,
            stop: self.config.stop.clone(),
            response_format: self.config.schema.as_ref().map(|schema| {
                serde_json::json!({
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": schema, "strict": true},
                })
            }),
            stream: true,
            ..ChatRequest::default()
        })
    }

    fn within_budget(&self, mut request: ChatRequest, cx: &Context) -> Result<ChatRequest, Error> {
        let Some(settings) = self.models.get(&self.model) else { return Ok(request) };
        if cx.budget.tokens.is_none() && cx.budget.usd.is_none() {
            return Ok(request);
        }
        let input = settings.counter.request(&request);
        let usage = contract::Usage { input_tokens: input, output_tokens: 1, ..Default::default() };
        cx.meter.room(&cx.budget, input.saturating_add(1), settings.price.cost(&usage))?;
        if let Some(limit) = cx.budget.tokens {
            let left = limit.saturating_sub(cx.meter.spent().usage.total()).saturating_sub(input).max(1);
            request.max_output_tokens = Some(request.max_output_tokens.map_or(left, |m| m.min(left)));
        }
        Ok(request)
    }

    /// Hash of all that decides the answer.
    fn key(&self, request: &ChatRequest) -> [u8; 32] {
        let version = self.models.get(&self.model).and_then(|s| s.version.clone());
        let mut hash = blake3::Hasher::new();
        // Each field is preceded by its length: no two different lists of fields are the same bytes.
        let mut field = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(self.model.as_str().as_bytes());
        field(version.unwrap_or_default().as_bytes());
        for m in &request.messages {
            field(format!("{:?}", m.role).as_bytes());
            field(m.content.to_text().as_bytes());
        }
        let rest =
            (&request.max_output_tokens, &request.temperature, &request.stop, &request.response_format);
        field(format!("{rest:?}").as_bytes());
        *hash.finalize().as_bytes()
    }

    fn value(&self, text: String) -> Result<Value, Error> {
        let Some(validator) = &self.validator else { return Ok(Value::text(text)) };
        let parsed: Json = serde_json::from_str(text.trim())
            .map_err(|_| Error::new(Code::UpstreamError, "the model's answer is not JSON"))?;
        if validator.is_valid(&parsed) {
            Ok(Value::Json(Arc::new(parsed)))
        } else {
            Err(Error::new(Code::UpstreamError, "the model's answer does not fit its schema"))
        }
    }
}

async fn show(cx: &Context, text: &str) -> Result<(), Error> {
    match &cx.sink {
        Some(sink) => sink.send(Event::Delta { text: text.to_owned() }).await,
        None => Ok(()),
    }
}

/// A value as a prompt sees it: text, or a list of texts in which a missing element is `[missing]`.
fn shown(v: &Value) -> minijinja::Value {
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
            let item = |i: &Option<Value>| {
                i.as_ref().map_or_else(|| "[missing]".to_owned(), |v| shown(v).to_string())
            };
            let parts = items.iter().enumerate().map(|(n, i)| format!("[{}] {}", n + 1, item(i)));
            parts.collect::<Vec<_>>().join("\n\n").into()
        }
    }
}

impl std::fmt::Debug for GenerateKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenerateKind").field("project", &Path::new(&self.project)).finish_non_exhaustive()
    }
}
