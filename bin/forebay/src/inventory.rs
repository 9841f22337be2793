//! The models of a configuration, joined with the price table: what each one is, costs and may hold.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{BoxFuture, ModelName, Price, UnixMillis};
use gateway::{Inventory, ModelInfo};

use crate::Error;
use crate::config::Config;
use crate::config::model::{AllowanceConfig, ModelConfig};
use crate::prices::{History, Upstream};
use crate::worker::LocalModel;

/// The table of a project that names none.
pub const TABLE: &str = "prices.json";

/// The folder that `forebay models pull` puts models into.
pub const MODELS: &str = "models";

/// What a model costs and may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its price.
    pub price: Price,
    /// Where the price comes from: `config`, the name of the table's entry, `local`, or `none`.
    pub price_from: String,
    /// Tokens of prompt and answer together.
    pub context_window: Option<u64>,
    /// The longest answer in tokens.
    pub max_output_tokens: Option<u64>,
}

/// The project's price table: the one that the configuration names, else `prices.json` when there is one.
///
/// # Errors
/// When the table cannot be read.
pub fn table(project: &Path, config: &Config) -> Result<History, Error> {
    let path = project.join(config.prices.as_deref().unwrap_or(TABLE));
    let text = crate::config::read(&path).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e))
    });
    match text {
        Ok(text) => History::parse(&text).map_err(|why| {
            let message = format!("{} is no price table: {why}", path.display());
            Error::new(message, "import LiteLLM's table again with `forebay prices import`")
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && config.prices.is_none() => {
            Ok(History::default())
        }
        Err(e) => Err(Error::file("read", &path, &e)),
    }
}

/// A model's upstream, unless it is local.
pub fn upstream(m: &ModelConfig) -> Option<Upstream<'_>> {
    let base_url = m.base_url.as_deref();
    match (&m.openai, &m.anthropic) {
        (Some(model), _) => Some(Upstream { protocol: "openai", model, base_url }),
        (_, Some(model)) => Some(Upstream { protocol: "anthropic", model, base_url }),
        _ => None,
    }
}

/// What holds for a model now: what the configuration says, else what the table says.
pub fn known(m: &ModelConfig, table: &History, now: UnixMillis) -> Known {
    let found = upstream(m).and_then(|u| table.find(u, now));
    let (price, price_from) = match (&m.price, &found) {
        (Some(p), _) => (p.price(), "config".to_owned()),
        (None, Some((name, dated))) => (dated.entry.price(), name.clone()),
        (None, None) if m.local.is_some() || m.predicts() => (Price::FREE, "local".to_owned()),
        (None, None) if m.is_choice() => (Price::FREE, "choice".to_owned()),
        (None, None) => (Price::FREE, "none".to_owned()),
    };
    let entry = found.as_ref().map(|(_, dated)| &dated.entry);
    let own_window = m.context_window.or(m.context).map(|c| c.0);
    let context_window = own_window.or(entry.and_then(|e| e.max_input_tokens));
    // An answer as long as the window leaves no room for a prompt: such an entry says nothing of the answer.
    let longest = entry.and_then(|e| e.max_output_tokens).filter(|n| context_window.is_none_or(|w| *n < w));
    let max_output_tokens = m.max_output_tokens.map(|c| c.0).or(longest);
    Known { price, price_from, context_window, max_output_tokens }
}

/// What to say of each model that a budget in dollars cannot count, because nobody knows its price.
pub fn uncounted(config: &Config, table: &History, now: UnixMillis) -> Vec<String> {
    let in_dollars = |a: &AllowanceConfig| a.usd_per_day.is_some() || a.usd_per_month.is_some();
    let limited = config.tenants.values().any(|t| in_dollars(&t.budget))
        || config.keys.values().any(in_dollars)
        || in_dollars(&config.each_user)
        || config.pipelines.values().any(|p| in_dollars(&p.limits) || p.budget.usd.is_some());
    let unknown = |(_, m): &(&String, &ModelConfig)| known(m, table, now).price_from == "none";
    let say = |(name, _): (&String, &ModelConfig)| {
        format!(
            "nobody knows the price of model `{name}`, so no budget in dollars counts it: give it a `price`, or import a table"
        )
    };
    config.models.iter().filter(|_| limited).filter(unknown).map(say).collect()
}

/// What a configured model cost at a time: the configuration's price, which has no history, else the table's of then.
/// `None` for a model that is not configured (any more), and for times before the table's first price.
pub fn price_at(config: &Config, table: &History, model: &ModelName, when: UnixMillis) -> Option<Price> {
    let m = config.models.get(model.as_str())?;
    match (&m.price, upstream(m)) {
        (Some(own), _) => Some(own.price()),
        (None, Some(upstream)) => table.find(upstream, when).map(|(_, dated)| dated.entry.price()),
        (None, None) => Some(Price::FREE),
    }
}

/// Where a local model's file is: a path relative to the configuration, or the name of a model that was pulled.
pub fn local_file(project: &Path, local: &str) -> PathBuf {
    let own = project.join(local);
    if own.exists() || local.ends_with(".gguf") {
        return own;
    }
    project.join(MODELS).join(format!("{local}.gguf"))
}

