//! The stage kind `generate`: a prompt rendered from the stage's inputs, answered by a model, streamed when shown.
//!
//! It records nothing itself: the call does. It keeps within the pipeline's budget by asking for no more output than
//! the budget has left, calls at the same time counted. An answer that breaks off is partial; a JSON answer that does
//! not fit its schema has failed. A list too long for the model's window is merged in groups first, when the
//! configuration says so ([`collapse`]).

pub mod cascade;
mod collapse;
mod config;
mod shown;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{
    BoxFuture, Code, Context, Effort, Error, Event, Held, Inputs, Kind, ModelName, Outcome, Signature, Sink,
    Stage, TenantId, Value,
};
use futures_util::StreamExt;
use pipeline::{Problem, Shows, Site, StageKind};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::prompts::{Prompt, Prompts, Source};
use crate::{Answer, Asking, ChatRequest, Delta, FinishReason, Models};
use config::{Config, OnLength};
use shown::shown;

/// Under a budget, a call without a limit of its own asks for no more than this.
const OUTPUT_UNDER_BUDGET: u64 = 4_096;

/// Answers kept by the hash of what was asked. Tenants never see each other's.
pub trait PartCache: Send + Sync {
    /// The answer, when there is one. An error of the store is a miss.
    fn get<'a>(&'a self, tenant: &'a TenantId, key: &'a [u8; 32]) -> BoxFuture<'a, Option<String>>;
    /// Keeps an answer; failing to is not an error of the request.
    fn put<'a>(&'a self, tenant: &'a TenantId, key: &'a [u8; 32], text: &'a str) -> BoxFuture<'a, ()>;
}

/// Makes `generate` stages.
#[derive(Clone)]
pub struct GenerateKind {
    models: Models,
    project: PathBuf,
    cache: Option<Arc<dyn PartCache>>,
    prompts: Prompts,
}

impl GenerateKind {
    /// Stages that ask `models` and read prompts below `project`. Without a cache, `cache: true` has no effect.
    pub fn new(models: Models, project: PathBuf, cache: Option<Arc<dyn PartCache>>) -> Self {
        GenerateKind { models, project, cache, prompts: Prompts::default() }
    }

    /// The same, where these prompts have versions.
    #[must_use]
    pub fn with_prompts(self, prompts: Prompts) -> Self {
        GenerateKind { prompts, ..self }
    }

    fn source(&self, config: &Config) -> Result<String, Problem> {
        match (&config.prompt, &config.prompt_text) {
            (None, Some(text)) => Ok(text.clone()),
            (Some(path), None) => self.file(path, "/prompt"),
            _ => {
                let m = "exactly one of `prompt` and `prompt_text` is needed".to_owned();
                Err(problem("", m, "name a prompt file with `prompt`, or write the prompt in `prompt_text`"))
            }
        }
    }

    fn file(&self, path: &Path, pointer: &str) -> Result<String, Problem> {
        if !path.as_os_str().is_empty() && !pipeline::is_below(path) {
            let m = format!("`{}` leaves the project folder", path.display());
            return Err(problem(pointer, m, "name a file inside the project folder"));
        }
        let path = self.project.join(path);
        // A pipe or a device would be waited for without end.
        if path.exists() && !path.is_file() {
            let m = format!("`{}` is not a regular file", path.display());
            return Err(problem(pointer, m, "name a text file"));
        }
        std::fs::read_to_string(&path).map_err(|e| {
            let m = format!("the prompt file `{}` cannot be read: {}", path.display(), e.kind());
            problem(pointer, m, "create the file, or correct its path")
        })
    }

    /// The prompt that merges groups of a list: its own, or the stage's.
    fn collapsing(&self, config: &Config) -> Result<Option<Source>, Problem> {
        let Some(path) = config.collapse.as_ref().and_then(|c| c.prompt.as_ref()) else { return Ok(None) };
        let pointer = "/collapse/prompt";
        let source = self.file(path, pointer)?;
        let prompt =
            Prompt::parse(&source).map_err(|e| problem(pointer, e.to_string(), "correct the prompt"))?;
        Ok(Some(self.prompts.source(path, prompt)))
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
        let config = Config::deserialize(config)
            .map_err(|e| vec![problem("", e.to_string(), "see the reference of `generate`")])?;
        Ok(Arc::new(self.stage(config)?))
    }

    fn files(&self, config: &Json) -> Vec<PathBuf> {
        let Ok(config) = Config::deserialize(config) else { return Vec::new() };
        config.prompt.into_iter().chain(config.collapse.and_then(|c| c.prompt)).collect()
    }

    fn shows(&self) -> Shows {
        Shows::Deltas
    }
}

