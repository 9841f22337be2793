//! Paths that somebody else says.

use std::path::{Component, Path};

/// Whether a path leads nowhere but below the folder that it is joined to, by its words alone: a link is not looked at. An empty
/// path is not below it.
pub fn is_below(path: impl AsRef<Path>) -> bool {
    let mut parts = path.as_ref().components().peekable();
    parts.peek().is_some() && parts.all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}