/// What a configured model is, without asking it anything.
pub fn info(project: &Path, name: &str, m: &ModelConfig, known: Known) -> ModelInfo {
    let (kind, model) = match (&m.openai, &m.anthropic, &m.local) {
        (Some(model), _, _) => ("openai", model.clone()),
        (_, Some(model), _) => ("anthropic", model.clone()),
        (_, _, Some(local)) => ("local", local.clone()),
        (None, None, None) if m.is_choice() => ("choice", m.choice.join(", ")),
        (None, None, None) => match &m.registry {
            Some(name) => ("registry", format!("{name}@{}", m.alias())),
            None => ("onnx", m.onnx.clone().unwrap_or_default()),
        },
    };
    let file = m.local.as_ref().map(|l| local_file(project, l)).or(m.onnx.as_ref().map(|f| project.join(f)));
    let bytes = file.as_ref().and_then(|f| std::fs::metadata(f).ok()).map(|f| f.len());
    let state = match (file, bytes) {
        (Some(_), Some(_)) if m.onnx.is_some() => "ready",
        (Some(_), None) => "missing",
        (Some(_), Some(_)) => "stopped",
        (None, _) => "ready",
    };
    let endpoint = upstream(m).map(|u| match u.base_url {
        Some(url) => without_user(url),
        None if u.protocol == "openai" => "https://api.openai.com/v1".to_owned(),
        None => "https://api.anthropic.com".to_owned(),
    });
    ModelInfo {
        name: name.into(),
        kind: kind.to_owned(),
        model,
        endpoint,
        context_window: known.context_window,
        max_output_tokens: known.max_output_tokens,
        price: known.price,
        price_from: known.price_from,
        state: state.to_owned(),
        bytes,
        pid: None,
        in_flight: None,
        queued: None,
    }
}

/// An address without the user and password it may hold.
fn without_user(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else { return String::new() };
    let _ = (parsed.set_username(""), parsed.set_password(None));
    parsed.set_query(None);
    parsed.to_string().trim_end_matches('/').to_owned()
}

/// Every model of a configuration, in its order.
///
/// # Errors
/// When the price table cannot be read.
pub fn list(project: &Path, config: &Config, now: UnixMillis) -> Result<Vec<ModelInfo>, Error> {
    let table = table(project, config)?;
    Ok(config.models.iter().map(|(name, m)| info(project, name, m, known(m, &table, now))).collect())
}

/// The models of a running server, with their workers.
pub(crate) struct Running {
    pub(crate) models: Vec<ModelInfo>,
    pub(crate) workers: HashMap<ModelName, Arc<LocalModel>>,
}

impl Inventory for Running {
    fn models(&self) -> BoxFuture<'_, Vec<ModelInfo>> {
        Box::pin(async {
            let mut models = self.models.clone();
            for m in &mut models {
                let Some(worker) = self.workers.get(&m.name) else { continue };
                m.bytes = std::fs::metadata(worker.file()).ok().map(|f| f.len());
                let (state, pid) = worker.state();
                m.state = if m.bytes.is_none() && pid.is_none() { "missing" } else { state }.to_owned();
                m.pid = pid;
            }
            models
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(yaml_free: serde_json::Value) -> ModelConfig {
        serde_json::from_value(yaml_free).unwrap()
    }

    fn prices() -> History {
        History::parse(
            r#"{"gpt-x": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "litellm_provider": "openai",
                "max_input_tokens": 1000, "max_output_tokens": 100},
                "square": {"input_cost_per_token": 1e-6, "litellm_provider": "openai",
                "max_input_tokens": 1000, "max_output_tokens": 1000}}"#,
        )
        .unwrap()
    }

    #[test]
    fn what_the_configuration_says_goes_before_the_table() {
        let now = UnixMillis(0);
        let joined = known(&model(serde_json::json!({"openai": "gpt-x"})), &prices(), now);
        assert_eq!((joined.price.input, joined.price_from.as_str()), (1_000_000_000, "gpt-x"));
        assert_eq!((joined.context_window, joined.max_output_tokens), (Some(1000), Some(100)));
        let own =
            serde_json::json!({"openai": "gpt-x", "price": {"input": 5, "output": 6}, "context_window": 77});
        let own = known(&model(own), &prices(), now);
        assert_eq!((own.price.input, own.price_from.as_str()), (5_000_000_000, "config"));
        assert_eq!(
            (own.context_window, own.max_output_tokens),
            (Some(77), None),
            "the answer fits no such window"
        );
        let square = known(&model(serde_json::json!({"openai": "square"})), &prices(), now);
        assert_eq!((square.context_window, square.max_output_tokens), (Some(1000), None));
        let local = known(&model(serde_json::json!({"local": "a.gguf"})), &prices(), now);
        assert_eq!((local.price, local.price_from.as_str()), (Price::FREE, "local"));
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        assert_eq!(without_user("https://me:secret@host.example/v1/?key=x"), "https://host.example/v1");
    }
}
