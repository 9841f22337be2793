//! From a model's section of the configuration to the endpoints that are asked.

use std::path::Path;
use std::sync::Arc;

use contract::EndpointName;
use llm::codec::openai::Dialect;
use llm::{CacheScope, CacheSettings, ChatModel, Endpoint, Fallback, Hedge, ModelSettings, Prefill};
use providers::{AnthropicEndpoint, Client, EndpointSettings, OpenAiEndpoint};

use crate::Error;
use crate::config::model::{CacheConfig, CacheScopeConfig, ModelConfig};
use crate::config::pool::{EndpointConfig, FallbackConfig, PrefillConfig};
use crate::inventory::{self, Known};
use crate::worker::{LocalModel, WorkerSettings};

/// Where a model is asked, and its worker when it has one.
pub(crate) type Endpoints = (Vec<Endpoint>, Option<Arc<LocalModel>>);

/// The endpoints of a model.
///
/// # Errors
/// An address that is none; a model that says not what it is.
pub(crate) fn endpoints(project: &Path, name: &str, m: &ModelConfig) -> Result<Endpoints, Error> {
    let client = Client::new(m.timeouts().connect);
    if let Some(file) = &m.local {
        let settings = WorkerSettings {
            model: inventory::local_file(project, file),
            alias: name.to_owned(),
            folder: project.join(".forebay").join("run"),
            context: m.context.map(|c| c.0),
            parallel: m.parallel.map(|c| c.0),
            threads: m.threads.map(|c| c.0),
            idle_stop: m.idle_stop.map(|t| t.0),
        };
        let worker = Arc::new(LocalModel::new(settings, client).map_err(|e| wrong(name, &e))?);
        return Ok((
            vec![Endpoint::new(name.into(), worker.clone()).resting(m.breaker.settings())],
            Some(worker),
        ));
    }
    // What names neither an address nor a key only says what its endpoints have in common.
    let own = m.base_url.is_some() || m.api_key.is_some() || m.endpoints.is_empty();
    let mut all = Vec::with_capacity(m.endpoints.len() + 1);
    if own {
        all.push(Endpoint::new(name.into(), endpoint(name, m, &EndpointConfig::default(), &client)?));
    }
    for (e, place) in m.endpoints.iter().zip(1 + usize::from(own)..) {
        let own_name = e.name.clone().unwrap_or_else(|| format!("{name}#{place}"));
        all.push(Endpoint::new(EndpointName::from(own_name), endpoint(name, m, e, &client)?));
    }
    let breaker = m.breaker.settings();
    Ok((all.into_iter().map(|e| e.resting(breaker)).collect(), None))
}

/// The most requests at once of each endpoint, in the order of [`endpoints`], where the model has `most`.
pub(crate) fn caps(m: &ModelConfig, most: u32) -> Vec<u32> {
    let own = m.base_url.is_some() || m.api_key.is_some() || m.endpoints.is_empty();
    let cap = |e: &EndpointConfig| {
        let cap = e.max_concurrency.map_or(most, |c| u32::try_from(c.0).unwrap_or(u32::MAX));
        cap.clamp(1, most)
    };
    own.then_some(most).into_iter().chain(m.endpoints.iter().map(cap)).collect()
}

fn wrong(model: &str, e: &providers::Error) -> Error {
    Error::new(format!("model `{model}`: {e}"), "correct its `base_url`")
}

fn endpoint(
    name: &str,
    m: &ModelConfig,
    e: &EndpointConfig,
    client: &Client,
) -> Result<Arc<dyn ChatModel>, Error> {
    let given = e.base_url.as_ref().or(m.base_url.as_ref());
    let at = |base: &str, model: &str| EndpointSettings {
        base_url: given.cloned().unwrap_or_else(|| base.to_owned()),
        unix_socket: None,
        api_key: e.api_key.clone().or_else(|| m.api_key.clone()),
        model: e.model.clone().unwrap_or_else(|| model.to_owned()),
        headers: Vec::new(),
    };
    Ok(match (&m.openai, &m.anthropic) {
        (Some(id), _) => {
            let settings = at("https://api.openai.com/v1", id);
            let dialect = Dialect { max_completion_tokens: given.is_none(), prefill: prefill(m) };
            let made = OpenAiEndpoint::new(client.clone(), &settings, dialect);
            Arc::new(made.map_err(|e| wrong(name, &e))?)
        }
        (_, Some(id)) => {
            let settings = at("https://api.anthropic.com", id);
            Arc::new(AnthropicEndpoint::new(client.clone(), &settings).map_err(|e| wrong(name, &e))?)
        }
        (None, None) => {
            return Err(Error::new(format!("model `{name}` names no provider"), "run `forebay check`"));
        }
    })
}

fn prefill(m: &ModelConfig) -> Option<Prefill> {
    match m.prefill {
        None if m.anthropic.is_some() => Some(Prefill::Plain),
        None | Some(PrefillConfig::Off) => None,
        Some(PrefillConfig::Plain) => Some(Prefill::Plain),
        Some(PrefillConfig::Vllm) => Some(Prefill::Vllm),
        Some(PrefillConfig::Prefix) => Some(Prefill::Prefix),
    }
}

fn cache(c: CacheConfig) -> CacheSettings {
    CacheSettings {
        ttl: c.ttl.0,
        max_bytes: c.max_bytes.0,
        scope: match c.scope {
            CacheScopeConfig::Tenant => CacheScope::Tenant,
            CacheScopeConfig::User => CacheScope::User,
        },
        sampled: c.sampled,
    }
}

/// A model over its endpoints.
pub(crate) fn model(m: &ModelConfig, endpoints: Vec<Endpoint>, known: &Known) -> ModelSettings {
    let fallback = |f: &FallbackConfig| Fallback { model: f.model.as_str().into(), on: f.on.clone() };
    ModelSettings {
        fallback: m.fallback.iter().map(fallback).collect(),
        hedge: m.hedge.map(|h| Arc::new(Hedge::new(h.after.0, h.share, h.usd_per_day.map(|u| u.0)))),
        prefill: prefill(m),
        price: known.price,
        context_window: known.context_window,
        max_output_tokens: known.max_output_tokens,
        cache: m.cache.map(cache),
        timeouts: m.timeouts(),
        ..ModelSettings::over(endpoints)
    }
}
