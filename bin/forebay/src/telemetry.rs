//! Traces and metrics to a collector: [`otlp`] behind the gateway's [`Telemetry`], as the configuration and
//! OpenTelemetry's environment variables say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{ModelName, RequestRecord, Trace};
use gateway::{Telemetry, Tracing};
use otlp::{Exporter, Settings, Upstream};
use pipeline::task::{self, Task};
use url::Url;

use crate::Error;
use crate::config::Config;
use crate::config::model::ModelConfig;

/// How long a stopping server waits for the collector.
const FLUSH: Duration = Duration::from_secs(5);

/// The export of a running server.
#[derive(Debug)]
pub struct Export {
    exporter: Exporter,
    worker: Task<()>,
}

/// Starts the export, when the configuration or the environment names a collector. Needs a runtime.
///
/// # Errors
/// An address or headers that cannot be used.
pub fn start(config: &Config) -> Result<Option<Export>, Error> {
    let env = |name: &str| std::env::var(name).ok();
    let Some(mut settings) = Settings::of(config.telemetry.otlp.clone(), env) else { return Ok(None) };
    settings.upstreams = upstreams(config).collect();
    let (exporter, worker) = otlp::start(settings).map_err(|e| {
        Error::new(
            format!("failed to {e}"),
            "correct `telemetry.otlp` or the variables OTEL_EXPORTER_OTLP_*, or unset them",
        )
    })?;
    Ok(Some(Export { exporter, worker: task::spawn("otlp", worker.run()) }))
}

impl Export {
    /// Where the gateway's requests go.
    pub fn sink(&self) -> Sink {
        Sink(self.exporter.clone())
    }

    /// Sends what is left, for at most five seconds.
    pub async fn close(self) {
        self.exporter.close();
        let flushed = tokio::time::timeout(FLUSH, self.worker).await;
        if flushed.is_err() {
            tracing::warn!("the collector did not take the last spans and metrics in time");
        }
    }
}

/// The way of a request to the collector. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sink(Exporter);

impl Sink {
    /// The models of another configuration are in force.
    pub fn name(&self, upstreams: HashMap<ModelName, Upstream>) {
        self.0.name(upstreams);
    }

    /// What the gateway is told under this configuration.
    pub fn tracing(&self, config: &Config) -> Tracing {
        Tracing { sink: Arc::new(self.clone()), share: config.telemetry.sample }
    }
}

impl Telemetry for Sink {
    fn ended(&self, record: Box<RequestRecord>, trace: Trace) {
        self.0.offer(record, trace);
    }

    fn dropped(&self) -> Vec<(&'static str, u64)> {
        let d = self.0.dropped();
        vec![("queue_full", d.queue_full), ("backlog", d.backlog), ("export_failed", d.export_failed)]
    }
}

/// Who answers for each model, in the words of the conventions.
pub(crate) fn upstreams(config: &Config) -> impl Iterator<Item = (ModelName, Upstream)> + '_ {
    let asked = config.models.iter().filter(|(_, m)| m.is_chat());
    asked.map(|(name, m)| (name.as_str().into(), upstream(name, m)))
}

fn upstream(name: &str, m: &ModelConfig) -> Upstream {
    let (provider, model, own) = match (&m.openai, &m.anthropic, &m.local) {
        (Some(model), _, _) => ("openai", model.as_str(), Some("https://api.openai.com")),
        (_, Some(model), _) => ("anthropic", model.as_str(), Some("https://api.anthropic.com")),
        (_, _, Some(file)) => ("forebay", file.as_str(), None),
        (None, None, None) => ("forebay", name, None),
    };
    let url = own.and_then(|own| Url::parse(m.base_url.as_deref().unwrap_or(own)).ok());
    Upstream {
        provider: provider.to_owned(),
        model: model.to_owned(),
        host: url.as_ref().and_then(Url::host_str).map(str::to_owned),
        port: url.as_ref().and_then(Url::port_or_known_default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_named_as_the_conventions_do() {
        let own = ModelConfig { openai: Some("gpt-x".into()), ..ModelConfig::default() };
        let u = upstream("writer", &own);
        assert_eq!((u.provider.as_str(), u.model.as_str()), ("openai", "gpt-x"));
        assert_eq!((u.host.as_deref(), u.port), (Some("api.openai.com"), Some(443)));
        let other = ModelConfig { base_url: Some("http://127.0.0.1:8000/v1".into()), ..own };
        let u = upstream("writer", &other);
        assert_eq!((u.host.as_deref(), u.port), (Some("127.0.0.1"), Some(8000)));
        let local = ModelConfig { local: Some("small.gguf".into()), ..ModelConfig::default() };
        let u = upstream("writer", &local);
        assert_eq!((u.provider.as_str(), u.model.as_str(), u.host), ("forebay", "small.gguf", None));
    }
}
