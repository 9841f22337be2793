//! Which answers of a model are kept, for whom and for how long; and how a call was answered.

use std::time::Duration;

/// How the answers of a model are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// For how long.
    pub ttl: Duration,
    /// All kept answers of the model together, in bytes.
    pub max_bytes: u64,
    /// Who is given them.
    pub scope: CacheScope,
    /// Whether answers are kept that were asked for with a temperature above zero.
    pub sampled: bool,
}

impl Default for CacheSettings {
    /// An hour, 64 MB, the tenant, not those that are sampled.
    fn default() -> Self {
        CacheSettings {
            ttl: Duration::from_secs(3_600),
            max_bytes: 64_000_000,
            scope: CacheScope::Tenant,
            sampled: false,
        }
    }
}

/// Who is given a kept answer. Never another tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheScope {
    /// Every caller of the tenant that was answered.
    Tenant,
    /// The end user that was answered. Who names none has nothing kept.
    User,
}

/// How a call to a model whose answers are kept was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// By an answer that was kept.
    Hit,
    /// By the model; the answer is kept when it is complete.
    Miss,
    /// By a call that somebody else had made already and that was under way.
    Shared,
    /// By the model, without looking: the caller or the settings forbid it.
    Bypass,
}

impl CacheResult {
    /// Its name in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Shared => "shared",
            Self::Bypass => "bypass",
        }
    }
}
