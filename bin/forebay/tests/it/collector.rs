//! An OTLP collector of the tests: reads protobuf over HTTP/1.1 and keeps what it was sent. Or one that never answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use contract::{Clock, SystemClock};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// One export.
#[derive(Debug, Clone)]
pub enum Export {
    /// Spans, and their resource's attributes.
    Spans(Vec<Span>, Vec<KeyValue>),
    Metrics(Vec<Metric>),
}

/// A collector on a free port.
pub struct Collector {
    pub url: String,
    told: Receiver<(String, Export)>,
}

impl Collector {
    /// Answers every export; those whose header `x-key` is not `key` by 401.
    pub fn start(key: Option<&'static str>) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = sync_channel(1024);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let tell = tell.clone();
                std::thread::spawn(move || serve(&socket, key, &tell));
            }
        });
        Collector { url, told }
    }

    /// Reads requests and never answers.
    pub fn hanging() -> (String, Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for socket in listener.incoming().flatten() {
                open.push(socket);
                let _ = tell.send(());
            }
        });
        (url, told)
    }

    /// Waits for exports until `enough` gives something, at most ten seconds.
    pub fn wait<T>(&self, mut enough: impl FnMut(&str, Export) -> Option<T>) -> T {
        let clock = SystemClock::default();
        let until = clock.now().after(Duration::from_secs(10));
        loop {
            let left = until.since(clock.now());
            let (path, export) = self.told.recv_timeout(left).expect("the collector is told in time");
            if let Some(found) = enough(&path, export) {
                return found;
            }
        }
    }

    /// Waits for the spans of one trace: as many as `n`.
    pub fn spans(&self, trace: &str, n: usize) -> (Vec<Span>, Vec<KeyValue>) {
        let mut all = Vec::new();
        self.wait(|_, export| {
            let Export::Spans(spans, resource) = export else { return None };
            all.extend(spans.into_iter().filter(|s| hex(&s.trace_id) == trace));
            (all.len() >= n).then(|| (std::mem::take(&mut all), resource))
        })
    }

    /// Waits for a metric of that name.
    pub fn metric(&self, name: &str) -> Metric {
        self.wait(|_, export| match export {
            Export::Metrics(all) => all.into_iter().find(|m| m.name == name),
            Export::Spans(..) => None,
        })
    }
}

fn serve(socket: &TcpStream, key: Option<&str>, tell: &SyncSender<(String, Export)>) {
    let mut reader = BufReader::new(socket);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut length, mut presented) = (0, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "x-key" => presented = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let status = if key.is_some() && presented.as_deref() != key { "401 Unauthorized" } else { "200 OK" };
        let mut writer = socket;
        let head = "content-type: application/x-protobuf\r\ncontent-length: 0";
        let _ = writer.write_all(format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n").as_bytes());
        if status == "200 OK" {
            let export = decode(&path, &body);
            let _ = tell.try_send((path, export));
        }
    }
}

fn decode(path: &str, body: &[u8]) -> Export {
    if path == "/v1/traces" {
        let request = ExportTraceServiceRequest::decode(body).expect("spans in protobuf");
        let resource = request.resource_spans.iter().filter_map(|r| r.resource.clone());
        let resource = resource.flat_map(|r| r.attributes).collect();
        let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
        return Export::Spans(scopes.flat_map(|s| s.spans).collect(), resource);
    }
    assert_eq!(path, "/v1/metrics");
    let request = ExportMetricsServiceRequest::decode(body).expect("metrics in protobuf");
    let scopes = request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
    Export::Metrics(scopes.flat_map(|s| s.metrics).collect())
}

/// An attribute as text: numbers in digits, the elements of a list joined by commas.
pub fn attribute(all: &[KeyValue], key: &str) -> Option<String> {
    fn text(v: &AnyValue) -> String {
        match v.value.as_ref().unwrap() {
            any_value::Value::StringValue(s) => s.clone(),
            any_value::Value::IntValue(n) => n.to_string(),
            any_value::Value::BoolValue(b) => b.to_string(),
            any_value::Value::ArrayValue(a) => a.values.iter().map(text).collect::<Vec<_>>().join(","),
            other => format!("{other:?}"),
        }
    }
    all.iter().find(|a| a.key == key).and_then(|a| a.value.as_ref()).map(text)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