impl GenerateKind {
    fn stage(&self, config: Config) -> Result<Generate, Vec<Problem>> {
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
            let prompt =
                Prompt::parse(&source).map_err(|e| problem(pointer, e.to_string(), "correct the prompt"))?;
            Ok(match &config.prompt {
                Some(path) => self.prompts.source(path, prompt),
                None => prompt.into(),
            })
        });
        let (prompt, collapsing) = match (prompt, self.collapsing(&config)) {
            (Ok(p), Ok(c)) if problems.is_empty() => (p, c),
            (p, c) => {
                problems.extend(p.err());
                problems.extend(c.err());
                return Err(problems);
            }
        };
        let output = match &config.schema {
            Some(s) => Kind::Json(Some(Arc::new(s.clone()))),
            None => Kind::Text,
        };
        let signature = Signature {
            inputs: prompt.file().variables().map(|v| (v.to_owned(), Kind::Any)).collect(),
            output,
            streams: true,
            instant: false,
            effort: Effort::Waits,
        };
        let cache = self.cache.clone().filter(|_| config.cache);
        let models = self.models.clone();
        let logprobs = false;
        Ok(Generate { models, model, prompt, collapsing, config, signature, validator, cache, logprobs })
    }
}

fn problem(pointer: &str, message: String, remedy: &str) -> Problem {
    Problem { pointer: pointer.to_owned(), message, remedy: remedy.to_owned() }
}

struct Generate {
    models: Models,
    model: ModelName,
    prompt: Source,
    collapsing: Option<Source>,
    config: Config,
    signature: Signature,
    validator: Option<jsonschema::Validator>,
    cache: Option<Arc<dyn PartCache>>,
    /// Whether the model is asked how likely its tokens were.
    logprobs: bool,
}

impl Stage for Generate {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn models(&self) -> Vec<ModelName> {
        vec![self.model.clone()]
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            let inputs = match collapse::until_it_fits(self, cx, inputs).await {
                Ok(i) => i,
                Err(e) => return Outcome::Failed(e),
            };
            let asked = async {
                let prompt = self.prompt.of(cx)?;
                self.ask(cx, &prompt, &inputs, cx.sink.as_deref()).await
            };
            match asked.await {
                Ok((answer, None)) => self.value(answer.text).into(),
                Ok((answer, Some(e))) if self.validator.is_none() && !answer.text.is_empty() => {
                    Outcome::Partial(Value::text(answer.text), e)
                }
                Ok((_, Some(e))) | Err(e) => Outcome::Failed(e),
            }
        })
    }
}

impl Generate {
    /// The answer, and why it is not all there. Of one that was kept there is the text alone.
    async fn ask(
        &self,
        cx: &Context,
        prompt: &Prompt,
        inputs: &Inputs,
        sink: Option<&dyn Sink>,
    ) -> Result<(Answer, Option<Error>), Error> {
        let request = self.request(prompt, inputs)?;
        let asked_for = request.max_output_tokens;
        let key = self.cache.as_ref().map(|c| (c, self.key(&request)));
        // How old a part is nobody knows: it does only for who does not ask.
        let any_age = cx.freshness.max_age.is_none() && !cx.freshness.no_store;
        if let Some((cache, key)) = &key
            && any_age
            && let Some(text) = cache.get(&cx.tenant, key).await
        {
            cx.meter.cached(cx.stage.as_ref());
            show(sink, &text).await?;
            return Ok((Answer { text, ..Answer::default() }, None));
        }
        let (request, _held) = self.within_budget(request, cx)?;
        let cut_by_budget = request.max_output_tokens != asked_for;
        let version = Some(prompt.version().to_owned());
        let asking = Asking { prompt_version: version, unseen: sink.is_none(), ..Asking::default() };
        let mut completion = self.models.call_as(&self.model, request, asking, cx).await?;
        let stands_in = *completion.model() != self.model;
        let mut answer = Answer::default();
        while let Some(delta) = completion.next().await {
            match delta {
                Ok(delta) => {
                    match (&delta, sink) {
                        (Delta::Text(t), _) => show(sink, t).await?,
                        (Delta::Reset, Some(sink)) => sink.send(Event::Reset {}).await?,
                        _ => {}
                    }
                    answer.push(delta);
                }
                Err(e) => return Ok((answer, Some(e))),
            }
        }
        // Ends the attempt in the meter before what it held is free.
        drop(completion);
        if answer.finish == Some(FinishReason::ContentFilter) {
            let e = Error::new(Code::ContentFiltered, "the provider filtered the content");
            return Ok((answer, Some(e)));
        }
        let cut = answer.finish == Some(FinishReason::Length);
        if cut && self.config.on_length == OnLength::Sentence {
            cut_to_sentence(&mut answer.text);
        }
        // What the budget cut short is not kept: with more room it would be longer. Nor is what a fallback said: this model
        // is to be asked again.
        if let Some((cache, key)) = key
            && !stands_in
            && !cx.freshness.no_store
            && (answer.finish == Some(FinishReason::Stop) || cut && !cut_by_budget)
        {
            cache.put(&cx.tenant, &key, &answer.text).await;
        }
        if cut && self.config.on_length == OnLength::Partial {
            let m = "the answer reached its limit of tokens and was cut";
            return Ok((answer, Some(Error::new(Code::BudgetExhausted, m))));
        }
        Ok((answer, None))
    }

