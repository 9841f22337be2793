//! The kinds of stages of this crate: `exec`, `http`, `notify`.

use crate::exec::{ExecKind, ExecParts};
use crate::outside::{HttpKind, NotifyKind, Outside};
use crate::registry::Registry;

/// What they are made of.
#[derive(Clone)]
pub struct Parts {
    /// For `exec`.
    pub exec: ExecParts,
    /// For `http` and `notify`.
    pub outside: Outside,
}

/// Adds the kinds of this crate.
pub fn register(registry: &mut Registry, parts: Parts) {
    registry.register(ExecKind::new(parts.exec));
    registry.register(HttpKind::new(parts.outside.clone()));
    registry.register(NotifyKind::new(parts.outside));
}
