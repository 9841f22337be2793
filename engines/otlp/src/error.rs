//! What can be wrong before anything is sent; later failures are counted, not returned.

/// The exporter cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address, the headers or another setting of the environment cannot be used.
    #[error("prepare the export to the collector: {0}")]
    Setting(#[from] opentelemetry_otlp::ExporterBuildError),
}