    fn request(&self, prompt: &Prompt, inputs: &Inputs) -> Result<ChatRequest, Error> {
        // An input that its contract left out is empty text, so that a prompt can say `{% if notes %}`.
        let render = |name: &str| Some(inputs.get(name).map_or_else(|| "".into(), shown));
        let messages = prompt.render(render).map_err(|e| Error::new(Code::InvalidRequest, e.to_string()))?;
        Ok(ChatRequest {
            messages,
            max_output_tokens: self.config.max_output_tokens,
            temperature: self.config.temperature,
            top_p: self.config.top_p,
            seed: self.config.seed,
            stop: self.config.stop.clone(),
            response_format: self.config.schema.as_ref().map(|schema| {
                serde_json::json!({
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": schema, "strict": true},
                })
            }),
            stream: true,
            extra: self
                .config
                .frequency_penalty
                .iter()
                .map(|p| ("frequency_penalty".to_owned(), Json::from(*p)))
                .chain(self.logprobs.then(|| ("logprobs".to_owned(), true.into())))
                .collect(),
            ..ChatRequest::default()
        })
    }

    /// The request with no more output than the budget has left, and the room it takes out of it.
    fn within_budget(
        &self,
        mut request: ChatRequest,
        cx: &Context,
    ) -> Result<(ChatRequest, Option<Held>), Error> {
        let Some(settings) = self.models.get(&self.model) else { return Ok((request, None)) };
        let limited = cx.budget.tokens.is_some()
            || cx.budget.usd.is_some()
            || cx.stage.as_ref().is_some_and(|s| cx.meter.is_limited(s));
        if !limited && !cx.meter.is_reserved() {
            return Ok((request, None));
        }
        let input = settings.counter.request(&request);
        let wanted = request.max_output_tokens.or(settings.max_output_tokens).unwrap_or(OUTPUT_UNDER_BUDGET);
        let (granted, held) = cx.meter.hold(cx.stage.as_ref(), &cx.budget, &settings.price, input, wanted)?;
        let open = request.max_output_tokens.is_none() && settings.max_output_tokens.is_none();
        if granted < wanted || limited && open {
            request.max_output_tokens = Some(granted);
        }
        Ok((request, Some(held)))
    }

    /// Hash of all that decides the answer.
    fn key(&self, request: &ChatRequest) -> [u8; 32] {
        let settings = self.models.get(&self.model);
        let (version, identity) =
            settings.as_ref().map_or(("", ""), |s| (s.version.as_deref().unwrap_or_default(), &*s.identity));
        let mut hash = blake3::Hasher::new();
        // Each field is preceded by its length: no two different lists of fields are the same bytes.
        let mut field = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(self.model.as_str().as_bytes());
        field(version.as_bytes());
        field(identity.as_bytes());
        for m in &request.messages {
            field(format!("{:?}", m.role).as_bytes());
            field(m.content.to_text().as_bytes());
        }
        let rest =
            (&request.max_output_tokens, &request.temperature, &request.stop, &request.response_format);
        field(format!("{rest:?}").as_bytes());
        field(format!("{:?}", (&request.top_p, &request.seed, &request.extra)).as_bytes());
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

async fn show(sink: Option<&dyn Sink>, text: &str) -> Result<(), Error> {
    match sink {
        Some(sink) => sink.send(Event::Delta { text: text.to_owned() }).await,
        None => Ok(()),
    }
}

/// Drops what stands behind the last sentence that ends; text without such an end stays.
fn cut_to_sentence(text: &mut String) {
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        if matches!(c, '.' | '!' | '?' | '。')
            && text.get(next..).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        {
            end = next;
        }
    }
    if end > 0 {
        text.truncate(end);
    }
}

impl std::fmt::Debug for GenerateKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenerateKind").field("project", &Path::new(&self.project)).finish_non_exhaustive()
    }
}
