//! What can be wrong with the settings.

/// A failure to set webhooks up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A secret is none.
    #[error("read a webhook's secret: it is `whsec_` and base64 of 24 to 64 bytes")]
    Secret,
}
