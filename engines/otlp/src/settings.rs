//! What the exporter is told: by the project's configuration, and by OpenTelemetry's own environment variables.

use std::collections::HashMap;
use std::time::Duration;

use contract::ModelName;

/// Who answers for a model: what the conventions call provider, request model and server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `openai`, `anthropic`, `forebay` for a model of our own.
    pub provider: String,
    /// The model's name at the provider.
    pub model: String,
    /// The host, for a model that is reached over the network.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
}

/// The exporter's settings.
///
/// Headers and, unless given here, the endpoint are read by the OTLP library itself:
/// `OTEL_EXPORTER_OTLP_[TRACES_|METRICS_]{ENDPOINT,HEADERS}`; the resource by the SDK: `OTEL_SERVICE_NAME` and
/// `OTEL_RESOURCE_ATTRIBUTES`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collector's address without a path; `None` leaves it to the environment.
    pub endpoint: Option<String>,
    /// The models' upstreams.
    pub upstreams: HashMap<ModelName, Upstream>,
    /// Whether spans are sent.
    pub traces: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Token usage as the counters of the latest conventions instead of the histogram.
    pub usage_counters: bool,
    /// How many ended requests may wait to be looked at.
    pub queue: usize,
    /// Spans sent at once, at most; four times as many may wait for a slow collector.
    pub batch: usize,
    /// Spans are sent at the latest after this long.
    pub span_interval: Duration,
    /// Metrics are sent this often.
    pub metric_interval: Duration,
    /// How long one export may take, its retries included.
    pub timeout: Duration,
}

impl Settings {
    /// Whether the environment opts into the latest conventions, in which counters replace the usage histogram.
    pub fn usage_counters(env: impl Fn(&str) -> Option<String>) -> bool {
        env("OTEL_SEMCONV_STABILITY_OPT_IN")
            .is_some_and(|v| v.split(',').any(|v| v.trim() == "gen_ai_latest_experimental"))
    }

    /// The settings of a process: `None` when nothing is to be sent, which is so unless `endpoint` (the
    /// configuration's) or the environment names a collector.
    pub fn of(endpoint: Option<String>, env: impl Fn(&str) -> Option<String>) -> Option<Settings> {
        let env = |name: &str| env(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let named = ["", "_TRACES", "_METRICS"].map(|s| env(&format!("OTEL_EXPORTER_OTLP{s}_ENDPOINT")));
        let disabled = env("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let [all, traces, metrics] = named.map(|v| v.is_some());
        let all = all || endpoint.is_some();
        let wanted = |signal: &str| env(signal).is_none_or(|v| v != "none");
        let millis = |name: &str, default: u64| {
            Duration::from_millis(env(name).and_then(|v| v.parse().ok()).unwrap_or(default).max(1))
        };
        let count = |name: &str, default: usize| {
            env(name).and_then(|v| v.parse().ok()).unwrap_or(default).clamp(1, 1 << 16)
        };
        let settings = Settings {
            endpoint: endpoint.map(|e| e.trim_end_matches('/').to_owned()),
            upstreams: HashMap::new(),
            traces: (all || traces) && wanted("OTEL_TRACES_EXPORTER"),
            metrics: (all || metrics) && wanted("OTEL_METRICS_EXPORTER"),
            usage_counters: Self::usage_counters(env),
            queue: count("OTEL_BSP_MAX_QUEUE_SIZE", 2_048),
            batch: count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
            span_interval: millis("OTEL_BSP_SCHEDULE_DELAY", 5_000),
            metric_interval: millis("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
            timeout: millis("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000),
        };
        (!disabled && (settings.traces || settings.metrics)).then_some(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(endpoint: Option<&str>, env: &[(&str, &str)]) -> Option<Settings> {
        Settings::of(endpoint.map(str::to_owned), |name| {
            env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn nothing_is_sent_unless_somebody_names_a_collector() {
        assert!(of(None, &[]).is_none());
        assert!(of(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).is_none(), "empty is not set");
        assert!(of(Some("http://c:4318"), &[]).is_some());
        assert!(of(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")]).is_some());
        assert!(of(Some("http://c:4318"), &[("OTEL_SDK_DISABLED", "true")]).is_none());
    }

    #[test]
    fn each_signal_can_be_turned_off_or_sent_alone() {
        let traces = of(None, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/v1/traces")]).unwrap();
        assert_eq!((traces.traces, traces.metrics), (true, false));
        let metrics = of(Some("http://c:4318"), &[("OTEL_TRACES_EXPORTER", "none")]).unwrap();
        assert_eq!((metrics.traces, metrics.metrics), (false, true));
    }

    #[test]
    fn the_latest_conventions_are_opted_into_by_their_name_in_a_list() {
        let with = |v| of(Some("http://c"), &[("OTEL_SEMCONV_STABILITY_OPT_IN", v)]).unwrap().usage_counters;
        assert!(with("http, gen_ai_latest_experimental"));
        assert!(!with("gen_ai_latest"));
    }

    #[test]
    fn unusable_numbers_leave_the_default() {
        let s =
            of(Some("http://c/"), &[("OTEL_BSP_SCHEDULE_DELAY", "soon"), ("OTEL_BSP_MAX_QUEUE_SIZE", "0")]);
        let s = s.unwrap();
        assert_eq!((s.span_interval, s.queue), (Duration::from_secs(5), 1));
        assert_eq!(s.endpoint.as_deref(), Some("http://c"));
    }
}
